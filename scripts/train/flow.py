"""Acoustic model of the starter voice: semantic codes + phonemes + reference -> mel (nets.AcousticModel).

    flow.py --features DIR --tokens FILE --out FILE [--again FILE] [--minutes M] [--resume]

Conditional flow matching (Lipman et al. 2023, OT path: x_t = (1 - t) x0 + t x1, target x1 - x0) on random crops; the reference
is a random stretch of another utterance of the same voice. A small direct mel loss on the features (a linear read-out
dropped after training) makes the encoder useful before the estimator is. With --again (pseudo.py) half of the crops get the tokens that
T2S was taught with, where they differ from the recording's own.
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
from symbols import ids_of
from t2s import tokenize
from tokenizer import Tokenizer, is_held_out, load_features

CROP = 64            # codes: 2.56 s, 240 mel frames
EDGE = 24            # mel frames at the crop's left whose context is missing: not scored
REFERENCE = 240      # mel frames


def crop(u, ids, ph, refs, rng):
    n = len(ids)
    k = rng.randrange(0, max(1, n - CROP + 1) )
    k -= k % 4                                                                 # 4 codes = 15 mel frames exactly
    m = torch.from_numpy(u["mel"].astype(np.float32))
    code, mel = ids[k: k + CROP], m[k // 4 * 15: k // 4 * 15 + CROP * 15 // 4]
    mask = torch.zeros(CROP * 15 // 4)
    mask[(EDGE if k else 0): len(mel)] = 1
    code = F.pad(code, (0, CROP - len(code)))
    mel = F.pad(mel, (0, 0, 0, CROP * 15 // 4 - len(mel)), value=-11.5)
    r = refs[rng.randrange(len(refs))]["mel"].astype(np.float32)
    s = rng.randrange(0, max(1, len(r) - REFERENCE + 1))
    r = torch.from_numpy(r[s: s + REFERENCE])
    return code, mel, mask, ph, F.pad(r, (0, 0, 0, REFERENCE - len(r)), value=-11.5)


def collate(rows):
    code, mel, mask, ph, ref = zip(*rows)
    T = max(map(len, ph))
    return (torch.stack(code), nets.normalise_mel(torch.stack(mel)), torch.stack(mask), torch.stack([F.pad(p, (0, T - len(p))) for p in ph]),
            torch.tensor([len(p) for p in ph]), nets.normalise_mel(torch.stack(ref)))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--features", required=True)
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--again", help="file of `pseudo.py again`")
    ap.add_argument("--minutes", type=float, default=45)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--batch", type=int, default=12)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), np.random.seed(0)
    rng = random.Random(0)
    data = load_features(a.features)
    ids = tokenize(a.tokens, data)
    other = ids
    if a.again:
        mel50 = torch.load(a.again, weights_only=False)
        other = tokenize(a.tokens, [dict(u, mel50=mel50.get(u["id"], u["mel50"])) for u in data])
        print(f"tokens of both kinds agree: {np.mean([(p == q).float().mean().item() for p, q in zip(ids, other)]):.3f}")
    ph = [torch.tensor(ids_of(u["ph"])) for u in data]
    index = [i for i, u in enumerate(data) if not is_held_out(u)]
    held = [i for i, u in enumerate(data) if is_held_out(u)][:24]
    refs = [data[i] for i in index if len(data[i]["mel"]) > REFERENCE]
    w = np.array([len(ids[i]) for i in index], float)
    w /= w.sum()
    net = nets.AcousticModel(nets.STARTER["acoustic"])
    tk = Tokenizer()
    tk.load_state_dict(torch.load(a.tokens))
    net.quantizer.vq.layers[0]._codebook.embed.copy_(tk.embed)
    readout = nn.Linear(nets.STARTER["acoustic"]["feature_dim"], nets.N_MEL)
    if a.resume:
        s = torch.load(a.out)
        net.load_state_dict(s["net"]), readout.load_state_dict(s["readout"])
    ema = copy.deepcopy(net)
    params = list(net.parameters()) + list(readout.parameters())
    opt = torch.optim.AdamW(params, a.lr, betas=(0.9, 0.98), weight_decay=0.01)
    hrng = random.Random(1)
    hb = collate([crop(data[i], ids[i], ph[i], refs, hrng) for i in held])
    hx0, ht = torch.randn(hb[1].shape, generator=torch.Generator().manual_seed(0)), torch.linspace(0.02, 0.98, len(held))

    def loss_of(model, b, x0, t):
        code, mel, mask, p, n_p, ref = b
        with torch.autocast("cpu", torch.bfloat16):
            ge = model.ref_enc(ref)
            mu = model.features(code, p, n_p, ge)
            xt = (1 - t[:, None, None]) * x0 + t[:, None, None] * mel
            v = model.cfm.estimator(xt, mu, t)
            r = readout(mu)
        m = mask[..., None]
        fm = ((v.float() - (mel - x0)).pow(2) * m).sum() / m.sum() / nets.N_MEL
        direct = ((r.float() - mel).abs() * m).sum() / m.sum() / nets.N_MEL
        return fm, direct

    t0, step, log, last_eval = time.time(), 0, {}, time.time()
    while True:
        part = (time.time() - t0) / 60 / a.minutes
        if part >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        b = collate([crop(data[index[j]], rng.choice((ids, other))[index[j]], ph[index[j]], refs, rng) for j in np.random.choice(len(index), a.batch, p=w)])
        fm, direct = loss_of(net, b, torch.randn(b[1].shape), torch.rand(a.batch))
        opt.zero_grad()
        (fm + 0.5 * direct).backward()
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        step += 1
        with torch.no_grad():
            d = min(0.998, (step + 1) / (step + 20))
            torch._foreach_mul_(list(ema.parameters()), d)
            torch._foreach_add_(list(ema.parameters()), list(net.parameters()), alpha=1 - d)
        for k, v in dict(fm=fm, direct=direct).items():
            log[k] = 0.98 * log.get(k, v.item()) + 0.02 * v.item()
        if time.time() - last_eval > 60:
            last_eval = time.time()
            with torch.no_grad():
                hf, hd = loss_of(ema, hb, hx0, ht)
                code, mel, mask, p, n_p, ref = hb
                mu = ema.features(code, p, n_p, ema.ref_enc(ref))
                x = ema.sample(mu, hx0, 4)
                l1 = ((x - mel).abs() * mask[..., None]).sum() / mask.sum() / nets.N_MEL * 7
            nets.save(dict(net=ema.state_dict(), readout=readout.state_dict()), a.out)
            print(f"step {step} {(time.time() - t0) / 60:.1f} min " + " ".join(f"{k} {v:.4f}" for k, v in log.items())
                  + f" | held out: fm {hf:.4f} direct {hd:.4f} sampled log-mel L1 {l1:.3f}", flush=True)
    nets.save(dict(net=ema.state_dict(), readout=readout.state_dict()), a.out)


if __name__ == "__main__":
    main()
