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


def trimmed(wave, rate_hz=16000):
    """Without what is 40 dB below the loudest 20 ms, at the ends: resemblyzer's own voice detector needs a C extension."""
    import numpy as np

    n = rate_hz // 50
    power = np.array([np.mean(wave[i: i + n] ** 2) for i in range(0, max(1, len(wave) - n), n)])
    loud = np.flatnonzero(power > power.max() * 1e-4)
    return wave[loud[0] * n: (loud[-1] + 1) * n] if len(loud) else wave


def embeddings(paths):
    """Unit vectors of resemblyzer, one a file: [files, 256]."""
    import numpy as np
    from resemblyzer import VoiceEncoder

    import asr

    encoder = VoiceEncoder("cpu", verbose=False)
    return np.stack([encoder.embed_utterance(trimmed(asr.load_wav(p))) for p in paths])


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
    other = sorted({q for _, q in pairs})
    known = dict(zip(other, embeddings(other)))
    print(json.dumps(summary([float(e @ known[q]) for e, (_, q) in zip(embeddings([p for p, _ in pairs]), pairs)])))


if __name__ == "__main__":
    main()
