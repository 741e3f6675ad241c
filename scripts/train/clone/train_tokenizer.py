"""Semantic tokenizer over many speakers and two languages: 50 Hz log mel -> one of CODES codes at 25 Hz.

    train_tokenizer.py --takes DIR ... --unseen DIR --out FILE [--budget MIN] [--slice MIN] [--device cpu|cuda]

A ConvNeXt encoder, a vector quantizer with EMA codebook, and a decoder that must give back the phoneme of every 20 ms (cross-entropy over the phonemes of both
languages), the tone (Mandarin), voicing and log F0 *relative to the speaker's median*, and the mel of the voice as recorded, for which it is
given a summary of another take of the speaker. What enters the encoder is warped along frequency, tilted and amplified at random: the speaker is not to be
found in the codes. Loss: ce + 0.5 tone + f0 + 4 mel L1 + 0.25 commitment. Merit: phoneme accuracy and F0 error from the codes of speakers never heard, and how well a
classifier finds the speaker in a take's codes (chance is 1 / speakers; beside it how well it does in the mel itself).
"""
import math
import os
import random
import sys

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import stage
import nets
import zh_sounds
from prep import spoken_at
from symbols import IDS
from tokenizer import Block, Tokenizer, phone_class, CLASSES as ENGLISH

from config import CODES

CODE_DIM, DIM = 64, 192
CLASSES = ENGLISH + sorted(zh_sounds.INITIALS) + sorted(zh_sounds.FINALS)
CLASS_OF = np.zeros(732, np.int64)
TONE_OF = np.zeros(732, np.int64)                           # 0 none, 1..5
for _s, _i in IDS.items():
    if zh_sounds.is_final(_s):
        CLASS_OF[_i], TONE_OF[_i] = CLASSES.index(_s[:-1], len(ENGLISH) + len(zh_sounds.INITIALS)), int(_s[-1])
    elif zh_sounds.is_initial(_s):
        CLASS_OF[_i] = len(ENGLISH) + sorted(zh_sounds.INITIALS).index(_s)
    elif _s[0].isalpha() and _s != "SP":
        CLASS_OF[_i] = phone_class(_s)
T, REFERENCE = 128, 96


class CloneTokenizer(Tokenizer):
    """The tokenizer with heads for both languages and tones, and a mel that is given a summary of another take of the speaker.

    Keys of the engine's tokenizer (models/starter_tokenizer.h): inp, enc1, down, enc2, to_code, embed; the rest is for training.
    """

    def __init__(self, dim=DIM, codes=CODES, code_dim=CODE_DIM):
        super().__init__(dim, codes, code_dim, len(CLASSES) + 6 + 2, 0.1)
        self.style = nn.Sequential(nets.Conv(80, 128, 5), nn.GELU(), nets.Conv(128, 128, 5), nn.GELU())
        self.to_mel = nn.Sequential(nn.Linear(dim + 128, 2 * dim), nn.GELU(), Block(2 * dim), nn.Linear(2 * dim, 80))

    def forward(self, mel50, reference, valid):
        """-> heads [B, 2N, ..], mel [B, 2N, 80] / 4, commitment, ids [B, N]. valid [B, 2N]: frames inside the take."""
        q, commit, ids = self.quantize(self.encode(mel50).float(), valid[:, ::2])
        h = self.decode(q)
        style = self.style((reference + 5) / 4).mean(1, keepdim=True).expand(-1, h.shape[1], -1)
        return self.head(h), self.to_mel(torch.cat([h, style.to(h.dtype)], -1)), commit, ids


def warps():
    """[21, 80, 80]: the mel of a voice whose frequencies are all multiplied by 0.86 .. 1.16."""
    edges = nets.slaney_bank(80)[1]
    centre = edges[1:-1]
    out = []
    for a in np.exp(np.linspace(math.log(0.86), math.log(1.16), 21)):
        x = np.clip(np.interp(centre / a, centre, np.arange(80)), 0, 79)
        i = np.minimum(x.astype(int), 78)
        w = np.zeros((80, 80), np.float32)
        w[np.arange(80), i], w[np.arange(80), i + 1] = 1 - (x - i), x - i
        out.append(w)
    return torch.from_numpy(np.stack(out))


def labels(t):
    """Class and tone per 20 ms; what is silent counts as silence."""
    at = spoken_at(t, len(t["mel50"]), 0.02)
    cls, tone = CLASS_OF[t["ph"][at]].copy(), TONE_OF[t["ph"][at]].copy()
    silent = t["mel50"].astype(np.float32).max(1) < -7.4
    cls[silent], tone[silent] = 0, 0
    return cls.astype(np.int16), tone.astype(np.int8)


def relative_f0(t, median):
    """[2N] log F0 over the speaker's median at 50 Hz, NaN where unvoiced."""
    f = t["f0"].astype(np.float32)
    i = np.minimum(((np.arange(len(t["mel50"])) + 0.5) * 480 / 256).astype(int), len(f) - 1)
    with np.errstate(divide="ignore"):
        return np.where(f[i] > 0, np.log(np.maximum(f[i], 1) / median), np.nan).astype(np.float32)


class Data:
    def __init__(self, takes, device):
        medians = {s: np.median(np.concatenate([takes[i]["f0"][takes[i]["f0"] > 0].astype(np.float32) for i in g] + [[150.0]]))
                   for s, g in stage.by_speaker(takes).items()}
        self.mel = stage.Flat([t["mel50"] for t in takes], device, torch.float16)
        cls, tone = zip(*map(labels, takes))
        self.cls, self.tone = stage.Flat(cls, device, torch.int16), stage.Flat(tone, device, torch.int8)
        self.f0 = stage.Flat([relative_f0(t, medians[t["speaker"]]) for t in takes], device, torch.float16)
        self.others = stage.Others(takes, device)
        self.weights = self.mel.size.double() / self.mel.size.sum()

    def batch(self, which, start, count=T):
        m, ok = self.mel.crop(which, start, count)
        m = torch.where(ok[..., None], m.float(), torch.tensor(-11.5, device=m.device))
        other = self.others(which)
        size = self.mel.size[other]
        r, inside = self.mel.crop(other, (torch.rand(len(other), device=size.device) * (size - REFERENCE).clamp(min=1)).long(), REFERENCE)
        r = torch.where(inside[..., None], r.float(), torch.tensor(-11.5, device=m.device))
        z = lambda flat: flat.crop(which, start, count)[0]
        return m, ok, z(self.cls).long() * ok, z(self.tone).long() * ok, z(self.f0).float(), r


def disguise(m, table):
    """Warped along frequency, tilted, amplified."""
    B, dev = len(m), m.device
    w = table[torch.randint(0, len(table), (B,), device=dev)]
    band = torch.arange(80, device=dev) / 79.0
    k = torch.arange(1, 4, device=dev)
    shape = torch.cos(math.pi * k[:, None] * band[None])                       # [3, 80]
    eq = (torch.randn(B, 3, device=dev) * 0.35) @ shape + torch.randn(B, 1, device=dev) * 0.3
    return (torch.einsum("btf,bgf->btg", m, w) + eq[:, None]).clamp(min=-11.5)


def losses(net, batch, table=None):
    m, ok, cls, tone, f0, r = batch
    o, mel, commit, ids = net(disguise(m, table) if table is not None else m, r, ok)
    o, v, nc = o.float(), (~torch.isnan(f0)).float() * ok, len(CLASSES)
    ce = F.cross_entropy(o[..., :nc][ok], cls[ok], label_smoothing=0.05)
    tn = F.cross_entropy(o[..., nc: nc + 6][ok], tone[ok])
    lf = torch.nan_to_num(f0, 0.0)
    fl = ((o[..., nc + 6] - lf).abs() * v).sum() / v.sum().clamp(min=1) * 4
    fl = fl + (F.binary_cross_entropy_with_logits(o[..., nc + 7], v, reduction="none") * ok).sum() / ok.sum()
    ml = (mel.float() - m / 4).abs()[ok].mean()
    return ce, tn, fl, ml, commit, o, ids


@torch.no_grad()
def speaker_accuracy(net, takes, device, steps=250):
    """(from the codes, from the mel, chance): a linear classifier of takes by speaker, trained on half of each speaker's takes."""
    groups = [g for g in stage.by_speaker(takes).values() if len(g) >= 6][:100]
    if len(groups) < 2:
        return float("nan"), float("nan"), float("nan")
    xs, ms, ys, test = [], [], [], []
    for k, g in enumerate(groups):
        for j, i in enumerate(g[:16]):
            m = torch.from_numpy(takes[i]["mel50"].astype(np.float32)).to(device)
            ids = net.nearest(net.encode(m[None]).float())[0]
            x = torch.bincount(ids, minlength=len(net.embed)).float()
            xs.append(x / x.sum() * 20), ms.append(torch.cat([m.mean(0), m.std(0)])), ys.append(k), test.append(j % 2)
    y, test = torch.tensor(ys, device=device), torch.tensor(test, device=device).bool()
    out = []
    for x in (torch.stack(xs), torch.stack(ms)):
        x = (x - x[~test].mean(0)) / (x[~test].std(0) + 0.1)
        with torch.enable_grad():
            w = torch.zeros(x.shape[1], len(groups), device=device, requires_grad=True)
            opt = torch.optim.AdamW([w], 0.02, weight_decay=1.0)
            for _ in range(steps):
                loss = F.cross_entropy(x[~test] @ w, y[~test])
                opt.zero_grad()
                loss.backward()
                opt.step()
        out.append(((x[test] @ w).argmax(1) == y[test]).float().mean().item())
    return *out, 1 / len(groups)


def main():
    ap = stage.options(__doc__)
    ap.add_argument("--batch", type=int, default=24)
    a = ap.parse_args()
    device = stage.begin(a)
    takes = stage.load_takes(a.takes)
    train = [t for t in takes if not stage.is_held_out(t["id"])]
    held = [t for t in takes if stage.is_held_out(t["id"])] + (stage.load_takes([a.unseen]) if a.unseen else [])
    print(f"{len(train)} takes of {len(stage.by_speaker(train))} speakers, {sum(len(t['mel50']) for t in train) / 180000:.2f} hours; {len(held)} held out")
    data, table = Data(train, device), warps().to(device)
    net = CloneTokenizer().to(device)
    if a.start:
        state = stage.adopt(net, a.start, device)
        old = state.get("embed", net.embed)
        if len(old) < len(net.embed):                        # more codes than there were: the others begin beside them
            again = old[torch.randint(0, len(old), (len(net.embed) - len(old),))]
            net.embed.copy_(torch.cat([old, again + 0.1 * old.std() * torch.randn_like(again)]))
            net.total.copy_(net.embed)
            net.seeded.fill_(1)
    full = [t for t in held if len(t["mel50"]) > 20][: 8 if a.small else 120]
    other = Data(full, device)

    def evaluate(ema):
        ok = n = tone_ok = tone_n = err = nv = syl = 0
        used = set()
        for i in range(len(full)):
            which = torch.tensor([i], device=device)
            b = other.batch(which, torch.zeros_like(which), len(full[i]["mel50"]))
            o, ids = losses(ema, b)[5:]
            nc = len(CLASSES)
            right = o[..., :nc].argmax(-1) == b[2]
            sound = b[2] > 0
            ok, n = ok + right[sound].sum().item(), n + sound.sum().item()
            t = b[3] > 0
            tone_ok, tone_n = tone_ok + (o[..., nc: nc + 6].argmax(-1) == b[3])[t].sum().item(), tone_n + t.sum().item()
            v = ~torch.isnan(b[4])
            err, nv = err + (o[..., nc + 6] - torch.nan_to_num(b[4]))[v].abs().sum().item(), nv + v.sum().item()
            used |= set(ids.flatten().tolist())
        codes, mel, chance = speaker_accuracy(ema, takes, device, 20 if a.small else 250)
        return dict(held_phoneme_accuracy=ok / max(n, 1), held_tone_accuracy=tone_ok / max(tone_n, 1), held_f0_cents=err / max(nv, 1) * 1200 / math.log(2),
                    held_codes=len(used), speaker_from_codes=codes, speaker_from_mel=mel, speaker_chance=chance)

    training = stage.Training(a, net, evaluate, device)
    for _ in training:
        which = torch.multinomial(data.weights.float(), a.batch, replacement=True).to(device)
        start = (torch.rand(a.batch, device=device) * ((data.mel.size[which] - T).clamp(min=0) // 2 + 1)).long() * 2
        with nets.autocast(device):
            ce, tn, fl, ml, commit, _, _ = losses(net, data.batch(which, start), table)
        training.step(ce + 0.5 * tn + fl + 4 * ml + 0.25 * commit, dict(phonemes=ce, tone=tn, f0=fl, mel=ml, commitment=commit))


if __name__ == "__main__":
    main()
