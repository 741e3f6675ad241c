#!/usr/bin/env python3
"""Writes tests/data/golden/acoustic.safetensors: tiny networks of nets.py with random weights, inputs and outputs.

The C++ networks must reproduce the outputs (tests/models/acoustic_test.cpp). Weights are stored in half precision and
rounded to it before anything is computed. Usage: golden.py [--out FILE]
"""
import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

import nets
from noise import gaussian
from tiny import CONFIG

STEPS, SEED, TOKENS = 3, 20240611, 21


def randomise(model, seed):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in list(model.named_parameters()) + list(model.named_buffers()):
            r = torch.randn(p.shape, generator=g)
            if p.dim() >= 2:
                p.copy_(r / math.sqrt(p[0].numel()) if "_codebook" not in name else r)
            elif name.endswith("weight") or name.endswith("gamma"):
                p.copy_(1 + 0.1 * r)
            else:
                p.copy_(0.1 * r)
            p.copy_(p.half().float())
    return model.eval()


def ambiguous(vocoder, mel, f0):
    """True if float rounding could flip a decision of the F0 head or of the pulse train's harmonic count."""
    o = vocoder.f0_logits(mel)[0]
    top = o[:, :nets.F0_BINS].topk(2, -1).values
    held = nets.frames_to_samples(nets.hold_f0(f0), -nets.PAD, mel.shape[1] * nets.HOP + 2 * nets.PAD)
    k = nets.RATE_HZ / 2 / held.double()
    return bool((o[:, -1].abs().min() < 1e-3) | ((top[:, 0] - top[:, 1]).min() < 1e-3) | ((k - k.round()).abs().min() < 2e-5))


@torch.no_grad()
def make(seed):
    acoustic = randomise(nets.AcousticModel(CONFIG["acoustic"]), seed)
    vocoder = randomise(nets.Vocoder(**{k: v for k, v in CONFIG["vocoder"].items() if k != "type"}), seed + 1)
    with torch.no_grad():                                     # as in training: start near the mel's envelope
        vocoder.f0_out.weight.mul_(3)
        vocoder.f0_out.weight.copy_(vocoder.f0_out.weight.half().float())
    g = torch.Generator().manual_seed(seed + 2)
    codes = torch.randint(0, CONFIG["acoustic"]["codes"], (1, TOKENS), generator=g)
    phonemes = torch.randint(0, CONFIG["acoustic"]["phonemes"], (1, 9), generator=g)
    reference = torch.randn(1, 37, 100, generator=g) * 2 - 5
    ge = acoustic.ref_enc(nets.normalise_mel(reference))
    mu = acoustic.features(codes, phonemes, None, ge)
    frames = mu.shape[1]
    flow_noise = gaussian(SEED, 1, 0, frames * nets.N_MEL).view(1, frames, nets.N_MEL)
    mel = acoustic.sample(mu, flow_noise, STEPS)
    log_mel = nets.denormalise_mel(mel)
    f0 = vocoder.predict_f0(log_mel)
    voiced = (f0 > 0).float().mean().item()
    if not 0.2 < voiced < 0.9 or ambiguous(vocoder, log_mel, f0):
        return None
    noise = gaussian(SEED, 2, -nets.PAD, frames * nets.HOP + 2 * nets.PAD)[None]
    wave = vocoder(log_mel, f0, noise)
    # The same vocoder on a mel of speech-like level: above, the loudest frames hide the others.
    quiet = torch.randn(1, 40, 12, generator=g) @ torch.randn(12, 100, generator=g) * 0.5 - 5
    quiet_f0 = vocoder.predict_f0(quiet)
    if not 0.2 < (quiet_f0 > 0).float().mean() < 0.9 or ambiguous(vocoder, quiet, quiet_f0):
        return None
    quiet_wave = vocoder(quiet, quiet_f0, gaussian(SEED, 2, -nets.PAD, 40 * nets.HOP + 2 * nets.PAD)[None])
    tensors = {"vocoder_mel": quiet[0], "vocoder_f0": quiet_f0[0], "vocoder_wave": quiet_wave[0], "codes": codes[0].int(), "phonemes": phonemes[0].int(), "reference": reference[0], "ge": ge[0], "mu": mu[0],
               "flow_noise": flow_noise[0, :2].clone(), "mel": mel[0], "f0": f0[0], "wave": wave[0]}
    for prefix, model in (("acoustic", acoustic), ("vocoder", vocoder)):
        tensors.update({f"{prefix}.{k}": v.half() for k, v in model.state_dict().items()})
    return {k: v.contiguous() for k, v in tensors.items()}, voiced


def main():
    root = Path(__file__).resolve().parents[2]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=root / "tests/data/golden/acoustic.safetensors")
    out = parser.parse_args().out
    torch.set_num_threads(1)
    for seed in range(100):
        made = make(seed)
        if made is not None:
            tensors, voiced = made
            out.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, out, {"config": json.dumps(CONFIG), "steps": str(STEPS), "seed": str(SEED)})
            peak = tensors["wave"].abs().max().item()
            print(f"{out}: network seed {seed}, {voiced:.0%} voiced, peak {peak:.3g}, {out.stat().st_size} bytes")
            return
    raise SystemExit("no seed gave an unambiguous utterance")


if __name__ == "__main__":
    main()
