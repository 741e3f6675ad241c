"""More text for T2S without the teacher's vocoder: features read off the teacher's last layers before it.

    pseudo.py fit   --cmudict FILE --style FILE --data DIR... --features DIR --tokens FILE --out mel.pt [--minutes M]
    pseudo.py label --cmudict FILE --style FILE --list list.tsv --mel mel.pt --out DIR [--worker K --workers N]
    pseudo.py again --cmudict FILE --style FILE --data DIR... --features DIR --mel mel.pt --out again.pt

The teacher's waveform generator is 95 % of its cost. What enters it (512 channels at 80 Hz) already determines the mel: `fit` learns that
map on the recordings there are, and `label` then speaks hours of text up to that point only. Shards hold what t2s.py needs of an
utterance: phonemes, their times, and the 50 Hz log mel the tokenizer reads; there is no waveform. `again` makes such a mel for every
recording too, so that flow.py learns to speak from tokens of both kinds.
"""
import argparse
import copy
import glob
import json
import math
import os
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from tqdm import tqdm

import nets
from prep import LEAD_SAMPLES, SHIFT_SAMPLES, TEACHER_FRAME
from teacher import DURATIONS, Lexicon, Teacher, parse
from tokenizer import Block, Tokenizer, is_held_out, load_features

TRUNK = "/decoder/decoder/decode.3/Div_4_output_0"                             # [1, 512, 2 * frames], enters the generator
TRUNK_SAMPLES = 300
SOUND = -7.0                                                                   # loudest band of a frame that is heard
TAIL_FRAMES = 10                                                               # 200 ms kept after the last sound


class Trunk(Teacher):
    """The teacher up to the waveform generator."""

    def __init__(self, style_path):
        super().__init__(style_path, outputs=(DURATIONS, TRUNK))

    def features(self, sequence, speed):
        """-> trunk [frames, 512] at 80 Hz, durations per symbol and lead in frames of 600 samples."""
        dur, lead, tail, trunk = self.run(sequence, speed)
        return trunk[0].T, dur, lead


class TrunkToMel(nn.Module):
    """Trunk features -> 50 Hz log mel at any offset."""

    def __init__(self, dim=192):
        super().__init__()
        self.inp = nn.Linear(512, dim)
        self.norm = nn.LayerNorm(dim)
        self.fast = nn.Sequential(*(Block(dim) for _ in range(3)))
        self.slow = nn.Sequential(*(Block(dim) for _ in range(2)))
        self.out = nn.Linear(dim, 80)

    def forward(self, trunk, position):
        """trunk [B, T, 512], position [B, M] in trunk frames -> [B, M, 80]."""
        h = self.fast(self.norm(self.inp(trunk / 2.5)))
        p = position.clamp(0, h.shape[1] - 1)
        i = p.floor().long()
        j = (i + 1).clamp(max=h.shape[1] - 1)
        w = (p - i)[..., None].to(h.dtype)
        take = lambda k: h.gather(1, k[..., None].expand(-1, -1, h.shape[2]))
        return self.out(self.slow(take(i) * (1 - w) + take(j) * w)).float() * 2 - 6


def positions(first_sample, count):
    """Trunk positions of the centres of `count` mel frames (480 samples apart, centred 240 in) from a sample on."""
    return (first_sample + 240 + 480 * torch.arange(count) - TRUNK_SAMPLES / 2) / TRUNK_SAMPLES


def recordings(a):
    """(utterance, its trunk features [T, 512] f16, its first sample in the teacher's time) of every recording that is reproduced exactly."""
    lexicon, trunk = Lexicon(a.cmudict), Trunk(a.style)
    rows = {r["id"]: r for d in a.data for f in sorted(glob.glob(f"{d}/*.jsonl")) for r in map(json.loads, open(f, encoding="utf8"))}
    for u in tqdm(load_features(a.features), desc="trunk", mininterval=5):
        r = rows.get(u["id"])
        sequence = parse(r["text"], lexicon) if r else None
        if not sequence or [p for p, _ in sequence] != u["ph"]:
            continue
        x, dur, lead = trunk.features(sequence, r["speed"])
        if dur == r["dur"] and lead == r["lead"]:
            yield u, torch.from_numpy(x.astype(np.float16)), max(0, lead * TEACHER_FRAME - SHIFT_SAMPLES - LEAD_SAMPLES)


def fit(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), random.seed(0)
    data = [(x, torch.from_numpy(u["mel50"].astype(np.float32)), first, is_held_out(u)) for u, x, first in recordings(a)]
    train, held = [d for d in data if not d[3]], [d for d in data if d[3]]
    print(f"{len(train)} training, {len(held)} held-out utterances")
    tokenizer = Tokenizer()
    tokenizer.load_state_dict(torch.load(a.tokens))
    tokenizer.eval().requires_grad_(False)
    net = TrunkToMel()
    ema = copy.deepcopy(net)
    opt = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    weights = np.array([len(d[1]) for d in train], float)
    weights /= weights.sum()
    M, t0, step, last, log = 128, time.time(), 0, time.time(), {}
    T = M * 480 // TRUNK_SAMPLES + 16

    while (part := (time.time() - t0) / 60 / a.minutes) < 1:
        for g in opt.param_groups:
            g["lr"] = 1.5e-3 * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        xs, ms, ps, ok = [], [], [], []
        for i in np.random.choice(len(train), 24, p=weights):
            x, m, first, _ = train[i]
            s = random.randrange(0, max(0, len(m) - M) // 2 + 1) * 2
            p = positions(first + 480 * s, M)
            k = max(0, int(p[0]) - 6)
            xs.append(F.pad(x[k: k + T].float(), (0, 0, 0, max(0, T - (len(x) - k)))))
            n = len(m[s: s + M])
            ms.append(F.pad(m[s: s + M], (0, 0, 0, M - n), value=-11.5))
            ps.append(p - k)
            ok.append(torch.arange(M) < n)
        m, ok = torch.stack(ms), torch.stack(ok)
        with nets.autocast():
            y = net(torch.stack(xs), torch.stack(ps))
            z = tokenizer.encode(torch.where(ok[..., None], y, m)).float()
        with torch.no_grad():
            want_z = tokenizer.encode(m)
            want = tokenizer.nearest(want_z)
        l1 = (y - m).abs()[ok].mean()
        pair = ok[:, ::2]
        d = tokenizer.distances(z)
        ce = F.cross_entropy(-8 * d[pair], want[pair])
        zl = (z - want_z)[pair].pow(2).mean()
        loss = l1 + 0.2 * ce + zl
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        step += 1
        nets.average(ema, net, 0.995, step)
        for k, v in dict(l1=l1, ce=ce, z=zl).items():
            log[k] = 0.98 * log.get(k, v.item()) + 0.02 * v.item()
        if time.time() - last > 60:
            last, good, n, err = time.time(), 0, 0, 0.0
            ema.eval()
            with torch.no_grad():
                for x, m, first, _ in held:
                    y = ema(x.float()[None], positions(first, len(m))[None])
                    good += (tokenizer.nearest(tokenizer.encode(y)) == tokenizer.nearest(tokenizer.encode(m[None]))).sum().item()
                    n += len(m) // 2
                    err += (y[0] - m).abs().mean(1).sum().item() / 2
            nets.save(ema.state_dict(), a.out)
            print(f"step {step} {(time.time() - t0) / 60:.1f} min " + " ".join(f"{k} {v:.3f}" for k, v in log.items())
                  + f" | held out: codes equal {good / n:.3f} mel L1 {err / n:.3f}", flush=True)
    nets.save(ema.state_dict(), a.out)


@torch.no_grad()
def label(a):
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    lexicon, trunk, net = Lexicon(a.cmudict), Trunk(a.style), TrunkToMel()
    net.load_state_dict(torch.load(a.mel))
    net.eval()
    lines = [l.rstrip("\n").split("\t") for k, l in enumerate(open(a.list, encoding="utf8")) if k % a.workers == a.worker]
    size = 400
    for shard in range(0, len(lines), size):
        path = f"{a.out}/{a.worker}_{shard // size:04d}.pt"
        if os.path.exists(path):
            continue
        out, seconds, t0 = [], 0.0, time.time()
        for name, text in lines[shard: shard + size]:
            sequence = parse(text, lexicon)
            if not sequence or len(sequence) < 2 or sum(len(s) for _, s in sequence) > 500:
                continue
            rng = random.Random(name)
            x, dur, lead = trunk.features(sequence, rng.choice([1.0, 1.0, 1.05, 1.1, 0.95]))
            ends = (lead + np.cumsum(dur)) * TEACHER_FRAME - SHIFT_SAMPLES
            starts = np.concatenate([[lead * TEACHER_FRAME - SHIFT_SAMPLES], ends[:-1]])
            first = max(0, int(starts[0]) - LEAD_SAMPLES - rng.randrange(0, 480))
            count = (len(x) * TRUNK_SAMPLES - first) // 480 - 1
            mel = net(torch.from_numpy(x)[None], positions(first, count)[None])[0]
            heard = (mel.amax(1) > SOUND).nonzero()[:, 0]
            if len(heard) == 0:
                continue
            n = min(count, int(heard[-1]) + 1 + TAIL_FRAMES) // 2 * 2
            clip = lambda z: np.clip((z - first) / nets.RATE_HZ, 0, n * 0.02).astype(np.float32)
            out.append(dict(id=name, ph=[p for p, _ in sequence], mel50=mel[:n].numpy().astype(np.float16), start=clip(starts), end=clip(ends)))
            seconds += n * 0.02
        nets.save(out, path)
        print(f"{path}: {len(out)} utterances, {seconds / 60:.1f} minutes of speech in {(time.time() - t0) / 60:.1f}", flush=True)


@torch.no_grad()
def again(a):
    torch.set_num_threads(1)
    net = TrunkToMel()
    net.load_state_dict(torch.load(a.mel))
    net.eval()
    nets.save({u["id"]: net(x.float()[None], positions(first, len(u["mel50"]))[None])[0].numpy().astype(np.float16)
                for u, x, first in recordings(a)}, a.out)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = ap.add_subparsers(required=True)
    for name, run in (("fit", fit), ("label", label), ("again", again)):
        p = sub.add_parser(name)
        p.set_defaults(run=run)
        p.add_argument("--cmudict", required=True)
        p.add_argument("--style", required=True)
        p.add_argument("--out", required=True)
        p.add_argument("--threads", type=int, default=1)
        if name != "label":
            p.add_argument("--data", required=True, nargs="+", help="folders of teacher.py")
            p.add_argument("--features", required=True)
        if name != "fit":
            p.add_argument("--mel", required=True)
        if name == "fit":
            p.add_argument("--tokens", required=True)
            p.add_argument("--minutes", type=float, default=8)
        if name == "label":
            p.add_argument("--list", required=True)
            p.add_argument("--worker", type=int, default=0)
            p.add_argument("--workers", type=int, default=1)
    a = ap.parse_args()
    a.run(a)


if __name__ == "__main__":
    main()
