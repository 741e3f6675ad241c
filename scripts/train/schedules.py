"""How many steps flow matching needs: solvers, step counts and time grids on the same tokens and the same noise.

    schedules.py --t2s F --flow F --vocoder F --features DIR --phonemes FILE --out DIR [--count N] [--speak euler-2 heun-2-cosine ...]

FILE is the one synthesize.py takes. Prints, for every solver, the network evaluations and the mean absolute difference of the log mel
to that of 64 Euler steps; the sentences are spoken with the schedules named by --speak (`SOLVER-STEPS[-GRID[-SCALE OF THE NOISE]]`, each
into a folder of its own), to be scored by scripts/eval/run.py. With --only-speak nothing else is done. Grids: `uniform`, and `cosine`,
t = 1 - cos(pi i / 2n), whose first steps are the small ones.
"""
import argparse
import math
import os

import numpy as np
import soundfile as sf
import torch

import nets
from flow import average_speaker
from symbols import ids_of
from synthesize import generate
from tokenizer import load_features

EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2}
GRIDS = {"uniform": lambda u: u, "cosine": lambda u: 1 - math.cos(math.pi * u / 2)}


@torch.no_grad()
def solve(estimator, mu, x, solver, steps, grid="uniform", scale=1.0):
    x = scale * x
    v = lambda z, t: estimator(z, mu, torch.full((z.shape[0],), t))
    for i in range(steps):
        t, u = GRIDS[grid](i / steps), GRIDS[grid]((i + 1) / steps)
        k = v(x, t)
        if solver == "midpoint":
            k = v(x + (u - t) / 2 * k, (t + u) / 2)
        elif solver == "heun":
            k = (k + v(x + (u - t) * k, u)) / 2
        x = x + (u - t) * k
    return x


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--t2s", required=True)
    ap.add_argument("--flow", required=True)
    ap.add_argument("--vocoder", required=True)
    ap.add_argument("--features", required=True)
    ap.add_argument("--phonemes", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--count", type=int, default=16)
    ap.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    ap.add_argument("--speak", nargs="*", default=[])
    ap.add_argument("--only-speak", action="store_true")
    a = ap.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    lines = [l.split("\t")[-1].split() for l in open(a.phonemes, encoding="utf8")]
    lines = [ids_of(l) for l in lines[: a.count]]
    if not os.path.exists(f"{a.out}/tokens.pt"):
        t2s = nets.TextToSemantic()
        t2s.load_state_dict(torch.load(a.t2s))
        t2s.eval()
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            nets.save([generate(t2s, ph, 5, 0.6, generator=g) for ph in lines], f"{a.out}/tokens.pt")
    tokens = torch.load(f"{a.out}/tokens.pt")[: len(lines)]
    net = nets.AcousticModel(nets.STARTER["acoustic"])
    net.load_state_dict(torch.load(a.flow)["net"])
    net.eval()
    voc = nets.Vocoder()
    voc.load_state_dict(torch.load(a.vocoder))
    ge = average_speaker(net, load_features(a.features, 2))
    seeded = lambda seed, *shape: torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    jobs = []
    with torch.no_grad():
        for i, (ph, t) in enumerate(zip(lines, tokens)):
            mu = net.features(t[None], torch.tensor(ph)[None], torch.tensor([len(ph)]), ge)
            jobs.append((mu, seeded(i, 1, mu.shape[1], nets.N_MEL)))
    run = lambda *schedule: [solve(net.cfm.estimator, mu, x, *schedule) for mu, x in jobs]
    if not a.only_speak:
        best = run("euler", 64)
        for solver, cost in EVALUATIONS.items():
            for grid in GRIDS:
                row = []
                for n in a.steps:
                    got = run(solver, n, grid)
                    row.append(np.mean([(p - q).abs().mean().item() * (nets.MEL_MAX - nets.MEL_MIN) / 2 for p, q in zip(got, best)]))
                print(f"{solver} {grid}: " + ", ".join(f"{n} steps ({n * cost} evaluations) {d:.3f}" for n, d in zip(a.steps, row)), flush=True)
    for name in a.speak:
        solver, n, *rest = name.split("-")
        os.makedirs(f"{a.out}/{name}", exist_ok=True)
        for i, x in enumerate(run(solver, int(n), *rest[:1], *map(float, rest[1:]))):
            with torch.no_grad():
                mel = nets.denormalise_mel(x)
                y = voc(mel, voc.predict_f0(mel), seeded(1000 + i, 1, mel.shape[1] * nets.HOP + 2 * nets.PAD))
            sf.write(f"{a.out}/{name}/{i:03d}.wav", y[0].clamp(-1, 1).numpy(), nets.RATE_HZ)


if __name__ == "__main__":
    main()
