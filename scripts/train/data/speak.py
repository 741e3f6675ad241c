"""Teacher speech of many speakers, with phoneme timing, F0 and both mels.

    speak.py real --text DIR --styles DIR --out DIR [--speakers N] [--takes K]           waveforms; dear (about real time on a core)
    speak.py fit  --real DIR --out reader.pt [--budget MIN]                              learns to read the mels off the teacher's inner features
    speak.py read --text DIR --styles DIR --reader reader.pt --out DIR [--speakers N]    mels without waveforms; 0.04 of real time on a core

One file per speaker, a list of takes: id, speaker, lang, text, ph (ids of the v2 inventory), start and end of each in seconds, mel [T, 100] float16 (24 kHz, hop
256, natural logarithm), mel50 [2N, 80] float16 (hop 480), f0 [T] float16 in Hz, 0 where unvoiced; `real` adds wave (int16) and what `fit` needs. All takes
are brought to one level, LEVEL of level_of(). Work is shared by --worker K --workers N; what is there already is left, so every command resumes.
"""
import argparse
import copy
import glob
import hashlib
import json
import math
import os
import random
import re
import sys
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from tqdm import tqdm

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, ".."))

import nets
import speakers as people
import text as corpus
from prep import BANK50, LEAD_SAMPLES, SHIFT_SAMPLES, TAIL_SAMPLES, TEACHER_FRAME, log_mel50
from symbols import ids_of
from tokenizer import Block
from voices import STYLE, VOICED

LEVEL = 0.0                    # level_of() of every take and of every reference
FLOOR = math.log(1e-5)
TRUNK_SAMPLES = 300
COMB_HZ = 50 * 2 ** np.arange(0, 3.5, 1 / 48)
YES_OR_NO = re.compile(r"^(?:[a-z]+, )?(?:do|does|did|is|are|was|were|am|can|could|will|would|has|have|had|should|shall|may|must)\b[^,;:]*\?$|吗？$", re.IGNORECASE)
SOUND = -7.2                   # loudest band of a frame that is heard, at LEVEL


def level_of(mel):
    """Natural logarithm of the mean power, summed over the bands, of the frames of mel [T, bands] within 25 dB of the loudest."""
    e = torch.logsumexp(2 * torch.as_tensor(np.asarray(mel), dtype=torch.float32), -1)
    e = e[e > e.max() - 25 / 4.343]
    return float(torch.logsumexp(e, 0) - math.log(len(e)))


def choose(texts, recipe, take, rng):
    """A sentence for this take of a speaker: (language, text, sequence)."""
    kinds = recipe["languages"] if len(recipe["languages"]) == 1 else rng.choices([["en"], ["zh"], ["mixed"]], (0.4, 0.4, 0.2))[0]
    _, text, sequence = rng.choice(texts[kinds[0]])
    return kinds[0], text, sequence


def rise_of(text, name):
    """Semitones that the end of a take rises: of questions that can be answered with yes or no."""
    if not YES_OR_NO.search(text) or " or " in text:
        return 0.0
    return random.Random(name + "rise").uniform(*((2.0, 4.0) if text.endswith("吗？") else (4.0, 8.0)))


class Timing:
    """From the teacher's clock to that of the resampled take."""

    def __init__(self, got, tract, rng):
        ends = ((got["lead"] + np.cumsum(got["durations"])) * TEACHER_FRAME - SHIFT_SAMPLES) / tract
        self.starts = np.concatenate([[(got["lead"] * TEACHER_FRAME - SHIFT_SAMPLES) / tract], ends[:-1]])
        self.ends, self.tract = ends, tract
        self.first = max(0, int(self.starts[0]) - LEAD_SAMPLES - rng.randrange(0, 480))

    def positions(self, hop, count):
        """Places in the trunk (80 Hz) of the centres of `count` frames."""
        centre = self.first + hop / 2 + hop * np.arange(count)
        return torch.from_numpy(((centre * self.tract - TRUNK_SAMPLES / 2) / TRUNK_SAMPLES).astype(np.float32))

    def clipped(self, n_samples):
        clip = lambda z: np.clip((z - self.first) / nets.RATE_HZ, 0, n_samples / nets.RATE_HZ).astype(np.float32)
        return clip(self.starts), clip(self.ends)

    def f0(self, f0, count):
        p = self.positions(nets.HOP, count).round().long().clamp(0, len(f0) - 1).numpy()
        hz = f0[p] * self.tract
        return np.where(f0[p] > VOICED, hz, 0).astype(np.float16)


def combs(bank):
    """Log spectra in the bands of `bank` of even harmonics at COMB_HZ, less their mean: [len(COMB_HZ), bands]. What the mels' Hann window makes of a voice without an envelope."""
    f = np.arange(nets.N_BINS) * nets.RATE_HZ / nets.N_FFT
    out = []
    for hz in COMB_HZ:
        distance = np.abs((f + hz / 2) % hz - hz / 2) * nets.N_FFT / nets.RATE_HZ                   # in bins, to the nearest harmonic
        lobe = np.sinc(distance) / np.maximum(np.abs(1 - distance ** 2), 1e-3)
        out.append(np.log(np.maximum(bank.numpy() @ np.maximum(np.abs(lobe), 0.02), 1e-8)))
    out = np.stack(out)
    return torch.from_numpy(out - out.mean(0)).float()


class Film(nn.Module):
    """Block with its output scaled and shifted by the speaker."""

    def __init__(self, dim, condition):
        super().__init__()
        self.block, self.modulation = Block(dim), nn.Linear(condition, 2 * dim)
        nn.init.zeros_(self.modulation.weight), nn.init.zeros_(self.modulation.bias)

    def forward(self, x, c):
        scale, shift = self.modulation(c)[:, None].chunk(2, -1)
        return self.block(x) * (1 + scale) + shift


class Reader(nn.Module):
    """The teacher's trunk [B, T, 512] at 80 Hz, its style and F0 -> log mels at any positions, as the resampled waveform would have them.

    These three are what the teacher's waveform generator is given: the envelope is in the trunk and the style, the harmonics follow from F0.
    """

    def __init__(self, dim=192, condition=64):
        super().__init__()
        self.speaker = nn.Sequential(nn.Linear(STYLE + 2, condition), nn.GELU())
        self.inp = nn.Linear(512, dim)
        self.norm = nn.LayerNorm(dim)
        self.fast = nn.ModuleList(Film(dim, condition) for _ in range(3))
        self.slow100, self.slow50 = (nn.ModuleList(Film(dim, condition) for _ in range(3)) for _ in range(2))
        self.out100, self.out50 = nn.Linear(dim, nets.N_MEL), nn.Linear(dim, 80)
        self.register_buffer("combs100", combs(nets.BANK), persistent=False)
        self.register_buffer("combs50", combs(BANK50), persistent=False)
        self.pitch100, self.pitch50 = nn.Linear(nets.N_MEL + 2, dim), nn.Linear(80 + 2, dim)

    def forward(self, trunk, style, tract, f0, at100, at50):
        """style [B, STYLE], tract [B], f0 [B, T] in Hz of the take, 0 where unvoiced; at100, at50 [B, M] -> [B, M100, 100], [B, M50, 80]."""
        t = torch.log(tract)[:, None] * 8
        c = self.speaker(torch.cat([style * 4, t, t * t], -1))
        h = self.norm(self.inp(trunk / 2.5))
        for block in self.fast:
            h = block(h, c)

        def out(p, combs, pitch, slow, last):
            p = p.clamp(0, h.shape[1] - 1)
            i = p.floor().long()
            j, w = (i + 1).clamp(max=h.shape[1] - 1), p - i
            pick = lambda k: h.gather(1, k[..., None].expand(-1, -1, h.shape[2]))
            x = pick(i) * (1 - w[..., None]).to(h.dtype) + pick(j) * w[..., None].to(h.dtype)
            a, b = f0.gather(1, i), f0.gather(1, j)
            hz = torch.where((a > 0) & (b > 0), a * (1 - w) + b * w, torch.where(w < 0.5, a, b))
            voiced = (hz > 0).float()[..., None]
            at = (torch.log(hz.clamp(COMB_HZ[0], COMB_HZ[-1]) / COMB_HZ[0]) / math.log(COMB_HZ[1] / COMB_HZ[0])).clamp(0, len(COMB_HZ) - 1.001)
            k, v = at.long(), (at - at.floor())[..., None]
            comb = combs[k] * (1 - v) + combs[k + 1] * v
            x = x + pitch(torch.cat([comb * voiced, torch.log(hz.clamp(min=40) / 200)[..., None] * voiced, voiced], -1).to(h.dtype))
            for block in slow:
                x = block(x, c)
            return last(x).float() * 2 - 6
        return out(at100, self.combs100, self.pitch100, self.slow100, self.out100), out(at50, self.combs50, self.pitch50, self.slow50, self.out50)


def begin_with(net, path):
    """The weights of pseudo.py's single-speaker network, whose 80 bands also begin the 100, or of a reader."""
    old = torch.load(path, map_location="cpu")
    if "out50.weight" not in old:
        new = {k.replace("slow", n): v for k, v in old.items() for n in (("slow100", "slow50") if k.startswith("slow") else (k,)) if not k.startswith("out")}
        new["out50.weight"], new["out50.bias"] = old["out.weight"], old["out.bias"]
        x = np.clip(np.interp(nets.EDGES[1:-1], nets.slaney_bank(80)[1][1:-1], np.arange(80)), 0, 79)
        i, w = torch.from_numpy(np.minimum(x.astype(int), 78)), torch.from_numpy(x - np.minimum(x.astype(int), 78)).float()
        new["out100.weight"] = old["out.weight"][i] * (1 - w)[:, None] + old["out.weight"][i + 1] * w[:, None]
        new["out100.bias"] = old["out.bias"][i] * (1 - w) + old["out.bias"][i + 1] * w
        old = {re.sub(r"^(fast|slow100|slow50)\.(\d)\.", r"\1.\2.block.", k): v for k, v in new.items()}
    net.load_state_dict(old, strict=False)


def trunk_f0(take):
    """F0 of a take at the frames of its trunk, from that at its mel's."""
    out = np.zeros(len(take["trunk"]), np.float32)
    out[np.clip(np.round(take["at100"]).astype(int), 0, len(out) - 1)] = take["f0"][: len(take["at100"])]
    return out


def finish(take, mel, mel50, timing, got, gain):
    """Fills in what takes of both kinds have. mel, mel50 torch, before the gain (natural logarithm)."""
    n = len(mel50) * 480
    start, end = timing.clipped(n)
    half = lambda m: (m + gain).clamp(min=FLOOR).numpy().astype(np.float16)
    return dict(take, mel=half(mel), mel50=half(mel50), f0=timing.f0(got["f0"], len(mel)), start=start, end=end)


def sounding(mel50, gain):
    """Number of 50 Hz frames kept: up to 250 ms after the last sound, even, or 0."""
    heard = ((mel50 + gain).amax(1) > SOUND).nonzero()[:, 0]
    return 0 if len(heard) == 0 else min(len(mel50), int(heard[-1]) + 1 + TAIL_SAMPLES // 480) // 2 * 2


class Studio:
    """Speakers in order, their sentences and the teacher."""

    def __init__(self, a, outputs, kinds):
        from voices import Teacher
        torch.set_num_threads(1)
        self.styles = people.load_styles(a.styles)
        self.texts = {k: corpus.read(f"{a.text}/{k}.tsv") for k in ("en", "zh", "mixed")}
        # Of a length that also serves as a reference: three to ten seconds.
        self.held = {k: [r for r in corpus.read(f"{a.text}/held_{k}.tsv") if 45 <= sum(len(c) for _, c in r[2]) <= 110] for k in ("en", "zh")}
        self.teacher, self.kinds, self.a = Teacher(outputs), kinds, a
        os.makedirs(a.out, exist_ok=True)

    def recipes(self):
        names = list(self.styles)
        for i in range(self.a.first, self.a.first + self.a.speakers):
            turn = i % len(self.kinds)
            kind = self.kinds[turn]
            number = i // len(self.kinds) * self.kinds.count(kind) + self.kinds[:turn].count(kind)
            recipe = people.speaker(kind, number, names)
            path = f"{self.a.out}/{recipe['id']}.pt"
            if i % self.a.workers == self.a.worker and not os.path.exists(path):
                yield recipe, path

    def takes(self, recipe):
        style = people.style_of(recipe, self.styles)
        for k in range(self.a.takes):
            name = f"{recipe['id']}_{k:03d}"
            rng = random.Random(name)
            texts = {"en": self.held["en"], "zh": self.held["zh"]} if recipe["id"].startswith("unseen") else self.texts
            lang, text, sequence = choose(texts, recipe, k, rng)
            got = self.teacher.run(sequence, style, rng.uniform(0.92, 1.12) / recipe["tract"], recipe["pitch"], rise_of(text, name))
            take = dict(id=name, speaker=recipe["id"], lang=lang, text=text, ph=np.array(ids_of([s for s, _ in sequence]), np.int16))
            yield take, got, Timing(got, recipe["tract"], rng)


@torch.no_grad()
def real(a):
    from fractions import Fraction

    from scipy.signal import resample_poly
    studio = Studio(a, ("audio", "trunk"), ("unseen",) if a.unseen else ("en", "zh", "both", "en"))
    t0, seconds = time.process_time(), 0.0
    for recipe, path in studio.recipes():
        out = []
        for take, got, timing in studio.takes(recipe):
            x = got["audio"].astype(np.float32)
            if recipe["tract"] != 1:
                rate = Fraction(1 / recipe["tract"]).limit_denominator(200)
                x = resample_poly(x, rate.numerator, rate.denominator).astype(np.float32)
            x = x[timing.first:]
            x = torch.from_numpy(x[: len(x) // 960 * 960].copy())
            if len(x) < 9600:
                continue
            gain = (LEVEL - level_of(nets.log_mel(x[None])[0].T)) / 2
            n = sounding(log_mel50(x), gain)
            if n < 20:
                continue
            x = x[: n * 480]
            fade = torch.linspace(1, 0, 480)
            x[-480:] *= fade
            x = (x * math.exp(gain)).clamp(-1, 1)
            take["wave"] = (x * 32767).numpy().astype(np.int16)
            out.append(dict(finish(take, nets.log_mel(x[None])[0].T, log_mel50(x), timing, got, 0.0), trunk=got["trunk"].astype(np.float16),
                            style=got["style"], at100=timing.positions(256, len(x) // 256).numpy(), at50=timing.positions(480, n).numpy(), gain=gain, tract=recipe["tract"]))
            seconds += len(x) / nets.RATE_HZ
        nets.save(out, path)
        print(f"{path}: {len(out)} takes, {seconds / 60:.1f} minutes of speech so far, {(time.process_time() - t0) / max(seconds, 1):.3f} CPU s per s", flush=True)


def fit(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    device = torch.device(a.device)
    data = [t for p in sorted(glob.glob(f"{a.real}/*.pt")) for t in torch.load(p, weights_only=False)]
    for t in data:
        t["f0s"] = trunk_f0(t)
    held, train = ([t for t in data if corpus.held_out(t["id"], 13) == wanted] for wanted in (True, False))
    weights = np.array([len(t["mel50"]) for t in train], float)
    weights /= weights.sum()
    net = Reader().to(device)
    if a.start:
        begin_with(net, a.start)
    ema = copy.deepcopy(net)
    opt = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    M, log, t0, step, last = 96, {}, time.time(), 0, time.time()

    def batch(takes, cut):
        rows = []
        for t in takes:
            n = len(t["mel50"])
            k = random.randrange(0, max(1, n - M + 1)) if cut else 0
            m = M if cut else n
            s = int(round(k * 1.875))
            at50, at100 = t["at50"][k: k + m], t["at100"][s: s + int(m * 1.875)]
            lo = max(0, int(min(at50[0], at100[0])) - 8)
            hi = int(at50[-1]) + 10
            rows.append((t["trunk"][lo: hi], at100 - lo, at50 - lo, t["mel"][s: s + int(m * 1.875)], t["mel50"][k: k + m], t["f0s"][lo: hi], t["gain"], t["tract"], t["style"]))
        size = lambda i: max(len(r[i]) for r in rows)

        def pad(i):
            z = np.zeros((len(rows), size(i)) + np.shape(rows[0][i])[1:], np.float32)
            for b, r in enumerate(rows):
                z[b, : len(r[i])] = r[i]
            return torch.from_numpy(z).to(device)
        ok = lambda i: (torch.arange(size(i), device=device)[None] < torch.tensor([len(r[i]) for r in rows], device=device)[:, None])
        gain, tract, style = (torch.tensor(np.array([r[i] for r in rows], np.float32), device=device) for i in (6, 7, 8))
        gain = gain[:, None, None]
        return pad(0), style, tract, pad(5), pad(1), pad(2), (pad(3) - gain).clamp(min=FLOOR), (pad(4) - gain).clamp(min=FLOOR), ok(3), ok(4)

    def loss_of(model, b):
        *given, mel, mel50, ok, ok50 = b
        with nets.autocast(device):
            y, y50 = model(*given)
        return (y - mel).abs()[ok].mean(), (y50 - mel50).abs()[ok50].mean()

    while (part := (time.time() - t0) / 60 / a.budget) < 1:
        for g in opt.param_groups:
            g["lr"] = 1.5e-3 * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part))) * (0.5 if a.start else 1)
        l, l50 = loss_of(net, batch([train[i] for i in np.random.choice(len(train), a.batch, p=weights)], True))
        opt.zero_grad()
        (l + l50).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        step += 1
        nets.average(ema, net, 0.995, step)
        for k, v in dict(mel=l, mel50=l50).items():
            log[k] = 0.98 * log.get(k, v.item()) + 0.02 * v.item()
        if time.time() - last > 30:
            last = time.time()
            with torch.no_grad():
                got = np.mean([[z.item() for z in loss_of(ema, batch([t], False))] for t in held], 0)
            nets.save(ema.state_dict(), a.out)
            print(f"step {step} {(time.time() - t0) / 60:.1f} min mel L1 {log['mel']:.3f} {log['mel50']:.3f} | held out {got[0]:.3f} {got[1]:.3f}", flush=True)
    nets.save(ema.state_dict(), a.out)


@torch.no_grad()
def read(a):
    studio = Studio(a, ("trunk",), ("unseen",) if a.unseen else ("en", "both", "zh", "both", "en"))
    net = Reader()
    net.load_state_dict(torch.load(a.reader))
    net.eval()
    t0, seconds = time.process_time(), 0.0
    for recipe, path in studio.recipes():
        out = []
        for take, got, timing in studio.takes(recipe):
            total = int(got["durations"].sum() * TEACHER_FRAME / recipe["tract"]) + 12000
            n = min(total, int(len(got["trunk"]) * TRUNK_SAMPLES / recipe["tract"]) - timing.first) // 480
            x, style, f0 = (torch.from_numpy(got[k])[None] for k in ("trunk", "style", "f0"))
            f0 = torch.where(f0 > VOICED, f0 * recipe["tract"], 0)
            mel, mel50 = net(x, style, torch.tensor([recipe["tract"]]), f0, timing.positions(256, n * 480 // 256)[None], timing.positions(480, n)[None])
            gain = (LEVEL - level_of(mel[0])) / 2
            n = sounding(mel50[0], gain)
            if n < 20:
                continue
            out.append(finish(take, mel[0, : n * 480 // 256], mel50[0, :n], timing, got, gain))
            seconds += n * 0.02
        nets.save(out, path)
        print(f"{path}: {len(out)} takes, {seconds / 60:.1f} minutes of speech so far, {(time.process_time() - t0) / max(seconds, 1):.3f} CPU s per s", flush=True)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    for name, run in (("real", real), ("fit", fit), ("read", read)):
        p = sub.add_parser(name)
        p.set_defaults(run=run)
        p.add_argument("--out", required=True)
        if name == "fit":
            p.add_argument("--real", required=True)
            p.add_argument("--budget", type=float, default=8, help="minutes")
            p.add_argument("--batch", type=int, default=16)
            p.add_argument("--start", help="begin with these weights; also those of pseudo.py")
            p.add_argument("--device", default="cpu")
            p.add_argument("--threads", type=int, default=1)
            continue
        p.add_argument("--text", required=True, help="folder of text.py")
        p.add_argument("--styles", required=True)
        p.add_argument("--first", type=int, default=0)
        p.add_argument("--speakers", type=int, default=32 if name == "real" else 300)
        p.add_argument("--takes", type=int, default=8 if name == "real" else 16)
        p.add_argument("--unseen", action="store_true", help="the speakers and the sentences that are held out")
        p.add_argument("--worker", type=int, default=0)
        p.add_argument("--workers", type=int, default=1)
        if name == "read":
            p.add_argument("--reader", required=True)
    a = ap.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
