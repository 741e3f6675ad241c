"""Tests of compare.py's arithmetic: python3 -m unittest discover -s scripts/bench"""
import unittest

import compare


def run(name, first, rtf, form="v2", mode="stream", others=0.0):
    return {"name": name, "form": form, "mode": mode, "first_ms": first, "gapless_ms": first, "rtf": rtf, "cpu_s_per_s": rtf,
            "others_cpus": others}


def part(runs):
    names = {(r["name"], r["form"]) for r in runs}
    return {"machine": "m", "text": "t", "label": "l", "runs": runs,
            "contestants": [{"name": name, "form": form, "peak_mb": 100} for name, form in names]}


class Judge(unittest.TestCase):
    def test_playback_waits_for_the_piece_that_comes_latest_for_its_place(self):
        spoken = {"chunks": [(0.5, 0.0), (1.6, 0.4), (1.7, 1.2)], "audio_s": 4.0, "total_s": 2.0, "tokens": 100}
        got = compare.judge(spoken, "sonorant", "v2", "stream", 100, 1.0)
        self.assertAlmostEqual(got["first_ms"], 500)
        self.assertAlmostEqual(got["gapless_ms"], 1200)
        self.assertAlmostEqual(got["rtf"], 0.5)
        self.assertAlmostEqual(got["cpu_s_per_s"], 0.25)

    def test_the_pause_that_engines_add_is_no_speech(self):
        spoken = {"chunks": [(1.0, 0.0)], "audio_s": 4.3, "total_s": 2.0}
        self.assertAlmostEqual(compare.judge(spoken, "x", "v2", "whole", 100, 1.0)["rtf"], 0.5)

    def test_another_number_of_tokens_is_no_measurement(self):
        with self.assertRaises(SystemExit):
            compare.judge({"chunks": [(1.0, 0.0)], "audio_s": 4.0, "total_s": 2.0, "tokens": 99}, "x", "v2", "stream", 100, 1.0)
        with self.assertRaises(SystemExit):
            compare.judge({"chunks": [(1.0, 0.0)], "audio_s": 3.8, "total_s": 2.0}, "x", "v2", "whole", 100, 1.0)


class Summary(unittest.TestCase):
    def rows(self, parts):
        return {(r["name"], r["form"]): r for r in compare.summary(parts)["rows"]}

    def test_ratios_are_of_medians_in_the_files_where_both_took_part(self):
        rows = self.rows([part([run("sonorant", 10, 0.1), run("sonorant", 20, 0.2), run("sonorant", 90, 0.3), run("other", 60, 0.6)]),
                          part([run("sonorant", 1000, 9.0)])])
        self.assertAlmostEqual(rows["other", "v2"]["ratio"]["first_ms"], 3.0)
        self.assertAlmostEqual(rows["other", "v2"]["ratio"]["rtf"], 3.0)
        self.assertNotIn("ratio", rows["sonorant", "v2"])

    def test_forms_are_not_mixed(self):
        rows = self.rows([part([run("sonorant", 10, 0.1), run("other", 60, 0.6, form="v2Pro")])])
        self.assertNotIn("ratio", rows["other", "v2Pro"])

    def test_disturbed_runs_do_not_count(self):
        result = compare.summary([part([run("sonorant", 10, 0.1), run("sonorant", 500, 5, others=0.5)])])
        self.assertEqual(result["disturbed"], 1)
        self.assertEqual(result["rows"][0]["first_ms"]["max"], 10)


if __name__ == "__main__":
    unittest.main()
