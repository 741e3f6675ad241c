"""What the training scripts here share: their arguments, and a loop with a time budget, averaged weights and checkpoints."""
import argparse
import contextlib
import copy
import math
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

import torch
import torch.nn as nn
from tqdm import tqdm

from folder import size_mb
from networks import nets


def arguments(doc, budget):
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True, help="model or voice folder to begin with")
    ap.add_argument("--out", required=True, type=pathlib.Path, help="folder to write")
    ap.add_argument("--budget", type=float, default=budget, metavar="MINUTES", help=f"of training ({budget}); on the CPU the time its threads run, so that a busy machine makes it no shorter")
    ap.add_argument("--lr", type=float, default=3e-4)
    ap.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    ap.add_argument("--threads", type=int, default=1, help="on the CPU")
    ap.add_argument("--seed", type=int, default=0)
    ap.add_argument("--restart", action="store_true", help="forget the checkpoint OUT.pt of an earlier run instead of going on with it")
    gate = ap.add_argument_group("quality gate", "with --gate the folder is written only when scripts/compress/gate.py lets it pass")
    gate.add_argument("--gate", metavar="SONORANT", help="the program that speaks the held-out sentences")
    gate.add_argument("--gate-args", default="", help="further arguments of gate.py, in one string")
    return ap


def begin(a):
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    return torch.device(a.device)


def finish(a, folder, manifest, parts):
    """Writes the folder at --out; with --gate only when it is let pass, otherwise it stays beside as OUT.refused."""
    if not a.gate:
        folder.write(a.out, manifest, parts)
        print(f"{a.out}: {size_mb(a.out):.1f} MB, before {size_mb(folder.home):.1f} MB; not yet through the gate")
        return
    scratch = a.out.with_name(a.out.name + ".refused")
    shutil.rmtree(scratch, ignore_errors=True)
    folder.write(scratch, manifest, parts)
    gate = pathlib.Path(__file__).with_name("gate.py")
    sys.exit(subprocess.call([sys.executable, str(gate), "--sonorant", a.gate, "--baseline", a.model, "--candidate", str(scratch), "--export", str(a.out),
                              *shlex.split(a.gate_args)]))


class Loop:
    """for part in Loop(...): loss = ...; loop.step(loss, name=value)

    `net` is what comes out, `extra` is trained beside it (projections). Weights of `net` are averaged (`loop.ema`). Every minute and
    at the end everything is saved at `path`; a run that finds its checkpoint goes on with it, in time and in steps.
    """

    def __init__(self, path, net, minutes, lr, extra=None, decay=0.995, restart=False, every_s=60, weight_decay=0.0, report=None, threads=1):
        self.path, self.net, self.extra, self.minutes, self.lr, self.decay = str(path), net, extra, minutes, lr, decay
        self.ema, self.every_s, self.report = copy.deepcopy(net).requires_grad_(False).eval(), every_s, report
        self.params = [p for m in (net, extra) if m is not None for p in m.parameters() if p.requires_grad]
        self.opt = torch.optim.AdamW(self.params, lr, betas=(0.9, 0.98), weight_decay=weight_decay)
        self.steps, self.done, self.log = 0, 0.0, {}
        on_cpu = next(net.parameters()).device.type == "cpu"
        self.clock = (lambda: time.process_time() / threads) if on_cpu else time.time
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        if os.path.exists(self.path) and not restart:
            s = torch.load(self.path, map_location="cpu")
            net.load_state_dict(s["net"]), self.ema.load_state_dict(s["ema"]), self.opt.load_state_dict(s["opt"])
            if extra is not None:
                extra.load_state_dict(s["extra"])
            self.steps, self.done = s["steps"], s["minutes"]
            print(f"goes on after {self.steps} steps, {self.done:.1f} minutes", flush=True)

    def save(self):
        nets.save({"net": self.net.state_dict(), "ema": self.ema.state_dict(), "opt": self.opt.state_dict(), "steps": self.steps,
                   "minutes": self.done, "extra": self.extra.state_dict() if self.extra is not None else None}, self.path)

    def __iter__(self):
        began, before, last = self.clock(), self.done, time.time()
        self.net.train()
        bar = tqdm(total=self.minutes, initial=min(self.done, self.minutes), unit="min", bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} min {postfix}",
                   mininterval=1)
        with contextlib.closing(bar):
            while self.done < self.minutes:
                part = self.done / self.minutes
                for g in self.opt.param_groups:
                    g["lr"] = self.lr * min(1, (self.steps + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
                yield part
                self.done = before + (self.clock() - began) / 60
                bar.n = min(self.done, self.minutes)
                bar.set_postfix_str(f"step {self.steps} " + " ".join(f"{k} {v:.4g}" for k, v in self.log.items()))
                if time.time() - last > self.every_s:
                    last = time.time()
                    self.save()
                    if self.report:
                        bar.write(f"step {self.steps} {self.done:.1f} min | held out: {self.report(self.ema)}")
        self.save()
        self.ema.eval()
        if self.report:
            print(f"step {self.steps} {self.done:.1f} min | held out: {self.report(self.ema)}", flush=True)

    def step(self, loss, /, **shown):
        """loss: a tensor, or None when backward() was called piecemeal."""
        if loss is not None:
            loss.backward()
            shown.setdefault("loss", loss.item())
        nn.utils.clip_grad_norm_(self.params, 1.0)
        self.opt.step()
        self.opt.zero_grad(set_to_none=True)
        self.steps += 1
        nets.average(self.ema, self.net, self.decay, self.steps)
        for k, v in shown.items():
            self.log[k] = 0.95 * self.log.get(k, float(v)) + 0.05 * float(v)
