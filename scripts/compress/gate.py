#!/usr/bin/env python3
"""The quality gate: a compressed model is exported only when it speaks about as well as the one it was made from.

    gate.py --sonorant PROGRAM --baseline FOLDER --candidate FOLDER [--export FOLDER] [--sentences FILE] [--out FILE.json] [--python PYTHON]

Both voices read the held-out sentences through the program; scripts/eval/run.py measures the recordings, scripts/eval/similarity.py how alike
the two voices are (left out where its package is missing), `sonorant bench` the speed, in turns. Every figure of thresholds.json has
a limit: what the baseline has and a tolerance, or a bound of its own. Prints the table; the exit status is 1 and nothing is exported when
a figure is beyond its limit, 2 when something could not be measured. --only speed,size leaves out what needs recordings.

Needs nothing beside Python's standard library; --python is the interpreter that has scripts/eval/requirements.txt.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
EVAL = HERE.parent / "eval"
SPEED = ("rtf", "first_audio_ms")


def limit_of(rule, baseline):
    """The worst value that still passes, from a rule of thresholds.json; None: no limit can be told."""
    limits = [rule[k] for k in ("most", "least") if k in rule]
    if baseline is not None and ("tolerance" in rule or "share" in rule):
        step = rule.get("tolerance", 0)
        limits.append(baseline * rule.get("share", 1) + (-step if rule["better"] == "more" else step))
    if not limits:
        return None
    return max(limits) if rule["better"] == "more" else min(limits)


def passes(rule, baseline, candidate):
    if candidate is None:
        return False
    if rule["better"] == "same":
        return baseline is not None and abs(candidate - baseline) <= rule["tolerance"]
    limit = limit_of(rule, baseline)
    if limit is None:
        return False
    return candidate >= limit - 1e-9 if rule["better"] == "more" else candidate <= limit + 1e-9


def compare(rules, baseline, candidate, optional=("similarity",)):
    """-> rows of dict(key, label, baseline, candidate, limit, ok). An optional figure that was not measured is left out, any other fails."""
    rows = []
    for key, rule in rules.items():
        a, b = baseline.get(key), candidate.get(key)
        if b is None and key in optional:
            continue
        rows.append({"key": key, "label": rule["label"], "baseline": a, "candidate": b,
                     "limit": None if rule["better"] == "same" else limit_of(rule, a), "ok": passes(rule, a, b)})
    return rows


def check_rules(rules):
    """Raises on a rule that could not be applied."""
    for key, rule in rules.items():
        if set(rule) - {"label", "better", "tolerance", "share", "least", "most"} or rule.get("better") not in ("less", "more", "same"):
            raise ValueError(f"thresholds: {key}: unknown key, or better is not less, more or same")
        if not {"tolerance", "share", "least", "most"} & set(rule) or (rule["better"] == "same" and "tolerance" not in rule):
            raise ValueError(f"thresholds: {key}: no limit")
        if (rule["better"] == "less" and "least" in rule) or (rule["better"] == "more" and "most" in rule):
            raise ValueError(f"thresholds: {key}: a bound on the wrong side")


def shown(key, value):
    if value is None:
        return "n/a"
    if key in ("wer", "cer", "sentences_right"):
        return f"{100 * value:.1f} %"
    return f"{value:.4f}" if key == "rtf" else f"{value:.0f}" if key in ("skips", "repeats", "babble", "missing") else f"{value:.2f}"


def to_markdown(rows, names=("before", "after")):
    lines = [f"| | {names[0]} | {names[1]} | limit | |", "| --- | ---: | ---: | ---: | --- |"]
    for r in rows:
        cells = [shown(r["key"], r[k]) for k in ("baseline", "candidate", "limit")]
        lines.append(f"| {r['label']} | {' | '.join(cells)} | {'pass' if r['ok'] else '**refused**'} |")
    return "\n".join(lines)


def offer(folder, voices, name):
    """A voice folder, and the model it names, under `voices` as the program wants it -> its id there."""
    folder = pathlib.Path(folder).resolve()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf8"))
    target = voices / name
    target.mkdir(parents=True)
    for file in folder.iterdir():
        if file.name != "manifest.json":
            (target / file.name).symlink_to(file)
    manifest["id"] = name
    if "model" in manifest:
        model = f"{name}-model"
        (voices / model).symlink_to(folder.parent / manifest["model"], target_is_directory=True)
        manifest["model"] = model
    (target / "manifest.json").write_text(json.dumps(manifest), encoding="utf8")
    return name


def size_mb(folder):
    folder = pathlib.Path(folder).resolve()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf8"))
    folders = [folder] + ([folder.parent / manifest["model"]] if "model" in manifest else [])
    return sum(f.stat().st_size for d in folders for f in d.glob("*.safetensors")) / 1e6


def run(command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command[:3]))} ..: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    return done.stdout


def bench(sonorant, voices, name, runs, text, lang):
    report = json.loads(run([sonorant, "bench", "--json", "--runs", runs, "--voices", voices, "--voice", name, "--lang", lang, "--log-level", "error",
                             *(["--text", text] if text else [])]))
    return {"rtf": report["rtf"]["p50"], "first_audio_ms": report["first_audio_ms"]["p50"]}


def speeds(sonorant, voices, names, rounds, runs, text, lang):
    """Of each name the best of some rounds taken in turns: what another program's load did not slow down."""
    taken = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            taken[name].append(bench(sonorant, voices, name, runs, text, lang))
    return {name: {k: min(t[k] for t in all_) for k in SPEED} for name, all_ in taken.items()}


def listen(args, voices, name, folder):
    """Recordings of the held-out sentences -> run.py's summary."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "report.json"
    if args.reuse and out.exists():
        return next(iter(json.loads(out.read_text(encoding="utf8")).values()))["summary"]
    env = dict(os.environ, SONORANT_ENGINE_VOICES_DIR=str(voices))
    command = [args.python, EVAL / "run.py", "--sonorant", args.sonorant, "--voice", name, "--wavs", folder, "--out", out, "--jobs", args.jobs, "--markdown"]
    if args.sentences:
        command += ["--sentences", args.sentences]
    done = subprocess.run([str(c) for c in command], env=env, stdout=subprocess.DEVNULL)
    if not out.exists():
        raise RuntimeError(f"scripts/eval/run.py ended with {done.returncode}")
    return next(iter(json.loads(out.read_text(encoding="utf8")).values()))["summary"]


def likeness(args, a, b):
    """Mean similarity of two folders' recordings, sentence by sentence; None where it cannot be told."""
    done = subprocess.run([str(args.python), str(EVAL / "similarity.py"), str(a), str(b)], capture_output=True, text=True)
    if done.returncode:
        print(f"similarity not measured: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
        return None
    return json.loads(done.stdout)["similarity"]


def export(candidate, target):
    """Copies a folder that has passed, whole or not at all; its id is the folder's name, as everywhere."""
    target = pathlib.Path(target)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(candidate, part)
    manifest = json.loads((part / "manifest.json").read_text(encoding="utf8"))
    manifest["id"] = target.name.lower()
    (part / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def main(argv=None):
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--sonorant", required=True, type=pathlib.Path)
    ap.add_argument("--baseline", required=True, type=pathlib.Path, help="voice folder")
    ap.add_argument("--candidate", required=True, type=pathlib.Path, help="voice folder")
    ap.add_argument("--export", type=pathlib.Path, help="folder that the candidate becomes when it passes")
    ap.add_argument("--thresholds", type=pathlib.Path, default=HERE / "thresholds.json")
    ap.add_argument("--sentences", type=pathlib.Path, help="one a line (scripts/eval/sentences_en.txt)")
    ap.add_argument("--python", default=sys.executable, help="interpreter that runs scripts/eval")
    ap.add_argument("--jobs", type=int, default=1)
    ap.add_argument("--work", type=pathlib.Path, help="keeps the recordings there, in before/ and after/")
    ap.add_argument("--reuse", action="store_true", help="takes reports that are in --work already")
    ap.add_argument("--rounds", type=int, default=3, help="of bench, in turns; 0: speed is not measured")
    ap.add_argument("--runs", type=int, default=10, help="of one round")
    ap.add_argument("--text", help="that bench says")
    ap.add_argument("--lang", default="en")
    ap.add_argument("--only", help="figures that count, comma-separated; `size` and `speed` are short for theirs")
    ap.add_argument("--out", type=pathlib.Path, help="the figures as JSON; the table goes beside it as .md")
    args = ap.parse_args(argv)
    rules = json.loads(args.thresholds.read_text(encoding="utf8"))
    check_rules(rules)
    if args.only:
        wanted = {k for name in args.only.split(",") for k in {"speed": SPEED, "size": ("size_mb",)}.get(name, (name,))}
        if wanted - set(rules):
            ap.error(f"--only: no rule for {', '.join(sorted(wanted - set(rules)))}")
        rules = {k: v for k, v in rules.items() if k in wanted}
    if args.rounds == 0:
        rules = {k: v for k, v in rules.items() if k not in SPEED}
    with tempfile.TemporaryDirectory() as scratch:
        voices, work = pathlib.Path(scratch) / "voices", args.work or pathlib.Path(scratch)
        figures = {"before": {"size_mb": size_mb(args.baseline)}, "after": {"size_mb": size_mb(args.candidate)}}
        try:
            offer(args.baseline, voices, "before"), offer(args.candidate, voices, "after")
            if set(rules) - {"size_mb", *SPEED}:
                for name in figures:
                    figures[name].update(listen(args, voices, name, work / name))
                figures["after"]["similarity"] = likeness(args, work / "before", work / "after")
            if set(rules) & set(SPEED):
                for name, speed in speeds(args.sonorant, voices, list(figures), args.rounds, args.runs, args.text, args.lang).items():
                    figures[name].update(speed)
        except (RuntimeError, OSError, ValueError) as fault:
            print(f"gate.py: {fault}; nothing is exported", file=sys.stderr)
            return 2
        rows = compare(rules, figures["before"], figures["after"])
    table, good = to_markdown(rows), bool(rows) and all(r["ok"] for r in rows)
    print(table)
    if args.out:
        args.out.write_text(json.dumps({"passed": good, "rows": rows, **figures}, indent=1) + "\n", encoding="utf8")
        args.out.with_suffix(".md").write_text(table + "\n", encoding="utf8")
    if not good:
        print(f"refused: {', '.join(r['label'] for r in rows if not r['ok'])}", file=sys.stderr)
        return 1
    if args.export:
        export(args.candidate, args.export)
        print(f"exported to {args.export}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
