"""Fewer flow steps: a student of the flow matching network of the starter form, v3 or v4 that takes one or two steps.

    distil_flow.py --model FOLDER --pairs FILE --out FOLDER [--steps 1] [--teacher-steps 8] [--objective jump] [--budget M] [--gate SONORANT]

Needs no recordings: the conditioning is computed from the pairs of data.py and the folder's own reference (pairs of many speakers: each
one's own), once, and the teacher is the network as it is. Objectives (scripts/train/fewer_steps.py): `jump`, progressive distillation; `consistency`; `meanflow`. Only the
estimator's weights change, and `acoustic.steps`. v3 and v4 are also told the width of a step, as the engine tells them.
"""
import copy
import random

import torch
import torch.nn.functional as F

import sizes
from data import Pairs
from folder import Folder
from loop import Loop, arguments, begin, finish
from networks import load_acoustic, nets, style_of

import fewer_steps  # scripts/train


class Conditions:
    """Crops of conditioning, with the prompt in front of them where the form has one: mu [B, T, features], prompt [B, T, mel], mask [B, T]."""

    def __init__(self, net, folder, pairs, device, crop, prompt_frames, count, rng):
        self.crop, self.rng, self.device = crop, rng, device
        self.temperature = folder.manifest["acoustic"].get("temperature", 1.0)
        self.prompt, self.prompt_mu = torch.zeros(0, nets.N_MEL), torch.zeros(0, net.c["feature_dim"])
        with torch.no_grad():
            ge = style_of(net, folder)
            if sizes.form_of(folder.manifest) != "starter":
                reference = folder.reference()
                mu = self.features(net, {"tokens": reference["prompt_tokens"], "phonemes": reference["prompt_phonemes"]}, ge)
                n = min(len(mu), len(reference["mel"]))
                first = max(0, n - prompt_frames)
                self.prompt, self.prompt_mu = nets.normalise_mel(reference["mel"].float())[first:n], mu[first:n].float()
            self.train = [self.features(net, u, ge).half() for u in rng.sample(pairs.train, min(count, len(pairs.train)))]
            self.held = [self.features(net, u, ge).half() for u in pairs.held[:12]]

    @staticmethod
    def features(net, u, ge):
        ph = u["phonemes"].long()[None]
        if "reference" in u:                                                   # pairs of many speakers
            ge = net.ref_enc(nets.normalise_mel(u["reference"].float())[None])
        return net.features(u["tokens"].long()[None], ph, torch.tensor([ph.shape[1]]), ge)[0]

    def batch(self, n):
        return self.stack(self.rng.choices(self.train, [len(m) for m in self.train], k=n), lambda m: self.rng.randrange(0, max(1, len(m) - self.crop + 1)))

    def held_batch(self):
        return self.stack(self.held, lambda m: 0)

    def stack(self, some, first):
        p, mu, mask = len(self.prompt), [], []
        for m in some:
            k = first(m)
            m = m[k: k + self.crop].float()
            mask.append(F.pad(torch.ones(len(m)), (p, self.crop - len(m))))
            mu.append(torch.cat([self.prompt_mu, F.pad(m, (0, 0, 0, self.crop - len(m)))]))
        prompt = F.pad(self.prompt, (0, 0, 0, self.crop)).expand(len(some), -1, -1)
        return tuple(z.to(self.device) for z in (torch.stack(mu), prompt, torch.stack(mask)))


def velocity(model, mu, prompt, device):
    """Of a network at a batch of conditions, as fewer_steps.py wants it; the prompt's frames stay at 0 (acoustic.cfm)."""
    made = (prompt.abs().sum(-1, keepdim=True) == 0).float()
    wide = lambda z, x: torch.as_tensor(z, dtype=torch.float32, device=x.device).expand(len(x))

    def of(x, t, width):
        with nets.autocast(device):
            if getattr(model, "takes_width", False):
                return made * model(x, mu, wide(t, x), wide(width, x), prompt).float()
            return model(x, mu, wide(t, x)).float()
    return of


def objective(name, student, ema, teacher, conditions, batch, a, backward=None):
    """The loss, or with `backward` what jump() went backward from already."""
    mu, prompt, mask = conditions
    v = lambda m: velocity(m, mu, prompt, mu.device)
    x = torch.randn(len(mu), mu.shape[1], nets.N_MEL, generator=batch).to(mu.device) * (prompt.abs().sum(-1, keepdim=True) == 0)
    if a.softest < 1:
        x = x * (a.softest + (1 - a.softest) * torch.rand(len(mu), 1, 1, generator=batch).to(mu.device))
    small = a.teacher_steps // a.steps
    if name == "jump":
        return fewer_steps.jump(v(student), v(teacher), x, mask, a.steps, small, backward)
    if name == "consistency":
        return fewer_steps.consistency(v(student), v(ema), v(teacher), x, mask, a.steps, small)
    return fewer_steps.mean_flow(v(student), v(teacher), x, mask, a.steps, small)


def train(student, teacher, conditions, a, path):
    """-> averaged student. What is reported is always the mean square of what the student's own steps miss of the teacher's."""
    if a.softest is None:
        a.softest = min(0.6, 0.8 * conditions.temperature)
    held, noise = conditions.held_batch(), torch.Generator().manual_seed(a.seed)

    @torch.no_grad()
    def report(model):
        return f"{objective('jump', model, None, teacher, held, torch.Generator().manual_seed(0), a):.6f}"

    loop = Loop(path, student, a.budget, a.lr, restart=a.restart, report=report, threads=a.threads)
    print(f"held out before: {report(loop.ema)}", flush=True)
    for _ in loop:
        c = conditions.batch(a.batch)
        if a.objective == "jump":
            loop.step(None, loss=objective("jump", student, loop.ema, teacher, c, noise, a, lambda loss: (loss * 10).backward()))
        else:
            loop.step(objective(a.objective, student, loop.ema, teacher, c, noise, a))
    return loop.ema


def add_arguments(ap):
    ap.add_argument("--pairs", required=True)
    ap.add_argument("--batch", type=int, default=10)
    ap.add_argument("--crop", type=int, default=240, help="mel frames")
    ap.add_argument("--prompt-frames", type=int, default=100, help="v3, v4: of the reference, in training")
    ap.add_argument("--utterances", type=int, default=600, help="how many of the pairs are used")
    ap.add_argument("--softest", type=float, help="the noise started from is scaled by this up to 1 (0.6, or a fifth less than the voice's own temperature where that is less)")


def main():
    ap = arguments(__doc__, 20)
    add_arguments(ap)
    ap.add_argument("--steps", type=int, default=1)
    ap.add_argument("--teacher-steps", type=int, default=8, help="a multiple of --steps")
    ap.add_argument("--objective", choices=("jump", "consistency", "meanflow"), default="jump")
    ap.add_argument("--begin", help="checkpoint of scripts/train/distil.py whose estimator the student begins with")
    a = ap.parse_args()
    if a.teacher_steps % a.steps:
        ap.error("--teacher-steps is no multiple of --steps")
    device = begin(a)
    folder = Folder(a.model)
    net, s = load_acoustic(folder)
    net.requires_grad_(False)
    print(f"conditioning of {a.utterances} utterances", flush=True)
    conditions = Conditions(net, folder, Pairs(a.pairs, device), device, a.crop, a.prompt_frames, a.utterances, random.Random(a.seed))
    teacher = net.cfm.estimator.to(device)
    student = copy.deepcopy(teacher).requires_grad_(True)
    if a.begin:
        state = torch.load(a.begin, map_location="cpu")["net"]
        student.load_state_dict({k.removeprefix("cfm.estimator."): v for k, v in state.items() if k.startswith("cfm.estimator.")})
    student = train(student, teacher, conditions, a, f"{a.out}.pt")
    state = {**folder.state("acoustic"), **{"cfm.estimator." + k: v.cpu() for k, v in student.state_dict().items()}}
    manifest = dict(folder.manifest, acoustic={**folder.manifest["acoustic"], "steps": a.steps})
    finish(a, folder, manifest, {"acoustic": state})


if __name__ == "__main__":
    main()
