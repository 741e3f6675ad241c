#!/usr/bin/env python3
"""Sonorant beside GPT-SoVITS's own Python and other speech programs, on one machine, in turns.

  compare.py voices --work DIR                     full-size checkpoints with generated weights, converted, with a reference
  compare.py measure --work DIR --out FILE ...     the contestants in turns, round after round
  compare.py report FILE.. [--json FILE]           medians and ratios as Markdown; files of one machine are taken together

What is compared, what is not, and how to install it: README.md beside this file.
"""
import argparse
import atexit
import contextlib
import json
import os
import pathlib
import queue
import re
import statistics
import struct
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TEXT = "The harbour lay still this morning and the first boats came back before noon."
PHONEMES = ("DH AH0 HH AA1 R B ER0 L EY1 S T IH1 L DH IH1 S M AO1 R N IH0 NG AH0 N D DH AH0 F ER1 S T B OW1 T S "
            "K EY1 M B AE1 K B IH0 F AO1 R N UW1 N .")
TOKENS = 112                # 4.48 s at 25 tokens a second, what a speaker takes for TEXT
SECONDS_PER_TOKEN = 0.04
PAGE_TICK = os.sysconf("SC_CLK_TCK")
DISTURBED = 0.1             # CPUs that other processes may take while a run counts; 50 ms besides
FORMS = ("v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4")


def make_voices(args):
    """Checkpoints in upstream's format, converted by `sonorant convert`, and a voice of each with a prepared reference."""
    voices = args.work / "voices"
    voices.mkdir(parents=True, exist_ok=True)
    generate = [args.python, str(ROOT / "scripts/generate_checkpoint.py")]
    for form in args.forms:
        checkpoints, model = args.work / "checkpoints" / form, f"model-{form.lower()}"
        subprocess.run([*generate, "voice", form, str(checkpoints)], check=True)
        subprocess.run([str(args.sonorant.resolve()), "convert", *map(str, sorted(checkpoints.iterdir())), "--out", str(voices / model),
                        "--version", form, "--replace"], check=True, stdout=subprocess.DEVNULL, env=environment())
        manifest = json.loads((voices / model / "manifest.json").read_text())
        manifest["t2s"]["max_tokens"] = args.tokens
        (voices / model / "manifest.json").write_text(json.dumps(manifest, indent=2))
        subprocess.run([*generate, "reference", form, str(voices / voice_of(form)), "--model", model], check=True)
        print(f"{form}: {checkpoints}, {voices / voice_of(form)}")


def voice_of(form):
    return f"gen-{form.lower()}"


def environment():
    """Sonorant's, so that a program copied out of its build folder finds its data."""
    return {"SONORANT_ENGINE_TEXT_DATA_DIR": str(ROOT / "src/text/data"), "SONORANT_SERVER_WEB_DIR": str(ROOT / "web"), **os.environ}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / PAGE_TICK


def busy_seconds():
    """Of all processes, and what a hypervisor took away."""
    user, nice, system, _, _, irq, soft_irq, steal = map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + soft_irq + steal) / PAGE_TICK


def peak_mb(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024


class Worker:
    """A contestant that speaks JSON lines."""

    def __init__(self, name, command, log):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended; its log says why")
        return json.loads(line)

    def speak(self, mode, tokens, seed):
        self.process.stdin.write(json.dumps({"text": TEXT, "mode": mode, "tokens": tokens, "seed": seed}) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


class Sonorant:
    """The whole server, heard through its socket: the clock runs from the text that is sent to the Opus packet that arrived."""

    def __init__(self, name, program, voices, voice, threads, log):
        from websockets.sync.client import connect
        self.name, self.voice, self.ctx = name, voice, 0
        self.process = subprocess.Popen(
            [str(program.resolve()), "serve", "--voices", str(voices), "--port", "0", "--threads", str(threads)], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env={**environment(), "SONORANT_ENGINE_PRELOAD": voice})
        atexit.register(self.process.kill)
        self.lines = queue.Queue()
        threading.Thread(target=self.pump, args=(log,), daemon=True).start()
        self.closing = contextlib.ExitStack()
        self.socket = self.closing.enter_context(
            connect(f"ws://127.0.0.1:{self.port()}/v1/stream", subprotocols=["sonorant.v1"], compression=None, max_size=None))
        self.socket.recv()
        self.about = {"what": subprocess.run([str(program.resolve()), "--version"], capture_output=True, text=True).stdout.strip(),
                      "threads": threads}

    def pump(self, log):
        for line in self.process.stdout:
            log.write(line)
            log.flush()
            self.lines.put(line)

    def port(self):
        end = time.monotonic() + 60
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(queue.Empty):
                found = re.search(r"listening on http://[^ ]*:(\d+)", self.lines.get(timeout=1))
                if found:
                    return int(found[1])
        raise SystemExit(f"{self.name}: does not listen; its log says why")

    def send(self, **message):
        self.socket.send(json.dumps({"ctx": self.ctx, **message}))

    def speak(self, mode, tokens, seed):
        self.ctx += 1
        self.send(type="open", voice=self.voice, lang="en", seed=seed, format={"codec": "opus", "rate": 48000})
        chunks, rate = [], 48000
        while True:
            frame = self.socket.recv()
            now = time.perf_counter()
            if isinstance(frame, bytes):
                position, = struct.unpack_from("<Q", frame, 12)
                chunks.append((now - start, position / rate))
                continue
            message = json.loads(frame)
            if message["type"] == "opened":
                rate, start = message["rate"], time.perf_counter()
                self.send(type="text", text=TEXT)
                self.send(type="flush")
                self.send(type="end")
            elif message["type"] == "done":
                return {"total_s": now - start, "chunks": chunks, "audio_s": message["audio_ms"] / 1000,
                        "tokens": message["metrics"]["tokens"], "metrics": message["metrics"]}
            elif message["type"] == "error":
                raise SystemExit(f"{self.name}: {frame}")

    def close(self):
        self.closing.close()
        self.process.terminate()
        self.process.wait(20)


def vocoder_of(checkpoints):
    found = [path for name in ("bigvgan_generator.pt", "vocoder.pth") for path in checkpoints.glob(name)]
    return ["--vocoder", str(found[0].resolve())] if found else []


def start_contestants(args, log):
    """[(contestant, form or None, modes)]"""
    found = []
    voices = args.work / "voices"
    for form in args.forms:
        for threads in args.sonorant_threads:
            name = "sonorant" if threads == 1 else f"sonorant, {threads} threads"
            found.append((Sonorant(name, args.sonorant, voices, voice_of(form), threads, log), form, ["stream"]))
        if args.upstream:
            checkpoints = args.work / "checkpoints" / form
            for python in args.python:
                for threads in args.threads:
                    worker = Worker("upstream", [
                        python, str(HERE / "upstream_worker.py"), "--upstream", str(args.upstream.resolve()), "--version", form,
                        "--t2s", str(next(checkpoints.glob("*.ckpt")).resolve()),
                        "--acoustic", str(next(checkpoints.glob("*_s*.pth")).resolve()),
                        "--reference", str((voices / voice_of(form) / "reference.safetensors").resolve()),
                        "--phonemes", PHONEMES, "--threads", str(threads), *vocoder_of(checkpoints)], log)
                    worker.name = f"GPT-SoVITS, torch {worker.about['torch'].split('+')[0]}"
                    if threads != os.cpu_count():
                        worker.name += f", {threads} threads"
                    found.append((worker, form, ["serial"] if form in ("v3", "v4") else args.modes))
    if args.peers:
        found.append((Sonorant("sonorant", args.sonorant, args.starter.parent, args.starter.name, 1, log), "starter", ["stream"]))
        for peer in args.peers:
            found.append((Worker(peer, [args.peers_python, str(HERE / "peer_worker.py"), peer, "--threads", str(args.threads[0])], log),
                          "starter", ["whole"]))
    return found


def measure(args):
    with open(args.out.with_suffix(".log"), "w") as log:
        contestants = start_contestants(args, log)
        result = {"machine": machine(), "text": TEXT, "label": args.label, "contestants": [], "runs": []}
        try:
            for contestant, form, modes in contestants:
                for mode in modes:
                    contestant.speak(mode, args.tokens if form == "starter" else min(args.tokens, 40), 1)
            for round_ in range(args.rounds):
                order = contestants if round_ % 2 == 0 else contestants[::-1]
                for contestant, form, modes in order:
                    for mode in modes:
                        ours = [contestant.process.pid, os.getpid()]
                        before, busy_before = [cpu_seconds(pid) for pid in ours], busy_seconds()
                        run = contestant.speak(mode, args.tokens, args.seed + round_)
                        cpu, busy = [cpu_seconds(pid) - b for pid, b in zip(ours, before)], busy_seconds() - busy_before
                        judged = judge(run, contestant.name, form, mode, args.tokens, cpu[0])
                        judged["others_cpus"] = max(0.0, busy - sum(cpu) - 0.05) / run["total_s"]
                        result["runs"].append(judged)
                        print(f"{form:9} {contestant.name:32} {mode:7} first {judged['first_ms']:7.0f} ms   RTF {judged['rtf']:.3f}   "
                              f"others took {judged['others_cpus']:.2f} CPUs", file=sys.stderr)
            for contestant, form, _ in contestants:
                result["contestants"].append({"name": contestant.name, "form": form, "peak_mb": peak_mb(contestant.process.pid),
                                              **contestant.about})
        finally:
            for contestant, _, _ in contestants:
                contestant.close()
    args.out.write_text(json.dumps(result, indent=1))


def judge(run, name, form, mode, tokens, cpu):
    """Figures of one run. Speech is what the tokens are long, without the pause that both engines add."""
    speech = run["audio_s"] if form == "starter" else tokens * SECONDS_PER_TOKEN
    if form != "starter" and run.get("tokens", tokens) != tokens:
        raise SystemExit(f"{name}: {run['tokens']} tokens instead of {tokens}")
    if form != "starter" and not 0 <= run["audio_s"] - speech < 0.5:
        raise SystemExit(f"{name}: {run['audio_s']} s of audio for {tokens} tokens")
    return {"name": name, "form": form, "mode": mode, "first_ms": 1000 * run["chunks"][0][0],
            # Playback that begins this late never waits: each piece is there when all before it has been played.
            "gapless_ms": 1000 * max(arrived - position for arrived, position in run["chunks"]),
            "total_ms": 1000 * run["total_s"], "speech_s": speech, "rtf": run["total_s"] / speech, "cpu_s_per_s": cpu / speech,
            **({"metrics": run["metrics"]} if "metrics" in run else {})}


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / 1024**2
    return f"{model[1] if model else 'unknown CPU'}, {os.cpu_count()} CPUs, {memory:.0f} GB"


FIGURES = ("first_ms", "gapless_ms", "rtf", "cpu_s_per_s")


def median_of(runs, figure):
    return statistics.median(run[figure] for run in runs)


def summary(parts):
    """Medians of each contestant in each form and mode, and its ratios to Sonorant in the files where it took part."""
    undisturbed = [[run for run in part["runs"] if run["others_cpus"] <= DISTURBED] for part in parts]
    peaks = {}
    for part in parts:
        for c in part["contestants"]:
            peaks[c["name"], c["form"]] = max(c["peak_mb"], peaks.get((c["name"], c["form"]), 0))
    rows = []
    for key in dict.fromkeys((r["form"], r["name"], r["mode"]) for runs in undisturbed for r in runs):
        files = [runs for runs in undisturbed if any((r["form"], r["name"], r["mode"]) == key for r in runs)]
        mine = [r for runs in files for r in runs if (r["form"], r["name"], r["mode"]) == key]
        own = [r for runs in files for r in runs if (r["form"], r["name"]) == (key[0], "sonorant")]
        row = {"form": key[0], "name": key[1], "mode": key[2], "runs": len(mine), "peak_mb": peaks[key[1], key[0]]}
        for figure in FIGURES:
            values = [r[figure] for r in mine]
            row[figure] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
        if own and key[1] != "sonorant":
            row["ratio"] = {figure: median_of(mine, figure) / median_of(own, figure) for figure in FIGURES}
        rows.append(row)
    return {"machine": parts[0]["machine"], "text": parts[0]["text"], "labels": sorted({p["label"] for p in parts}),
            "disturbed": sum(len(p["runs"]) for p in parts) - sum(map(len, undisturbed)), "rows": rows}


def report(args):
    parts = [json.loads(path.read_text()) for path in args.files]
    if len({part["machine"] for part in parts}) > 1:
        raise SystemExit("these files are of different machines")
    result = summary(parts)
    print(f"{result['machine']}; {', '.join(filter(None, result['labels']))}; median (least .. most), and how many times Sonorant's; "
          f"{result['disturbed']} runs left out because others took over {DISTURBED} of a CPU\n")
    print("| Voice | Program | Way | First audio, ms | Plays without gaps after, ms | RTF | CPU s per s | Peak MB | Runs |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in result["rows"]:
        def cell(figure, digits):
            f = row[figure]
            text = f"{f['median']:.{digits}f} ({f['min']:.{digits}f} .. {f['max']:.{digits}f})"
            return text + (f", **{row['ratio'][figure]:.2f}x**" if "ratio" in row else "")
        print(f"| {row['form']} | {row['name']} | {row['mode']} | {cell('first_ms', 0)} | {cell('gapless_ms', 0)} | {cell('rtf', 3)} | "
              f"{cell('cpu_s_per_s', 2)} | {row['peak_mb']:.0f} | {row['runs']} |")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    voices = commands.add_parser("voices")
    voices.add_argument("--python", default=sys.executable, help="an interpreter with PyTorch")
    run = commands.add_parser("measure")
    run.add_argument("--upstream", type=pathlib.Path, help="a checkout of GPT-SoVITS")
    run.add_argument("--python", action="append", default=[], help="an interpreter with PyTorch for upstream; may be repeated")
    run.add_argument("--peers", nargs="*", default=[], choices=["piper", "kokoro"])
    run.add_argument("--peers-python", default=sys.executable, help="an interpreter with the peers' packages")
    run.add_argument("--starter", type=pathlib.Path, default=ROOT / "models/pretrained/starter", help="Sonorant's voice beside the peers")
    run.add_argument("--threads", type=int, nargs="+", default=[os.cpu_count()], help="of upstream and the peers")
    run.add_argument("--sonorant-threads", type=int, nargs="+", default=[1])
    run.add_argument("--modes", nargs="+", default=["stream", "whole"], choices=["stream", "stream8", "whole"], help="of upstream")
    run.add_argument("--rounds", type=int, default=4)
    run.add_argument("--seed", type=int, default=10)
    run.add_argument("--label", default="")
    run.add_argument("--out", type=pathlib.Path, required=True)
    for command in (voices, run):
        command.add_argument("--work", type=pathlib.Path, required=True)
        command.add_argument("--forms", nargs="*", default=["v2", "v2Pro"], choices=FORMS)
        command.add_argument("--sonorant", type=pathlib.Path, default=ROOT / "build/release/sonorant")
        command.add_argument("--tokens", type=int, default=TOKENS)
    table = commands.add_parser("report")
    table.add_argument("files", nargs="+", type=pathlib.Path)
    table.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    {"voices": make_voices, "measure": measure, "report": report}[args.command](args)


if __name__ == "__main__":
    main()
