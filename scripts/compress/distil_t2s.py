"""A smaller T2S, taught by the one of a model folder.

    distil_t2s.py --model FOLDER --pairs FILE --out FOLDER [--layers N] [--hidden N] [--heads N] [--filter N] [--budget M] [--gate SONORANT]

Loss: 0.3 cross-entropy of the pairs' tokens + 0.7 of the teacher's answers at temperature 4 + hidden states and attention of matched
layers, both through learned projections that are dropped afterwards (knowledge.py). Without sizes the student has half the layers and
what width makes it a quarter of the teacher. A student of the teacher's hidden width begins with the matched layers' most important
heads and channels (prune.py), any other with the teacher's embeddings, rotated into its width.
"""
import torch

import prune
import sizes
from data import Pairs, targets
from folder import Folder
from knowledge import Matching, answers, followers, imitate, mixed_loss, noised
from loop import Loop, arguments, begin, finish
from networks import load_t2s, make_t2s, t2s_state


def default_sizes(teacher):
    """About a quarter of the teacher: half its layers, the width by halves of 32 columns, heads of 32."""
    layers = max(2, teacher["layers"] // 2)
    widths = range(64, teacher["hidden"] + 1, 32)
    fits = lambda h: abs(sizes.t2s_parameters(sizes.student_sizes(teacher, layers, h, h // 32)) / sizes.t2s_parameters(teacher) - 0.25)
    return layers, min(widths, key=fits)


@torch.no_grad()
def rotated(student, teacher):
    """Embeddings and answers along the principal axes of the teacher's embeddings."""
    tables = [teacher.ar_text_embedding.word_embeddings.weight, teacher.ar_audio_embedding.word_embeddings.weight, teacher.ar_predict_layer.weight]
    axes = torch.linalg.svd(torch.cat(tables).float(), full_matrices=False).Vh[: student.dim].T
    student.ar_text_embedding.word_embeddings.weight.copy_(tables[0] @ axes)
    student.ar_audio_embedding.word_embeddings.weight.copy_(tables[1] @ axes)
    student.ar_predict_layer.weight.copy_(tables[2] @ axes)
    student.bert_proj_bias.copy_(teacher.bert_proj_bias @ axes)
    if student.bert_proj_weight is not None:
        student.bert_proj_weight.copy_(axes.T @ teacher.bert_proj_weight)
    student.ar_text_position.alpha.copy_(teacher.ar_text_position.alpha)
    student.ar_audio_position.alpha.copy_(teacher.ar_audio_position.alpha)
    return axes


def sliced(teacher, full, small, layers, batches, follow):
    """A network of the teacher's hidden width: the matched layers with their most important heads and channels."""
    narrow, _ = prune.prune_t2s(teacher, full, batches, small["heads"], small["filter"], follow)
    state = {}
    for key, value in narrow.state_dict().items():
        if not key.startswith("h.layers."):
            state[key] = value
    for i, layer in enumerate(layers):
        state.update({k.replace(f"h.layers.{layer}.", f"h.layers.{i}.", 1): v for k, v in narrow.state_dict().items() if k.startswith(f"h.layers.{layer}.")})
    net = make_t2s(small)
    net.load_state_dict(state)
    return net


def main():
    ap = arguments(__doc__, 40)
    ap.add_argument("--pairs", required=True)
    ap.add_argument("--layers", type=int)
    ap.add_argument("--hidden", type=int)
    ap.add_argument("--heads", type=int)
    ap.add_argument("--filter", type=int, help="feed-forward width (4 * hidden)")
    ap.add_argument("--hidden-weight", type=float, default=1.0)
    ap.add_argument("--attention-weight", type=float, default=0.5)
    ap.add_argument("--noise", type=float, default=0.2, help="share of the input tokens that is replaced by random ones")
    ap.add_argument("--positions", type=int, default=1600, help="phonemes and tokens in a batch")
    a = ap.parse_args()
    device = begin(a)
    folder, pairs = Folder(a.model), Pairs(a.pairs, device, a.seed)
    teacher, full = load_t2s(folder)
    teacher.to(device)
    layers, hidden = default_sizes(full)
    layers, hidden = a.layers or layers, a.hidden or hidden
    if hidden == full["hidden"]:
        small = {**full, "layers": layers, "heads": a.heads or full["heads"], "filter": a.filter or full["filter"]}
    else:
        small = sizes.student_sizes(full, layers, hidden, a.heads or hidden // 32)
        small["filter"] = a.filter or small["filter"]
    share = sizes.t2s_parameters(small) / sizes.t2s_parameters(full)
    print(f"student: {small['layers']} x {small['hidden']}, {small['heads']} heads of {small['head_dim']}, filter {small['filter']}: "
          f"{sizes.t2s_parameters(small) / 1e6:.2f} M of {sizes.t2s_parameters(full) / 1e6:.2f} M weights, {100 * share:.0f} %", flush=True)
    matched = sizes.spread_layers(layers, full["layers"])
    batches = pairs.batches(a.positions)
    some = [next(batches) for _ in range(8)]
    follow = [(i, h) for i, h in followers(teacher, some[0]) if i in matched]
    if hidden == full["hidden"]:
        student = sliced(teacher, full, small, matched, some, follow).to(device)
        axes = torch.eye(hidden)
    else:
        student = make_t2s(small).to(device)
        axes = rotated(student, teacher).cpu()
    match = Matching(student, teacher, matched, follow)
    with torch.no_grad():
        for p in match.project:
            p.weight.copy_(axes), p.bias.zero_()
    match.to(device)
    seen = {}
    for name, net in (("student", student), ("teacher", teacher)):
        for i, layer in enumerate(net.h["layers"]):
            layer.register_forward_hook(lambda _, __, out, key=(name, i): seen.__setitem__(key, out[0].float()))
    probes, full_probes = match.probes()
    loop = Loop(f"{a.out}.pt", student, a.budget, a.lr, extra=match, restart=a.restart, weight_decay=0.01, threads=a.threads,
                report=lambda m: imitate(m, teacher, pairs, a.positions))
    print(f"held out before: {imitate(loop.ema, teacher, pairs, a.positions)}", flush=True)
    for _ in loop:
        b = next(batches)
        tokens = noised(b, student.vocab, a.noise)
        with torch.no_grad():
            wanted, full_attention = answers(teacher, b, tokens, full_probes)
        logits, attention = answers(student, b, tokens, probes)
        loss, ce, kl = mixed_loss(logits, wanted, targets(b, student.eos))
        of_hidden, of_attention = match([seen["student", i] for i in range(layers)], [seen["teacher", i] for i in range(full["layers"])],
                                        attention, full_attention, b)
        loop.step(loss + a.hidden_weight * of_hidden + a.attention_weight * of_attention, ce=ce, kl=kl, hidden=of_hidden.item(), attention=of_attention.item())
    finish(a, folder, sizes.with_t2s(folder.manifest, small), {"t2s": t2s_state(loop.ema)})


if __name__ == "__main__":
    main()
