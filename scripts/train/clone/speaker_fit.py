"""Offsets that a speaker's recording teaches the encoders and the flow: models/fit_speaker.h once more, which it is checked against (golden.py) and tried out with."""
import math
import os
import sys

import torch

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

import nets
from noise import gaussian

ROUNDS, RATE, CROP = 20, 0.03, 128
HEAD, TAIL, GOLDEN_RATIO, MOST = 24, 16, 0.6180339887498949, 2.0
BETAS = 0.9, 0.99


def nothing_fitted(net):
    c = net.c
    e = c["estimator"]
    return dict(style=torch.zeros(c["mrte_dim"]), conditioning=torch.zeros(c["wns_layers"], 2 * c["feature_dim"]),
                norms=torch.zeros(e["layers"], 3 * e["dim"]), out_norm=torch.zeros(2 * e["dim"]))


def crop_start(n, frames, crop):
    place = n * GOLDEN_RATIO
    return int((place - math.floor(place)) * ((frames - crop) // 8 + 1)) * 8


class Recording:
    """A take and its codes, with what the crops of it are made of. mel: log mel [frames, 100]; ge: what the reference encoder hears in the reference."""

    def __init__(self, net, codes, phonemes, mel, ge):
        self.net, self.ge = net, ge
        self.mel = nets.normalise_mel(mel)
        enc = net.enc_p
        with torch.no_grad():
            e = net.quantizer.vq.layers[0]._codebook.embed[codes[None]].repeat_interleave(2, 1)
            text = enc.encoder_text(enc.text_embedding(phonemes[None]), None)
            m = enc.mrte
            c = m.c_pre(enc.encoder_ssl(enc.ssl_proj(e)))
            self.mixed = m.cross_attention(c, m.text_pre(text), None) + c
        self.frames = min(self.mixed.shape[1], int(len(mel) / 1.875))
        self.mixed = self.mixed[:, : self.frames]

    def distance(self, first, count, fit, steps, temperature, seed):
        net = self.net
        ge = self.ge[None] + fit["style"]
        y = net.enc_p.encoder2(net.enc_p.mrte.c_post(self.mixed[:, first: first + count] + ge[:, None]))
        y = torch.nn.functional.leaky_relu(net.bridge[0](y), 0.01)
        y = y[:, nets.feature_frames(count * 15 // 8, y.device)]
        mu = net.wns1(y, ge, fit["conditioning"].flatten())
        noise = temperature * gaussian(seed, 1, 0, mu.shape[1] * nets.N_MEL).view(1, -1, nets.N_MEL)
        made = net.sample(mu, noise, steps, fit)[0]
        head, tail = HEAD if first else 0, TAIL if first + count < self.frames else 0
        made = made[head: len(made) - tail]
        at = first // 8 * 15 + head
        return (made - self.mel[at: at + len(made)]).abs().mean()


def fit(recordings, steps, temperature, rounds=ROUNDS, rate=RATE, crop=CROP):
    """{name: offset} of a speaker: of one Recording, or of several that take turns. Parameters of the network get no gradient."""
    net = recordings[0].net
    for p in net.parameters():
        p.requires_grad_(False)
    out = {k: v.requires_grad_() for k, v in nothing_fitted(net).items()}
    adam = torch.optim.Adam(list(out.values()), lr=rate, betas=BETAS)
    for n in range(rounds):
        r = recordings[n % len(recordings)]
        length = min(crop, r.frames)
        adam.param_groups[0]["lr"] = rate * (0.5 + 0.5 * math.cos(math.pi * n / rounds))
        adam.zero_grad(set_to_none=True)
        r.distance(crop_start(n, r.frames, length), length, out, steps, temperature, n + 1).backward()
        adam.step()
    return {k: v.detach().clamp(-MOST, MOST) for k, v in out.items()}
