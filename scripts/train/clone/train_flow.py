"""Encoders, reference encoder and flow matching over many speakers: codes + phonemes + a reference -> mel (nets.AcousticModel).

    train_flow.py --takes DIR ... --unseen DIR --tokens FILE --out FILE [--budget MIN] [--slice MIN] [--device cpu|cuda]

Conditional flow matching (Lipman et al. 2023, straight paths) on random crops; the reference is a stretch of 1.3 to 6 s of another take of the speaker, so the
timbre has to come through the reference encoder. Direct losses on a linear read-out of the features (dropped after training), of the mel and of the phoneme
spoken, make the encoders useful before the estimator is. Two heads of the attention from codes to phonemes are taught the teacher's timing: left alone they stay nearly
uniform, and words and tones then come out of the codes alone. Up to a share of an item's codes is replaced by random ones, so that text is worth reading; half of the
items have mel and reference coloured alike, so that the mean spectrum is taken from the reference. Loss: mean square of the velocity + 0.5 L1 of the read-out
+ 0.1 alignment + 0.05 cross-entropy of the phonemes. Merit: these, the share of frames whose attention is at the phoneme spoken or beside it and of those whose phoneme
is read out, the log-mel L1 of samples of 2 and 4 steps and how deep their fine structure along the bands is beside that of the recordings, on speakers never heard; velocity,
read-out and samples also given another speaker's reference (which has to be clearly worse).
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
from config import SIZES
from prep import spoken_at
from train_tokenizer import CloneTokenizer

CROP, EDGE, REFERENCES = 64, 24, (128, 240, 400, 560)
FRAMES = CROP * 15 // 4
FLOOR = -11.5
DETAIL = 15                                                  # the first band whose fine structure is looked at; below it the bands are wider than a harmonic is far
COLOURED, COLOUR_NEPERS = 0.5, (0.5, 0.4, 0.3, 0.25, 0.2, 0.2)
ALIGNED_HEADS, ALIGNMENT_WEIGHT, PHONEME_WEIGHT, NOISE = 2, 0.1, 0.05, 0.2


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


def colour(count, device):
    """Gains in nepers [count, 1, N_MEL], smooth over the bands: as other rooms, microphones and vocal tracts have them. COLOURED of them are not flat."""
    band = (torch.arange(nets.N_MEL, device=device) + 0.5) * math.pi / nets.N_MEL
    waves = torch.stack([torch.cos(j * band) for j in range(1, len(COLOUR_NEPERS) + 1)])
    depth = torch.randn(count, len(COLOUR_NEPERS), device=device) * torch.tensor(COLOUR_NEPERS, device=device)
    depth = depth * (0.3 + 0.7 * torch.rand(count, 1, device=device)) * (torch.rand(count, 1, device=device) < COLOURED)
    return (depth @ waves)[:, None]


class Data:
    def __init__(self, takes, codes, device):
        self.takes = takes
        self.mel = stage.Flat([t["mel"] for t in takes], device, torch.float16)
        self.codes = stage.Flat(codes, device, torch.int16)
        self.phonemes = stage.Flat([t["ph"] for t in takes], device, torch.int16)
        self.at = stage.Flat([spoken_at(t, 2 * len(c), 0.02).astype(np.int16) for t, c in zip(takes, codes)], device, torch.int16)
        self.others = stage.Others(takes, device)
        self.weights = self.codes.size.float() / self.codes.size.sum()

    def batch(self, which, reference=240, wrong=False, coloured=False):
        """coloured: mel and reference get the same gains over the bands: what the mean spectrum is has to be taken from the reference then."""
        dev = which.device
        n = self.codes.size[which]
        k = (torch.rand(len(which), device=dev) * ((n - CROP).clamp(min=0) // 4 + 1)).long() * 4   # 4 codes are 15 mel frames exactly
        codes, inside = self.codes.crop(which, k, CROP)
        at, _ = self.at.crop(which, 2 * k, 2 * CROP)
        # What is before the crop is not seen, so its first frames cannot know where they are.
        at = torch.where(inside.repeat_interleave(2, 1) & ((torch.arange(2 * CROP, device=dev)[None] >= EDGE) | (k[:, None] == 0)), at, -1).long()
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
        gains = colour(len(which), dev) if coloured else torch.zeros(1, device=dev)
        seen = lambda m: (m.float() + gains).clamp(min=FLOOR)
        mel = torch.where(ok[..., None], seen(mel), torch.tensor(FLOOR, device=dev))
        return (torch.where(inside, codes, 0).long(), nets.normalise_mel(mel), ok.float(), torch.where(real, ph, 0).long(),
                self.phonemes.size[which], nets.normalise_mel(seen(r)), at)


def losses(net, readout, b, x0, t, noise=0.0):
    """Features and {name: loss or merit} of a batch. readout: features -> mel and phoneme. noise: of an item's codes at most this share is random."""
    code, mel, mask, ph, n_ph, ref, at = b
    if noise:
        wrong = torch.rand(code.shape, device=code.device) < noise * torch.rand(len(code), 1, device=code.device)
        code = torch.where(wrong, torch.randint(0, net.c["codes"], code.shape, device=code.device), code)
    attention = net.enc_p.mrte.cross_attention
    attention.keep = True
    mu = net.features(code, ph, n_ph, net.ref_enc(ref))
    xt = (1 - t[:, None, None]) * x0 + t[:, None, None] * mel
    v = net.cfm.estimator(xt, mu, t)
    m = mask[..., None]
    count = mask.sum() * nets.N_MEL
    out = dict(fm=((v.float() - (mel - x0)).pow(2) * m).sum() / count)
    own, spoken = readout(mu).float().split([nets.N_MEL, net.c["phonemes"]], -1)
    out["direct"] = ((own - mel).abs() * m).sum() / count
    p, attention.kept = attention.kept[:, :ALIGNED_HEADS].mean(1), None
    known = at >= 0
    out["alignment"] = -torch.log(p.gather(2, at.clamp(min=0)[..., None])[..., 0].clamp(1e-4, 1.0))[known].mean()
    out["aligned"] = ((p.argmax(-1) - at).abs() <= 1)[known].float().mean()
    at = at[:, nets.feature_frames(mu.shape[1], at.device)]
    known = at >= 0
    want, guess = ph.gather(1, at.clamp(min=0))[known], spoken[known]
    out["phoneme"] = F.cross_entropy(guess, want)
    out["phonemes_right"] = (guess.argmax(-1) == want).float().mean()
    return mu, out


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
    readout = nn.Linear(net.c["feature_dim"], nets.N_MEL + net.c["phonemes"]).to(device)

    def evaluate(ema):
        state = torch.get_rng_state()
        torch.manual_seed(1)
        which = torch.arange(len(unseen), device=device)
        out = {}
        for name, wrong in (("", False), ("_wrong_speaker", True)):
            b = held.batch(which, 240, wrong)
            x0 = torch.randn(b[1].shape).to(device)
            mu, got = losses(ema, readout, b, x0, torch.linspace(0.02, 0.98, len(which), device=device))
            out.update({f"held_{k}{name}": v for k, v in got.items() if not wrong or k in ("fm", "direct")})
            detail = lambda mel: ((nets.mel_postfilter(mel, 1.0, first=0) - mel).abs() * b[2][..., None])[..., DETAIL:].sum()
            for k in (2, 4):
                y = ema.sample(mu, x0, k)
                out[f"held_mel_{k}_steps{name}"] = ((y - b[1]).abs() * b[2][..., None]).sum() / b[2].sum() / nets.N_MEL * 7
                if not wrong:
                    out[f"held_detail_{k}_steps"] = detail(y) / detail(b[1])
        torch.set_rng_state(state)
        return out

    training = stage.Training(a, net, evaluate, device, lambda: dict(readout=readout.state_dict(), size=a.size), [readout])
    for _ in training:
        which = torch.multinomial(data.weights, a.batch, replacement=True).to(device)
        b = data.batch(which, random.choice(REFERENCES), coloured=True)
        with nets.autocast(device):
            _, got = losses(net, readout, b, torch.randn_like(b[1]), torch.rand(a.batch, device=device), NOISE)
        training.step(got["fm"] + 0.5 * got["direct"] + ALIGNMENT_WEIGHT * got["alignment"] + PHONEME_WEIGHT * got["phoneme"], got)


if __name__ == "__main__":
    main()
