"""A voice folder in the starter form -> checkpoints that the stages can begin with or be given: tokens.pt (--tokens), flow.pt (--flow); T2S and vocoder begin with their safetensors as they are.

    clone/unpack_voice.py --voice models/pretrained/starter --out DIR

What training alone needs (the tokenizer's decoder) is not in the folder and stays random: tokens.pt gives codes and is not to be trained on.
"""
import argparse
import json
import os
import sys

import torch
from safetensors.torch import load_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import stage  # noqa: F401  (the path of the other scripts)
import nets
from config import SIZES
from train_tokenizer import CloneTokenizer


def size_of(manifest):
    """Name in SIZES of the sizes a manifest tells."""
    for name, sizes in SIZES.items():
        if all(manifest["acoustic"][k] == sizes["acoustic"][k] for k in ("style_dim", "estimator")) and manifest["t2s"]["hidden"] == sizes["t2s"]["dim"]:
            return name
    raise SystemExit("the voice is of no size in config.py")


def unpack(folder):
    """-> (tokenizer, flow), as train_tokenizer.py and train_flow.py write them."""
    with open(f"{folder}/manifest.json", encoding="utf8") as f:
        manifest = json.load(f)
    part = lambda name: {k: v.float() for k, v in load_file(f"{folder}/{manifest[name]['file']}").items()}
    size, flow, encoder = size_of(manifest), part("acoustic"), part("tokenizer")
    net = nets.AcousticModel(SIZES[size]["acoustic"])
    net.load_state_dict(flow)
    tokens = CloneTokenizer()
    missing, unknown = tokens.load_state_dict({**encoder, "embed": flow["quantizer.vq.layers.0._codebook.embed"]}, strict=False)
    if unknown or any(k.split(".")[0] in ("inp", "enc1", "down", "enc2", "to_code") for k in missing):
        raise SystemExit(f"{folder}: this is not the tokenizer of train_tokenizer.py")
    return dict(net=tokens.state_dict()), dict(net=net.state_dict(), size=size)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--voice", required=True)
    ap.add_argument("--out", required=True)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    for name, state in zip(("tokens", "flow"), unpack(a.voice)):
        nets.save(state, f"{a.out}/{name}.pt")


if __name__ == "__main__":
    main()
