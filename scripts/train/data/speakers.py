"""Who speaks: recipes for speakers, blended from the teacher's style vectors, all of them determined by a number.

    speakers.py --styles DIR            prints the recipes of the first of each kind

A speaker is a weighted sum of style vectors (pairs and triples, now and then a little beyond one of them), a factor for the pitch the teacher predicts
and one for the whole of the sound (resampling: vocal tract and pitch together). Pitch stays within 15 % of the blend's, the tract within 12 %.
Voices in HELD_OUT are in no training blend; speakers of the kind "unseen" have at least half of one. Recipes are strings to themselves:
speaker("en", 17) is the same everywhere.
"""
import argparse
import glob
import hashlib
import math
import os
import random
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from teacher import load_style

HELD_OUT = ("af_kore", "am_onyx", "bf_lily", "bm_lewis", "zf_xiaoni", "zm_yunxia")
N_UNSEEN = 24
RANGE_PITCH, RANGE_TRACT = 0.14, 0.115                     # of the natural logarithm


def load_styles(folder):
    """{voice: [510, 256] float32}."""
    out = {os.path.basename(path)[:-3]: load_style(path) for path in sorted(glob.glob(f"{folder}/*.pt"))}
    if not out:
        raise SystemExit(f"{folder}: no style vectors (*.pt)")
    return out


def family(names, kind):
    """Names of the voices a kind of speaker is made of."""
    if kind == "zh":
        return [n for n in names if n[0] == "z"]
    if kind == "en":
        return [n for n in names if n[0] in "ab" and n != "af_nicole"]         # she whispers
    return [n for n in names if n[0] in "abz" and n != "af_nicole"]


def speaker(kind, number, names):
    """kind: "en", "zh", "both" (speaks both languages) or "unseen". -> dict(id, languages, weights, pitch, tract)."""
    names = sorted(names)
    rng = random.Random(int.from_bytes(hashlib.sha256(f"{kind}{number}".encode()).digest()[:8], "big"))
    seen = [n for n in names if n not in HELD_OUT]
    other = [n for n in names if n in HELD_OUT]
    vary = True
    if kind == "unseen":
        first = other[number % len(other)]
        languages = ["zh"] if first[0] == "z" else ["en"]
        weights, vary = {first: 1.0}, number >= len(other)
        if number >= 2 * len(other):
            w = rng.uniform(0.5, 0.75)
            weights = {first: w, rng.choice(family(seen, "zh" if first[0] == "z" else "en")): 1 - w}
    else:
        languages = ["en", "zh"] if kind == "both" else [kind]
        pool = family(seen, kind)
        if number < len(pool):
            weights, vary = {pool[number]: 1.0}, False                         # the voices themselves come first
            if kind == "both" and pool[number][0] != "z":
                weights = {pool[number]: 0.5, rng.choice(family(seen, "zh")): 0.5}
        elif rng.random() < 0.2:
            a, b = rng.sample(pool, 2)
            e = rng.uniform(0.02, 0.15)
            weights = {a: 1 + e, b: -e}
        else:
            k = rng.choice((2, 2, 3))
            w = np.array([rng.gammavariate(1.2, 1) for _ in range(k)]) + 0.05
            weights = dict(zip(rng.sample(pool, k), (w / w.sum()).tolist()))
            if kind == "both":                                                 # half of a native for each language's sake
                zh = sum(w for n, w in weights.items() if n[0] == "z")
                if zh < 0.4:
                    weights = {n: w * 0.55 / (1 - zh) if n[0] != "z" else 0.0 for n, w in weights.items()}
                    n = rng.choice(family(seen, "zh"))
                    weights = {k: v for k, v in weights.items() if v} | {n: 0.45}
    tract = rng.uniform(-RANGE_TRACT, RANGE_TRACT) * vary
    pitch = rng.uniform(-RANGE_PITCH, RANGE_PITCH) * vary - tract
    return dict(id=f"{kind}{number:04d}", languages=languages, weights=weights, pitch=round(math.exp(pitch), 4), tract=round(math.exp(tract), 4))


def style_of(recipe, styles):
    return sum(w * styles[n] for n, w in recipe["weights"].items()).astype(np.float32)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--styles", required=True)
    ap.add_argument("--count", type=int, default=8)
    a = ap.parse_args()
    names = list(load_styles(a.styles))
    for kind in ("en", "zh", "both", "unseen"):
        for i in range(N_UNSEEN if kind == "unseen" else a.count):
            print(speaker(kind, i, names))


if __name__ == "__main__":
    main()
