"""Tests of what needs PyTorch: python -m unittest discover -s scripts/compress

The networks of the published forms are compared with the same fixtures as the C++ (tests/data/parity). Skipped without torch.
"""
import json
import math
import pathlib
import random
import tempfile
import unittest
from fnmatch import fnmatchcase

try:
    import numpy as np
    import torch
    from safetensors.torch import save_file
except ImportError:
    torch = None

if torch is not None:
    import calibrate
    import data
    import distil_t2s
    import knowledge
    import loop
    import networks
    import prune
    import sizes
    from folder import Folder, fold
    from networks import nets

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "tests/data/parity"


def raw(name, n):
    """The fixtures' pseudo-random numbers: FNV-1a of the name, then splitmix64."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2 ** 64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def numbers(name, shape):
    n = math.prod(shape)
    return (2 * ((raw(name, n) >> np.uint64(40)).astype(np.float64) / 2 ** 24) - 1).reshape(shape)


def folded(key, v, g):
    return fold({key + "_v": v, key + "_g": g})[key]


def weight(key, shape, state):
    r = numbers(key, shape)
    if key.endswith("weight_g"):
        v = state[key[:-1] + "v"].numpy().astype(np.float64)
        return torch.from_numpy((np.sqrt((v * v).sum((1, 2), keepdims=True)) * (1 + 0.1 * r)).astype(np.float32))
    if len(shape) >= 2:
        return torch.from_numpy((r / math.sqrt(math.prod(shape[1:]))).astype(np.float32))
    return torch.from_numpy((1 + 0.1 * r if key.endswith(("weight", "gamma")) else 0.05 * r).astype(np.float32))


def case(file, name):
    return next(c for c in json.loads((FIXTURES / file).read_text(encoding="utf8"))["cases"] if c["name"] == name)


def inputs(c):
    out = {}
    for i in c["inputs"]:
        if i["kind"] == "int":
            out[i["arg"]] = torch.from_numpy((raw(i["name"], math.prod(i["shape"])) % np.uint64(i["mod"])).astype(np.int64).reshape(i["shape"]))
        else:
            out[i["arg"]] = torch.from_numpy((numbers(i["name"], i["shape"]) * i["scale"]).astype(np.float32))
    return out


def gained(c, key):
    return math.prod(g["factor"] for g in c["config"].get("weight_gain", []) if fnmatchcase(key, g["glob"]))


def fill(c, net, prefix=""):
    net.load_state_dict({k: weight(prefix + k, tuple(v.shape), {}) * gained(c, prefix + k) for k, v in net.state_dict().items()})
    return net.eval()


@unittest.skipIf(torch is None, "no torch")
class Parity(unittest.TestCase):
    def near(self, c, name, got, worst=1e-4):
        want = c["outputs"][name]
        self.assertAlmostEqual(got.double().norm().item() / want["l2"], 1, delta=worst)
        self.assertAlmostEqual(got.abs().max().item() / want["absmax"], 1, delta=worst)
        self.assertAlmostEqual((got.double().sum().item() - want["sum"]) / want["l2"], 0, delta=10 * worst)

    def test_dit(self):
        c = case("acoustic_v3v4.json", "dit_small.forward")
        s = {**sizes.PUBLISHED_ACOUSTIC, "dit_dim": 128, "dit_depth": 2, "dit_heads": 2, "dit_filter": 256}
        net, i = fill(c, networks.Dit(s), "cfm.estimator."), inputs(c)
        i["cond"][..., c["config"]["prompt_len"]:] = 0
        i["x"][..., : c["config"]["prompt_len"]] = 0
        flip, one = lambda z: z.transpose(1, 2), lambda z: torch.tensor([float(z)])
        with torch.no_grad():
            v = net(flip(i["x"]), flip(i["mu"]), one(c["config"]["t"]), one(c["config"]["d"]), flip(i["cond"]))
        self.near(c, "velocity", v)

    def test_conditioning(self):
        for form in ("v3", "v4"):
            c = case("acoustic_v3v4.json", f"{form}.decode_encp")
            small = {"dit_filter": 16, "dit_dim": 64, "dit_depth": 1, "dit_heads": 1, "attention_window": None}
            net, i = networks.PublishedAcoustic({**sizes.PUBLISHED_ACOUSTIC, **small}, form), inputs(c)
            state, given = {}, net.state_dict()
            for key, value in given.items():
                if key.startswith("cfm."):
                    state[key] = value
                elif key.startswith("wns1.enc.") and key.endswith(".weight"):
                    v = {key + "_v": weight(key + "_v", tuple(value.shape), {})}
                    g = weight(key + "_g", (len(value), 1, 1), v)
                    state[key] = folded(key, v[key + "_v"], g)
                else:
                    state[key] = weight(key, tuple(value.shape), {})
            net.load_state_dict(state)
            net.eval()
            with torch.no_grad():
                ge = net.ref_enc(i["refer"][:, :704].transpose(1, 2))
                fea = net.features(i["codes"][0], i["text"], torch.tensor([i["text"].shape[1]]), ge)
            self.near(c, "ge", ge)
            self.near(c, "fea", fea)

    def test_bigvgan(self):
        c = case("acoustic_vocoders.json", "v3.bigvgan")
        net, state = networks.Bigvgan(sizes.VOCODERS["v3"]), {}
        for key, value in net.state_dict().items():
            if value.dim() == 3:
                v = weight(key + "_v", tuple(value.shape), {})
                state[key] = folded(key, v, weight(key + "_g", (len(value), 1, 1), {key + "_v": v}))
            else:
                state[key] = weight(key, tuple(value.shape), {})
        net.load_state_dict(state)
        with torch.no_grad():
            self.near(c, "wav", net.eval()(inputs(c)["mel"].transpose(1, 2)), 1e-3)


def tiny_t2s(**changed):
    torch.manual_seed(3)
    s = {"layers": 3, "hidden": 32, "heads": 4, "phoneme_vocab": 40, "vocab": 21, "bert_dim": 0, "filter": 128, "head_dim": 8, **changed}
    return networks.make_t2s(s).eval(), s


def tiny_batch(rows=3, seed=0):
    rng = random.Random(seed)
    pairs = data.Pairs.__new__(data.Pairs)
    pairs.device = torch.device("cpu")
    return pairs.collate([data.pair([rng.randrange(40) for _ in range(5 + 2 * i)], [rng.randrange(20) for _ in range(9 - i)]) for i in range(rows)])


def answer(net, b):
    with torch.no_grad():
        return net(b["phonemes"], b["n_phonemes"], b["tokens"])[0]


@unittest.skipIf(torch is None, "no torch")
class Pruning(unittest.TestCase):
    def test_channels_without_effect_go_first_and_leave_the_answers(self):
        net, s = tiny_t2s()
        idle = {}
        with torch.no_grad():
            for i, layer in enumerate(net.h["layers"]):
                layer.self_attn.out_proj.weight[:, 8 * (i + 1): 8 * (i + 2)] = 0    # head i + 1 is not listened to
                idle[i] = torch.randperm(128)[:48]
                layer.linear2.weight[:, idle[i]] = 0
        b = tiny_batch()
        small, sizes_of = prune.prune_t2s(net, s, [b], 3, 80)
        self.assertEqual((sizes_of["heads"], sizes_of["filter"], sizes_of["head_dim"]), (3, 80, 8))
        self.assertEqual(tuple(small.h["layers"][0].self_attn.in_proj_weight.shape), (72, 32))
        self.assertLess((answer(small, b) - answer(net, b)).abs().max().item(), 1e-5)

    def test_heads_that_must_stay_stay(self):
        net, s = tiny_t2s()
        with torch.no_grad():
            net.h["layers"][1].self_attn.out_proj.weight[:, :16] = 0
        b = tiny_batch()
        kept = prune.prune_t2s(net, s, [b], 2, 128, [(1, 0), (1, 1)])[0].h["layers"][1].self_attn.in_proj_weight
        self.assertTrue(torch.equal(kept[:16], net.h["layers"][1].self_attn.in_proj_weight[:16]))

    def test_generator_channels(self):
        torch.manual_seed(0)
        s = {"channels": 48, "upsample_rates": [2, 2], "upsample_kernels": [4, 4]}
        net = networks.Bigvgan(s)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.5)
            net.ups[0][0].weight[40:] = 0                                      # the last channels of conv_pre are not read
        mel = torch.randn(1, 9, 100)
        groups = prune.generator_groups(net.state_dict(), s)
        scores = prune.taylor(net, groups, [lambda: net(mel).pow(2).sum()])
        self.assertEqual(sorted(scores["conv_pre"].topk(40).indices.tolist()), list(range(40)))
        state = prune.cut(net.state_dict(), groups, scores, lambda w: w * 32 // 48)
        small = networks.Bigvgan({**s, "channels": 32})
        small.load_state_dict(state)
        self.assertEqual(small(mel).shape, net(mel).shape)


@unittest.skipIf(torch is None, "no torch")
class Calibration(unittest.TestCase):
    def test_equalising_keeps_the_function(self):
        net, _ = tiny_t2s()
        b = tiny_batch()
        before = answer(net, b)
        calibrate.equalise(net, [b], 0.5)
        self.assertLess((answer(net, b) - before).abs().max().item(), 1e-4)

    def test_gptq_is_on_the_grid_that_the_engine_finds_and_nearer_than_rounding(self):
        torch.manual_seed(1)
        x, w = torch.randn(400, 48) @ torch.randn(48, 48), torch.randn(20, 48)
        q = calibrate.gptq(w, x).half().float()
        self.assertLess((calibrate.rounded_weight(q) - q).abs().max().item(), 1e-3 * q.abs().max().item())
        miss = lambda v: (x @ (v - w).T).pow(2).mean().item()
        self.assertLess(miss(q), 0.5 * miss(calibrate.rounded_weight(w)))

    def test_rounded_rows(self):
        x = torch.tensor([[-254.0, 1.2, 100.0]])
        self.assertEqual(calibrate.rounded_rows(x).tolist(), [[-254.0, 2.0, 100.0]])
        self.assertEqual(calibrate.rounded_rows(torch.tensor([[0.0, 510.0, 3.2]]), True).tolist(), [[0.0, 510.0, 4.0]])

    def test_drift(self):
        a = torch.randn(6, 21)
        self.assertLess(calibrate.drift(a, a)["divergence"], 1e-6)
        d = calibrate.drift(a, a + 3)                                          # a shift of all logits is none
        self.assertAlmostEqual(d["cosine"], 1, places=5)
        self.assertLess(calibrate.drift(a, -a)["cosine"], -0.99)


@unittest.skipIf(torch is None, "no torch")
class Distillation(unittest.TestCase):
    def test_targets(self):
        b = tiny_batch(2)
        t = data.targets(b, 20)
        n = b["n_tokens"].tolist()
        self.assertEqual(t[0, : n[0]].tolist(), b["tokens"][0, : n[0]].tolist())
        self.assertEqual([t[i, n[i]].item() for i in range(2)], [20, 20])
        self.assertEqual(t[1, n[1] + 1:].tolist(), [-100] * (t.shape[1] - n[1] - 1))

    def test_of_equals_only_the_task_is_left(self):
        net, _ = tiny_t2s()
        b = tiny_batch()
        loss, shown = knowledge.kd_loss(net, net, b)
        self.assertAlmostEqual(loss.item(), 0.3 * shown["ce"], delta=0.02 * shown["ce"])
        self.assertLess(shown["kl"], 1e-3)

    def test_matching_of_equals_is_nothing(self):
        net, _ = tiny_t2s()
        match = knowledge.Matching(net, net, [0, 1, 2], [(1, 2)])
        with torch.no_grad():
            for p in match.project:
                p.weight.copy_(torch.eye(32)), p.bias.zero_()
            for m in match.mix:
                m.copy_(50 * torch.eye(4))
        b, hidden = tiny_batch(), []
        for layer in net.h["layers"]:
            layer.register_forward_hook(lambda _, __, out: hidden.append(out[0]))
        with torch.no_grad():
            _, attention = net(b["phonemes"], b["n_phonemes"], b["tokens"], (0, 1, 2))
            of_hidden, of_attention = match(hidden, hidden, attention, attention, b)
        self.assertLess(of_hidden.item(), 1e-9)
        self.assertLess(of_attention.item(), 1e-4)

    def test_default_student_is_a_quarter(self):
        for full in (sizes.t2s_sizes({"format": 2, "form": "v2", "t2s": {}}), {"layers": 6, "hidden": 256, "heads": 4, "phoneme_vocab": 732, "vocab": 513,
                                                                              "bert_dim": 0, "filter": 1024, "head_dim": 64}):
            layers, hidden = distil_t2s.default_sizes(full)
            share = sizes.t2s_parameters(sizes.student_sizes(full, layers, hidden, hidden // 32)) / sizes.t2s_parameters(full)
            self.assertTrue(0.2 <= share <= 0.3, share)

    def test_parameters_are_counted_right(self):
        for changed in ({}, {"heads": 3, "filter": 80}, {"bert_dim": 24}):
            net, s = tiny_t2s(**changed)
            self.assertEqual(sizes.t2s_parameters(s), sum(p.numel() for p in net.parameters()))

    def test_rotated_student_keeps_what_its_width_can_hold(self):
        teacher, s = tiny_t2s()
        with torch.no_grad():
            for table in (teacher.ar_text_embedding.word_embeddings, teacher.ar_audio_embedding.word_embeddings, teacher.ar_predict_layer):
                table.weight[:, 16:] = 0
        student = networks.make_t2s({**s, "hidden": 16, "heads": 1, "head_dim": 16, "filter": 64})
        distil_t2s.rotated(student, teacher)
        gram = lambda net: net.ar_audio_embedding.word_embeddings.weight @ net.ar_predict_layer.weight.T
        self.assertLess((gram(student) - gram(teacher)).abs().max().item(), 1e-4)


@unittest.skipIf(torch is None, "no torch")
class FewerSteps(unittest.TestCase):
    """On a flow whose path is known: v(x, t) = -x, so that x(t) = x(0) exp(-t)."""

    def setUp(self):
        import fewer_steps
        self.steps, self.x, self.mask = fewer_steps, torch.randn(4, 5, 3), torch.ones(4, 5)
        self.teacher = lambda x, t, width: -x

    def mean_velocity(self, small, steps=1):
        """What one step must do, when the teacher takes `small` ones to its end."""
        n = small * steps

        def v(x, t, width):
            t = torch.as_tensor(t).view(-1, *[1] * (x.dim() - 1))
            left = torch.round((torch.ceil(t * steps + 1e-6) / steps - t) * n)
            return x * ((1 - 1 / n) ** left - 1) / (left / n)
        return v

    def test_the_right_student_misses_nothing(self):
        for steps, small in ((1, 4), (2, 3)):
            v = self.mean_velocity(small, steps)
            self.assertLess(self.steps.jump(v, self.teacher, self.x, self.mask, steps, small), 1e-9)
            self.assertLess(self.steps.consistency(v, v, self.teacher, self.x, self.mask, steps, small).item(), 1e-9)
        self.assertLess(self.steps.mean_flow(lambda x, t, w: self.exact(x, t), self.teacher, self.x, self.mask, 1, 400).item(), 1e-4)

    @staticmethod
    def exact(x, t):
        left = (1 - torch.as_tensor(t)).view(-1, 1, 1).clamp(min=1e-6)
        return x * (torch.exp(-left) - 1) / left

    def test_the_teacher_itself_misses(self):
        for loss in (self.steps.jump(self.teacher, self.teacher, self.x, self.mask, 1, 4),
                     self.steps.mean_flow(self.teacher, self.teacher, self.x, self.mask, 1, 4).item()):
            self.assertGreater(loss, 1e-3)


@unittest.skipIf(torch is None, "no torch")
class Folders(unittest.TestCase):
    def test_a_voice_of_a_model_is_written_whole(self):
        with tempfile.TemporaryDirectory() as scratch:
            base = pathlib.Path(scratch)
            for name, manifest in {"m": {"format": 2, "form": "v2", "id": "m", "t2s": {"file": "t.safetensors"}, "acoustic": {"file": "a.safetensors"},
                                         "tokenizer": {"file": "k.safetensors"}},
                                   "v": {"format": 2, "form": "v2", "id": "v", "model": "m", "reference": {"file": "r.safetensors"}}}.items():
                (base / name).mkdir()
                (base / name / "manifest.json").write_text(json.dumps(manifest))
            save_file({"x.weight_v": torch.tensor([[[3.0, 4.0]]]), "x.weight_g": torch.tensor([[[10.0]]])}, base / "m/t.safetensors")
            save_file({"a": torch.ones(3)}, base / "m/a.safetensors")
            save_file({"k": torch.ones(1)}, base / "m/k.safetensors")
            save_file({"mel": torch.ones(2, 2)}, base / "v/r.safetensors")
            folder = Folder(base / "v")
            self.assertEqual(folder.state("t2s")["x.weight"].tolist(), [[[6.0, 8.0]]])
            folder.write(base / "Small", folder.manifest, {"t2s": {"y": torch.full((2,), 0.1)}})
            small = Folder(base / "Small")
            self.assertEqual(small.manifest["id"], "small")
            self.assertNotIn("model", small.manifest)
            self.assertEqual(list(small.state("t2s")), ["y"])
            self.assertEqual(small.state("acoustic")["a"].tolist(), [1, 1, 1])
            self.assertEqual(small.reference()["mel"].shape, (2, 2))
            self.assertEqual((base / "Small/k.safetensors").read_bytes(), (base / "m/k.safetensors").read_bytes())

    def test_logs(self):
        text = ["one\tAA1 B .\t[1]\tA b.\n", "two\tXX\t[1]\t?\n", "three\tB\t[1]\tb\n"]
        semantic = ["item_name\tsemantic_audio\n", "one\t5 6 7\n", "two\t1\n"]
        got = data.read_logs(text, semantic, {"AA1": 3, "B": 4, ".": 9})
        self.assertEqual([(p["phonemes"].tolist(), p["tokens"].tolist()) for p in got], [([3, 4, 9], [5, 6, 7])])

    def test_takes_of_many_speakers(self):
        """Each take's pair has its own tokens and phonemes, and the mel of another take of its speaker."""
        import sys
        from types import SimpleNamespace
        sys.path.append(str(pathlib.Path(data.__file__).resolve().parents[1] / "train" / "clone"))
        import train_flow
        from train_tokenizer import CloneTokenizer

        takes = []
        for i in range(40):
            g = np.random.default_rng(i)
            takes.append(dict(id=f"take{i}", speaker=f"s{i // 4}", ph=g.integers(0, 700, 9).astype(np.int16), mel=g.normal(size=(75, 100)).astype(np.float16),
                              mel50=g.normal(size=(40, 80)).astype(np.float16)))
        with tempfile.TemporaryDirectory() as d:
            torch.save({"net": CloneTokenizer().state_dict()}, d + "/tokens.pt")
            pathlib.Path(d, "takes").mkdir()
            torch.save(takes, d + "/takes/a.pt")
            train, held = data.from_takes(SimpleNamespace(takes=[d + "/takes"], tokens=d + "/tokens.pt"))
            codes, _ = train_flow.tokenize(d + "/tokens.pt", takes, torch.device("cpu"))
        self.assertEqual(len(train) + len(held), 40)
        self.assertTrue(held)
        for u in train + held:
            i = next(i for i, t in enumerate(takes) if np.array_equal(t["ph"], u["phonemes"].numpy()))
            np.testing.assert_array_equal(u["tokens"].numpy(), codes[i])
            j = next(j for j, t in enumerate(takes) if np.array_equal(t["mel"], u["reference"].numpy()))
            self.assertEqual((j // 4, j != i), (i // 4, True))

    def test_a_loop_goes_on_where_it_was(self):
        with tempfile.TemporaryDirectory() as scratch:
            def go(minutes):
                torch.manual_seed(0)
                net = torch.nn.Linear(2, 1)
                run = loop.Loop(f"{scratch}/c.pt", net, minutes, 1e-2)
                for _ in run:
                    run.step(net(torch.ones(1, 2)).pow(2).sum())
                    run.done = run.done + 1                                     # the clock of the test
                    if run.steps >= 3:
                        break
                run.done = 1.0 if minutes == 1 else run.done
                run.save()
                return run
            first = go(1)
            second = loop.Loop(f"{scratch}/c.pt", torch.nn.Linear(2, 1), 2, 1e-2)
            self.assertEqual((second.steps, second.done), (first.steps, 1.0))
            self.assertTrue(torch.equal(second.net.weight, first.net.weight))


if __name__ == "__main__":
    unittest.main()
