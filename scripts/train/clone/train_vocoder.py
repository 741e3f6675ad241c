"""Source-filter iSTFT vocoder over many speakers (nets.Vocoder): log mel -> waveform. Losses: scripts/train/vocoder.py.

    train_vocoder.py --takes DIR ... --unseen DIR --out FILE [--start FILE] [--flow FILE --tokens FILE] [--budget MIN] [--device cpu|cuda]

Takes with waveforms (data/speak.py real). With --adversary discriminators of the waveform judge as well (adversary.py). With --flow half of the mels are what the flow makes of the take's own codes and
noise (2 steps): the vocoder then knows what it will be given. Merit: log-magnitude distance, F0 and voicing error on speakers never heard.
"""
import math
import os
import random
import sys

import numpy as np
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import adversary
import stage
import nets
import vocoder as single
from config import SIZES
from train_flow import tokenize

FRAMES, SKIP = 64, 8


def move_tables(device):
    for name in ("BANK", "F0_GRID", "ENVELOPE", "BAND_LOG", "WINDOW"):
        setattr(nets, name, getattr(nets, name).to(device))


def generated(path, tokens, takes, device, temperature):
    """Log mels of the flow for each take, as float16 numpy."""
    state = torch.load(path, map_location=device)
    net = nets.AcousticModel(SIZES[state.get("size", "base")]["acoustic"]).to(device).eval()
    net.load_state_dict(state["net"])
    codes, _ = tokenize(tokens, takes, device)
    others, out = stage.Others(takes, torch.device("cpu")), []
    with torch.no_grad():
        for i, t in enumerate(takes):
            r = torch.from_numpy(takes[int(others(torch.tensor([i])))]["mel"][:400].astype(np.float32)).to(device)
            ph = torch.from_numpy(t["ph"].astype(np.int64)).to(device)[None]
            c = torch.from_numpy(codes[i].astype(np.int64)).to(device)[None]
            mu = net.features(c, ph, torch.tensor([ph.shape[1]], device=device), net.ref_enc(nets.normalise_mel(r[None])))
            m = nets.denormalise_mel(net.sample(mu, temperature * torch.randn(1, mu.shape[1], nets.N_MEL, device=device), 2))[0]
            m = m[: len(t["mel"])].half().cpu().numpy()
            out.append(m if len(m) == len(t["mel"]) else np.concatenate([m, t["mel"][len(m):]]))
    return out


def main():
    ap = stage.options(__doc__)
    ap.add_argument("--tokens")
    ap.add_argument("--flow")
    ap.add_argument("--flow-temperature", type=float, default=1.0, help="of the noise that it starts from, as the voice will be exported")
    ap.add_argument("--batch", type=int, default=8)
    ap.add_argument("--adversary", type=float, default=0.0, help="weight of what discriminators of the waveform (adversary.py) make of it")
    ap.add_argument("--features", type=float, default=0.5, help="of the discriminators, their weight beside that")
    ap.add_argument("--alone", type=int, default=200, help="steps that discriminators learn before they are listened to")
    ap.add_argument("--adversary-lr", type=float, default=5e-4)
    a = ap.parse_args()
    device = stage.begin(a)
    move_tables(device)
    usable = lambda ts: [t for t in ts if len(t["f0"]) > FRAMES + 2 and "wave" in t]
    takes = usable(stage.load_takes(a.takes, waves=True))
    train = [t for t in takes if not stage.is_held_out(t["id"])]
    held = (usable(stage.load_takes([a.unseen], waves=True)) if a.unseen else [t for t in takes if stage.is_held_out(t["id"])])[:: 1 if a.small else 4][:12]
    print(f"{len(train)} takes, {sum(len(t['wave']) for t in train) / 86.4e6:.2f} hours, {len(held)} held out")
    wave = stage.Flat([t["wave"] for t in train], device, torch.int16)
    f0s = stage.Flat([t["f0"] for t in train], device, torch.float16)
    mels = [stage.Flat([t["mel"] for t in train], device, torch.float16)]
    if a.flow:
        mels.append(stage.Flat(generated(a.flow, a.tokens, train, device, a.flow_temperature), device, torch.float16))
    weights = f0s.size.float() / f0s.size.sum()
    net = nets.Vocoder().to(device)
    if a.start:
        stage.adopt(net, a.start, device)
    inner = slice(SKIP * nets.HOP, (FRAMES - 3) * nets.HOP)

    def evaluate(ema):
        cents, vuv, mrs = [0.0], [], []
        for t in held:
            m = torch.from_numpy(t["mel"].astype(np.float32)).to(device)[None]
            f = ema.predict_f0(m)
            want = torch.from_numpy(t["f0"].astype(np.float32)).to(device)
            both = (f[0] > 0) & (want > 0)
            cents += (1200 * torch.log2(f[0][both] / want[both])).tolist()
            vuv += ((f[0] > 0) != (want > 0)).float().tolist()
            y = ema(m, f, torch.randn(1, m.shape[1] * nets.HOP + 2 * nets.PAD, device=device))
            x = (torch.from_numpy(t["wave"].astype(np.float32)) / 32767).to(device)[None, : y.shape[1]]
            mrs.append(sum((p - q).abs().mean().item() for p, q in zip(single.spectra(y[:, : x.shape[1]])[:3], single.spectra(x)[:3])) / 3)
        return dict(held_log_magnitude=np.mean(mrs), held_f0_cents=np.median(np.abs(cents)), held_voicing=np.mean(vuv))

    judges = optimiser = None
    if a.adversary > 0:
        judges = adversary.Adversary().to(device)
        optimiser = torch.optim.AdamW(judges.parameters(), a.adversary_lr, betas=(0.8, 0.99))
    training = stage.Training(a, net, evaluate, device, kept=(judges, optimiser) if judges else (), betas=(0.9, 0.99), warm=100, limit=2.0)
    n = FRAMES * nets.HOP + 2 * nets.PAD
    for part in training:
        which = torch.multinomial(weights, a.batch, replacement=True).to(device)
        start = (torch.rand(a.batch, device=device) * (f0s.size[which] - FRAMES)).long()
        gain = torch.empty(a.batch, 1, device=device).uniform_(-1.0, 0.4)
        x = wave.crop(which, start * nets.HOP, FRAMES * nets.HOP)[0].float() / 32767 * gain.exp()
        f0 = f0s.crop(which, start, FRAMES)[0].float()
        mel = (random.choice(mels).crop(which, start, FRAMES)[0].float() + gain[..., None]).clamp(min=math.log(1e-5))
        two = bool(a.start) or part > 0.6                                      # the energy distance comes last
        noise = lambda: torch.randn(a.batch, n, device=device)
        with nets.autocast(device):
            y = net(mel, f0, noise(), torch.rand(a.batch, 1, device=device).double(), noise() if two else None)
            fl = single.f0_loss(net.f0_logits(mel).float(), f0)
        with torch.no_grad():
            X = single.spectra(x[:, inner])
        if two:
            A, B = single.spectra(y[0][:, inner]), single.spectra(y[1][:, inner])
            loss = single.distance(A, X) / 2 + single.distance(B, X) / 2 - 0.45 * single.distance(A, B, False)
        else:
            A = single.spectra(y[:, inner])
            loss = single.distance(A, X)
        numbers = dict(spectral=loss.detach())
        if judges:
            real, shown = judges(x[:, inner]), (y[0] if two else y)[:, inner]
            told = adversary.judge_loss(real, judges(shown.detach()))
            optimiser.zero_grad(set_to_none=True)
            told.backward()
            optimiser.step()
            numbers["judges"] = told
            if training.count >= a.alone:
                judges.requires_grad_(False)
                made = judges(shown)
                judges.requires_grad_(True)
                fooling, features = adversary.fooling_loss(made), adversary.feature_loss(real, made)
                loss = loss + a.adversary * (fooling + a.features * features)
                numbers.update(fooling=fooling, features=features)
        training.step(loss + 0.2 * fl, dict(numbers, f0=fl, mel=(A[3] - X[3]).abs().mean()))


if __name__ == "__main__":
    main()
