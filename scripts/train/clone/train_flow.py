"""Encoders, reference encoder and flow matching over many speakers: codes + phonemes + a reference -> mel (nets.AcousticModel).

    train_flow.py --takes DIR ... --unseen DIR --tokens FILE --out FILE [--budget MIN] [--slice MIN] [--device cpu|cuda]

Conditional flow matching (Lipman et al. 2023, straight paths) on random crops; the reference is a stretch of 1.3 to 6 s of another take of the speaker, so the
timbre has to come through the reference encoder. A direct loss on a linear read-out of the features (dropped after training)
makes the encoders useful before the estimator is. Loss: mean square of the velocity + 0.5 L1 of the read-out. Merit: both, and the log-mel L1 of samples of 2
and 4 steps, on speakers never heard, given a reference of theirs, and given one of another speaker (which has to be clearly worse).
"""
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
from config import SIZES
from train_tokenizer import CloneTokenizer

CROP, EDGE, REFERENCES = 64, 24, (128, 240, 400, 560)
FRAMES = CROP * 15 // 4


@torch.no_grad()
def tokenize(path, takes, device):
    """[codes of each take, int16 numpy]."""
    net = CloneTokenizer().to(device).eval()
    net.load_state_dict(torch.load(path, map_location=device)["net"])
    known = {}                                               # a take may be there several times; one of `read` and one of `real` share their name
    for t in takes:
        if id(t) not in known:
            m = torch.from_numpy(t["mel50"][: len(t["mel50"]) // 2 * 2].astype(np.float32)).to(device)
            known[id(t)] = net.nearest(net.encode(m[None]).float())[0].short().cpu().numpy()
    return [known[id(t)] for t in takes], net.embed


class Data:
    def __init__(self, takes, codes, device):
        self.takes = takes
        self.mel = stage.Flat([t["mel"] for t in takes], device, torch.float16)
        self.codes = stage.Flat(codes, device, torch.int16)
        self.phonemes = stage.Flat([t["ph"] for t in takes], device, torch.int16)
        self.others = stage.Others(takes, device)
        self.weights = self.codes.size.float() / self.codes.size.sum()

    def batch(self, which, reference=240, wrong=False):
        dev = which.device
        n = self.codes.size[which]
        k = (torch.rand(len(which), device=dev) * ((n - CROP).clamp(min=0) // 4 + 1)).long() * 4   # 4 codes are 15 mel frames exactly
        codes, inside = self.codes.crop(which, k, CROP)
        mel, ok = self.mel.crop(which, k // 4 * 15, FRAMES)
        ok = ok & ((torch.arange(FRAMES, device=dev)[None] >= EDGE) | (k[:, None] == 0))
        other = which.roll(len(which) // 2) if wrong else self.others(which)
        size = self.mel.size[other]
        r, have = self.mel.crop(other, (torch.rand(len(which), device=dev) * (size - reference + 1).clamp(min=1)).long(), reference)
        # A reference that is shorter is repeated: padding is nothing a recording has.
        again = torch.arange(reference, device=dev)[None] % size[:, None].clamp(max=reference)
        r = r.gather(1, again[..., None].expand_as(r))
        longest = int(self.phonemes.size[which].max())
        ph, real = self.phonemes.crop(which, torch.zeros_like(k), longest)
        norm = lambda m: nets.normalise_mel(m.float())
        return (torch.where(inside, codes, 0).long(), norm(torch.where(ok[..., None], mel, mel.new_tensor(-11.5))), ok.float(), torch.where(real, ph, 0).long(),
                self.phonemes.size[which], norm(r))


def losses(net, readout, b, x0, t):
    code, mel, mask, ph, n_ph, ref = b
    mu = net.features(code, ph, n_ph, net.ref_enc(ref))
    xt = (1 - t[:, None, None]) * x0 + t[:, None, None] * mel
    v = net.cfm.estimator(xt, mu, t)
    m = mask[..., None]
    count = mask.sum() * nets.N_MEL
    fm = ((v.float() - (mel - x0)).pow(2) * m).sum() / count
    direct = ((readout(mu).float() - mel).abs() * m).sum() / count
    return fm, direct, mu


def main():
    ap = stage.options(__doc__)
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--batch", type=int, default=12)
    ap.add_argument("--size", default="base", choices=SIZES)
    a = ap.parse_args()
    device = stage.begin(a)
    takes = stage.load_takes(a.takes)
    codes, embed = tokenize(a.tokens, takes, device)
    train = [i for i, t in enumerate(takes) if not stage.is_held_out(t["id"]) and len(codes[i]) > 8]
    print(f"{len(train)} takes, {sum(len(codes[i]) for i in train) / 90000:.2f} hours, {len(stage.by_speaker([takes[i] for i in train]))} speakers")
    data = Data([takes[i] for i in train], [codes[i] for i in train], device)
    unseen = stage.load_takes([a.unseen]) if a.unseen else [takes[i] for i in range(len(takes)) if i not in set(train)]
    unseen = [t for t in unseen if len(t["mel50"]) > 16]
    random.Random(0).shuffle(unseen)
    unseen = unseen[: 8 if a.small else 64]
    held = Data(unseen, tokenize(a.tokens, unseen, device)[0], device)
    net = nets.AcousticModel(SIZES[a.size]["acoustic"]).to(device)
    if a.start:
        stage.adopt(net, a.start, device)
    net.quantizer.vq.layers[0]._codebook.embed.copy_(embed)
    net.enc_p.encoder_ssl.dropout = net.enc_p.encoder_text.dropout = 0.05
    readout = nn.Linear(SIZES[a.size]["acoustic"]["feature_dim"], nets.N_MEL).to(device)

    def evaluate(ema):
        state = torch.get_rng_state()
        torch.manual_seed(1)
        which = torch.arange(len(unseen), device=device)
        out = {}
        for name, wrong in (("", False), ("_wrong_speaker", True)):
            b = held.batch(which, 240, wrong)
            x0 = torch.randn(b[1].shape).to(device)
            fm, direct, mu = losses(ema, readout, b, x0, torch.linspace(0.02, 0.98, len(which), device=device))
            out["held_fm" + name], out["held_direct" + name] = fm, direct
            for k in (2, 4):
                out[f"held_mel_{k}_steps{name}"] = ((ema.sample(mu, x0, k) - b[1]).abs() * b[2][..., None]).sum() / b[2].sum() / nets.N_MEL * 7
        torch.set_rng_state(state)
        return out

    training = stage.Training(a, net, evaluate, device, lambda: dict(readout=readout.state_dict(), size=a.size), [readout])
    for _ in training:
        which = torch.multinomial(data.weights, a.batch, replacement=True).to(device)
        b = data.batch(which, random.choice(REFERENCES))
        with stage.autocast(device):
            fm, direct, _ = losses(net, readout, b, torch.randn_like(b[1]), torch.rand(a.batch, device=device))
        training.step(fm + 0.5 * direct, dict(fm=fm, direct=direct))


if __name__ == "__main__":
    main()
