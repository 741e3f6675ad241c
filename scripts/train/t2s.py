"""T2S of the starter voice: phonemes -> semantic tokens (nets.TextToSemantic).

    t2s.py --features DIR --tokens FILE --out FILE [--minutes M] [--resume]

Teacher forcing with cross-entropy. One head of each middle layer is also taught the alignment the teacher's timing gives (which
phoneme is being spoken at each token), so that attention is monotonic after minutes instead of hours. Half of the batches
replace some input tokens by random ones, which teaches recovery from the model's own mistakes. EOS is an ordinary class.
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
from tokenizer import Tokenizer, is_held_out, load_features

PROBE, HEADS = (1, 2, 3), 1     # layers whose first head is taught the alignment


@torch.no_grad()
def tokenize(path, data):
    net = Tokenizer()
    net.load_state_dict(torch.load(path))
    net.eval()
    return [net.nearest(net.encode(torch.from_numpy(u["mel50"].astype(np.float32))[None]))[0] for u in data]


def alignment(u, n):
    """Index of the phoneme spoken in the middle of each of n tokens; the row after the last one points at the end."""
    t = (np.arange(n + 1) + 0.5) * 0.04
    return torch.from_numpy(np.clip(np.searchsorted(u["start"], t, "right") - 1, 0, len(u["ph"]) - 1))


def batches(items, budget, rng):
    """Groups of similar length, about `budget` positions each, in random order; endless."""
    while True:
        order = sorted(range(len(items)), key=lambda i: len(items[i][0]) + len(items[i][1]) + rng.uniform(0, 12))
        groups, cur = [], []
        for i in order:
            longest = len(items[i][0]) + len(items[i][1])
            if cur and (len(cur) + 1) * longest > budget:
                groups.append(cur)
                cur = []
            cur.append(i)
        groups.append(cur)
        rng.shuffle(groups)
        yield from groups


def collate(items, group, vocab):
    ph, tk, al = zip(*(items[i] for i in group))
    T, P = max(map(len, ph)), max(map(len, tk))
    pad = lambda z, n, v: F.pad(z, (0, n - len(z)), value=v)
    n_ph, n_tk = torch.tensor([len(p) for p in ph]), torch.tensor([len(t) for t in tk])
    target = torch.stack([torch.cat([t, torch.tensor([vocab - 1]), torch.full((P - len(t),), -100)]) for t in tk])
    return (torch.stack([pad(p, T, 0) for p in ph]), n_ph, torch.stack([pad(t, P, 0) for t in tk]), target,
            torch.stack([pad(x, P + 1, -1) for x in al]))


def losses(net, b, noise=0.0, probe=PROBE):
    ph, n_ph, tk, target, al = b
    inp = tk
    if noise > 0:
        inp = torch.where(torch.rand(tk.shape) < noise, torch.randint(0, net.vocab - 1, tk.shape), tk)
    with torch.autocast("cpu", torch.bfloat16):
        logits, probes = net(ph, n_ph, inp, probe)
    ce = F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), label_smoothing=0.05 if net.training else 0.0)
    with torch.no_grad():
        valid = target >= 0
        acc = (logits.argmax(-1) == target)[valid].float().mean()
    guide = torch.zeros(())
    T = ph.shape[1]
    for p in probes.values():
        rows = p[:, :HEADS, T:, :T].mean(1)                                    # row of token k predicts token k + 1
        want = al[:, 1:]                                                       # hence the phoneme of the next one
        ok = want >= 0
        near = sum(rows.gather(2, (want + d).clamp(0, T - 1)[..., None])[..., 0] * w for d, w in ((-1, 0.35), (0, 1.0), (1, 0.35)))
        guide = guide - torch.log(near.clamp(1e-4, 1.0))[ok].mean() / len(probes)
    return ce, guide, acc


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--features", required=True)
    ap.add_argument("--tokens", required=True, help="tokenizer checkpoint")
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, default=45)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--dropout", type=float, default=0.1)
    ap.add_argument("--budget", type=int, default=2400, help="positions per batch")
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    rng = random.Random(0)
    data = load_features(a.features)
    tokens = tokenize(a.tokens, data)
    items = [(torch.tensor(ids_of(u["ph"])), t, alignment(u, len(t)), is_held_out(u)) for u, t in zip(data, tokens)]
    train, held = [i[:3] for i in items if not i[3]], [i[:3] for i in items if i[3]]
    print(f"{len(train)} training, {len(held)} held-out utterances, {sum(len(t[1]) for t in train)} tokens")
    net = nets.TextToSemantic()
    if a.resume:
        net.load_state_dict(torch.load(a.out))
    for layer in net.h["layers"]:
        layer.dropout = a.dropout
    ema = copy.deepcopy(net)
    opt = torch.optim.AdamW(net.parameters(), a.lr, betas=(0.9, 0.98), weight_decay=0.02)
    held_batch = collate(held, range(len(held)), net.vocab)
    t0, step, log, last_eval = time.time(), 0, {}, time.time()
    for group in batches(train, a.budget, rng):
        part = (time.time() - t0) / 60 / a.minutes
        if part >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 300) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        ce, guide, acc = losses(net, collate(train, group, net.vocab), noise=rng.choice((0.0, 0.1)))
        opt.zero_grad()
        (ce + 0.3 * guide).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        step += 1
        with torch.no_grad():
            d = min(0.998, (step + 1) / (step + 20))
            torch._foreach_mul_(list(ema.parameters()), d)
            torch._foreach_add_(list(ema.parameters()), list(net.parameters()), alpha=1 - d)
        for k, v in dict(ce=ce, guide=guide, acc=acc).items():
            log[k] = 0.98 * log.get(k, v.item()) + 0.02 * v.item()
        if time.time() - last_eval > 60:
            last_eval = time.time()
            ema.eval()
            with torch.no_grad():
                hc, hg, ha = losses(ema, held_batch)
            torch.save(ema.state_dict(), a.out)
            print(f"step {step} {(time.time() - t0) / 60:.1f} min " + " ".join(f"{k} {v:.3f}" for k, v in log.items())
                  + f" | held out: ce {hc:.3f} alignment {hg:.3f} accuracy {ha:.3f}", flush=True)
    torch.save(ema.state_dict(), a.out)


if __name__ == "__main__":
    main()
