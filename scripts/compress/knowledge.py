"""What T2S students learn from their teacher: Hinton et al. 2015 (answers), Romero et al. 2015 (hidden states), Jiao et al. 2020 (attention)."""
import torch
import torch.nn as nn
import torch.nn.functional as F

from data import targets
from networks import nets

TEMPERATURE, WEIGHT = 4.0, 0.7


def noised(b, vocab, share):
    """Input tokens with a share replaced by random ones, which teaches recovery from the model's own mistakes."""
    if share <= 0:
        return b["tokens"]
    tokens = b["tokens"]
    return torch.where(torch.rand(tokens.shape, device=tokens.device) < share, torch.randint_like(tokens, 0, vocab - 1), tokens)


def answers(net, b, tokens, probe=()):
    with nets.autocast(tokens.device):
        logits, attention = net(b["phonemes"], b["n_phonemes"], tokens, probe, bert=b["bert"])
    return logits.float(), attention


def mixed_loss(logits, full, target, temperature=TEMPERATURE, weight=WEIGHT):
    """(1 - weight) cross-entropy + weight T^2 KL(teacher || student) at temperature T -> loss, cross-entropy, KL at temperature 1."""
    ok = target >= 0
    ce = F.cross_entropy(logits[ok], target[ok])
    kl = F.kl_div(F.log_softmax(logits[ok] / temperature, -1), F.log_softmax(full[ok] / temperature, -1), log_target=True, reduction="batchmean")
    with torch.no_grad():
        plain = F.kl_div(F.log_softmax(logits[ok], -1), F.log_softmax(full[ok], -1), log_target=True, reduction="batchmean")
    return (1 - weight) * ce + weight * temperature ** 2 * kl, ce.item(), plain.item()


def kd_loss(net, teacher, b, noise=0.0):
    tokens = noised(b, net.vocab, noise)
    with torch.no_grad():
        full, _ = answers(teacher, b, tokens)
    loss, ce, kl = mixed_loss(answers(net, b, tokens)[0], full, targets(b, net.eos))
    return loss, {"ce": ce, "kl": kl}


@torch.no_grad()
def imitate(net, teacher, pairs, positions):
    """Figures on the held-out pairs, in words."""
    n = ce = full_ce = kl = same = 0.0
    for b in pairs.held_batches(positions):
        target = targets(b, net.eos)
        ok = target >= 0
        got, full = answers(net, b, b["tokens"])[0][ok], answers(teacher, b, b["tokens"])[0][ok]
        ce += F.cross_entropy(got, target[ok], reduction="sum").item()
        full_ce += F.cross_entropy(full, target[ok], reduction="sum").item()
        kl += F.kl_div(F.log_softmax(got, -1), F.log_softmax(full, -1), log_target=True, reduction="sum").item()
        same += (got.argmax(-1) == full.argmax(-1)).sum().item()
        n += ok.sum().item()
    return f"cross-entropy {ce / n:.3f} (teacher {full_ce / n:.3f}) divergence {kl / n:.4f} same best token {100 * same / n:.1f} %"


@torch.no_grad()
def followers(net, b, least=0.5):
    """Heads that follow the text: (layer, head) whose largest weight on the text is over `least` on the mean of the token rows."""
    layers = range(len(net.h["layers"]))
    _, attention = answers(net, b, b["tokens"], layers)
    T, out = b["phonemes"].shape[1], []
    rows = (torch.arange(b["tokens"].shape[1], device=b["tokens"].device)[None] < b["n_tokens"][:, None]).float()
    for layer in layers:
        most = attention[layer][:, :, T:, :T].amax(-1)                         # [B, heads, P]
        mean = (most * rows[:, None]).sum((0, 2)) / rows.sum()
        out += [(layer, head) for head in (mean > least).nonzero()[:, 0].tolist()]
    return out


class Matching(nn.Module):
    """Hidden states and attention of student layers beside those of the teacher's they are matched with.

    Hidden states go through a learned projection; each teacher head is compared with a learned mixture of the student's heads. Where a
    teacher's head follows the text, the student's head of the same number (or its last) has to do so by itself, as the guard over
    the tokens goes by single heads.
    """

    def __init__(self, student, teacher, layers, follow):
        super().__init__()
        a, b = student.h["layers"][0].heads, teacher.h["layers"][0].heads
        self.layers, self.follow = layers, {(i, h): min(h, a - 1) for i, h in follow}
        self.project = nn.ModuleList(nn.Linear(student.dim, teacher.dim) for _ in layers)
        self.mix = nn.ParameterList(nn.Parameter(2.0 * torch.eye(b, a)) for _ in layers)

    def probes(self):
        return tuple(range(len(self.layers))), tuple(self.layers)

    def forward(self, hidden, full_hidden, attention, full_attention, b):
        """hidden: lists, a layer each, [B, T + P, dim]; attention: layer -> [B, heads, T + P, T + P]. -> hidden loss, attention loss."""
        T, L = b["phonemes"].shape[1], b["phonemes"].shape[1] + b["tokens"].shape[1]
        at = torch.arange(L, device=b["tokens"].device)[None]
        rows = torch.where(at < T, at < b["n_phonemes"][:, None], at - T < b["n_tokens"][:, None]).float()
        mean = lambda x: (x * rows).sum() / rows.sum()
        of_hidden = of_attention = 0.0
        for i, layer in enumerate(self.layers):
            of_hidden = of_hidden + mean((self.project[i](hidden[i]) - full_hidden[layer]).pow(2).mean(-1))
            p, q = full_attention[layer].float(), attention[i].float()
            mixed = torch.einsum("ts,bsij->btij", torch.softmax(self.mix[i], -1), q)
            of_attention = of_attention + mean(divergence(p, mixed).mean(1))
            for (where, head), own in self.follow.items():
                if where == layer:
                    of_attention = of_attention + mean(divergence(p[:, head], q[:, own]))
        return of_hidden / len(self.layers), of_attention / len(self.layers)


def divergence(p, q):
    """KL over the last axis of two lots of weights."""
    return (p * (p.clamp(min=1e-6).log() - q.clamp(min=1e-6).log())).sum(-1)
