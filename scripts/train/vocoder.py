"""Source-filter iSTFT vocoder (nets.Vocoder): log mel -> waveform.

    vocoder.py --features DIR --out FILE [--minutes M] [--resume] [--generated DIR]

Loss: log-magnitude L1 and spectral convergence at three STFT resolutions plus log-mel L1; in the last 40 % of the time the
energy distance (two syntheses with two noise draws, the distance between them subtracted by half: Gritsenko et al. 2020), which
takes the buzz out without a discriminator. The F0 head is trained beside it on the tracked F0.
"""
import argparse
import copy
import math
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import nets
from tokenizer import is_held_out, load_features

RESOLUTIONS = [(512, 128), (1024, 256), (2048, 512)]
FLOOR = 2e-3


def spectra(x):
    out = [torch.log(nets.stft_magnitude(x, n, h).clamp(min=FLOOR * n / 1024)) for n, h in RESOLUTIONS]
    return out + [torch.log(torch.clamp(nets.BANK @ nets.stft_magnitude(x), min=3e-5))]


def distance(P, Q, convergence=True):
    loss = 0.0
    for i, (p, q) in enumerate(zip(P, Q)):
        loss = loss + (F.l1_loss(p, q) / 3 if i < 3 else 3 * F.l1_loss(p, q))
        if convergence and i < 3:
            a, b = p.exp(), q.exp()
            loss = loss + (a - b).pow(2).sum().sqrt() / b.pow(2).sum().sqrt() / 3
    return loss


def f0_loss(o, f0):
    v = (f0 > 0).float()
    pos = torch.log(f0.clamp(min=nets.F0_MIN) / nets.F0_MIN) / math.log(nets.F0_MAX / nets.F0_MIN) * (nets.F0_BINS - 1)
    target = torch.exp(-0.5 * ((torch.arange(nets.F0_BINS, device=f0.device) - pos[..., None]) / 0.8) ** 2)
    target = target / target.sum(-1, keepdim=True)
    ce = -(target * F.log_softmax(o[..., : nets.F0_BINS], -1)).sum(-1)
    return (ce * v).sum() / v.sum().clamp(min=1) + 2 * F.binary_cross_entropy_with_logits(o[..., nets.F0_BINS], v)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--features", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, default=20)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--frames", type=int, default=64)
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    data = [u for u in load_features(a.features) if len(u["f0"]) > a.frames + 2]
    train, held = [u for u in data if not is_held_out(u)], [u for u in data if is_held_out(u)]
    w = np.array([len(u["f0"]) for u in train], float)
    w /= w.sum()
    net = nets.Vocoder()
    if a.resume:
        net.load_state_dict(torch.load(a.out))
    ema = copy.deepcopy(net)
    opt = torch.optim.AdamW(net.parameters(), a.lr, betas=(0.9, 0.99), weight_decay=0.01)
    T, skip, t0, step, log, last_eval = a.frames, 8, time.time(), 0, {}, time.time()
    inner = slice(skip * nets.HOP, (T - 3) * nets.HOP)
    while True:
        part = (time.time() - t0) / 60 / a.minutes
        if part >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * part)))
        xs, fs, ms = [], [], []
        for i in np.random.choice(len(train), a.batch, p=w):
            u = train[i]
            t, gain = random.randrange(0, len(u["f0"]) - T), random.uniform(-1.2, 0.3)
            x = u["wave"][t * nets.HOP: (t + T) * nets.HOP].astype(np.float32) / 32767
            xs.append(torch.from_numpy(x) * math.exp(gain))
            fs.append(torch.from_numpy(u["f0"][t: t + T].astype(np.float32)))
            ms.append((torch.from_numpy(u["mel"][t: t + T].astype(np.float32)) + gain).clamp(min=math.log(1e-5)))
        x, f0, mel = torch.stack(xs), torch.stack(fs), torch.stack(ms)
        two = part > 0.6 or a.resume
        n = T * nets.HOP + 2 * nets.PAD
        with nets.autocast():
            y = net(mel, f0, torch.randn(a.batch, n), torch.rand(a.batch, 1).double(), torch.randn(a.batch, n) if two else None)
            fl = f0_loss(net.f0_logits(mel).float(), f0)
        with torch.no_grad():
            X = spectra(x[:, inner])
        if two:
            A, B = spectra(y[0][:, inner]), spectra(y[1][:, inner])
            loss = distance(A, X) / 2 + distance(B, X) / 2 - 0.45 * distance(A, B, False)
        else:
            A = spectra(y[:, inner])
            loss = distance(A, X)
        opt.zero_grad()
        (loss + 0.2 * fl).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        opt.step()
        step += 1
        nets.average(ema, net, *((0.998,) if a.resume else (0.999, step)))
        for k, v in dict(loss=loss, f0=fl, mel=F.l1_loss(A[3], X[3])).items():
            log[k] = 0.98 * log.get(k, v.item()) + 0.02 * v.item()
        if time.time() - last_eval > 60:
            last_eval = time.time()
            nets.save(ema.state_dict(), a.out)
            with torch.no_grad():
                cents, vuv, mrs = [], [], []
                for u in held[:12]:
                    m = torch.from_numpy(u["mel"].astype(np.float32))[None]
                    f = ema.predict_f0(m)[0].numpy()
                    t = u["f0"].astype(np.float32)
                    both = (f > 0) & (t > 0)
                    cents += list(1200 * np.log2(f[both] / t[both]))
                    vuv += list((f > 0) != (t > 0))
                    y = ema(m, torch.from_numpy(f)[None], torch.randn(1, m.shape[1] * nets.HOP + 2 * nets.PAD))
                    x = torch.from_numpy(u["wave"].astype(np.float32) / 32767)[None, : y.shape[1]]
                    mrs.append(sum(F.l1_loss(p, q).item() for p, q in zip(spectra(y)[:3], spectra(x)[:3])) / 3)
            print(f"step {step} {(time.time() - t0) / 60:.1f} min " + " ".join(f"{k} {v:.3f}" for k, v in log.items())
                  + f" | held out: log-magnitude L1 {np.mean(mrs):.3f} F0 {np.median(np.abs(cents)):.0f} cents median, voicing error {np.mean(vuv):.3f}", flush=True)
    nets.save(ema.state_dict(), a.out)


if __name__ == "__main__":
    main()
