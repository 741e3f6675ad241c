#!/usr/bin/env python3
"""Evaluates cloning: voices are made of recordings of speakers the model never heard, and speak sentences it never saw.

    clone.py --sonorant build/release/sonorant --voices DIR --model clone --references DIR --sentences-en FILE --sentences-zh FILE
             [--sentences-mixed FILE] --out DIR

--references holds NAME.wav (3 to 10 s), NAME.txt (its words, first line; its language, second line) and, to compare with, NAME_other.wav, the same speaker again.
Every speaker is made a voice by `sonorant voices add` and speaks --count sentences of each language. Prints word error (English: Whisper tiny.en), syllable error
(Chinese and Chinese with English words in it: a multilingual Whisper, --zh-model; compared as pinyin without and with tones, wording_zh.py), skips and repeats,
DNSMOS, similarity by resemblyzer to the reference, to the other recording of the speaker and to the other speakers, and loudness. Everything is kept in --out.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import soundfile

import asr
import mos
import repeats
import wording_zh
from similarity import embeddings


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--sonorant", required=True)
    ap.add_argument("--voices", type=pathlib.Path, required=True)
    ap.add_argument("--model", required=True)
    ap.add_argument("--references", type=pathlib.Path, required=True)
    ap.add_argument("--sentences-en", type=pathlib.Path)
    ap.add_argument("--sentences-zh", type=pathlib.Path)
    ap.add_argument("--sentences-mixed", type=pathlib.Path)
    ap.add_argument("--zh-model", type=pathlib.Path, help="CTranslate2 Whisper, multilingual")
    ap.add_argument("--count", type=int, default=10, help="sentences a speaker and language")
    ap.add_argument("--speakers", type=int)
    ap.add_argument("--text-data")
    ap.add_argument("--own-language", action="store_true", help="a speaker says sentences of the language of its reference only")
    ap.add_argument("--out", type=pathlib.Path, required=True)
    a = ap.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    names = [p.stem for p in sorted(a.references.glob("*.wav")) if not p.stem.endswith("_other")][: a.speakers]
    lines = {k: f.read_text(encoding="utf8").splitlines() for k, f in (("en", a.sentences_en), ("zh", a.sentences_zh), ("mixed", a.sentences_mixed)) if f}
    shelf = a.out / "voices"
    shelf.mkdir(exist_ok=True)
    if not (shelf / a.model).exists():
        shutil.copytree(a.voices / a.model, shelf / a.model)
    env = dict(os.environ, SONORANT_ENGINE_VOICES_DIR=str(shelf), **({"SONORANT_ENGINE_TEXT_DATA_DIR": a.text_data} if a.text_data else {}))
    rows = []
    for n, name in enumerate(names):
        text, lang = (a.references / f"{name}.txt").read_text(encoding="utf8").splitlines()[:2]
        if not (shelf / name).exists():
            done = subprocess.run([a.sonorant, "voices", "add", "--model", a.model, "--ref", str(a.references / f"{name}.wav"), "--text", text, "--lang", lang, "--id", name],
                                  env=env, capture_output=True, text=True)
            if done.returncode:
                print(f"{name}: {done.stderr.strip()}", file=sys.stderr)
                continue
        for k, sentences in lines.items():
            if a.own_language and k not in (lang, "mixed"):
                continue
            for i in range(a.count):
                j = (n * a.count + i) % len(sentences)
                wav = a.out / f"{name}_{k}_{i:02d}.wav"
                if not wav.exists():
                    subprocess.run([a.sonorant, "say", "--voice", name, "--lang", "zh" if k == "mixed" else k, "--seed", str(i + 1), "--out", str(wav), sentences[j]], env=env, capture_output=True)
                rows.append(dict(speaker=name, reference_lang=lang, lang=k, sentence=sentences[j], wav=wav if wav.exists() else None))
        print(f"\r{n + 1} of {len(names)} speakers", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)

    said = [r for r in rows if r["wav"]]
    english = [r for r in rows if r["lang"] == "en"]
    if english:
        score = asr.score([r["sentence"] for r in english], asr.transcribe([r["wav"] for r in english]))
        for r, s in zip(english, score["rows"]):
            r.update(heard=s["heard"], errors=s["errors"], words=len(s["reference"]), faults=repeats.word_faults(s))
    chinese = [r for r in rows if r["lang"] != "en"]
    if chinese and a.zh_model:
        for r, heard in zip(chinese, asr.transcribe([r["wav"] for r in chinese], a.zh_model, lang="zh")):
            row = wording_zh.compare(r["sentence"], heard)
            r.update(heard=heard, errors=row["errors"], words=len(row["reference"]), tone_errors=wording_zh.compare(r["sentence"], heard, True)["errors"], faults=repeats.word_faults(row))
    for r, rating in zip(said, mos.rate_files([r["wav"] for r in said])):
        wave, rate = soundfile.read(r["wav"], dtype="float32")
        r.update(dnsmos=rating, **{k: v for k, v in repeats.measure(wave, rate).items() if np.isscalar(v)})
    ref = dict(zip(names, embeddings([a.references / f"{n}.wav" for n in names])))
    again = lambda n: a.references / f"{n}_other.wav"
    other = dict(zip(names, embeddings([again(n) if again(n).exists() else a.references / f"{n}.wav" for n in names])))
    for r, e in zip(said, embeddings([r["wav"] for r in said])):
        wrong = [float(e @ ref[n]) for n in names if n != r["speaker"]]
        r.update(similar=float(e @ ref[r["speaker"]]), similar_other=float(e @ other[r["speaker"]]), wrong=float(np.mean(wrong)), first=float(e @ ref[r["speaker"]]) > max(wrong, default=-1))
    mean = lambda key, some: float(np.mean([r[key] for r in some])) if some else float("nan")
    faults = lambda rows, *kinds: sum(f["kind"] in kinds for r in rows for f in r.get("faults", ()))
    print("| | " + " | ".join(lines) + " |\n| --- |" + " ---: |" * len(lines))
    table = {"sentences": lambda s, t: str(len(t)), "recordings missing": lambda s, t: str(len(t) - len(s)),
             "word error (en), syllable error without tones (zh, mixed)": lambda s, t: f"{100 * sum(r.get('errors', 0) for r in t) / max(1, sum(r.get('words', 0) for r in t)):.1f} %",
             "syllable error with tones": lambda s, t: f"{100 * sum(r['tone_errors'] for r in t) / max(1, sum(r['words'] for r in t)):.1f} %" if t and "tone_errors" in t[0] else "-",
             "skips of two or more words or syllables; repeats": lambda s, t: f"{faults(t, 'skip', 'truncated')}; {faults(t, 'repeat')}",
             "DNSMOS OVRL": lambda s, t: f"{np.mean([r['dnsmos']['ovrl'] for r in s]):.2f}", "DNSMOS P.808": lambda s, t: f"{np.mean([r['dnsmos']['p808'] for r in s]):.2f}",
             "similarity to the reference": lambda s, t: f"{mean('similar', s):.3f}",
             "of those whose reference is in the language they speak": lambda s, t: f"{mean('similar', [r for r in s if r['lang'] == r['reference_lang']]):.3f}", "to another recording of the speaker": lambda s, t: f"{mean('similar_other', s):.3f}",
             "to the other speakers": lambda s, t: f"{mean('wrong', s):.3f}", "nearest to the right one": lambda s, t: f"{100 * mean('first', s):.0f} %",
             "loudness, deviation": lambda s, t: f"{mean('lufs', s):.1f} LUFS, {np.std([r['lufs'] for r in s]):.1f} dB"}
    for label, value in table.items():
        print(f"| {label} | " + " | ".join(value([r for r in said if r["lang"] == k], [r for r in rows if r["lang"] == k]) for k in lines) + " |")
    same = np.mean([float(ref[n] @ other[n]) for n in names])
    apart = np.mean([float(ref[m] @ ref[n]) for m in names for n in names if m != n])
    print(f"\nThe recordings themselves: {same:.3f} between two of one speaker, {apart:.3f} between speakers; {len(names)} speakers.")
    (a.out / "report.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
