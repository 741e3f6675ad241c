#!/usr/bin/env python3
"""Pack CMUdict and src/text/data/extra.dict into the binary lexicon that src/text/lexicon.h describes.

    scripts/train/lexicon.py CMUDICT.dict

Keeps the first pronunciation of every word of letters and apostrophes; extra.dict comes before CMUdict.
"""
import pathlib
import re
import struct
import sys

BLOCK = 16
ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "src/text/data"


def read(path):
    words = {}
    for line in open(path, encoding="utf-8"):
        fields = line.split("#")[0].split()
        if fields and re.fullmatch(r"[a-z']+", fields[0]) and fields[0].strip("'"):
            words.setdefault(fields[0], fields[1:])
    return words


def main():
    words = {**read(sys.argv[1]), **read(DATA / "extra.dict")}
    phones = sorted({p for pron in words.values() for p in pron})
    index = {p: i for i, p in enumerate(phones)}
    blob = bytearray()
    blocks = []
    before = b""
    for k, word in enumerate(sorted(words, key=str.encode)):
        name = word.encode()
        shared = 0
        if k % BLOCK == 0:
            blocks.append(len(blob))
        else:
            while shared < min(len(name), len(before)) and name[shared] == before[shared]:
                shared += 1
        pron = bytes(index[p] for p in words[word])
        blob += bytes([shared, len(name) - shared]) + name[shared:] + bytes([len(pron)]) + pron
        before = name
    with open(DATA / "cmudict.bin", "wb") as f:
        f.write(b"TTSLEX01" + struct.pack("<4I", len(phones), len(words), BLOCK, len(blob)))
        for p in phones:
            f.write(p.encode().ljust(4, b"\0"))
        f.write(struct.pack(f"<{len(blocks)}I", *blocks))
        f.write(blob)
    print(len(words), "words", len(phones), "phonemes", (DATA / "cmudict.bin").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
