"""Semantic tokenizer: 50 Hz log mel -> one of 512 codes at 25 Hz, supervised by the teacher's phoneme timing.

    tokenizer.py --features DIR --out FILE [--minutes M] [--resume]

A small ConvNeXt encoder, a vector quantizer with EMA codebook (van den Oord 2017, app. A.1; dead codes are re-seeded) and a decoder
that must give back phonemes (cross-entropy per 20 ms), log F0 and voicing, and the mel itself (L1): what the codes carry is
what is said and how it is intoned. Prints phoneme accuracy and F0 error on held-out utterances.
"""
import argparse
import glob
import math
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import nets

PHONES = ("AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split())
CLASSES = ["sil"] + PHONES + [p + "0" for p in "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()]


def phone_class(p):
    if p == "SP" or not p[0].isalpha():
        return 0
    base = p.rstrip("012")
    return CLASSES.index(base + "0" if p.endswith("0") else base)


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dw = nn.Conv1d(dim, dim, 5, groups=dim)
        self.norm, self.a, self.b = nn.LayerNorm(dim), nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)

    def forward(self, x):
        return x + self.b(F.gelu(self.a(self.norm(nets.depthwise(x, self.dw, 2, 2)))))


class Tokenizer(nn.Module):
    """Encoder, quantizer and decoder, and a linear read-out of the decoder with `out` columns: by default phoneme classes, log F0, voicing and mel.

    dead: a code that is used less than this share of an even use of all codes begins anew.
    """

    def __init__(self, dim=192, codes=512, code_dim=64, out=len(CLASSES) + 2 + 80, dead=0.05):
        super().__init__()
        self.dead = dead
        self.inp = nets.Conv(80, dim, 5)
        self.enc1 = nn.Sequential(*(Block(dim) for _ in range(3)))
        self.down = nn.Linear(2 * dim, dim)
        self.enc2 = nn.Sequential(*(Block(dim) for _ in range(3)))
        self.to_code = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, code_dim))
        self.from_code = nn.Linear(code_dim, dim)
        self.dec1 = nn.Sequential(*(Block(dim) for _ in range(2)))
        self.up = nn.Linear(dim, 2 * dim)
        self.dec2 = nn.Sequential(*(Block(dim) for _ in range(2)))
        self.head = nn.Linear(dim, out)
        self.register_buffer("embed", torch.zeros(codes, code_dim))
        self.register_buffer("count", torch.ones(codes))
        self.register_buffer("total", torch.zeros(codes, code_dim))
        self.register_buffer("seeded", torch.zeros(1))

    def encode(self, mel50):
        """[B, 2N, 80] -> [B, N, code_dim]."""
        x = self.enc1(self.inp((mel50 + 5) / 4))
        B, T, D = x.shape
        return self.to_code(self.enc2(self.down(x.reshape(B, T // 2, 2 * D))))

    def decode(self, q):
        """[B, N, code_dim] -> [B, 2N, dim], which `head` reads."""
        y = self.dec1(self.from_code(q))
        B, N, D = y.shape
        return self.dec2(self.up(y).reshape(B, 2 * N, D))

    def distances(self, z):
        return z.pow(2).sum(-1, keepdim=True) - 2 * z @ self.embed.T + self.embed.pow(2).sum(-1)

    def nearest(self, z):
        return self.distances(z).argmin(-1)

    @torch.no_grad()
    def update(self, flat, ids):
        one = F.one_hot(ids, len(self.embed)).float()
        self.count.mul_(0.98).add_(one.sum(0), alpha=0.02)
        self.total.mul_(0.98).add_(one.T @ flat, alpha=0.02)
        self.embed.copy_(self.total / self.count.clamp(min=1e-3)[:, None])
        dead = self.count < self.dead * len(flat) / len(self.embed)
        pick = flat[torch.randint(0, len(flat), (len(self.embed),), device=flat.device)]
        self.embed.copy_(torch.where(dead[:, None], pick, self.embed))
        self.total.copy_(torch.where(dead[:, None], pick, self.total))
        self.count.copy_(torch.where(dead, torch.ones_like(self.count), self.count))

    def quantize(self, z, inside):
        """z [B, N, code_dim], inside [B, N]: what counts -> z rounded to codes (its gradient passes through), commitment loss, ids [B, N]."""
        flat, inside = z.reshape(-1, z.shape[-1]), inside.reshape(-1)
        if self.training and not self.seeded.item():
            some = flat[inside].detach()
            self.embed.copy_(some[torch.randperm(max(len(some), len(self.embed)), device=z.device)[: len(self.embed)] % len(some)])
            self.total.copy_(self.embed)
            self.seeded.fill_(1)
        ids = self.nearest(flat)
        q = self.embed[ids].view_as(z)
        commit = (z - q.detach()).pow(2).mean(-1).reshape(-1)[inside].mean()
        if self.training:
            self.update(flat[inside].detach(), ids[inside])
        return z + (q - z).detach(), commit, ids.view(z.shape[:2])

    def forward(self, mel50):
        z = self.encode(mel50).float()
        q, commit, ids = self.quantize(z, torch.ones(z.shape[:2], dtype=torch.bool, device=z.device))
        return self.head(self.decode(q)), commit, ids


def load_features(path, limit=None):
    out = []
    for s in sorted(glob.glob(f"{path}/*.pt"))[:limit]:
        out += torch.load(s, weights_only=False)
    return out


def is_held_out(u):
    """One utterance in forty never trains anything."""
    return sum(u["id"].encode()) * 7919 % 40 == 0


def labels(u):
    """Phoneme class per 20 ms frame; frames the teacher calls a phoneme but that are silent count as silence."""
    n = len(u["mel50"])
    lab, t = np.zeros(n, np.int64), (np.arange(n) + 0.5) * 0.02
    for p, a, b in zip(u["ph"], u["start"], u["end"]):
        lab[(t >= a) & (t < b)] = phone_class(p)
    energy = u["mel50"].astype(np.float32).max(1)
    lab[energy < -7.0] = 0
    return lab


def f0_50(u):
    i = np.minimum(((np.arange(len(u["mel50"])) + 0.5) * 480 / 256).astype(int), len(u["f0"]) - 1)
    return u["f0"][i].astype(np.float32)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--features", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, default=10)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--batch", type=int, default=24)
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    data = [(torch.from_numpy(u["mel50"].astype(np.float32)), torch.from_numpy(labels(u)), torch.from_numpy(f0_50(u)), is_held_out(u)) for u in load_features(a.features)]
    train, held = [d for d in data if not d[3]], [d for d in data if d[3]]
    print(f"{len(train)} training, {len(held)} held-out utterances")
    net = Tokenizer()
    if a.resume:
        net.load_state_dict(torch.load(a.out))
    opt = torch.optim.AdamW(net.parameters(), 1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    weights = np.array([len(d[0]) for d in train], float)
    weights /= weights.sum()
    nc, T, t0, step = len(CLASSES), 128, time.time(), 0
    while True:
        part = (time.time() - t0) / 60 / a.minutes
        if part >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = 1.5e-3 * min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        batch = []
        for i in np.random.choice(len(train), a.batch, p=weights):
            m, l, f, _ = train[i]
            if len(m) < T:
                r = T - len(m)
                m, l, f = F.pad(m, (0, 0, 0, r), value=-11.5), F.pad(l, (0, r)), F.pad(f, (0, r))
            s = random.randrange(0, (len(m) - T) // 2 + 1) * 2
            batch.append((m[s: s + T], l[s: s + T], f[s: s + T]))
        m, l, f = (torch.stack(z) for z in zip(*batch))
        with nets.autocast():
            o, commit, ids = net(m)
        o, v = o.float(), (f > 0).float()
        ce = F.cross_entropy(o[..., :nc].flatten(0, 1), l.flatten(), label_smoothing=0.05)
        lf = torch.log(f.clamp(min=60) / 190)
        fl = ((o[..., nc] - lf).abs() * v).sum() / v.sum().clamp(min=1) * 4 + F.binary_cross_entropy_with_logits(o[..., nc + 1], v)
        ml = F.l1_loss(o[..., nc + 2:], m / 4)
        loss = ce + fl + 4 * ml + 0.25 * commit
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        step += 1
        if step % 200 == 0:
            net.eval()
            with torch.no_grad():
                ok = n = err = nv = 0
                used = set()
                for m, l, f, _ in held[:60]:
                    o, _, ids = net(m[None])
                    ok += (o[0, :, :nc].argmax(-1) == l).sum().item()
                    n += len(l)
                    v = f > 0
                    err += ((o[0, :, nc] - torch.log(f.clamp(min=60) / 190)).abs() * v).sum().item()
                    nv += v.sum().item()
                    used |= set(ids.flatten().tolist())
            net.train()
            print(f"step {step} {(time.time() - t0) / 60:.1f} min  ce {ce:.3f} f0 {fl:.3f} mel {ml:.3f} commit {commit:.3f} | held out: phone acc {ok / n:.3f} "
                  f"F0 {err / max(nv, 1) * 1200 / math.log(2):.0f} cents, {len(used)} codes", flush=True)
            nets.save(net.state_dict(), a.out)
    nets.save(net.state_dict(), a.out)


if __name__ == "__main__":
    main()
