"""int8 calibration of a T2S: weights for which the engine's rounding at load loses less.

    calibrate.py --model FOLDER --pairs FILE --out FOLDER [--batches 8] [--alpha 0.5] [--no-equalise] [--no-gptq]

The engine rounds each row of a weight to int8 with the scale of its largest value, and each input row to eight bits (models/kernels_low.h).
Here, over calibration texts:

1. channels between two layers are scaled so that neither the activations nor the weights that read them have outliers: linear1 -> ReLU ->
   linear2 and values -> out_proj, both without a change of the function (Nagel et al. 2019; balance as Xiao et al. 2023, eq. 4),
2. weights are rounded column by column, the rest of a row making up for the error so far (GPTQ, Frantar et al. 2023), on inputs that
   went through the rounded layers before; each row keeps its largest value, so the engine finds the same integers again,
3. biases take up the mean error that is left.

Everything is judged against the float32 network as it was, on held-out pairs: figures as models/t2s_guard.h has them, for the engine's
arithmetic simulated here. Of 1 alone, 2 and 3 alone, and all three the nearest is written, if it is nearer than the weights as they are. With GPTQ the engine's own guard
sees only what rounded activations cost, as its float32 then has the rounded weights: the figures here are those that count.
"""
import argparse
import copy
import json
import pathlib

import torch
import torch.nn.functional as F
from tqdm import tqdm

import sizes
from data import Pairs, targets
from folder import Folder
from loop import arguments, begin, finish
from networks import load_t2s, t2s_state


# ------------------------------------------------------------------------------------------------- the engine's arithmetic
def rounded_weight(w):
    """[out, in] to int8 and back, one scale a row."""
    scale = w.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
    return (w / scale).round().clamp(-127, 127) * scale


def rounded_rows(x, positive=False):
    """Activations [.., in] to eight bits and back, one scale a row."""
    levels = 255 if positive else 127
    scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / levels
    return (x / scale).round().clamp(0 if positive else -levels, levels) * scale


def bf16(x):
    return x.bfloat16().float()


class Linears:
    """The four products of a T2S layer by name: weight, bias, and a way to put something before or instead of them."""

    NAMES = ("in_proj", "out_proj", "linear1", "linear2")

    def __init__(self, layer):
        self.layer = layer

    def parameters(self, name):
        a = self.layer.self_attn
        if name == "in_proj":
            return a.in_proj_weight, a.in_proj_bias
        m = a.out_proj if name == "out_proj" else getattr(self.layer, name)
        return m.weight, m.bias

    def on_input(self, name, change):
        """change(x) -> what the product is given instead. Returns what takes it back."""
        a = self.layer.self_attn
        if name == "in_proj":
            before = a.project
            a.project = lambda x: before(change(x))
            return lambda: setattr(a, "project", before)
        return (a.out_proj if name == "out_proj" else getattr(self.layer, name)).register_forward_pre_hook(lambda _, x: (change(x[0]),)).remove


def as_int8(net, weights=True):
    """A copy that computes as the engine does at int8; weights=False: these are on the grid already."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for layer in net.h["layers"]:
            linears = Linears(layer)
            for name in Linears.NAMES:
                w, _ = linears.parameters(name)
                if weights:
                    w.copy_(rounded_weight(w))
                linears.on_input(name, lambda x, positive=name == "linear2": rounded_rows(x, positive))
            project = layer.self_attn.project

            def keys_and_values(x, project=project):                          # the cache is bf16
                q, k, v = project(x).chunk(3, -1)
                return torch.cat([q, bf16(k), bf16(v)], -1)
            layer.self_attn.project = keys_and_values
        net.ar_predict_layer.weight.copy_(bf16(net.ar_predict_layer.weight))
        net.ar_predict_layer.register_forward_pre_hook(lambda _, x: (bf16(x[0]),))
    return net


@torch.no_grad()
def answers(net, batches):
    """Logits of the rows that count, of all batches together."""
    out = []
    for b in batches:
        logits = net(b["phonemes"], b["n_phonemes"], b["tokens"], bert=b["bert"])[0].float()
        out.append(logits[targets(b, net.eos) >= 0])
    return torch.cat(out)


def drift(full, low):
    """As models/t2s_guard.h tells it: logits without their mean."""
    a, b = full - full.mean(-1, keepdim=True), low - low.mean(-1, keepdim=True)
    deviation = a.pow(2).mean(-1).sqrt()
    p = F.log_softmax(full, -1)
    best, got = full.argmax(-1, keepdim=True), low.argmax(-1, keepdim=True)
    return {"cosine": F.cosine_similarity(a, b, -1).min().item(), "largest": ((a - b).abs().amax(-1) / deviation).max().item(),
            "divergence": F.kl_div(F.log_softmax(low, -1), p, log_target=True, reduction="batchmean").item(),
            "mean_cosine": F.cosine_similarity(a, b, -1).mean().item(), "same_best": (best == got).float().mean().item(),
            "as_probable": (p.gather(1, got) >= p.gather(1, best) + torch.log(torch.tensor(0.75))).float().mean().item()}


# ------------------------------------------------------------------------------------------------------------ equalising
class Seen(Exception):
    """Ends a pass whose later layers nobody needs."""


@torch.no_grad()
def inputs_of(net, batches, layer, names):
    """What enters the named products of one layer: name -> [rows, in], padding left out."""
    got, linears, rows = {name: [] for name in names}, Linears(net.h["layers"][layer]), None

    def keep(name):
        def see(x):
            got[name].append(x[rows].float())
            if name == names[-1]:
                raise Seen
            return x
        return see

    undo = [linears.on_input(name, keep(name)) for name in names]
    for b in batches:
        T, n = b["phonemes"].shape[1], b["phonemes"].shape[1] + b["tokens"].shape[1]
        at = torch.arange(n, device=net.pe.device)[None]
        rows = torch.where(at < T, at < b["n_phonemes"][:, None], at - T < b["n_tokens"][:, None])
        try:
            net(b["phonemes"], b["n_phonemes"], b["tokens"], bert=b["bert"])
        except Seen:
            pass
    for back in undo:
        back()
    return {name: torch.cat(rows) for name, rows in got.items()}


def balance(activations, weight, alpha):
    """Factor of each channel, by which activations are divided and the weight's columns multiplied (Xiao et al. 2023, eq. 4).

    A channel that the calibration texts hardly woke counts as one of a tenth of the mean: other texts may wake it.
    """
    a, w = (z.abs().amax(0) for z in (activations, weight))
    a, w = a.clamp(min=float(0.1 * a.mean()) + 1e-9), w.clamp(min=float(0.1 * w.mean()) + 1e-9)
    factor = a ** alpha / w ** (1 - alpha)
    return (factor / factor.log().mean().exp()).clamp(1 / 4, 4)


@torch.no_grad()
def equalise(net, batches, alpha):
    """In place; the function stays what it is."""
    for i, layer in enumerate(tqdm(net.h["layers"], desc="equalised", unit="layer")):
        linears = Linears(layer)
        x = inputs_of(net, batches, i, ("out_proj", "linear2"))
        w, _ = linears.parameters("out_proj")
        factor = balance(x["out_proj"], w, alpha)
        values, bias = linears.parameters("in_proj")
        a = w.shape[1]
        values[2 * a:] /= factor[:, None]
        bias[2 * a:] /= factor
        w *= factor
        w, _ = linears.parameters("linear2")
        factor = balance(x["linear2"], w, alpha)
        into, bias = linears.parameters("linear1")
        into /= factor[:, None]
        bias /= factor
        w *= factor


# ------------------------------------------------------------------------------------------------------------------ GPTQ
def gptq(w, x, damp=0.01):
    """Weight [out, in] on the int8 grid of its rows, for inputs x [rows, in]. Each row keeps a value at +-127, which is its scale."""
    w = w.double().clone()
    h = x.double().T @ x.double() / len(x)
    h.diagonal().add_(damp * h.diagonal().mean() + 1e-12)
    largest = w.abs().argmax(1, keepdim=True)
    scale = (w.gather(1, largest).abs() / 127).clamp(min=1e-30)
    pinned = w.gather(1, largest).sign() * 127
    q = torch.zeros_like(w)
    order = torch.argsort(h.diagonal(), descending=True)
    upper = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h[order][:, order])), upper=True)
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device)
    w, pin_at = w[:, order], position[largest[:, 0]]
    for start in range(0, w.shape[1], 128):
        end = min(start + 128, w.shape[1])
        errors = torch.zeros(w.shape[0], end - start, dtype=w.dtype, device=w.device)
        for j in range(start, end):
            value = (w[:, j: j + 1] / scale).round().clamp(-127, 127)
            value = torch.where((pin_at == j)[:, None], pinned, value)
            q[:, j: j + 1] = value
            error = (w[:, j] - (value * scale)[:, 0]) / upper[j, j]
            w[:, j + 1: end] -= error[:, None] * upper[j, j + 1: end]
            errors[:, j - start] = error
        w[:, end:] -= errors @ upper[start:end, end:]
    back = torch.empty_like(q)
    back[:, order] = q
    return (back * scale).float()


@torch.no_grad()
def calibrate(net, whole, batches):
    """Weights on the grid and biases corrected, layer by layer, in place. whole: the network that is imitated."""
    names, low = Linears.NAMES, as_int8(net, weights=False)
    for i, layer in enumerate(tqdm(net.h["layers"], desc="rounded", unit="layer")):
        wanted, original = inputs_of(whole, batches, i, names), Linears(whole.h["layers"][i])
        for k, name in enumerate(names):
            x = rounded_rows(inputs_of(low, batches, i, names[: k + 1])[name], name == "linear2")
            w, bias = Linears(layer).parameters(name)
            goal = F.linear(wanted[name], *original.parameters(name))
            w.copy_(gptq(w, x).half().float())
            bias += (goal - F.linear(x, w, bias)).mean(0)
            bias.copy_(bias.half().float())
            for to, value in zip(Linears(low.h["layers"][i]).parameters(name), (w, bias)):
                to.copy_(value)


def told(name, d):
    return (f"| {name} | {d['mean_cosine']:.5f} | {d['cosine']:.5f} | {d['largest']:.3f} | {d['divergence']:.5f} | {100 * d['same_best']:.1f} % | "
            f"{100 * d['as_probable']:.1f} % |")


def main():
    ap = arguments(__doc__, 0)
    ap.add_argument("--pairs", required=True)
    ap.add_argument("--batches", type=int, default=8, help="calibration batches")
    ap.add_argument("--positions", type=int, default=1600, help="phonemes and tokens in a batch")
    ap.add_argument("--alpha", type=float, default=0.5, help="how much of the outliers goes from activations into weights")
    ap.add_argument("--no-equalise", action="store_true")
    ap.add_argument("--no-gptq", action="store_true")
    ap.add_argument("--figures", type=pathlib.Path, help="JSON file for them")
    a = ap.parse_args()
    if a.no_equalise and a.no_gptq:
        ap.error("nothing is left to do")
    device = begin(a)
    folder, pairs = Folder(a.model), Pairs(a.pairs, device, a.seed)
    whole, _ = load_t2s(folder)
    whole.to(device).requires_grad_(False)
    it = pairs.batches(a.positions)
    batches, held = [next(it) for _ in range(a.batches)], pairs.held_batches(a.positions)
    want = answers(whole, held)
    figures, made = {"int8 as it is": drift(want, answers(as_int8(whole), held))}, {}
    for name, equal, rounded in (("rounded by GPTQ", False, True), ("equalised", True, False), ("equalised and rounded by GPTQ", True, True)):
        if (equal and a.no_equalise) or (rounded and a.no_gptq):
            continue
        net = copy.deepcopy(whole)
        if equal:
            equalise(net, batches, a.alpha)
        if rounded:
            calibrate(net, copy.deepcopy(net), batches)
        made["int8, " + name] = net
    for name, net in made.items():
        figures[name] = drift(want, answers(as_int8(net), held))
        figures[name.replace("int8", "float32")] = drift(want, answers(net, held))
    best = min(made, key=lambda name: figures[name]["divergence"])
    print("| T2S | cosine, mean | least | largest, deviations | divergence, nats | same best token | as probable |\n|---|---|---|---|---|---|---|")
    print("\n".join(told(*f) for f in figures.items()), flush=True)
    if a.figures:
        a.figures.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf8")
    if figures[best]["divergence"] >= figures["int8 as it is"]["divergence"]:
        raise SystemExit("calibrate.py: int8 has come no nearer; nothing is written")
    print(f"taken: {best}")
    finish(a, folder, folder.manifest, {"t2s": t2s_state(made[best])})


if __name__ == "__main__":
    main()
