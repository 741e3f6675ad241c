#!/usr/bin/env python3
"""Recordings for clone.py of what scripts/train/data/speak.py made: of each speaker one to clone from and another to compare with.

    references.py --takes DIR --out DIR

--takes is a folder of `speak.py real --unseen`. The first take of 3 to 10 s of a speaker is NAME.wav, with its words and its language in NAME.txt, the next one that is long enough to know
the speaker by NAME_other.wav; speakers without are left out. Prints how many there are of each language.
"""
import argparse
import collections
import glob
import pathlib

SHORTEST_S, LONGEST_S, KNOWN_S, RATE_HZ = 3.0, 10.0, 1.6, 24000


def chosen(takes):
    """The take of a speaker to clone from and the one to compare with, or None."""
    seconds = [len(t["wave"]) / RATE_HZ for t in takes]
    first = next((i for i, s in enumerate(seconds) if SHORTEST_S <= s <= LONGEST_S), None)
    other = next((i for i, s in enumerate(seconds) if i != first and s >= KNOWN_S), None)
    return None if first is None or other is None else (takes[first], takes[other])


def main():
    import soundfile
    import torch

    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--takes", required=True)
    ap.add_argument("--out", type=pathlib.Path, required=True)
    a = ap.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    count = collections.Counter()
    for path in sorted(glob.glob(f"{a.takes}/*.pt")):
        pair = chosen(torch.load(path, weights_only=False))
        if not pair:
            continue
        name = pair[0]["speaker"]
        for take, suffix in zip(pair, ("", "_other")):
            soundfile.write(a.out / f"{name}{suffix}.wav", take["wave"], RATE_HZ, subtype="PCM_16")
        (a.out / f"{name}.txt").write_text(f"{pair[0]['text']}\n{pair[0]['lang']}\n", encoding="utf8")
        count[pair[0]["lang"]] += 1
    print(", ".join(f"{n} of {lang}" for lang, n in sorted(count.items())))


if __name__ == "__main__":
    main()
