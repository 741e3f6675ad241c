"""Fewer flow steps: the estimator learns to jump as far as several of its own steps go (progressive distillation).

    distil.py --features DIR --tokens FILE --flow FILE --out FILE [--again FILE] [--steps 2] [--teacher-steps 4] [--minutes M] [--resume]

From x at time t the teacher, the network as it was, goes to t + 1/steps in small Euler steps; the student has to get there in one
(fewer_steps.py). Nothing but the estimator's weights changes, so the result runs wherever the teacher did, with `--steps` uniform Euler steps. The conditioning is computed once. The noise is
scaled at random, so that a voice may choose how much of it to start from.
"""
import argparse
import copy
import math
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import fewer_steps
import nets
from flow import average_speaker
from symbols import ids_of
from t2s import tokenize
from tokenizer import is_held_out, load_features

CROP = 240           # mel frames


def conditioned(net, speaker, data, ids):
    """Conditioning of whole utterances, float16."""
    out = []
    with torch.no_grad(), nets.autocast():
        for u, codes in zip(data, ids):
            ph = torch.tensor([ids_of(u["ph"])])
            out.append(net.features(codes[None], ph, torch.tensor([ph.shape[1]]), speaker)[0].half())
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--features", required=True)
    ap.add_argument("--tokens", required=True)
    ap.add_argument("--flow", required=True, help="checkpoint of flow.py")
    ap.add_argument("--again", help="file of `pseudo.py again`")
    ap.add_argument("--out", required=True)
    ap.add_argument("--steps", type=int, default=2)
    ap.add_argument("--teacher-steps", type=int, default=4, help="a multiple of --steps")
    ap.add_argument("--utterances", type=int, default=1000, help="how many of the training ones are used")
    ap.add_argument("--softest", type=float, default=0.6, help="the noise started from is scaled by this up to 1")
    ap.add_argument("--minutes", type=float, default=25)
    ap.add_argument("--lr", type=float, default=3e-4)
    ap.add_argument("--batch", type=int, default=10)
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    if a.teacher_steps % a.steps:
        ap.error("--teacher-steps is no multiple of --steps")
    torch.set_num_threads(a.threads)
    torch.manual_seed(0), np.random.seed(0)
    rng = random.Random(0)
    data = load_features(a.features)
    net = nets.AcousticModel(nets.STARTER["acoustic"])
    state = torch.load(a.flow)
    net.load_state_dict(state["net"])
    net.eval().requires_grad_(False)
    speaker = average_speaker(net, data)
    train, held = [u for u in data if not is_held_out(u)], [u for u in data if is_held_out(u) and len(u["mel"]) > 90][:16]
    some = rng.sample(train, min(len(train), a.utterances))
    if a.again:                                                                # half of them with the other kind of tokens
        mel50 = torch.load(a.again, weights_only=False)
        some[::2] = [dict(u, mel50=mel50.get(u["id"], u["mel50"])) for u in some[::2]]
    mu = conditioned(net, speaker, some, tokenize(a.tokens, some))
    weights = np.array([len(m) for m in mu], float)
    weights /= weights.sum()
    teacher = net.cfm.estimator
    student = copy.deepcopy(teacher).requires_grad_(True)
    if a.resume:
        student.load_state_dict({k.removeprefix("cfm.estimator."): v for k, v in torch.load(a.out)["net"].items() if k.startswith("cfm.estimator.")})
    ema = copy.deepcopy(student)
    opt = torch.optim.AdamW(student.parameters(), a.lr, betas=(0.9, 0.98), weight_decay=0.0)
    small = a.teacher_steps // a.steps

    def crop(m):
        k = rng.randrange(0, max(1, len(m) - CROP + 1))
        m = m[k: k + CROP].float()
        return F.pad(m, (0, 0, 0, CROP - len(m))), torch.arange(CROP) < len(m)

    def velocity(model, c):
        def of(x, t, width):
            with nets.autocast():
                return model(x, c, torch.full((len(x),), t)).float()
        return of

    def loss_of(model, x, c, ok, backward=False):
        """Over the student's own trajectory from x; the mean square of what its jumps miss."""
        return fewer_steps.jump(velocity(model, c), velocity(teacher, c), x, ok, a.steps, small, (lambda loss: (loss * 10).backward()) if backward else None)

    hmu = [F.pad(m[:CROP].float(), (0, 0, 0, max(0, CROP - len(m)))) for m in conditioned(net, speaker, held, tokenize(a.tokens, held))]
    hb = (torch.randn(len(held), CROP, nets.N_MEL, generator=torch.Generator().manual_seed(0)), torch.stack(hmu),
          torch.stack([torch.arange(CROP) < len(u["mel"]) for u in held]).float())

    def save():
        nets.save(dict(state, net={**net.state_dict(), **{"cfm.estimator." + k: v for k, v in ema.state_dict().items()}}), a.out)

    def report():
        with torch.no_grad():
            return loss_of(ema, *hb)

    print(f"{len(mu)} utterances | held out before: {report():.5f}", flush=True)
    t0, step, log, last = time.time(), 0, None, time.time()
    while (part := (time.time() - t0) / 60 / a.minutes) < 1:
        for g in opt.param_groups:
            g["lr"] = a.lr * min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        c, ok = map(torch.stack, zip(*(crop(mu[j]) for j in np.random.choice(len(mu), a.batch, p=weights))))
        opt.zero_grad()
        noise = torch.randn(a.batch, CROP, nets.N_MEL) * torch.empty(a.batch, 1, 1).uniform_(a.softest, 1)
        loss = loss_of(student, noise, c, ok.float(), backward=True)
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        opt.step()
        step += 1
        nets.average(ema, student, 0.995, step)
        log = loss if log is None else 0.98 * log + 0.02 * loss
        if time.time() - last > 60:
            last = time.time()
            save()
            print(f"step {step} {(time.time() - t0) / 60:.1f} min loss {log:.5f} | held out: {report():.5f}", flush=True)
    save()


if __name__ == "__main__":
    main()
