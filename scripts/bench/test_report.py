"""Tests of report.py: python3 -m unittest discover -s scripts/bench"""
import contextlib
import io
import json
import pathlib
import tempfile
import unittest
import xml.etree.ElementTree as ET

import report

SVG = "{http://www.w3.org/2000/svg}"


def quantiles(p50, n=20):
    return {"p50": p50, "p95": 2 * p50, "p99": 3 * p50, "min": p50 / 2, "max": 3 * p50, "n": n}


def one_load(streams, first_ms, ok=1.0, refused=0.0):
    return {"streams": streams, "holds": ok >= 0.99, "interrupted": False, "seconds": 20.0, "replies": 4 * streams, "replies_done": 3 * streams, "refused": 0,
            "refused_share": refused, "errors": {}, "retry_after_ms": quantiles(0, 0), "first_packet_ms": quantiles(first_ms),
            "first_packet_from_word_ms": quantiles(first_ms + 400), "first_packets_owed": 0, "streams_heard": streams, "share_streams_ok": ok,
            "share_replies_ok": ok, "worst_underrun_ms": quantiles(4), "worst_lag_ms": 12.5, "underruns": 3, "packets": 1000, "heard_seconds": 20.0 * streams,
            "tokens_per_second": 25.0 * streams, "tokens_per_busy_second": 800.0, "audio_per_second": float(streams), "rtf": 0.05, "cpu_rtf": 0.07,
            "server_cpu_seconds": 1.4 * streams, "client_cpu_seconds": 0.1 * streams, "client_late_ms": quantiles(0.1), "rss_mb": 300.0 + streams, "peak_rss_mb": 310.0 + streams}


def one_report(first_ms, loads=(1, 4, 16), label="", largest=None):
    return {"schema": report.SCHEMA, "version": "0.1.0", "commit": "abc", "started": "2026-01-02T03:04:05Z", "machine": "Some <CPU> & more, 2 threads",
            "host": {"cpu": "Some <CPU> & more", "threads": 2, "features": ["avx512f"], "memory_mb": 8192.0, "system": "Linux 6", "libraries": {"libtorch": "1.13"}},
            "threads": 1, "max_utterances": 64, "voice": "starter", "text": "Hello.", "interrupted": False, "runs": 5, "first_audio_ms": quantiles(first_ms), "rtf": quantiles(0.06),
            "audio_ms": quantiles(5000), "stages": {"text_ms": quantiles(0.3), "prefill_ms": quantiles(4)}, "socket_first_packet_ms": quantiles(first_ms + 1),
            "streams": {"ramp_ms": 2000, "window_ms": 20000, "pause_ms": 0, "jitter_ms": 0, "credit_ms": None, "words_per_second": 20.0,
                        "hold": {"max_underrun_ms": 100, "min_share_streams_ok": 0.99, "max_first_packet_p95_ms": 300.0},
                        "loads": [one_load(n, first_ms * n, 1.0 if n < 16 else 0.5) for n in loads], "largest": largest},
            "stages_alone": [{"stage": "front_end", "unit": "us/character", "spread": quantiles(1.5)},
                             {"stage": "decode_step", "at": 8, "unit": "ms", "spread": quantiles(first_ms / 10)},
                             {"stage": "opus", "unit": "ms/s", "spread": quantiles(0, 0)}],
            "rss_mb": 320.0, "peak_rss_mb": 330.0, "label": label or "run"}


class Numbers(unittest.TestCase):
    def test_short(self):
        for value, want in {0: "0", 1: "1", 0.0603: "0.0603", 12.34: "12.3", 312.4: "312", 4096: "4096", None: "-", 0.00004: "0"}.items():
            self.assertEqual(report.short(value), want)

    def test_ticks_reach_the_top_in_round_steps(self):
        self.assertEqual(report.nice_ticks(100), [0, 20, 40, 60, 80, 100])
        self.assertEqual(report.nice_ticks(0.3), [0, 0.1, 0.2, 0.3])
        self.assertEqual(report.nice_ticks(0), [0, 1])
        for top in (0.011, 3, 17, 99, 1234):
            ticks = report.nice_ticks(top)
            self.assertGreaterEqual(ticks[-1], top * (1 - 1e-9))
            self.assertLessEqual(len(ticks), 8)

    def test_axis(self):
        axis = report.Axis([1, 7], 100, 0)
        self.assertFalse(axis.log)
        self.assertEqual(axis(0), 100)
        self.assertEqual(axis(axis.high), 0)
        wide = report.Axis([3, 900], 100, 0)
        self.assertTrue(wide.log)
        self.assertLessEqual(wide.low, 3)
        self.assertGreaterEqual(wide.high, 900)
        self.assertGreater(wide(30), wide(300))
        self.assertFalse(report.Axis([0, 900], 100, 0).log)


class Plots(unittest.TestCase):
    def parse(self, svg):
        root = ET.fromstring(svg)
        self.assertEqual(root.tag, SVG + "svg")
        return root

    def test_one_report(self):
        pictures = report.plots([one_report(15)])
        self.assertEqual(set(pictures), {"first_packet.svg", "underruns.svg", "rtf.svg", "memory.svg"})
        for name, svg in pictures.items():
            root = self.parse(svg)
            words = [t.text for t in root.iter(SVG + "text")]
            self.assertIn("live streams", words, name)
            self.assertIn("Some <CPU> & more, 2 threads", words, name)
            self.assertTrue({"1", "4", "16"} <= set(words), name)
            for shape in root.iter(SVG + "polyline"):
                for point in shape.get("points").split():
                    x, y = map(float, point.split(","))
                    self.assertTrue(report.LEFT <= x <= report.WIDTH - report.RIGHT, name)
                    self.assertTrue(report.TOP - 0.1 <= y <= report.HEIGHT - report.BOTTOM + 0.1, name)
        first = self.parse(pictures["first_packet.svg"])
        self.assertEqual(len(list(first.iter(SVG + "polyline"))), 3)

    def test_before_and_after_share_groups(self):
        root = self.parse(report.plots([one_report(40, label="before"), one_report(10, (1, 4), label="after")])["before_after.svg"])
        names = [t.text for t in root.iter(SVG + "text")]
        self.assertIn("p95, 4 streams", names)
        self.assertNotIn("p95, 16 streams", names)  # only one has it
        heights = [float(r.get("height")) for r in root.iter(SVG + "rect") if r.get("class") in ("f0", "f1") and r.get("height") != "12"]
        self.assertEqual(len(heights), 2 * 4)
        self.assertAlmostEqual(heights[0] / heights[1], 4, delta=0.1)

    def test_reports_without_streams_or_runs(self):
        alone = one_report(15)
        del alone["streams"]
        self.assertEqual(report.plots([alone]), {})
        self.assertIn("One utterance", report.page([alone], {}))
        only_streams = one_report(15, (8,))
        for key in ("first_audio_ms", "rtf", "audio_ms", "stages", "socket_first_packet_ms"):
            del only_streams[key]
        only_streams["runs"] = 0
        pictures = report.plots([only_streams])
        self.assertIn("first_packet.svg", pictures)
        self.assertNotIn("One utterance", report.page([only_streams], pictures))

    def test_a_stream_that_heard_nothing_is_no_point(self):
        silent = one_report(15, (4,))
        silent["streams"]["loads"][0]["first_packet_ms"] = quantiles(0, 0)
        self.assertNotIn("first_packet.svg", report.plots([silent]))


class Page(unittest.TestCase):
    def test_tables(self):
        reports = [one_report(40, label="before"), one_report(10, label="after", largest=12)]
        text = report.page(reports, report.plots(reports))
        self.assertIn("| T2S decode step, 8 rows | ms | ", text)
        self.assertIn("| text front end | µs a character | 1.5 [3] | 1.5 [3] |", text)
        self.assertIn("| resampling and Opus | ms a second of audio | - | - |", text)
        self.assertIn("| first audio, ms | 40 [80] | 10 [20] (4.00x) |", text)
        self.assertIn("| after | 16 | 160 / 320 / 480 | 50 % | 12 | 12.5 | 0 % | 400 | 0.05 | 1.12 | 0.08 | 316 / 326 | no |", text)
        self.assertIn("after: **12**", text)
        self.assertIn("as far ahead as it likes", text)
        self.assertIn("](before_after.svg)", text)
        for line in text.splitlines():
            self.assertFalse(line.startswith("|") and line.count("|") < 3)

    def test_errors_are_told(self):
        broken = one_report(15)
        broken["streams"]["loads"][1]["errors"] = {"internal": 2, "closed": 1}
        self.assertIn("run, 4 streams: internal 2, closed 1", report.page([broken], {}))


class Program(unittest.TestCase):
    def run_it(self, *arguments):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = report.main([str(a) for a in arguments])
        return code, out.getvalue(), err.getvalue()

    def test_files_to_a_folder(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "a.json").write_text(json.dumps(one_report(15)))
            code, out, err = self.run_it("--out", folder / "page", f"now={folder / 'a.json'}", folder / "a.json")
            self.assertEqual((code, err), (0, ""))
            self.assertEqual(out.strip(), str(folder / "page" / "report.md"))
            text = (folder / "page" / "report.md").read_text()
            self.assertIn("**now**", text)
            self.assertIn("**abc**", text)
            for name in ("first_packet.svg", "before_after.svg"):
                self.assertIn(name, text)
                self.assertTrue((folder / "page" / name).exists())

    def test_other_files_are_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for name, content in {"x.json": "{", "y.json": "[]", "z.json": '{"schema":"other"}'}.items():
                (folder / name).write_text(content)
                code, _, err = self.run_it("--out", folder / "page", folder / name)
                self.assertEqual(code, 1)
                self.assertIn(name, err)
            self.assertEqual(self.run_it("--out", folder / "page", folder / "none.json")[0], 1)


if __name__ == "__main__":
    unittest.main()
