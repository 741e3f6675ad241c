"""Golden tensors of what the cloning voice has beside the networks of nets.py, for tests/models: starter_tokenizer.safetensors (a small one with random
weights, a mel, its tokens and its level), mel_shift.safetensors (two mels, what has to be added to one), mel_postfilter.safetensors (a mel before and after it) and
fit_speaker.safetensors (a recording in the networks of acoustic.safetensors, and its fit).

    clone/golden.py [--out DIR]
"""
import argparse
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__))]

import stage  # noqa: F401  (the path of the other scripts)
import mel_shift
import nets
import speaker_fit
from prep import log_mel50
from speak import level_of
from tiny import CONFIG
from train_tokenizer import CloneTokenizer


def write(tensors, path):
    save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    print(f"{path}: {path.stat().st_size} bytes")


def matching(path):
    torch.manual_seed(4)
    loudness = torch.sin(torch.arange(64) / 5)[:, None] * 2
    made = -5 + loudness + torch.randn(64, 12)
    recorded = made * torch.linspace(0.7, 1.6, 12) + torch.randn(64, 12) * 0.2 + 0.4
    write(dict(recorded=recorded, made=made, shift=mel_shift.between(recorded, made)), path)


def postfiltered(path):
    torch.manual_seed(5)
    mel = -5 + torch.randn(5, nets.N_MEL)
    write(dict(mel=mel, postfiltered=nets.mel_postfilter(mel, 0.5)), path)


def fitted(path):
    """The recording is what the networks make of a speaker that the fit is not told."""
    net = nets.AcousticModel(CONFIG["acoustic"]).eval()
    net.load_state_dict({k[9:]: v.float() for k, v in load_file(path.parent / "acoustic.safetensors").items() if k.startswith("acoustic.")})
    torch.manual_seed(6)
    codes, phonemes = torch.randint(16, (80,)), torch.randint(40, (30,))
    ge, other = torch.randn(2, 32) * 0.3
    with torch.no_grad():
        mu = net.features(codes[None], phonemes[None], None, other[None])
        mel = nets.denormalise_mel(net.sample(mu, torch.zeros(1, mu.shape[1], nets.N_MEL), 3))[0]
    recording = speaker_fit.Recording(net, codes, phonemes, mel, ge)
    fit = speaker_fit.fit([recording], 3, 1.0, rounds=4)
    distance = lambda f: recording.distance(0, recording.frames, f, 3, 1.0, 0).detach()
    write(dict(codes=codes.int(), phonemes=phonemes.int(), ge=ge, mel=mel, distances=torch.stack([distance(speaker_fit.nothing_fitted(net)), distance(fit)]),
               **{f"fit.{k}": v for k, v in fit.items()}), path)


@torch.no_grad()
def main():
    root = Path(__file__).resolve().parents[3]
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--out", type=Path, default=root / "tests/data/golden")
    a = ap.parse_args()
    matching(a.out / "mel_shift.safetensors")
    postfiltered(a.out / "mel_postfilter.safetensors")
    with torch.enable_grad():
        fitted(a.out / "fit_speaker.safetensors")
    torch.manual_seed(3)
    net = CloneTokenizer(dim=32, codes=48, code_dim=8).eval()
    net.embed.copy_(torch.randn_like(net.embed) * 0.3)
    for p in list(net.parameters()) + [net.embed]:
        p.copy_(p.half().float())
    t = torch.arange(28800) / 24000
    f = 140 + 30 * torch.sin(2 * torch.pi * 1.5 * t)
    wave = sum(torch.sin(2 * torch.pi * k * torch.cumsum(f, 0) / 24000) / k for k in range(1, 20)) * (0.05 + 0.05 * torch.sin(2 * torch.pi * 3 * t)) + 0.003 * torch.randn(len(t))
    wave = wave.half().float()
    mel = log_mel50(wave[: len(wave) // 960 * 960])
    z = net.encode(mel[None])[0]
    d = torch.cdist(z, net.embed).sort(-1).values
    keep = (d[:, 1] - d[:, 0]) > 1e-3                         # rounding decides nothing
    out = {k: v.half() for k, v in net.state_dict().items() if k.split(".")[0] in ("inp", "enc1", "down", "enc2", "to_code")}
    out["quantizer.vq.layers.0._codebook.embed"] = net.embed.half()
    out.update(wave=wave.half(), mel=mel[:6].clone(), tokens=torch.where(keep, net.nearest(z), -1).int(),
               level=torch.tensor([level_of(nets.log_mel(wave[None])[0].T)]))
    print(f"{int(keep.sum())} of {len(keep)} tokens are clear")
    write(out, a.out / "starter_tokenizer.safetensors")


if __name__ == "__main__":
    main()
