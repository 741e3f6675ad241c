#!/usr/bin/env python3
"""How alike two lots of recordings sound as speakers: cosine of GE2E speaker embeddings (Wan et al. 2018; package resemblyzer).

    similarity.py A B

A and B are folders with recordings of the same names, or files; B may be one file, which all of A is compared with. Prints JSON: the mean
of `similarity`, the least, and how many pairs there were. The same speaker is at 0.8 and more, two different ones at 0.5 to 0.75.
"""
import argparse
import json
import pathlib


def pairs_of(a, b):
    """Paths to compare: by name, or all of a with the one file b."""
    a, b = pathlib.Path(a), pathlib.Path(b)
    files = sorted(p for p in a.iterdir() if p.suffix in (".wav", ".flac", ".ogg")) if a.is_dir() else [a]
    other = (lambda p: b / p.name) if b.is_dir() else (lambda p: b)
    return [(p, other(p)) for p in files if other(p).exists()]


def embedder():
    import numpy
    import resemblyzer

    encoder, known = resemblyzer.VoiceEncoder("cpu", verbose=False), {}

    def embed(path):
        if path not in known:
            wave = resemblyzer.preprocess_wav(path)
            known[path] = encoder.embed_utterance(wave) if len(wave) else numpy.zeros(256)
        return known[path]
    return embed


def summary(values):
    return {"similarity": sum(values) / len(values), "least": min(values), "pairs": len(values)}


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("a")
    ap.add_argument("b")
    args = ap.parse_args()
    pairs = pairs_of(args.a, args.b)
    if not pairs:
        raise SystemExit("similarity.py: no recordings of the same names")
    embed = embedder()
    print(json.dumps(summary([float(embed(p) @ embed(q)) for p, q in pairs])))


if __name__ == "__main__":
    main()
