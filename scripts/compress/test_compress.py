"""Tests of what needs nothing beside Python's standard library: python3 -m unittest discover -s scripts/compress -p test_compress.py"""
import contextlib
import io
import json
import pathlib
import stat
import tempfile
import unittest

import gate
import sizes

RULES = json.loads((gate.HERE / "thresholds.json").read_text(encoding="utf8"))
GOOD = {"wer": 0.09, "cer": 0.04, "sentences_right": 0.57, "dnsmos_ovrl": 2.9, "dnsmos_sig": 3.2, "similarity": 0.95, "skips": 1, "repeats": 1,
        "babble": 0, "missing": 0, "lufs_mean": -20.1, "rtf": 0.030, "first_audio_ms": 8.0, "size_mb": 42.0}
STARTER = {"format": 1, "id": "s", "t2s": {"file": "t", "layers": 6, "hidden": 256, "heads": 4, "phoneme_vocab": 732, "vocab": 513, "bert_dim": 0}}
V2 = {"format": 2, "form": "v2", "id": "a", "t2s": {"file": "t"}}


def refused(**changed):
    return [r["key"] for r in gate.compare(RULES, GOOD, {**GOOD, **changed}) if not r["ok"]]


class Limits(unittest.TestCase):
    def test_the_thresholds_that_ship_are_sound(self):
        gate.check_rules(RULES)
        self.assertEqual(refused(), [])

    def test_each_figure_can_refuse(self):
        worse = {"wer": 0.101, "cer": 0.0481, "sentences_right": 0.51, "dnsmos_ovrl": 2.84, "dnsmos_sig": 3.14, "similarity": 0.84, "skips": 3, "repeats": 3,
                 "babble": 1, "missing": 1, "lufs_mean": -21.2, "rtf": 0.032, "first_audio_ms": 9, "size_mb": 42.1}
        self.assertEqual(set(worse), set(RULES))
        for key, value in worse.items():
            self.assertEqual(refused(**{key: value}), [key])

    def test_within_the_tolerance(self):
        self.assertEqual(refused(wer=0.0999, dnsmos_ovrl=2.851, rtf=0.0314, lufs_mean=-19.2), [])
        self.assertEqual(refused(wer=0.05, dnsmos_ovrl=3.5, rtf=0.01, size_mb=20, first_audio_ms=4, skips=0), [])

    def test_a_bound_holds_whatever_the_baseline_has(self):
        rows = gate.compare(RULES, {**GOOD, "wer": 0.30}, {**GOOD, "wer": 0.25})
        self.assertEqual([r["key"] for r in rows if not r["ok"]], ["wer"])

    def test_what_was_not_measured(self):
        self.assertEqual(refused(similarity=None), [])                         # its package may be missing
        self.assertEqual(refused(dnsmos_ovrl=None), ["dnsmos_ovrl"])
        self.assertEqual([r["key"] for r in gate.compare({"rtf": RULES["rtf"]}, {}, GOOD) if not r["ok"]], ["rtf"])

    def test_rules_that_say_nothing(self):
        for rule in ({"better": "less"}, {"better": "fewer", "most": 1}, {"better": "less", "least": 1}, {"better": "same", "most": 1},
                     {"better": "less", "most": 1, "tolerence": 2}):
            with self.assertRaises(ValueError, msg=rule):
                gate.check_rules({"wer": {"label": "x", **rule}})

    def test_table(self):
        table = gate.to_markdown(gate.compare(RULES, GOOD, {**GOOD, "wer": 0.2, "skips": None}))
        self.assertIn("| word error | 9.0 % | 20.0 % | 10.0 % | **refused** |", table)
        self.assertIn("| skips of two or more words | 1 | n/a | 2 | **refused** |", table)
        self.assertIn("| real-time factor | 0.0300 | 0.0300 | 0.0315 | pass |", table)


PROGRAM = """#!/bin/sh
# A program that says how fast its voice is: the file `speed` in the voice's folder, or fails when there is none.
while [ $# -gt 0 ]; do case "$1" in --voices) voices=$2;; --voice) voice=$2;; esac; shift; done
[ -f "$voices/$voice/speed" ] || { echo "no such voice" >&2; exit 1; }
printf '{"rtf": {"p50": %s}, "first_audio_ms": {"p50": 8}}' "$(cat "$voices/$voice/speed")"
"""


class Gate(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.base = pathlib.Path(scratch.name)
        self.program = self.base / "program"
        self.program.write_text(PROGRAM)
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def voice(self, name, rtf, size=1000, **manifest):
        folder = self.base / name
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps({"id": name, **manifest}))
        (folder / "t2s.safetensors").write_bytes(bytes(size))
        if rtf is not None:
            (folder / "speed").write_text(str(rtf))
        return folder

    def run_gate(self, *more):
        self.out, self.err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(self.out), contextlib.redirect_stderr(self.err):
            return gate.main(["--sonorant", str(self.program), "--baseline", str(self.base / "a"), "--candidate", str(self.base / "b"), "--only", "speed,size",
                              "--rounds", "1", "--export", str(self.base / "Out"), *more])

    def test_a_better_one_is_exported_under_its_name(self):
        self.voice("a", 0.03), self.voice("b", 0.02, 900, steps=1)
        report = self.base / "report.json"
        self.assertEqual(self.run_gate("--out", str(report)), 0)
        self.assertEqual(json.loads((self.base / "Out/manifest.json").read_text()), {"id": "out", "steps": 1})
        self.assertEqual((self.base / "Out/t2s.safetensors").stat().st_size, 900)
        self.assertTrue(json.loads(report.read_text())["passed"])
        self.assertIn("| real-time factor | 0.0300 | 0.0200 |", report.with_suffix(".md").read_text())
        self.assertEqual(sorted(p.name for p in self.base.iterdir()), ["Out", "a", "b", "program", "report.json", "report.md"])

    def test_a_worse_one_is_not(self):
        self.voice("a", 0.03), self.voice("b", 0.04)
        self.assertEqual(self.run_gate(), 1)
        self.assertFalse((self.base / "Out").exists())
        self.assertIn("refused: real-time factor", self.err.getvalue())

    def test_a_worse_one_leaves_what_was_exported_before(self):
        self.voice("a", 0.03), self.voice("b", 0.02, 1001), self.voice("Out", 0.01)
        self.assertEqual(self.run_gate(), 1)
        self.assertTrue((self.base / "Out/speed").exists())

    def test_one_that_cannot_be_measured_is_not(self):
        self.voice("a", 0.03), self.voice("b", None)
        self.assertEqual(self.run_gate(), 2)
        self.assertFalse((self.base / "Out").exists())
        self.assertIn("no such voice", self.err.getvalue())

    def test_a_voice_that_names_a_model_is_offered_with_it(self):
        self.voice("m", None, 5000)
        voice = self.voice("a", 0.03, 10, model="m")
        gate.offer(voice, self.base / "voices", "before")
        offered = json.loads((self.base / "voices/before/manifest.json").read_text())
        self.assertEqual(offered, {"id": "before", "model": "before-model"})
        self.assertTrue((self.base / "voices/before-model/t2s.safetensors").exists())
        self.assertAlmostEqual(gate.size_mb(voice), 0.00501)

    def test_the_best_of_rounds_in_turns(self):
        said = []

        def bench(_, __, name, *more):
            said.append(name)
            return {"rtf": 1.0 / len(said), "first_audio_ms": float(len(said))}
        real, gate.bench = gate.bench, bench
        self.addCleanup(setattr, gate, "bench", real)
        best = gate.speeds("p", "v", ["before", "after"], 2, 1, None, "en")
        self.assertEqual(said, ["before", "after", "before", "after"])
        self.assertEqual(best["before"], {"rtf": 1 / 3, "first_audio_ms": 1.0})


class Sizes(unittest.TestCase):
    def test_of_manifests(self):
        self.assertEqual(sizes.t2s_sizes(V2), {**sizes.PUBLISHED_T2S, "filter": 2048, "head_dim": 32})
        self.assertEqual(sizes.t2s_sizes({**V2, "form": "v1"})["phoneme_vocab"], 512)
        small = {**STARTER, "t2s": {**STARTER["t2s"], "heads": 3, "head_dim": 64, "filter": 640}}
        self.assertEqual(sizes.t2s_sizes(small)["head_dim"], 64)
        self.assertEqual(sizes.acoustic_sizes({"format": 2, "form": "v4", "acoustic": {"file": "a", "dit_filter": 1280}})["dit_filter"], 1280)

    def test_written_back(self):
        for manifest in (STARTER, V2):
            self.assertEqual(sizes.with_t2s(manifest, sizes.t2s_sizes(manifest))["t2s"], manifest["t2s"])
        pruned = sizes.with_t2s(STARTER, {**sizes.t2s_sizes(STARTER), "heads": 3, "filter": 640})
        self.assertEqual((pruned["t2s"]["heads"], pruned["t2s"]["head_dim"], pruned["t2s"]["filter"]), (3, 64, 640))
        self.assertEqual(sizes.with_t2s(V2, {**sizes.t2s_sizes(V2), "layers": 12})["t2s"], {"file": "t", "layers": 12})
        self.assertEqual(sizes.with_t2s({**V2, "form": "v1"}, sizes.t2s_sizes({**V2, "form": "v1"}))["t2s"], {"file": "t"})

    def test_the_starter_has_as_many_weights_as_its_provenance_tells(self):
        self.assertAlmostEqual(sizes.t2s_parameters(sizes.t2s_sizes(STARTER)) / 1e6, 5.2, delta=0.05)
        self.assertAlmostEqual(sizes.t2s_parameters(sizes.t2s_sizes(V2)) / 1e6, 77.6, delta=0.1)

    def test_students(self):
        full = sizes.t2s_sizes(STARTER)
        self.assertEqual(sizes.student_sizes(full, 3, 160, 5), {**full, "layers": 3, "hidden": 160, "heads": 5, "filter": 640, "head_dim": 32})
        for hidden, heads in ((160, 3), (160, 20)):
            with self.assertRaises(ValueError):
                sizes.student_sizes(full, 3, hidden, heads)
        self.assertEqual(sizes.spread_layers(3, 6), [1, 3, 5])
        self.assertEqual(sizes.spread_layers(12, 24)[-1], 23)
        self.assertEqual(sizes.spread_layers(4, 6), [1, 2, 4, 5])

    def test_no_more_than_allowed_is_pruned(self):
        self.assertEqual(sizes.kept(1024, 0.4, 16), 624)                       # 614.4 would be 60 %
        self.assertEqual(sizes.kept(768, 0.33, 16), 512)
        self.assertEqual(sizes.kept(20, 0.4), 16)                              # 16 stay
        self.assertEqual(sizes.kept(12, 0.4), 12)
        self.assertEqual(sizes.kept(4, 0.25, least=1), 3)
        for share in (0.41, -0.1):
            with self.assertRaises(ValueError):
                sizes.kept(1024, share)
        for width in range(16, 300, 7):
            for share in (0.0, 0.1, 0.25, 0.4):
                left = sizes.kept(width, share, 16 if width % 16 == 0 else 1)
                self.assertGreaterEqual(left, max(16, 0.6 * width - 1e-9) if width > 16 else width)
        with self.assertRaises(ValueError):
            sizes.check_total(100, 39)
        self.assertAlmostEqual(sizes.check_total(100, 40), 0.6)

    def test_generators(self):
        self.assertEqual(sizes.kept_generator(1536, 6, 0.33), 1024)            # BigVGAN: 24 channels at its end
        for channels, stages in ((512, 5), (768, 5)):                          # 16 at their end, and 24 less a tenth
            with self.subTest(channels=channels):
                if channels == 512:
                    with self.assertRaises(ValueError):
                        sizes.kept_generator(channels, stages, 0.33)
                else:
                    self.assertEqual(sizes.kept_generator(channels, stages, 0.33), 512)
        self.assertEqual(sizes.stage_channels(512, 5), [256, 128, 64, 32, 16])


if __name__ == "__main__":
    unittest.main()
