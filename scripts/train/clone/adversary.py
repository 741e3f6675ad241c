"""Discriminators of waveforms for the vocoder: it is judged where it is weakest, in voiced sounds below 3 kHz, so they listen at 8 kHz and are small enough for a CPU.

Periods (Kong et al. 2020, HiFi-GAN, 2.2; of one sample, too) and least squares (Mao et al. 2017). Judges of complex spectrograms had learned nothing after 250 steps, when these had,
and took twice their time.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

SLOPE = 0.1
LOUDER = 8.0                                                                   # speech at the takes' level is at one then, near what layers are made for
RATIO = 3                                                                      # 24 kHz to 8 kHz
PERIODS = (1, 2, 3, 5, 7, 11)


def weighted(layer):
    """Weight normalisation (Salimans & Kingma 2016)."""
    return torch.nn.utils.parametrizations.weight_norm(layer)


def low_pass(ratio=RATIO, width=24):
    """Kaiser-windowed sinc of 2 ratio width + 1 taps: [1, 1, taps]."""
    n = torch.arange(-ratio * width, ratio * width + 1, dtype=torch.float64)
    h = torch.sinc(0.94 * n / ratio) * torch.kaiser_window(len(n), False, 9.0, dtype=torch.float64)
    return (h / h.sum()).float()[None, None]


class Periods(nn.Module):
    """[B, N] -> scores [B, M] and features: strided convolutions along every p-th sample."""

    def __init__(self, period, channels):
        super().__init__()
        self.period = period
        sizes = [1, *channels]
        self.layers = nn.ModuleList(weighted(nn.Conv1d(i, o, 5, 3, padding=2)) for i, o in zip(sizes, sizes[1:]))
        self.last = weighted(nn.Conv1d(sizes[-1], sizes[-1], 3, padding=1))
        self.out = weighted(nn.Conv1d(sizes[-1], 1, 3, padding=1))

    def forward(self, x):
        B, N = x.shape
        n = N // self.period
        x = x[:, : n * self.period].reshape(B, n, self.period).transpose(1, 2).reshape(B * self.period, 1, n)
        features = []
        for layer in (*self.layers, self.last):
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.out(x).reshape(B, -1), features


class Adversary(nn.Module):
    """All of them: waveforms [B, N] of 24 kHz -> a list of (scores, features)."""

    def __init__(self, channels=(32, 64, 128, 128)):
        super().__init__()
        self.register_buffer("filter", low_pass(), persistent=False)
        self.judges = nn.ModuleList(Periods(p, channels) for p in PERIODS)

    def forward(self, x):
        x = F.conv1d(LOUDER * x[:, None], self.filter, stride=RATIO)[:, 0]
        return [j(x) for j in self.judges]


def judge_loss(real, made):
    """Of the judges: real to one, made to none; mean over them."""
    return sum((1 - r).pow(2).mean() + m.pow(2).mean() for (r, _), (m, _) in zip(real, made)) / len(real)


def fooling_loss(made):
    return sum((1 - m).pow(2).mean() for m, _ in made) / len(made)


def feature_loss(real, made):
    """Mean difference of the features, as a share of the real ones' mean size."""
    terms = [(p.detach() - q).abs().mean() / p.detach().abs().mean().clamp(min=1e-3) for (_, r), (_, m) in zip(real, made) for p, q in zip(r, m)]
    return sum(terms) / len(terms)
