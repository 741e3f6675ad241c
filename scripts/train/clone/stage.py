"""What the training stages of the cloning voice share: options, device, clock, schedule, checkpoints, the log and its plot, and the takes.

Every stage has --budget, minutes of training in all, and --slice, minutes of this call: a stage goes on from OUT.train until its budget is used, so
it may be run in pieces. On a CPU minutes are minutes of the process's own time (other programs on the machine do not shorten the schedule), on
CUDA of the clock. OUT is the averaged network, OUT.train what it takes to go on, OUT.jsonl the log, OUT.svg its plot.
"""
import argparse
import copy
import glob
import hashlib
import json
import math
import os
import random
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "../data")]

import nets


def options(doc):
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--takes", nargs="+", required=True, help="folders of data/speak.py to train on")
    ap.add_argument("--unseen", help="folder of speakers that are held out")
    ap.add_argument("--out", required=True)
    ap.add_argument("--budget", type=float, default=30, help="minutes in all")
    ap.add_argument("--slice", type=float, help="minutes of this call; the rest another time")
    ap.add_argument("--start", help="begin with the weights of this file")
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--ema", type=float, default=0.998)
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    ap.add_argument("--threads", type=int, default=1)
    ap.add_argument("--every", type=float, default=2, help="minutes between evaluations")
    ap.add_argument("--small", action="store_true", help="a rehearsal: a handful of steps and evaluations")
    return ap


def begin(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    if a.device == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return torch.device(a.device)


def adopt(net, path, device):
    """Takes over weights wherever name and shape agree: of a checkpoint of this training or the single-speaker scripts, or of a file of a voice folder."""
    if str(path).endswith(".safetensors"):
        from safetensors.torch import load_file
        state = {k.removeprefix("model.").replace("bert_proj.bias", "bert_proj_bias"): v.float().to(device) for k, v in load_file(path).items()}
    else:
        state = torch.load(path, map_location=device)
        state = state.get("net", state)
    mine = net.state_dict()
    same = {k: v for k, v in state.items() if k in mine and v.shape == mine[k].shape}
    net.load_state_dict(same, strict=False)
    print(f"{path}: {len(same)} of {len(mine)} tensors taken over")
    return state


# ---------------------------------------------------------------------------------------------------------------- takes
def is_held_out(name):
    """One take in thirty-two of the speakers that are trained on trains nothing."""
    return hashlib.sha256(name.encode()).digest()[0] % 32 == 0


def load_takes(folders, waves=False):
    """Of each folder in turn; a folder that is named several times is read once, and its takes are the same ones each time."""
    out = {}
    for folder in dict.fromkeys(folders):
        out[folder] = [t for path in sorted(glob.glob(f"{folder}/*.pt")) for t in torch.load(path, weights_only=False)]
        for t in out[folder]:
            for key in ("trunk", "style", "at100", "at50", "gain", "tract") + (() if waves else ("wave",)):
                t.pop(key, None)
    return [t for folder in folders for t in out[folder]]


class Flat:
    """Arrays of many takes, one after the other on the device, and crops of them by gathering."""

    def __init__(self, arrays, device, dtype):
        self.size = torch.tensor([len(x) for x in arrays])
        self.offset = torch.cat([torch.zeros(1, dtype=torch.long), self.size.cumsum(0)])[:-1]
        self.size, self.offset = self.size.to(device), self.offset.to(device)
        self.flat = torch.from_numpy(np.concatenate(arrays)).to(dtype).to(device) if isinstance(arrays[0], np.ndarray) else torch.cat(arrays).to(dtype).to(device)

    def crop(self, which, start, count):
        """which, start [B] -> [B, count, ..] float and whether each is inside the take."""
        i = start[:, None] + torch.arange(count, device=start.device)[None]
        inside = (i >= 0) & (i < self.size[which][:, None])
        x = self.flat[(self.offset[which][:, None] + i).clamp(0, len(self.flat) - 1)]
        return x, inside


def by_speaker(takes):
    out = {}
    for i, t in enumerate(takes):
        out.setdefault(t["speaker"], []).append(i)
    return out


class Others:
    """For each take another one of the same speaker (itself when there is none). Takes of one name say the same, be they read off the teacher, its waveform or
    there several times to be drawn more often: none of them is another one, but each may be drawn as another one's."""

    def __init__(self, takes, device):
        groups = [sorted(g, key=lambda i: takes[i]["id"]) for g in by_speaker(takes).values()]
        self.members = torch.zeros(len(groups), max(map(len, groups)), dtype=torch.long)
        self.count = torch.tensor([len(g) for g in groups])
        self.group, self.first, self.width = (torch.zeros(len(takes), dtype=torch.long) for _ in range(3))
        for k, g in enumerate(groups):
            self.members[k, : len(g)] = torch.tensor(g)
            names = [takes[i]["id"] for i in g]
            for i, name in zip(g, names):
                self.group[i], self.first[i], self.width[i] = k, names.index(name), names.count(name)
        self.members, self.count, self.group, self.first, self.width = (z.to(device) for z in (self.members, self.count, self.group, self.first, self.width))

    def __call__(self, which):
        """Behind the takes of its own name, around the ring of the speaker's."""
        group, width = self.group[which], self.width[which]
        n = self.count[group]
        step = width + (torch.rand(len(which), device=which.device) * (n - width)).long().clamp(max=(n - width - 1).clamp(min=0))
        return torch.where(n > width, self.members[group, (self.first[which] + step) % n], which)


# ------------------------------------------------------------------------------------------------------------------ log
def plot(rows, path):
    """The numbers of the log over the minutes, one small chart each, as SVG."""
    keys = [k for k in dict.fromkeys(k for r in rows for k in r) if k not in ("step", "minutes", "lr")]
    W, H, across = 300, 150, 3
    out = []
    for n, key in enumerate(keys):
        points = [(r["minutes"], r[key]) for r in rows if isinstance(r.get(key), (int, float)) and math.isfinite(r[key])]
        x0, y0 = n % across * (W + 20) + 10, n // across * (H + 50) + 30
        out.append(f'<text x="{x0}" y="{y0 - 8}" font-size="13">{key}</text><rect x="{x0}" y="{y0}" width="{W}" height="{H}" fill="none" stroke="#bbb"/>')
        if not points:
            continue
        lo, hi = min(y for _, y in points), max(y for _, y in points)
        last = max(x for x, _ in points) or 1
        span = hi - lo or 1
        line = " ".join(f"{x0 + W * x / last:.1f},{y0 + H - H * (y - lo) / span:.1f}" for x, y in points)
        out.append(f'<polyline points="{line}" fill="none" stroke="#06c"/><text x="{x0 + 2}" y="{y0 + 12}" font-size="10">{hi:.4g}</text>'
                   f'<text x="{x0 + 2}" y="{y0 + H - 3}" font-size="10">{lo:.4g}</text><text x="{x0 + W}" y="{y0 + H + 12}" font-size="10" text-anchor="end">{last:.1f} min, now {points[-1][1]:.4g}</text>')
    height = ((len(keys) - 1) // across + 1) * (H + 50) + 20
    with open(path, "w", encoding="utf8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{across * (W + 20)}" height="{height}" font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>{"".join(out)}</svg>\n')


class Training:
    """The loop of a stage: `for part in training:` gives the share of the budget that is used; training.step(loss, parts) does the rest.

    net: what is trained, averaged (weights only; buffers are copied) and saved under "net" with `extra()` beside it; others: modules trained with it; kept: modules and
    optimisers that the caller trains, saved to go on with; limit: of the gradient's norm.
    """

    def __init__(self, a, net, evaluate, device, extra=lambda: {}, others=(), kept=(), betas=(0.9, 0.98), decay=0.01, warm=200, limit=1.0):
        self.a, self.net, self.evaluate, self.device, self.extra, self.warm, self.limit = a, net, evaluate, device, extra, warm, limit
        self.params = [p for m in (net, *others) for p in m.parameters() if p.requires_grad]
        self.others = [*others, *kept]
        self.opt = torch.optim.AdamW(self.params, a.lr, betas=betas, weight_decay=decay, fused=device.type == "cuda")
        self.ema = copy.deepcopy(net).eval().requires_grad_(False)
        self.count, self.used, self.sums, self.n = 0, 0.0, {}, 0
        self.state = a.out + ".train"
        if os.path.exists(self.state):
            s = torch.load(self.state, map_location=device, weights_only=False)
            net.load_state_dict(s["net"]), self.ema.load_state_dict(s["ema"]), self.opt.load_state_dict(s["opt"])
            for m, w in zip(self.others, s["others"]):
                m.load_state_dict(w)
            self.count, self.used = s["count"], s["used"]
            print(f"going on at step {self.count}, {self.used:.1f} of {a.budget:g} minutes")

    def clock(self):
        return (time.process_time() if self.device.type == "cpu" else time.time()) / 60

    def __iter__(self):
        a = self.a
        self.t0, self.before = self.clock(), self.used
        self.told = self.used
        bar = tqdm(total=a.budget, initial=round(self.used, 2), unit="min", mininterval=5, bar_format="{l_bar}{bar}| {n:.1f}/{total:g} min {postfix}")
        self.bar = bar
        self.net.train()
        while True:
            self.used = self.before + self.clock() - self.t0
            part = self.used / a.budget
            done = part >= 1 or (a.slice and self.used - self.before >= a.slice) or (a.small and self.count >= 4)
            if done or self.used - self.told > a.every:
                self.told = self.used
                self.report()
                self.save()
            if done:
                break
            lr = a.lr * min(1, (self.count + 1) / self.warm) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
            for g in self.opt.param_groups:
                g["lr"] = lr
            yield part
        bar.close()

    def step(self, loss, parts):
        """parts: {name: tensor or number} for the log."""
        self.opt.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.params, self.limit)
        self.opt.step()
        self.count += 1
        with torch.no_grad():
            nets.average(self.ema, self.net, self.a.ema, self.count)
            for p, q in zip(self.ema.buffers(), self.net.buffers()):
                p.copy_(q)
            for k, v in dict(parts, gradient=norm).items():
                v = v.detach() if torch.is_tensor(v) else torch.tensor(float(v))
                self.sums[k] = self.sums[k] + v if k in self.sums else v.clone()
            self.n += 1
        if self.count % 20 == 0:
            self.bar.n = self.used
            self.bar.set_postfix_str(f"step {self.count} " + " ".join(f"{k} {float(v) / self.n:.3f}" for k, v in list(self.sums.items())[:3]))

    def report(self):
        row = dict(step=self.count, minutes=round(self.used, 3), lr=self.opt.param_groups[0]["lr"])
        row.update({k: round(float(v) / max(self.n, 1), 5) for k, v in self.sums.items()})
        self.sums, self.n = {}, 0
        self.ema.eval()
        with torch.no_grad():
            row.update({k: round(float(v), 5) for k, v in self.evaluate(self.ema).items()})
        self.net.train()
        with open(self.a.out + ".jsonl", "a", encoding="utf8") as f:
            f.write(json.dumps(row) + "\n")
        print("\n" + " ".join(f"{k} {v:g}" for k, v in row.items()), flush=True)
        with open(self.a.out + ".jsonl", encoding="utf8") as f:
            plot([json.loads(l) for l in f], self.a.out + ".svg")

    def save(self):
        nets.save(dict(net=self.ema.state_dict(), **self.extra()), self.a.out)
        nets.save(dict(net=self.net.state_dict(), ema=self.ema.state_dict(), opt=self.opt.state_dict(), others=[m.state_dict() for m in self.others],
                       count=self.count, used=self.used), self.state)
