"""Sizes of the cloning voice. "base" costs what the English starter costs; "large" is for a GPU's training; both fit into 60 MB."""
import copy
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import nets

CODES = 768
_base = copy.deepcopy(nets.STARTER)
_base["t2s"]["vocab"] = CODES + 1
_base["acoustic"]["codes"] = CODES
_large = copy.deepcopy(_base)
_large["t2s"].update(layers=8, dim=320, heads=5)
_large["acoustic"].update(style_dim=192)
_large["acoustic"]["estimator"].update(dim=288, ff=800)
SIZES = {"base": _base, "large": _large}
