"""Tests of what in the cloning voice's data and training needs no teacher. Standard library only, but for those of the stages (PyTorch).

    python3 scripts/train/clone/test_clone.py          the last line is `N passed, N failed`
"""
import importlib.util
import math
import os
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, ".."), os.path.join(HERE, "../data")]

import zh_sounds
from symbols import IDS


class Sounds(unittest.TestCase):
    def test_every_syllable_the_front_end_can_write_has_characters(self):
        for initial in zh_sounds.INITIALS:
            for final in zh_sounds.FINALS:
                for tone in "12345":
                    self.assertIn(final + tone, IDS)
                    front, rest = zh_sounds.syllable(initial, final + tone)
                    self.assertEqual((front + rest).count(zh_sounds.TONES[tone]) if zh_sounds.TONES[tone] else 1, 1)

    def test_known_syllables(self):
        for pair, want in {("zh", "ong1"): "ꭧʊ→ŋ", ("w", "o3"): "wo↓", ("y", "i1"): "i→", ("y", "van2"): "ɥɛ↗n", ("EE", "er4"): "ɚ↘", ("s", "i04"): "sɨ↘",
                           ("sh", "ir2"): "ʂɨ↗", ("q", "v4"): "ʨʰy↘", ("y", "En2"): "jɛ↗n", ("w", "eng1"): "wə→ŋ", ("d", "e5"): "tɤ", ("x", "ve2"): "ɕɥe↗"}.items():
            self.assertEqual("".join(zh_sounds.syllable(*pair)), want)

    def test_a_glide_belongs_to_the_written_initial(self):
        self.assertEqual(zh_sounds.syllable("y", "ou3"), ("j", "ou↓"))
        self.assertEqual(zh_sounds.syllable("w", "u3"), ("", "u↓"))


@unittest.skipUnless(importlib.util.find_spec("numpy"), "needs NumPy")
class Rising(unittest.TestCase):
    def test_a_question_rises_from_its_last_stress_to_its_last_voiced_sound(self):
        import numpy as np
        from voices import rising
        sequence = [("AA1", "a"), ("B", "b"), ("IH1", "i"), ("T", "t"), ("AH0", "a"), ("?", "?")]
        f0 = np.array([0, 0, 100, 100, 100, 100, 110, 80, 0, 0, 60, 50, 0, 0], np.float32)
        got = dict(durations=np.array([2, 0, 1, 1, 1, 1.0]), lead=1.0, f0=f0)     # half a frame is a value of F0
        factors = rising(sequence, got, 12)
        self.assertTrue((factors[:6] == 1).all())
        risen = (f0 * factors)[6:12]
        np.testing.assert_allclose(risen[[0, 1, 4, 5]], 110 * 2 ** (np.array([0, 1, 4, 5]) / 5), rtol=1e-5)
        self.assertTrue((rising(sequence, dict(got, f0=np.zeros(14, np.float32)), 12) == 1).all())
        self.assertTrue((rising([("m", "m"), ("B", "b")], dict(got, durations=np.array([2, 3.0])), 12) == 1).all())

    def test_which_questions_rise(self):
        try:
            from speak import rise_of
        except ImportError:
            self.skipTest("needs PyTorch")
        for text in ("Are you there?", "Tom, could you open the door for me?", "Did it rain?"):
            self.assertTrue(4 <= rise_of(text, "a") <= 8, text)
        self.assertTrue(2 <= rise_of("你吃饭了吗？", "a") <= 4)
        for text in ("Where are you?", "You are there.", "Do you want tea or coffee?", "Is it late, or early?", "你在哪儿？", "Doing what?"):
            self.assertEqual(rise_of(text, "a"), 0, text)
        self.assertEqual(rise_of("Are you there?", "a"), rise_of("Are you there?", "a"))


@unittest.skipUnless(importlib.util.find_spec("numpy"), "needs NumPy")
class Text(unittest.TestCase):
    def test_chinese_and_its_symbols_go_together_or_are_refused(self):
        from text import chinese
        cut = lambda t: [t[:2], t[2:]]
        got = chinese("你好吗", "n i2 h ao3 m a5".split(), cut)
        self.assertEqual("".join(c for _, c in got), "ni↗xau↓ ma")
        self.assertIsNone(chinese("你好", "n i2".split(), cut))
        mixed = chinese("你OK吗", "n i3 OW1 K EY1 m a5".split(), lambda t: ["你", "OK", "吗"])
        self.assertEqual("".join(c for _, c in mixed), "ni↓ ˈOkˈA ma")

    def test_held_out_sentences_are_told_by_themselves(self):
        from text import held_out
        some = [f"sentence {i}" for i in range(4000)]
        self.assertTrue(40 < sum(held_out(s, 4) for s in some) < 90)
        self.assertEqual([held_out(s, 4) for s in some], [held_out(s, 4) for s in some])


class Speakers(unittest.TestCase):
    NAMES = ["af_a", "af_b", "am_c", "bf_d", "bm_e", "zf_f", "zf_g", "zm_h", "af_kore", "am_onyx", "bf_lily", "bm_lewis", "zf_xiaoni", "zm_yunxia"]

    def setUp(self):
        try:
            import speakers
        except ImportError:
            self.skipTest("needs NumPy")
        self.speakers = speakers

    def test_recipes_are_determined_and_keep_to_their_ranges(self):
        for kind in ("en", "zh", "both"):
            for i in range(120):
                r = self.speakers.speaker(kind, i, self.NAMES)
                self.assertEqual(r, self.speakers.speaker(kind, i, list(reversed(self.NAMES))))
                self.assertAlmostEqual(sum(r["weights"].values()), 1, places=6)
                self.assertFalse(set(r["weights"]) & set(self.speakers.HELD_OUT))
                self.assertTrue(0.86 < r["pitch"] * r["tract"] < 1.16)
                self.assertTrue(0.88 < r["tract"] < 1.13)

    def test_unseen_speakers_are_mostly_of_a_voice_that_is_held_out(self):
        for i in range(self.speakers.N_UNSEEN):
            r = self.speakers.speaker("unseen", i, self.NAMES)
            self.assertGreaterEqual(sum(w for n, w in r["weights"].items() if n in self.speakers.HELD_OUT), 0.5)


class Reading(unittest.TestCase):
    def setUp(self):
        try:
            import nets
            import speak
            import torch
        except ImportError:
            self.skipTest("needs PyTorch")
        self.nets, self.speak, self.torch = nets, speak, torch

    def test_a_comb_is_what_a_voice_of_that_pitch_has_in_its_mel(self):
        torch, combs = self.torch, self.speak.combs(self.nets.BANK)
        level = lambda x: x - x.mean(-1, keepdim=True)
        for hz in (110.0, 160.0, 230.0):
            t = torch.arange(24000, dtype=torch.float64) / 24000
            x = sum(torch.cos(2 * torch.pi * k * hz * t + 1.7 * k * k) for k in range(1, int(6000 / hz))).float()
            mel = self.nets.log_mel(0.01 * x[None])[0, :60, 20:60].mean(1)
            away = (level(combs[:, :60]) - level(mel - self.nets.BAND_LOG[:60])).abs().mean(1)
            self.assertLess(abs(math.log(self.speak.COMB_HZ[int(away.argmin())] / hz)), 0.03, hz)

    def test_f0_goes_back_to_the_frames_it_was_taken_from(self):
        import numpy as np
        f0 = np.concatenate([np.zeros(5), np.linspace(100, 200, 30), np.zeros(5)]).astype(np.float32)
        at = np.arange(0, 39, 0.8, dtype=np.float32)
        take = dict(trunk=np.zeros((40, 512)), at100=at, f0=f0[np.clip(np.round(at).astype(int), 0, 39)])
        np.testing.assert_array_equal(self.speak.trunk_f0(take)[:39], f0[:39])

    def test_a_reader_begins_where_one_of_a_single_speaker_ended(self):
        torch, net = self.torch, self.speak.Reader(dim=16)
        plain = {k.replace(".block", ""): v for k, v in net.state_dict().items() if k.startswith(("inp", "norm", "fast"))}
        plain |= {k.replace("slow100", "slow").replace(".block", ""): torch.randn_like(v) for k, v in net.state_dict().items() if k.startswith("slow100") and ".block" in k}
        plain |= {"out.weight": torch.randn(80, 16), "out.bias": torch.arange(80.0)}
        with tempfile.TemporaryDirectory() as d:
            torch.save(plain, d + "/a.pt")
            self.speak.begin_with(net, d + "/a.pt")
        self.assertTrue(torch.equal(net.slow50[1].block.a.weight, plain["slow.1.a.weight"]) and torch.equal(net.slow100[1].block.a.weight, plain["slow.1.a.weight"]))
        self.assertTrue(torch.equal(net.out50.weight, plain["out.weight"]))
        self.assertTrue((net.out100.bias.diff() >= 0).all() and net.out100.bias[0] < 1 and net.out100.bias[-1] > 78)


class Stages(unittest.TestCase):
    def setUp(self):
        try:
            import stage
            import torch
        except ImportError:
            self.skipTest("needs PyTorch")
        self.stage, self.torch = stage, torch

    def test_crops_stay_inside_their_take(self):
        import numpy as np
        flat = self.stage.Flat([np.full((5, 2), k, np.float32) for k in range(3)], self.torch.device("cpu"), self.torch.float32)
        x, inside = flat.crop(self.torch.tensor([1, 2]), self.torch.tensor([3, 0]), 4)
        self.assertEqual(inside.sum(1).tolist(), [2, 4])
        self.assertTrue((x[0, :2] == 1).all() and (x[1] == 2).all())

    def test_a_voice_folder_gives_the_checkpoints_it_was_made_of(self):
        if not importlib.util.find_spec("safetensors"):
            self.skipTest("needs safetensors")
        import unpack_voice
        from safetensors.torch import load_file
        folder = os.path.join(HERE, "../../../models/pretrained/starter")
        tokens, flow = unpack_voice.unpack(folder)
        self.assertEqual(flow["size"], "base")
        acoustic, tokenizer = load_file(f"{folder}/acoustic.safetensors"), load_file(f"{folder}/tokenizer.safetensors")
        self.assertEqual(set(flow["net"]), set(acoustic))
        self.assertTrue((tokens["net"]["embed"] == acoustic["quantizer.vq.layers.0._codebook.embed"].float()).all())
        self.assertTrue(all((tokens["net"][k] == v.float()).all() for k, v in tokenizer.items()))

    def test_the_other_take_is_of_the_same_speaker_and_not_the_same(self):
        takes = [dict(speaker=s, id=f"{s}{k}") for k, s in enumerate("aabbbc")]
        takes += takes[:3] + [dict(takes[3])]                                  # drawn more often; the same words said in another way
        others = self.stage.Others(takes, self.torch.device("cpu"))
        drawn = [[] for _ in takes]
        for _ in range(200):
            for i, j in enumerate(others(self.torch.arange(len(takes))).tolist()):
                self.assertEqual(takes[i]["speaker"], takes[j]["speaker"])
                self.assertEqual(takes[i]["id"] == takes[j]["id"], i == 5)
                drawn[i].append(j)
        self.assertEqual([set(d) for d in drawn], [{1, 7}, {0, 6}, {3, 4, 9}, {2, 8, 4}, {2, 8, 3, 9}, {5}, {1, 7}, {0, 6}, {3, 4, 9}, {2, 8, 4}])
        self.assertTrue(30 < drawn[2].count(9) < 110)                          # each as likely

    def test_a_folder_named_twice_is_read_once(self):
        with tempfile.TemporaryDirectory() as d:
            self.torch.save([dict(id="a", wave=1, style=2), dict(id="b", wave=1)], d + "/a.pt")
            takes = self.stage.load_takes([d, d])
        self.assertEqual([t["id"] for t in takes], ["a", "b", "a", "b"])
        self.assertIs(takes[0], takes[2])
        self.assertEqual(set(takes[0]), {"id"})

    def test_a_prompt_says_other_words(self):
        import numpy as np
        from train_t2s import Data, Item
        take = lambda name: dict(id=name, speaker="s", lang="en", ph=np.array([ord(name)] * 4), start=np.arange(4) * 0.1)
        items = [Item(take(name), np.full(10, ord(name))) for name in "aab"]
        drawn = [Data(items, seed).draw(True)[0].tolist() for seed in range(30)]
        self.assertEqual({(d[0], d[-1]) for d in drawn}, {(ord("a"), ord("b")), (ord("b"), ord("a"))})
        self.assertEqual(len(Data(items[:2]).draw(True)[0]), 4)                # nothing else is said

    def test_the_flow_is_told_which_phoneme_is_spoken_at_a_frame(self):
        import numpy as np
        import torch
        import nets
        import train_flow
        from config import SIZES
        ends = np.cumsum(np.linspace(0.07, 0.31, 20))                        # of 20 phonemes, 3.8 s
        take = dict(id="a_001", speaker="a", lang="en", ph=np.arange(1, 21), start=np.r_[0, ends[:-1]], end=ends, mel=np.zeros((360, 100), np.float16))
        data = train_flow.Data([take, dict(take, id="a_002")], [np.zeros(95, np.int16)] * 2, torch.device("cpu"))
        torch.manual_seed(2)
        which = torch.tensor([0] * 16)
        batch = data.batch(which)
        starts = set()
        for at in batch[-1].tolist():
            known = [i for i, a in enumerate(at) if a >= 0]
            self.assertIn(known[0], (0, train_flow.EDGE))
            self.assertEqual(known, list(range(known[0], 2 * train_flow.CROP)))
            begin = next(k for k in range(0, 32, 4) if all(take["start"][a] <= (2 * k + i + 0.5) * 0.02 < take["end"][a] for i, a in enumerate(at) if a >= 0))
            self.assertEqual(begin > 0, known[0] > 0)
            starts.add(begin)
        self.assertGreater(len(starts), 2)
        net = nets.AcousticModel(SIZES["base"]["acoustic"])
        readout = torch.nn.Linear(256, nets.N_MEL + 732)
        x0 = torch.randn(batch[1].shape)
        plain = net.features(batch[0], batch[3], batch[4], net.ref_enc(batch[5]))
        mu, got = train_flow.losses(net, readout, batch, x0, torch.full((16,), 0.5))
        torch.testing.assert_close(mu, plain, atol=1e-4, rtol=1e-4)            # looking at the attention changes nothing
        torch.testing.assert_close(got["phonemes_right"], self.right(readout, mu, batch))
        got["alignment"].backward()
        per_head = net.enc_p.mrte.cross_attention.conv_q.weight.grad.view(4, 64, -1).abs().amax((1, 2))
        self.assertTrue((per_head[: train_flow.ALIGNED_HEADS] > 0).all() and (per_head[train_flow.ALIGNED_HEADS :] == 0).all())

    def test_colours_are_smooth_and_the_same_for_mel_and_reference(self):
        import numpy as np
        import torch
        import nets
        import train_flow
        torch.manual_seed(0)
        gains = train_flow.colour(400, torch.device("cpu"))[:, 0]
        flat = (gains == 0).all(1).float().mean()
        self.assertLess(abs(flat - 1 + train_flow.COLOURED), 0.1)
        self.assertLess(gains.diff(dim=1).abs().max(), 0.2 * gains.abs().max())
        quiet = dict(id="a_001", speaker="a", lang="en", ph=np.arange(1, 4), start=np.array([0, 1.0, 2.0]), end=np.array([1.0, 2.0, 3.8]),
                     mel=np.full((360, 100), -4, np.float16))
        data = train_flow.Data([quiet, dict(quiet, id="a_002")], [np.zeros(95, np.int16)] * 2, torch.device("cpu"))
        _, mel, ok, _, _, reference, _ = data.batch(torch.zeros(32, dtype=torch.long), coloured=True)
        spread = reference.std(2).amax(1)
        self.assertTrue((spread > 0).any() and (spread == 0).any())
        for m, r, inside in zip(mel, reference, ok):
            torch.testing.assert_close(m[inside > 0], r[:1].expand(int(inside.sum()), -1))
            self.assertTrue((m[inside == 0] == nets.normalise_mel(torch.tensor(train_flow.FLOOR))).all())

    @staticmethod
    def right(readout, mu, batch):
        """Share of mel frames whose phoneme the read-out names, frame by frame."""
        import torch
        import nets
        hits = []
        for item, features in enumerate(mu):
            for frame, x in enumerate(features):
                at = int(batch[-1][item, frame * 8 // 15])
                if at >= 0:
                    hits.append(int(readout(x)[nets.N_MEL :].argmax()) == int(batch[3][item, at]))
        return torch.tensor(sum(hits) / len(hits))

    def test_bfloat16_only_where_the_processor_has_it(self):
        from unittest import mock
        import nets
        x = self.torch.ones(2, 2)
        for flags, kind in (("avx2 avx512_bf16 fma", self.torch.bfloat16), ("avx2 fma", self.torch.float32)):
            nets._fast_bfloat16.cache_clear()
            with mock.patch("builtins.open", mock.mock_open(read_data="flags : " + flags)), nets.autocast():
                self.assertEqual((x @ x).dtype, kind)
        nets._fast_bfloat16.cache_clear()

    @staticmethod
    def pulses(angles):
        """[1, 24000] of 24 kHz: harmonics of 200 Hz below 4 kHz with these phases."""
        import torch
        t = torch.arange(24000) / 24000
        return sum(torch.cos(2 * math.pi * 200 * k * t + a) / k for k, a in enumerate(angles, 1))[None]

    def test_the_postfilter_leaves_what_is_smooth_and_the_low_bands(self):
        import nets
        torch = self.torch
        mel = torch.randn(3, 100)
        self.assertTrue(torch.equal(nets.mel_postfilter(mel, 0.0), mel))
        more = nets.mel_postfilter(mel, 0.5) - mel
        self.assertTrue((more[:, :60] == 0).all() and (more[:, 60:].abs() > 0).all())
        torch.testing.assert_close(nets.mel_postfilter(torch.full((1, 100), -4.0), 1.0), torch.full((1, 100), -4.0))

    def test_a_speaker_is_fitted_and_the_network_left_as_it_was(self):
        import torch
        import nets
        import speaker_fit
        torch.manual_seed(1)
        net = nets.AcousticModel(dict(codes=16, code_dim=8, phonemes=40, hidden=16, filter=32, heads=2, layers_ssl=1, layers_text=1, layers_post=1, attention_window=[5, 1],
                                      mrte_dim=16, mrte_heads=2, ref_bins=100, style_dim=16, feature_dim=16, wns_layers=2, estimator=dict(dim=16, ff=32, layers=2, kernel=7))).eval()
        net.quantizer.vq.layers[0]._codebook.embed.normal_()
        before = {k: v.clone() for k, v in net.state_dict().items()}
        recording = speaker_fit.Recording(net, torch.randint(16, (90,)), torch.randint(40, (12,)), -5 + torch.randn(337, 100), torch.randn(16))
        self.assertEqual(recording.frames, 179)
        self.assertEqual([speaker_fit.crop_start(n, 179, 128) for n in range(5)], [0, 32, 8, 40, 24])
        fit = speaker_fit.fit([recording], 2, 0.5, rounds=6)
        off = lambda f: recording.distance(0, 179, f, 2, 0.5, 0).item()
        self.assertLess(off(fit), off(speaker_fit.nothing_fitted(net)))
        self.assertTrue(all(v.abs().max() > 0 and v.abs().max() <= 2 for v in fit.values()))
        self.assertTrue(all(torch.equal(v, before[k]) for k, v in net.state_dict().items()))

    def test_judges_hear_phases_below_four_kilohertz_and_learn(self):
        import torch
        import adversary
        torch.manual_seed(0)
        gain = torch.fft.rfft(adversary.low_pass()[0, 0], 2400).abs()                        # every 10 Hz
        self.assertLess((gain[:330] - 1).abs().max(), 0.02)
        self.assertLess(gain[420:].max(), 1e-3)
        straight = torch.cat([self.pulses([0.0] * 20)[:, i : i + 12000] for i in range(0, 480, 60)]) / 4
        dispersed = torch.cat([self.pulses([0.2 * k * k for k in range(1, 21)])[:, i : i + 12000] for i in range(0, 480, 60)]) / 4
        judges = adversary.Adversary(channels=(8, 16, 16))
        losses, optimiser = [], torch.optim.AdamW(judges.parameters(), 2e-3)
        for _ in range(40):
            loss = adversary.judge_loss(judges(straight), judges(dispersed))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], 0.5 * losses[0])                                         # the same magnitudes, other phases
        real, made = judges(straight), judges(dispersed)
        self.assertLess(adversary.fooling_loss(real), adversary.fooling_loss(made))
        self.assertEqual(adversary.feature_loss(real, real).item(), 0)
        self.assertGreater(adversary.feature_loss(real, made).item(), 0)

    def test_the_plot_is_drawn(self):
        with tempfile.TemporaryDirectory() as d:
            self.stage.plot([dict(step=1, minutes=0.5, loss=2.0), dict(step=2, minutes=1.0, loss=1.0, other=float("nan"))], d + "/a.svg")
            with open(d + "/a.svg", encoding="utf8") as f:
                self.assertIn("now 1", f.read())


if __name__ == "__main__":
    result = unittest.TextTestRunner(verbosity=1).run(unittest.defaultTestLoader.loadTestsFromModule(sys.modules["__main__"]))
    bad = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - bad} passed, {bad} failed")
    sys.exit(bool(bad))
