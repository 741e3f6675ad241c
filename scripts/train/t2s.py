"""T2S of the starter voice: phonemes -> semantic tokens (nets.TextToSemantic).

    t2s.py --features DIR --tokens FILE --out FILE [--pseudo DIR] [--minutes M] [--resume]

Teacher forcing with cross-entropy. One head of each middle layer is also taught the alignment the teacher's timing gives (which
phoneme is being spoken at each token), so that attention is monotonic after minutes instead of hours. EOS is an ordinary class.

An hour of speech is little for a language model, so it never sees the same tokens twice: utterances are tokenized again with
another offset and rate, the beginning of one is spliced to the end of another at word boundaries, and a share of the input tokens
is replaced by random ones, which also teaches recovery from the model's own mistakes. Far more comes from pseudo.py (--pseudo):
hours of text whose tokens were read off the teacher's inner features; shards that appear while training runs are taken in.
"""
import argparse
import copy
import glob
import math
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import nets
from symbols import ids_of
from prep import log_mel50, spoken_at
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
    return torch.from_numpy(spoken_at(u, n + 1, 0.04))


class Utterance:
    """What the training needs of one recording; `varied` gives it anew with another offset and rate."""

    def __init__(self, u, codes):
        self.wave, self.symbols, self.start, self.end = u["wave"], u["ph"], u["start"], u["end"]
        self.phonemes = torch.tensor(ids_of(u["ph"]))
        self.item = (self.phonemes, codes, alignment(u, len(codes)))
        self.times = (self.start, self.end)
        self.cuts = [i for i, p in enumerate(u["ph"]) if p == "SP"]

    def vary(self, net, rng):
        drop, rate = rng.randrange(0, 960), rng.uniform(0.94, 1.06)
        x = self.wave[drop:].astype(np.float32) / 32767
        x = np.interp(np.arange(0, len(x) - 1, rate), np.arange(len(x)), x).astype(np.float32)
        x = torch.from_numpy(x[: len(x) // 960 * 960])
        with torch.no_grad():
            codes = net.nearest(net.encode(log_mel50(x)[None]))[0]
        self.times = tuple(np.maximum(0, (z - drop / nets.RATE_HZ) / rate) for z in (self.start, self.end))
        self.item = (self.phonemes, codes, alignment({"start": self.times[0], "ph": self.symbols}, len(codes)))


class PseudoUtterance:
    """One utterance of pseudo.py; `vary` takes the tokens of the other 20 ms offset."""

    def __init__(self, u, net):
        mel = torch.from_numpy(u["mel50"].astype(np.float32))
        self.phonemes = torch.tensor(ids_of(u["ph"]))
        self.forms = []
        for drop in (0, 1):
            with torch.no_grad():
                codes = net.nearest(net.encode(mel[None, drop: len(mel) - drop]))[0].short()
            times = tuple(np.maximum(0, z - drop * 0.02) for z in (u["start"], u["end"]))
            self.forms.append((codes, alignment({"start": times[0], "ph": u["ph"]}, len(codes)).short(), times))
        self.cuts = [i for i, p in enumerate(u["ph"]) if p == "SP"]
        self.vary(net, random)

    def vary(self, net, rng):
        codes, aligned, self.times = self.forms[rng.randrange(2)]
        self.item = (self.phonemes, codes.long(), aligned.long())


def pseudo_utterances(folder, seen, net):
    """Utterances of the shards that are not in `seen` yet, which is updated."""
    out = []
    for path in sorted(set(glob.glob(f"{folder}/*.pt")) - seen):
        seen.add(path)
        out += [PseudoUtterance(u, net) for u in torch.load(path, weights_only=False)]
    return out


def splice(a, b, rng):
    """The beginning of a and the end of b, joined at word boundaries."""
    i, j = rng.choice(a.cuts), rng.choice(b.cuts)
    ka, kb = round(float(a.times[0][i]) / 0.04), round(float(b.times[0][j]) / 0.04)
    (pa, ca, la), (pb, cb, lb) = a.item, b.item
    ka, kb = min(ka, len(ca)), min(kb, len(cb))
    return torch.cat([pa[:i], pb[j:]]), torch.cat([ca[:ka], cb[kb:]]), torch.cat([la[:ka].clamp(max=i - 1), (lb[kb:] - j).clamp(min=0) + i])


def batches(train, budget, rng, grow=lambda: None):
    """Groups of similar length, about `budget` positions each, in random order; endless. `grow` runs before each round."""
    while True:
        grow()
        items = [u.item for u in train]
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


def neighbours(tokenizer, vocab, temperature=0.12):
    """Soft targets [vocab, vocab]: a code's neighbours in the code book sound nearly the same and are nearly as right."""
    e = tokenizer.embed
    d = torch.cdist(e, e).pow(2)
    scale = d.topk(4, largest=False).values[:, 1:].mean()                      # of the nearest ones, over all codes
    soft = torch.zeros(vocab, vocab)
    soft[: len(e), : len(e)] = torch.softmax(-d / (temperature * 4 * scale), -1)
    soft[vocab - 1, vocab - 1] = 1
    return soft


def losses(net, b, noise=0.0, probe=PROBE, soft=None):
    ph, n_ph, tk, target, al = b
    inp = tk
    if noise > 0:
        inp = torch.where(torch.rand(tk.shape) < noise, torch.randint(0, net.vocab - 1, tk.shape), tk)
    with nets.autocast():
        logits, probes = net(ph, n_ph, inp, probe)
    ce = F.cross_entropy(logits.float().flatten(0, 1), target.flatten())
    if soft is not None:
        ok = target >= 0
        ce = 0.5 * ce - 0.5 * (soft[target[ok]] * F.log_softmax(logits[ok].float(), -1)).sum(-1).mean()
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
    ap.add_argument("--pseudo", help="folder of pseudo.py")
    ap.add_argument("--minutes", type=float, default=45)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--dropout", type=float, default=0.15)
    ap.add_argument("--budget", type=int, default=1600, help="positions per batch")
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    rng = random.Random(0)
    data = load_features(a.features)
    codes = tokenize(a.tokens, data)
    train = [Utterance(u, c) for u, c in zip(data, codes) if not is_held_out(u)]
    held = [(torch.tensor(ids_of(u["ph"])), c, alignment(u, len(c))) for u, c in zip(data, codes) if is_held_out(u)]
    print(f"{len(train)} training, {len(held)} held-out utterances, {sum(len(u.item[1]) for u in train)} tokens")
    tokenizer = Tokenizer()
    tokenizer.load_state_dict(torch.load(a.tokens))
    tokenizer.eval()
    soft = neighbours(tokenizer, nets.STARTER["t2s"]["vocab"])
    print(f"soft targets: {soft.diagonal().mean():.2f} on the code itself")
    spliceable, seen = [u for u in train if len(u.cuts) > 1], set()

    def grow():
        more = pseudo_utterances(a.pseudo, seen, tokenizer) if a.pseudo else []
        if more:
            train.extend(more)
            spliceable.extend(u for u in more if len(u.cuts) > 1)
            print(f"{len(train)} utterances, {sum(len(u.item[1]) for u in train) / 25 / 3600:.1f} hours", flush=True)

    net = nets.TextToSemantic()
    if a.resume:
        net.load_state_dict(torch.load(a.out))
    for layer in net.h["layers"]:
        layer.dropout = a.dropout
    ema = copy.deepcopy(net)
    opt = torch.optim.AdamW(net.parameters(), a.lr, betas=(0.9, 0.98), weight_decay=0.02)
    held_batch = collate(held, range(len(held)), net.vocab)
    t0, step, log, last_eval = time.time(), 0, {}, time.time()
    for group in batches(train, a.budget, rng, grow):
        part = (time.time() - t0) / 60 / a.minutes
        if part >= 1:
            break
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 300) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        real = [k for k in group if isinstance(train[k], Utterance)]           # tokenized from the waveform: dear
        for k in rng.sample(real, min(len(real), 1 if a.pseudo else 4)) + [k for k in group if isinstance(train[k], PseudoUtterance)]:
            train[k].vary(tokenizer, rng)
        rows = [splice(train[k], rng.choice(spliceable), rng) if train[k].cuts and rng.random() < 0.4 else train[k].item for k in group]
        ce, guide, acc = losses(net, collate(rows, range(len(rows)), net.vocab), noise=rng.choice((0.1, 0.25, 0.4)), soft=soft)
        opt.zero_grad()
        (ce + 0.5 * guide).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        step += 1
        nets.average(ema, net, 0.998, step)
        for k, v in dict(ce=ce, guide=guide, acc=acc).items():
            log[k] = 0.98 * log.get(k, v.item()) + 0.02 * v.item()
        if time.time() - last_eval > 60:
            last_eval = time.time()
            ema.eval()
            with torch.no_grad():
                hc, hg, ha = losses(ema, held_batch)
            nets.save(ema.state_dict(), a.out)
            print(f"step {step} {(time.time() - t0) / 60:.1f} min " + " ".join(f"{k} {v:.3f}" for k, v in log.items())
                  + f" | held out: ce {hc:.3f} alignment {hg:.3f} accuracy {ha:.3f}", flush=True)
    nets.save(ema.state_dict(), a.out)


if __name__ == "__main__":
    main()
