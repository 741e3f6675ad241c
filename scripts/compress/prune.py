"""Structured pruning: heads and feed-forward channels of the T2S, channels of flow, encoder and vocoder, then recovery.

    prune.py t2s --model FOLDER --pairs FILE --out FOLDER [--heads 0.25] [--filter 0.4] [--budget M] [--gate SONORANT]
    prune.py flow --model FOLDER --pairs FILE --out FOLDER [--filter 0.33]            starter form, v3, v4: feed-forward channels of the blocks
    prune.py encoder --model FOLDER --pairs FILE --out FOLDER [--filter 0.33]         feed-forward channels of enc_p
    prune.py vocoder --model FOLDER --pairs FILE --out FOLDER [--filter 0.33]         starter: block channels; v3: all channels

Importance is the square of the first-order Taylor term of the loss at a channel's gate, summed over batches (Molchanov et al. 2019;
for heads Michel et al. 2019). Every layer of a network keeps the same number, each its own channels, because manifests name one size
for all. At most 40 % of a layer goes and 60 % of a network's weights, 16 channels stay (sizes.py). Recovery imitates the network as it
was: T2S as distil_t2s.py does, flow by its velocities, vocoder by its sound. A head that follows the text is never taken.
"""
import copy
import dataclasses
import random

import torch
import torch.nn.functional as F

import distil_flow
import sizes
from data import Pairs, targets
from folder import Folder, weights_in
from knowledge import followers, imitate, kd_loss
from loop import Loop, arguments, begin, finish
from networks import load_acoustic, load_t2s, load_vocoder, make_acoustic, make_t2s, make_vocoder, nets, style_of, t2s_state


@dataclasses.dataclass
class Group:
    """Channels that go together. slices: (key, axis, repeats): `repeats` runs of width * unit along that axis; taken: what reads them."""
    name: str
    width: int
    slices: list
    taken: list
    unit: int = 1


def ffn(name, into, out):
    """Of a feed-forward part, whose hidden channels only `out` reads."""
    return lambda state: Group(name, state[into + ".weight"].shape[0], [(into + ".weight", 0, 1), (into + ".bias", 0, 1), (out + ".weight", 1, 1)],
                               [(out + ".weight", 1)])


def t2s_groups(state, s):
    heads, filters = [], []
    for i in range(s["layers"]):
        layer = f"h.layers.{i}."
        a = layer + "self_attn."
        heads.append(Group(f"heads {i}", s["heads"], [(a + "in_proj_weight", 0, 3), (a + "in_proj_bias", 0, 3), (a + "out_proj.weight", 1, 1)],
                           [(a + "out_proj.weight", 1)], s["head_dim"]))
        filters.append(ffn(f"filter {i}", layer + "linear1", layer + "linear2")(state))
    return heads, filters


def flow_groups(state):
    """Of an estimator: of the starter form's blocks or of the DiT's."""
    keys = [k for k in state if k.endswith("pwconv1.weight") and k.startswith("blocks.")] or [k for k in state if k.endswith("ff.ff.0.0.weight")]
    out = {"pwconv1": "pwconv2", "ff.ff.0.0": "ff.ff.2"}
    groups = []
    for key in keys:
        stem = key.removesuffix(".weight")
        into = next(k for k in out if stem.endswith(k))
        groups.append(ffn(stem, stem, stem.removesuffix(into) + out[into])(state))
    return groups


def encoder_groups(state):
    stems = [k.removesuffix(".conv_1.weight") for k in state if k.startswith("enc_p.") and k.endswith(".conv_1.weight")]
    return [ffn(stem, stem + ".conv_1", stem + ".conv_2")(state) for stem in stems]


def vocoder_groups(state):
    """Starter form: feed-forward channels, one list for each of its two bodies."""
    lists = []
    for body in ("body", "f0"):
        stems = [k.removesuffix(".pwconv1.weight") for k in state if k.startswith(body + ".blocks.") and k.endswith("pwconv1.weight")]
        lists.append([ffn(stem, stem + ".pwconv1", stem + ".pwconv2")(state) for stem in stems])
    return lists


def generator_groups(state, s):
    """BigVGAN: all channels of a stage at once, from what makes them to what reads them."""
    stages = len(s["upsample_rates"])
    groups = [Group("conv_pre", s["channels"], [("conv_pre.weight", 0, 1), ("conv_pre.bias", 0, 1), ("ups.0.0.weight", 0, 1)], [("ups.0.0.weight", 0)])]
    for i, width in enumerate(sizes.stage_channels(s["channels"], stages)):
        g = Group(f"stage {i}", width, [(f"ups.{i}.0.weight", 1, 1), (f"ups.{i}.0.bias", 0, 1)], [])
        for j in range(3 * i, 3 * i + 3):
            for m in range(3):
                for conv in (f"resblocks.{j}.convs1.{m}", f"resblocks.{j}.convs2.{m}"):
                    g.slices += [(conv + ".weight", 0, 1), (conv + ".weight", 1, 1), (conv + ".bias", 0, 1)]
                    g.taken.append((conv + ".weight", 1))
            g.slices += [(f"resblocks.{j}.activations.{m}.act.{p}", 0, 1) for m in range(6) for p in ("alpha", "beta")]
        if i + 1 < stages:
            after = (f"ups.{i + 1}.0.weight", 0)
        else:
            after = ("conv_post.weight", 1)
            g.slices += [(f"activation_post.act.{p}", 0, 1) for p in ("alpha", "beta")]
        g.slices.append((*after, 1))
        g.taken.append(after)
        groups.append(g)
    return groups


def taylor(net, groups, losses):
    """Importance [width] of each group: sum over the batches of (sum of weight * gradient of what reads the channel)^2."""
    scores = {g.name: torch.zeros(g.width) for g in groups}
    params = dict(net.named_parameters())
    for loss in losses:
        net.zero_grad(set_to_none=True)
        loss().backward()
        for g in groups:
            term = 0
            for key, axis in g.taken:
                w = params[key]
                term = term + (w.detach() * w.grad).transpose(0, axis).flatten(1).sum(1).view(g.width, -1).sum(1)
            scores[g.name] += term.float().cpu().pow(2)
    net.zero_grad(set_to_none=True)
    return scores


def cut(state, groups, scores, keep, always=None):
    """Weights without the least important channels of each group; the order of what stays is kept. always: name -> channels that stay."""
    state = dict(state)
    for g in groups:
        score = scores[g.name].clone()
        for channel in (always or {}).get(g.name, ()):
            score[channel] = float("inf")
        stay = score.topk(keep(g.width)).indices.sort().values
        for key, axis, repeats in g.slices:
            w = state[key].transpose(0, axis)
            rows = w.reshape(repeats, g.width, -1, *w.shape[1:])[:, stay.to(w.device)]
            state[key] = rows.reshape(-1, *w.shape[1:]).transpose(0, axis).contiguous()
    return state


def prune_t2s(net, s, batches, heads, filter, follow=()):
    """-> a new network and its sizes. heads, filter: how many of a layer stay; follow: (layer, head) that stay whatever their importance."""
    state = {k: v.detach() for k, v in net.state_dict().items()}
    head_groups, filter_groups = t2s_groups(state, s)

    def loss_of(b):
        def loss():
            with nets.autocast(net.pe.device):
                logits = net(b["phonemes"], b["n_phonemes"], b["tokens"], bert=b["bert"])[0]
            return F.cross_entropy(logits.float().flatten(0, 1), targets(b, net.eos).flatten())
        return loss

    always = {g.name: [head for layer, head in follow if layer == i] for i, g in enumerate(head_groups)}
    scores = taylor(net, head_groups + filter_groups, [loss_of(b) for b in batches])
    state = cut(cut(state, head_groups, scores, lambda _: heads, always), filter_groups, scores, lambda _: filter)
    small = {**s, "heads": heads, "filter": filter}
    out = make_t2s(small)
    out.load_state_dict(state)
    return out.to(net.pe.device), small


def t2s(a, device):
    folder, pairs = Folder(a.model), Pairs(a.pairs, device, a.seed)
    teacher, s = load_t2s(folder)
    teacher.to(device)
    batches = pairs.batches(a.positions)
    some = [next(batches) for _ in range(a.probe_batches)]
    follow = followers(teacher, some[0])
    net, small = prune_t2s(teacher, s, some, sizes.kept(s["heads"], a.heads, least=1), sizes.kept(s["filter"], a.filter, 16), follow)
    gone = sizes.check_total(sizes.t2s_parameters(s), sizes.t2s_parameters(small))
    print(f"T2S: heads {s['heads']} -> {small['heads']}, filter {s['filter']} -> {small['filter']}, {100 * gone:.0f} % of the weights less; "
          f"heads that follow the text: {', '.join(f'{i}.{h}' for i, h in follow) or 'none'}", flush=True)
    loop = Loop(f"{a.out}.pt", net, a.budget, a.lr, restart=a.restart, report=lambda m: imitate(m, teacher, pairs, a.positions), threads=a.threads)
    print(f"held out before recovery: {imitate(loop.ema, teacher, pairs, a.positions)}", flush=True)
    for _ in loop:
        b = next(batches)
        loss, shown = kd_loss(net, teacher, b, a.noise)
        loop.step(loss, **shown)
    finish(a, folder, sizes.with_t2s(folder.manifest, small), {"t2s": t2s_state(loop.ema)})


def resized(folder, s, state, **changed):
    out = make_acoustic({**s, **changed}, sizes.form_of(folder.manifest))
    out.load_state_dict(state, strict=False)
    return out.eval().requires_grad_(False)


def flow(a, device):
    folder = Folder(a.model)
    net, s = load_acoustic(folder)
    net.requires_grad_(False)
    conditions = distil_flow.Conditions(net, folder, Pairs(a.pairs, device), device, a.crop, a.prompt_frames, a.utterances, random.Random(a.seed))
    estimator, noise = net.cfm.estimator.to(device).requires_grad_(True), torch.Generator().manual_seed(a.seed)
    a.steps, a.teacher_steps, a.objective = s["steps"], s["steps"], "jump"
    state = {k: v.detach() for k, v in estimator.state_dict().items()}
    groups = flow_groups(state)

    def energy():                                                              # of what comes out: what moves it is important
        mu, prompt, mask = conditions.batch(max(1, a.batch // 2))
        x = torch.randn(len(mu), mu.shape[1], nets.N_MEL, generator=noise).to(device)
        v = distil_flow.velocity(estimator, mu, prompt, device)(x, torch.rand(len(mu), generator=noise).to(device), 1 / a.steps)
        return (v * torch.randn(v.shape, generator=noise).to(device) * mask[..., None]).mean() * 100

    scores = taylor(estimator, groups, [energy for _ in range(a.probe_batches)])
    keep = sizes.kept(groups[0].width, a.filter, 16)
    cut_state = cut(state, groups, scores, lambda _: keep)
    sizes.check_total(weights_in(state), weights_in(cut_state))
    starter = "estimator" in s
    changed = {"estimator": {**s["estimator"], "ff": keep}} if starter else {"dit_filter": keep}
    student = resized(folder, s, {"cfm.estimator." + k: v for k, v in cut_state.items()}, **changed).cfm.estimator.to(device).requires_grad_(True)
    print(f"flow: {groups[0].width} -> {keep} channels of {len(groups)} blocks, {100 * (1 - weights_in(cut_state) / weights_in(state)):.0f} % less", flush=True)
    estimator.requires_grad_(False)
    student = distil_flow.train(student, estimator, conditions, a, f"{a.out}.pt")
    parts = {**folder.state("acoustic"), **{"cfm.estimator." + k: v.cpu() for k, v in student.state_dict().items()}}
    finish(a, folder, dict(folder.manifest, acoustic={**folder.manifest["acoustic"], **changed}), {"acoustic": parts})


def encoder(a, device):
    """enc_p: recovery gives the conditioning back."""
    folder, pairs = Folder(a.model), Pairs(a.pairs, device, a.seed)
    teacher, s = load_acoustic(folder)
    ge = style_of(teacher, folder).detach().to(device)
    teacher.to(device)
    batches = pairs.batches(a.positions)
    state = {k: v.detach() for k, v in teacher.state_dict().items()}
    groups = encoder_groups(state)

    def features(net, b):
        with nets.autocast(device):
            y = net.bridged(b["tokens"], b["phonemes"], b["n_phonemes"], ge.expand(len(b["tokens"]), -1)).float()
        return y, (torch.arange(y.shape[1], device=device)[None] < 2 * b["n_tokens"][:, None]).float()

    def energy():
        y, mask = features(teacher, next(batches))
        return (y * torch.randn_like(y) * mask[..., None]).mean() * 100

    keep = sizes.kept(groups[0].width, a.filter, 16)
    scores = taylor(teacher, groups, [energy for _ in range(a.probe_batches)])
    cut_state = cut(state, groups, scores, lambda _: keep)
    part = lambda d: weights_in({k: v for k, v in d.items() if k.startswith("enc_p.")})
    sizes.check_total(part(state), part(cut_state))
    net = resized(folder, s, cut_state, filter=keep).to(device)
    net.enc_p.requires_grad_(True)
    print(f"enc_p: {groups[0].width} -> {keep} channels of {len(groups)} layers, {100 * (1 - part(cut_state) / part(state)):.0f} % less", flush=True)
    held = pairs.held_batches(a.positions)

    def loss_of(student, b):
        (y, mask), (x, _) = features(student, b), features(teacher, b)
        return ((y - x.detach()).pow(2).mean(-1) * mask).sum() / mask.sum() / x.detach().pow(2).mean()

    @torch.no_grad()
    def report(student):
        return f"{sum(loss_of(student, b).item() for b in held) / len(held):.5f} of the features' power missed"

    loop = Loop(f"{a.out}.pt", net, a.budget, a.lr, restart=a.restart, report=report, threads=a.threads)
    print(f"held out before recovery: {report(loop.ema)}", flush=True)
    for _ in loop:
        loop.step(loss_of(net, next(batches)))
    parts = {**folder.state("acoustic"), **{k: v.cpu() for k, v in loop.ema.state_dict().items()}}
    finish(a, folder, dict(folder.manifest, acoustic={**folder.manifest["acoustic"], "filter": keep}), {"acoustic": parts})


def vocoder(a, device):
    import vocoder as training  # scripts/train

    folder = Folder(a.model)
    teacher, s = load_vocoder(folder)
    acoustic, _ = load_acoustic(folder)
    conditions = distil_flow.Conditions(acoustic.requires_grad_(False), folder, Pairs(a.pairs, device), torch.device("cpu"), a.crop, a.prompt_frames,
                                        min(a.utterances, 48), random.Random(a.seed))
    mels, steps, noise = [], sizes.acoustic_sizes(folder.manifest)["steps"], torch.Generator().manual_seed(a.seed)
    with torch.no_grad():                                                      # what the vocoder is given: the flow's own
        for part in conditions.train[:48] + conditions.held[:4]:
            mu, prompt, mask = conditions.stack([part], lambda m: 0)
            v, x = distil_flow.velocity(acoustic.cfm.estimator, mu, prompt, torch.device("cpu")), torch.randn(1, mu.shape[1], nets.N_MEL, generator=noise)
            for i in range(steps):
                x = x + v(x, i / steps, 1 / steps) / steps
            mels.append(nets.denormalise_mel(x[0, len(conditions.prompt):][mask[0, len(conditions.prompt):] > 0]))
    mels = [m for m in mels if len(m) > a.frames + 2]
    if len(mels) < 3:
        raise SystemExit(f"prune.py: {len(mels)} of the pairs have over {a.frames + 2} mel frames, at least 3 wanted")
    held, mels = mels[-2:], mels[:-2]
    rng, starter = random.Random(a.seed), sizes.form_of(folder.manifest) == "starter"
    teacher.to(device)
    state = {k: v.detach() for k, v in teacher.state_dict().items()}

    def crops(n):
        some = [rng.choice(mels) for _ in range(n)]
        return torch.stack([m[k: k + a.frames] for m in some for k in [rng.randrange(0, len(m) - a.frames)]]).to(device)

    def sound(net, mel, z, f0=None):
        """Waveform without the ends, and the F0 head's answers."""
        with nets.autocast(device):
            if not starter:
                return net(mel).float(), None
            return net(mel, f0, z), net.f0_logits(mel).float()

    def sounds(net, mel):
        z = torch.randn(len(mel), mel.shape[1] * nets.HOP + 2 * nets.PAD, generator=noise).to(device)
        f0 = teacher.predict_f0(mel) if starter else None
        with torch.no_grad():
            want = sound(teacher, mel, z, f0)
        return sound(net, mel, z, f0), want

    def distance(got, want):
        loss = training.distance(training.spectra(got[0]), training.spectra(want[0])) + 10 * F.l1_loss(got[0], want[0])
        return loss if got[1] is None else loss + F.mse_loss(got[1], want[1])

    def energy():
        mel = crops(max(1, a.batch // 2))
        z = torch.randn(len(mel), mel.shape[1] * nets.HOP + 2 * nets.PAD, generator=noise).to(device)
        y, logits = sound(teacher, mel, z, teacher.predict_f0(mel) if starter else None)
        some = lambda v: (v * torch.randn(v.shape, generator=noise).to(device)).mean() * 100
        return some(y) + (some(logits) if logits is not None else 0)

    if starter:
        lists, changed = vocoder_groups(state), {}
        for name, groups in zip(("ff", "f0_ff"), lists):
            changed[name] = sizes.kept(groups[0].width, a.filter, 16)
        by_group = {g.name: changed[name] for name, groups in zip(("ff", "f0_ff"), lists) for g in groups}
        groups = [g for part in lists for g in part]
    else:
        groups = generator_groups(state, s)
        changed = {"channels": sizes.kept_generator(s["channels"], len(s["upsample_rates"]), a.filter)}
        by_group = {g.name: g.width * changed["channels"] // s["channels"] for g in groups}
    scores = taylor(teacher, groups, [energy for _ in range(a.probe_batches)])
    cut_state = dict(state)
    for g in groups:
        cut_state = cut(cut_state, [g], scores, lambda _: by_group[g.name])
    sizes.check_total(weights_in(state), weights_in(cut_state))
    net = make_vocoder({**s, **changed}, sizes.form_of(folder.manifest))
    net.load_state_dict(cut_state)
    net.to(device)
    print(f"vocoder: {changed}, {100 * (1 - weights_in(cut_state) / weights_in(state)):.0f} % less", flush=True)

    @torch.no_grad()
    def report(student):
        got = [distance(*sounds(student, m[None, : 2 * a.frames].to(device))).item() for m in held]
        return f"distance {sum(got) / len(got):.4f}"

    loop = Loop(f"{a.out}.pt", net, a.budget, a.lr, restart=a.restart, report=report, threads=a.threads)
    print(f"held out before recovery: {report(loop.ema)}", flush=True)
    for _ in loop:
        loop.step(distance(*sounds(net, crops(a.batch))))
    finish(a, folder, dict(folder.manifest, vocoder={**folder.manifest["vocoder"], **changed}), {"vocoder": {**folder.state("vocoder"), **loop.ema.state_dict()}})


def main():
    ap = arguments(__doc__, 10)
    ap.add_argument("network", choices=("t2s", "flow", "encoder", "vocoder"))
    distil_flow.add_arguments(ap)
    ap.add_argument("--heads", type=float, default=0.25, help="share of the T2S's heads that goes")
    ap.add_argument("--filter", type=float, default=0.33, help="share of the channels that goes")
    ap.add_argument("--positions", type=int, default=1600, help="phonemes and tokens in a batch")
    ap.add_argument("--probe-batches", type=int, default=16, help="that importance is measured on")
    ap.add_argument("--noise", type=float, default=0.2, help="share of the input tokens that is replaced by random ones in recovery")
    ap.add_argument("--frames", type=int, default=48, help="vocoder: mel frames of a crop")
    a = ap.parse_args()
    {"t2s": t2s, "flow": flow, "encoder": encoder, "vocoder": vocoder}[a.network](a, begin(a))


if __name__ == "__main__":
    main()
