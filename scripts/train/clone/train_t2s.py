"""T2S over many speakers and two languages: phonemes, and the tokens of a prompt by the same speaker, -> tokens (nets.TextToSemantic).

    train_t2s.py --takes DIR ... --unseen DIR --tokens FILE --out FILE [--budget MIN] [--slice MIN] [--device cpu|cuda]

Teacher forcing. Most items are two takes of one speaker, one after the other, as prompt and text are when a cloned voice speaks; the rest is one take alone, or a take
whose end is that of another, joined at a word. Targets are softened towards a code's neighbours in the code book, a share of the input tokens is replaced by
random ones, and one head of three layers is taught the teacher's alignment. Loss: cross-entropy + 0.5 alignment. Merit: cross-entropy, token accuracy and
the error in phonemes of what a linear read-out of the tokens drawn says, on sentences and speakers never trained on.
"""
import os
import random
import sys

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import stage
import nets
from config import SIZES
from g2p import distance
from t2s import HEADS, PROBE, alignment, neighbours
from train_flow import tokenize
from train_tokenizer import CLASS_OF, CLASSES, CloneTokenizer
from symbols import IDS

SPLICE = 0.25
BREAKS = {IDS["SP"], IDS[","]}


class Item:
    """One take: phonemes, codes, the phoneme at each code, and where words begin (index of phoneme, code)."""

    def __init__(self, t, codes):
        self.name, self.speaker, self.lang = t["id"], t["speaker"], t["lang"]
        self.ph, self.codes = torch.from_numpy(t["ph"].astype(np.int64)), torch.from_numpy(codes.astype(np.int64))
        self.at = alignment(dict(start=t["start"], ph=t["ph"]), len(codes))
        self.cuts = [(i, min(len(codes), round(float(t["start"][i]) / 0.04))) for i, p in enumerate(t["ph"].tolist()) if p in BREAKS and i > 0]


def joined(a, b):
    return torch.cat([a[0], b[0]]), torch.cat([a[1], b[1]]), torch.cat([a[2][:-1], b[2] + len(a[0])])


def triple(x):
    return x.ph, x.codes, x.at


def spliced(x, y, rng):
    (i, ka), (j, kb) = rng.choice(x.cuts), rng.choice(y.cuts)
    return (torch.cat([x.ph[:i], y.ph[j:]]), torch.cat([x.codes[:ka], y.codes[kb:]]),
            torch.cat([x.at[:ka].clamp(max=i - 1), (y.at[kb:] - j).clamp(min=0) + i]))


class Data:
    def __init__(self, items, seed=0):
        self.items, self.rng, self.groups = items, random.Random(seed), {}
        for x in items:
            self.groups.setdefault(x.speaker, []).append(x)

    def draw(self, prompt):
        rng = self.rng
        x = rng.choice(self.items)
        others = [y for y in self.groups[x.speaker] if y.name != x.name]       # what says the same words would be copied
        main = triple(x)
        if rng.random() < SPLICE and x.cuts and others:
            y = rng.choice(others)
            if y.cuts:
                main = spliced(x, y, rng)
        if prompt and others:
            y = rng.choice(others)
            if len(y.codes) + len(main[1]) < 500:
                return joined(triple(y), main)
        return main

    def batches(self, budget, prompts=0.6, pool=256):
        """Groups of about `budget` positions each, of similar length; endless."""
        while True:
            drawn = sorted((self.draw(self.rng.random() < prompts) for _ in range(pool)), key=lambda d: len(d[0]) + len(d[1]))
            groups, cur = [], []
            for d in drawn:
                if cur and (len(cur) + 1) * (len(d[0]) + len(d[1])) > budget:
                    groups.append(cur)
                    cur = []
                cur.append(d)
            self.rng.shuffle(groups)
            yield from groups + [cur]


def collate(rows, vocab, device):
    ph, tk, al = zip(*rows)
    T, P = max(map(len, ph)), max(map(len, tk))
    pad = lambda z, n, v: F.pad(z, (0, n - len(z)), value=v)
    target = torch.stack([torch.cat([t, torch.tensor([vocab - 1]), torch.full((P - len(t),), -100)]) for t in tk])
    out = (torch.stack([pad(p, T, 0) for p in ph]), torch.tensor([len(p) for p in ph]), torch.stack([pad(t, P, 0) for t in tk]), target,
           torch.stack([pad(x, P + 1, -1) for x in al]))
    return tuple(z.to(device, non_blocking=True) for z in out)


def losses(net, b, noise=0.0, soft=None, probe=PROBE):
    ph, n_ph, tk, target, al = b
    inp = torch.where(torch.rand(tk.shape, device=tk.device) < noise, torch.randint(0, net.vocab - 1, tk.shape, device=tk.device), tk) if noise else tk
    logits, probes = net(ph, n_ph, inp, probe)
    ok = target >= 0
    flat, want = logits[ok].float(), target[ok]
    ce = F.cross_entropy(flat, want)
    if soft is not None:
        ce = 0.5 * ce - 0.5 * (soft[want] * F.log_softmax(flat, -1)).sum(-1).mean()
    guide, T = torch.zeros((), device=tk.device), ph.shape[1]
    for p in probes.values():
        rows = p[:, :HEADS, T:, :T].mean(1)                                    # the row of token k predicts token k + 1
        to = al[:, 1:]
        near = sum(rows.gather(2, (to + d).clamp(0, T - 1)[..., None])[..., 0] * w for d, w in ((-1, 0.35), (0, 1.0), (1, 0.35)))
        guide = guide - torch.log(near.float().clamp(1e-4, 1.0))[to >= 0].mean() / len(probes)
    return ce, guide, (flat.argmax(-1) == want).float().mean()


@torch.no_grad()
def generate(net, ph, prompt, limit, top_k=5, temperature=0.6):
    """Plain sampling without a cache -> codes after the prompt, and whether it ended by itself."""
    dev = next(net.parameters()).device
    p, n, y = torch.tensor(ph, device=dev)[None], torch.tensor([len(ph)], device=dev), torch.tensor(prompt, dtype=torch.long, device=dev)[None]
    for step in range(limit):
        l = net(p, n, y)[0][0, -1].float()
        if step < 11:
            l[-1] = -1e9
        v, i = (l / temperature).topk(top_k)
        t = i[torch.multinomial(torch.softmax(v, -1), 1)]
        if t == net.eos or l.argmax() == net.eos:
            return y[0, len(prompt):], True
        y = torch.cat([y, t[None]], 1)
    return y[0, len(prompt):], False


@torch.no_grad()
def phonemes_of(tokenizer, codes):
    """The classes the tokenizer's decoder hears in codes, each once as long as it lasts, silence left out."""
    cls = tokenizer.head(tokenizer.decode(tokenizer.embed[codes][None]))[0, :, : len(CLASSES)].argmax(-1).tolist()
    return [c for k, c in enumerate(cls) if c and (k == 0 or cls[k - 1] != c)]


def main():
    ap = stage.options(__doc__)
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--positions", type=int, default=2400, help="phonemes and tokens of a batch, padding included")
    ap.add_argument("--dropout", type=float, default=0.05)
    ap.add_argument("--size", default="base", choices=SIZES)
    ap.add_argument("--prompts", type=float, default=0.6, help="share of items with a prompt")
    a = ap.parse_args()
    device = stage.begin(a)
    takes = [t for t in stage.load_takes(a.takes) if len(t["mel50"]) > 16]
    codes, embed = tokenize(a.tokens, takes, device)
    train = [Item(t, c) for t, c in zip(takes, codes) if not stage.is_held_out(t["id"])]
    unseen = [t for t in (stage.load_takes([a.unseen]) if a.unseen else [t for t in takes if stage.is_held_out(t["id"])]) if len(t["mel50"]) > 16]
    random.Random(0).shuffle(unseen)
    unseen = unseen[: 8 if a.small else 120]
    held = Data([Item(t, c) for t, c in zip(unseen, tokenize(a.tokens, unseen, device)[0])], 1)
    print(f"{len(train)} takes, {sum(len(x.codes) for x in train) / 90000:.2f} hours")
    tokenizer = CloneTokenizer().to(device).eval()
    tokenizer.load_state_dict(torch.load(a.tokens, map_location=device)["net"])
    size = SIZES[a.size]["t2s"]
    soft = neighbours(tokenizer, size["vocab"]).to(device)
    net = nets.TextToSemantic(**size).to(device)
    if a.start:
        stage.adopt(net, a.start, device)
    for layer in net.h["layers"]:
        layer.dropout = a.dropout
    rows = [joined(triple(held.groups[x.speaker][0]), triple(x)) if x is not held.groups[x.speaker][0] else triple(x) for x in held.items]
    fixed = [collate(rows[i: i + 8], size["vocab"], device) for i in range(0, len(rows), 8)]
    spoken = [x for x in held.items if x is not held.groups[x.speaker][0] and len(x.ph) < 60][: 2 if a.small else 12]

    def evaluate(ema):
        got = np.mean([[z.item() for z in losses(ema, b)] for b in fixed], 0)
        out = dict(held_ce=got[0], held_alignment=got[1], held_accuracy=got[2])
        wrong = total = ends = 0
        state = torch.get_rng_state()
        torch.manual_seed(2)
        for x in spoken:
            p = held.groups[x.speaker][0]
            y, ended = generate(ema, torch.cat([p.ph, x.ph]).tolist(), p.codes.tolist(), 10 if a.small else min(300, 25 + 5 * len(x.ph)))
            want = [int(CLASS_OF[i]) for i in x.ph.tolist() if CLASS_OF[i]]
            want = [c for k, c in enumerate(want) if k == 0 or want[k - 1] != c]
            wrong, total, ends = wrong + distance(want, phonemes_of(tokenizer, y)) if len(y) else wrong + len(want), total + len(want), ends + ended
        torch.set_rng_state(state)
        return dict(out, spoken_phoneme_error=wrong / max(total, 1), spoken_ended=ends / max(len(spoken), 1))

    training = stage.Training(a, net, evaluate, device, lambda: dict(size=a.size), decay=0.02, warm=300)
    data = Data(train, training.count)
    batches = data.batches(a.positions, a.prompts)
    for _ in training:
        b = collate(next(batches), size["vocab"], device)
        with nets.autocast(device):
            ce, guide, acc = losses(net, b, random.choice((0.0, 0.1, 0.25)), soft)
        training.step(ce + 0.5 * guide, dict(ce=ce, alignment=guide, accuracy=acc))


if __name__ == "__main__":
    main()
