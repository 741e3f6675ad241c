#!/usr/bin/env python3
"""Turns what `sonorant bench --json` wrote into a page: report.md, and plots as SVG beside it. Standard library only.

    scripts/bench/report.py --out FOLDER [LABEL=]FILE.json ...

With several files, in the order given, the first is what the others are compared with.
"""
import argparse
import html
import json
import math
import pathlib
import sys

SCHEMA = "sonorant.bench/1"
N_COLOURS = 6
WIDTH, HEIGHT = 760, 400
STAGES = {"front_end": "text front end", "prefill": "T2S prefill, {} positions", "decode_step": "T2S decode step, {} rows", "encoder": "acoustic encoder",
          "opus": "resampling and Opus"}
UNITS = {"us/character": "µs a character", "ms/s": "ms a second of audio", "positions/s": "positions a second"}
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 92, 56

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2430; }
  .page { fill: #ffffff; } .title { font-size: 17px; font-weight: 600; } .note { font-size: 12px; fill: #5b6475; }
  .tick { font-size: 12px; fill: #5b6475; } .grid { stroke: #e3e7ee; stroke-width: 1; } .axis { stroke: #8a93a5; stroke-width: 1; }
  .goal { stroke: #8a93a5; stroke-width: 1.5; stroke-dasharray: 2 4; } .line { fill: none; stroke-width: 2.5; stroke-linejoin: round; }
  .thin { stroke-width: 1.5; } .p50 { stroke-dasharray: 1.5 4; stroke-linecap: round; } .p99 { stroke-dasharray: 8 4; }
  .s0 { stroke: #2563c9; } .s1 { stroke: #c2570c; } .s2 { stroke: #1a7f4e; } .s3 { stroke: #8a3ab9; } .s4 { stroke: #a8323e; } .s5 { stroke: #50697f; }
  .f0 { fill: #2563c9; } .f1 { fill: #c2570c; } .f2 { fill: #1a7f4e; } .f3 { fill: #8a3ab9; } .f4 { fill: #a8323e; } .f5 { fill: #50697f; }
  .none { fill: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e9f0; } .page { fill: #14171f; } .note, .tick { fill: #9aa4b8; } .grid { stroke: #2a303d; } .axis, .goal { stroke: #6b7589; }
    .s0 { stroke: #6ea8ff; } .s1 { stroke: #f0965a; } .s2 { stroke: #5fcf97; } .s3 { stroke: #c78bf0; } .s4 { stroke: #f27c88; } .s5 { stroke: #9db4c9; }
    .f0 { fill: #6ea8ff; } .f1 { fill: #f0965a; } .f2 { fill: #5fcf97; } .f3 { fill: #c78bf0; } .f4 { fill: #f27c88; } .f5 { fill: #9db4c9; }
  }
"""


class BadReport(Exception):
    """A file that is not what this program reads."""


# --- reading ---


def load(argument):
    """"LABEL=FILE" or "FILE" -> the report, with its label."""
    label, path = argument.split("=", 1) if "=" in argument else ("", argument)
    try:
        report = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadReport(f"{path}: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise BadReport(f"{path}: not a report of sonorant bench ({SCHEMA})")
    report["label"] = label or report.get("commit") or pathlib.Path(path).stem
    return report


def loads_of(report):
    return report.get("streams", {}).get("loads", [])


def machine_line(report):
    host = report.get("host", {})
    parts = [report.get("machine", "unknown machine")]
    if host.get("features"):
        parts.append(" ".join(host["features"]))
    if host.get("memory_mb"):
        parts.append(f"{host['memory_mb'] / 1024:.0f} GB")
    if host.get("system"):
        parts.append(host["system"])
    parts += [f"{name} {version}" for name, version in host.get("libraries", {}).items()]
    return ", ".join(parts)


# --- numbers and axes ---


def short(value):
    """At most three digits that mean something."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(digits, 4)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def nice_ticks(top, wanted=5):
    """Even ticks from 0 to at least `top`, at 1, 2 or 5 times a power of ten."""
    if top <= 0:
        return [0.0, 1.0]
    raw = top / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * (1 - 1e-9))
    return [round(i * step, 10) for i in range(math.ceil(top / step - 1e-9) + 1)]


def log_ticks(low, high):
    """1, 2 and 5 times powers of ten around [low, high]."""
    ticks = [m * 10.0**e for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)]
    below = max(t for t in ticks if t <= low * (1 + 1e-9))
    above = min(t for t in ticks + [ticks[-1] * 2] if t >= high * (1 - 1e-9))
    return [t for t in ticks if below <= t <= above] or [below, above]


class Axis:
    """Values to pixels; from 0 in even steps, or logarithmic where the values span more than a factor of fifty."""

    def __init__(self, values, begin, end, top=None):
        values = [v for v in values if v is not None]
        positive = [v for v in values if v > 0]
        self.begin, self.end = begin, end
        self.log = top is None and len(positive) == len(values) > 0 and max(positive) > 50 * min(positive)
        self.ticks = log_ticks(min(positive), max(positive)) if self.log else nice_ticks(top or max(values, default=1))
        self.low, self.high = self.ticks[0], self.ticks[-1]

    def __call__(self, value):
        if self.log:
            share = (math.log(max(value, self.low)) - math.log(self.low)) / max(math.log(self.high) - math.log(self.low), 1e-9)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)


# --- SVG ---


def tag(name, content=None, **attributes):
    text = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items())
    return f"<{name}{text}/>" if content is None else f"<{name}{text}>{html.escape(content)}</{name}>"


def text(x, y, content, anchor="start", class_="", **more):
    return tag("text", content, x=round(x, 1), y=round(y, 1), text_anchor=anchor, class_=class_ or "label", **more)


def frame(title, machine, x_label, y_label, y_axis, body, legend):
    """A whole picture: title, legend, machine, grid, axes, and `body` in them."""
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{STYLE}</style>",
        tag("rect", x=0, y=0, width=WIDTH, height=HEIGHT, rx=8, class_="page"),
        text(LEFT, 28, title, class_="title"),
        text(LEFT, 46, machine if len(machine) <= 104 else machine[:103] + "…", class_="note"),
    ]
    for tick in y_axis.ticks:
        y = round(y_axis(tick), 1)
        out.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        out.append(text(LEFT - 8, y + 4, short(tick), "end", "tick"))
    out += body
    out.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM, class_="axis"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label, "middle"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(20, middle, y_label, "middle", transform=f"rotate(-90 20 {middle})"))
    x = LEFT
    for kind, label in legend:
        if kind.startswith("f"):
            out.append(tag("rect", x=x, y=63, width=12, height=12, rx=2, class_=kind))
            x += 18
        else:
            out.append(tag("line", x1=x, x2=x + 24, y1=69, y2=69, class_=kind))
            x += 30
        out.append(text(x, 73, label))
        x += 7.2 * len(label) + 18
    return "\n".join(out + ["</svg>", ""])


def line_plot(title, machine, y_label, series, goal=None, top=None):
    """series: (class, label or None for no legend, [(streams, value)])."""
    points = [point for _, _, line in series for point in line]
    counts = sorted({n for n, _ in points})
    y_axis = Axis([v for _, v in points] + ([goal[0]] if goal else []), HEIGHT - BOTTOM, TOP, top)
    span = max(counts[-1] - counts[0], 1)

    def x_of(n):
        return LEFT + 24 + (n - counts[0]) / span * (WIDTH - RIGHT - LEFT - 48) if len(counts) > 1 else (LEFT + WIDTH - RIGHT) / 2

    body = []
    last = -math.inf
    for n in counts:
        if x_of(n) - last >= 26:
            body.append(text(x_of(n), HEIGHT - BOTTOM + 18, str(n), "middle", "tick"))
            last = x_of(n)
    if goal:
        y = round(y_axis(goal[0]), 1)
        body.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="goal"))
        body.append(text(WIDTH - RIGHT - 4, y - 6, goal[1], "end", "note"))
    for class_, _, line in series:
        place = " ".join(f"{x_of(n):.1f},{y_axis(v):.1f}" for n, v in line)
        body.append(tag("polyline", points=place, class_=f"line {class_}"))
        if "thin" not in class_:
            fill = "f" + class_.split()[0][1:]
            body += [tag("circle", cx=round(x_of(n), 1), cy=round(y_axis(v), 1), r=3.5, class_=fill) for n, v in line]
    legend = [(f"line {class_}", label) for class_, label, _ in series if label]
    return frame(title, machine, "live streams", y_label, y_axis, body, legend)


def bar_plot(title, machine, y_label, groups, labels, unit=""):
    """groups: (name, [a value or None per label]); one group of bars each."""
    y_axis = Axis([v for _, values in groups for v in values if v is not None] + [0], HEIGHT - BOTTOM, TOP)
    width = (WIDTH - RIGHT - LEFT) / max(len(groups), 1)
    bar = min(56.0, 0.76 * width / len(labels))
    body = []
    for i, (name, values) in enumerate(groups):
        centre = LEFT + (i + 0.5) * width
        body.append(text(centre, HEIGHT - BOTTOM + 18, name, "middle", "tick"))
        for j, value in enumerate(values):
            if value is None:
                continue
            x = centre + (j - len(labels) / 2) * bar
            y = y_axis(value)
            body.append(tag("rect", x=round(x + 1, 1), y=round(y, 1), width=round(bar - 2, 1), height=round(HEIGHT - BOTTOM - y, 1),
                            rx=2, class_=f"f{j % N_COLOURS}"))
            body.append(text(x + bar / 2, y - 5, short(value) + unit, "middle", "tick"))
    legend = [(f"f{j % N_COLOURS}", label) for j, label in enumerate(labels)]
    return frame(title, machine, "", y_label, y_axis, body, legend)


# --- the page ---


def plots(reports):
    """File name -> SVG."""
    machine = reports[0].get("machine", "")
    out = {}
    loaded = [(i % N_COLOURS, r) for i, r in enumerate(reports) if loads_of(r)]
    if loaded:
        first, share, rtf, memory = [], [], [], []
        for colour, report in loaded:
            loads = loads_of(report)
            alone = len(loaded) == 1
            prefix = "" if alone else report["label"] + " "
            for name, more in (("p50", " thin p50"), ("p95", ""), ("p99", " thin p99")):
                points = [(load["streams"], load["first_packet_ms"][name]) for load in loads if load["first_packet_ms"]["n"]]
                if points:
                    first.append((f"s{colour}{more}", prefix + name if alone or name == "p95" else None, points))
            share.append((f"s{colour}", report["label"], [(load["streams"], 100 * (1 - load["share_streams_ok"])) for load in loads]))
            rtf.append((f"s{colour}", prefix + "inference thread", [(load["streams"], load["rtf"]) for load in loads]))
            if any(load["cpu_rtf"] for load in loads):
                rtf.append((f"s{colour} thin p99", prefix + "all of the server", [(load["streams"], load["cpu_rtf"]) for load in loads]))
            memory.append((f"s{colour}", report["label"], [(load["streams"], load["rss_mb"]) for load in loads]))
        hold = loaded[0][1]["streams"]["hold"]
        limit = hold["max_first_packet_p95_ms"]
        title = "First packet at the client" + ("" if len(loaded) == 1 else " (p95; dotted p50, dashed p99)")
        if first:
            out["first_packet.svg"] = line_plot(title, machine, "ms", first, (limit, f"goal for p95: {short(limit)} ms"))
        out["underruns.svg"] = line_plot(f"Streams that were ever behind by more than {hold['max_underrun_ms']} ms", machine, "% of streams", share, top=100)
        out["rtf.svg"] = line_plot("Time spent per time of speech (RTF)", machine, "s per s of speech", rtf)
        out["memory.svg"] = line_plot("Resident memory", machine, "MB", memory)
    if len(reports) > 1:
        labels = [r["label"] for r in reports]

        def group(name, value):
            values = [value(r) for r in reports]
            return [(name, values)] if sum(v is not None for v in values) > 1 else []

        times = []
        for name, key in (("first audio", "first_audio_ms"), ("first packet", "socket_first_packet_ms")):
            times += group(f"{name}, alone", lambda r, key=key: r[key]["p50"] if key in r else None)
        counts = sorted({load["streams"] for r in reports for load in loads_of(r)})
        for n in counts:
            times += group(f"p95, {n} streams", lambda r, n=n: next((load["first_packet_ms"]["p95"] for load in loads_of(r) if load["streams"] == n), None))
        if times:
            out["before_after.svg"] = bar_plot("Before and after: time to the first sound", machine, "ms", times, labels)
    return out


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def ratio(value, base):
    """How many times better than the base, where smaller is better."""
    return f" ({base / value:.2f}x)" if value and base else ""


def page(reports, pictures):
    """The text of report.md."""
    out = ["# Benchmark of Sonorant", ""]
    for report in reports:
        what = f"voice {report['voice']}, {report.get('threads', 1)} inference thread(s), commit {report.get('commit') or 'not named'}, {report.get('started', '')}"
        out.append(f"- **{report['label']}**: {machine_line(report)}; {what}" + (" (interrupted)" if report.get("interrupted") else ""))
    out.append("")
    alone = [r for r in reports if r.get("runs")]
    if alone:
        out += ["## One utterance at a time", "", "Median, 95th percentile in brackets."
                + (" In round brackets: how many times faster than the first." if len(alone) > 1 else ""), ""]
        keys = [("first audio, ms", lambda r: r["first_audio_ms"]), ("first packet at the client, ms", lambda r: r.get("socket_first_packet_ms")),
                ("RTF", lambda r: r["rtf"])]
        keys += [(name.replace("_ms", ", ms").replace("_", " "), lambda r, name=name: r["stages"].get(name)) for name in alone[0]["stages"] if name != "first_audio_ms"]
        rows = []
        for name, get in keys:
            base = get(alone[0])
            cells = []
            for i, report in enumerate(alone):
                q = get(report)
                cells.append("-" if not q else f"{short(q['p50'])} [{short(q['p95'])}]" + (ratio(q["p50"], base["p50"]) if i and base else ""))
            if any(cell != "-" for cell in cells):
                rows.append([name] + cells)
        rows.append(["resident memory, MB"] + [short(r["rss_mb"]) for r in alone])
        out += [table(["figure"] + [r["label"] for r in alone], rows), ""]
    staged = [r for r in reports if r.get("stages_alone")]
    if staged:
        out += ["## Stages alone", "", "Each on one thread, nothing else of the program running. Median, 95th percentile in brackets.", ""]
        keys = list(dict.fromkeys((s["stage"], s.get("at", 0), s["unit"]) for r in staged for s in r["stages_alone"]))
        rows = []
        for stage, at, unit in keys:
            cells = []
            for report in staged:
                q = next((s["spread"] for s in report["stages_alone"] if (s["stage"], s.get("at", 0)) == (stage, at)), None)
                cells.append(f"{short(q['p50'])} [{short(q['p95'])}]" if q and q["n"] else "-")
            rows.append([STAGES.get(stage, stage.replace("_", " ")).format(at), UNITS.get(unit, unit)] + cells)
        out += [table(["stage", "in"] + [r["label"] for r in staged], rows), ""]
    loaded = [r for r in reports if loads_of(r)]
    if loaded:
        streams = loaded[0]["streams"]
        hold = streams["hold"]
        credit = streams["credit_ms"]
        out += ["## Live streams", "",
                f"Listeners on sockets of the same machine, each hearing reply after reply in real time, text arriving at {short(streams['words_per_second'])} words a second, "
                f"player buffer {streams['jitter_ms']} ms, "
                + (f"server at most {credit} ms ahead" if credit else "server as far ahead as it likes")
                + f"; {short(streams['window_ms'] / 1000)} s each after {short(streams['ramp_ms'] / 1000)} s for all to come. "
                f"First packet: from the moment the first sentence was complete. Holds: nothing refused, p95 of the first packet within {short(hold['max_first_packet_p95_ms'])} ms, "
                f"{short(100 * hold['min_share_streams_ok'])} % of the streams never behind by more than {hold['max_underrun_ms']} ms.", ""]
        rows = []
        for report in loaded:
            for load in loads_of(report):
                q = load["first_packet_ms"]
                seconds = load["seconds"] or 1
                cpu = "-" if not load["server_cpu_seconds"] else short(load["server_cpu_seconds"] / seconds)
                rows.append([report["label"], str(load["streams"]), " / ".join(short(q[name]) for name in ("p50", "p95", "p99")), f"{100 * load['share_streams_ok']:.0f} %",
                             short(load["worst_underrun_ms"]["max"]), short(load["worst_lag_ms"]), f"{100 * load['refused_share']:.0f} %", short(load["tokens_per_second"]),
                             short(load["rtf"]), cpu, short(load["client_cpu_seconds"] / seconds), f"{short(load['rss_mb'])} / {short(load['peak_rss_mb'])}",
                             "yes" if load["holds"] else "no" + (" (interrupted)" if load["interrupted"] else "")])
        out.append(table(["run", "streams", "first packet p50 / p95 / p99, ms", f"within {hold['max_underrun_ms']} ms", "worst underrun, ms", "worst lag, ms", "refused", "tokens/s", "RTF",
                          "server CPU", "clients' CPU", "memory / peak, MB", "holds"], rows))
        for report in loaded:
            if report["streams"].get("largest") is not None:
                out.append(f"Largest number of streams that holds, {report['label']}: **{report['streams']['largest']}**.\n")
        errors = [f"{r['label']}, {load['streams']} streams: {', '.join(f'{code} {n}' for code, n in load['errors'].items())}" for r in loaded for load in loads_of(r) if load["errors"]]
        if errors:
            out.append("Errors: " + "; ".join(errors) + ".\n")
        out.append("")
    captions = {"first_packet.svg": "First packet against the number of streams", "underruns.svg": "Streams that fell behind", "rtf.svg": "Real-time factor",
                "memory.svg": "Memory", "before_after.svg": "Before and after"}
    out += [f"![{captions[name]}]({name})\n" for name in pictures]
    return "\n".join(out)


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder for report.md and the plots")
    parser.add_argument("files", nargs="+", metavar="[LABEL=]FILE", help="what sonorant bench --json wrote")
    given = parser.parse_args(arguments)
    try:
        reports = [load(argument) for argument in given.files]
    except BadReport as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    pictures = plots(reports)
    for name, svg in pictures.items():
        (given.out / name).write_text(svg, encoding="utf-8")
    (given.out / "report.md").write_text(page(reports, pictures), encoding="utf-8")
    print(given.out / "report.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
