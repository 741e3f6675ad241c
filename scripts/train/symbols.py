"""Ids of the English symbols in the v2 inventory (src/text/phonemes.h holds the whole of it; tests compare the two)."""
import json
import os

with open(os.path.join(os.path.dirname(__file__), "symbols_en.json"), encoding="utf8") as f:
    IDS = json.load(f)
SAME = {";": ",", ":": ",", "—": ","}          # marks the front end folds into others


def ids_of(symbols):
    return [IDS[SAME.get(s, s)] for s in symbols]
