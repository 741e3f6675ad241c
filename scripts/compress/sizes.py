"""Sizes of the networks as manifests tell them, what a student or a pruned network of other sizes has, and the bounds of pruning.

Needs nothing beside Python's standard library.
"""
import copy
import math

PUBLISHED_T2S = {"layers": 24, "hidden": 512, "heads": 16, "phoneme_vocab": 732, "vocab": 1025, "bert_dim": 1024}
PUBLISHED_ACOUSTIC = {
    "codes": 1024, "code_dim": 768, "phonemes": 732, "hidden": 192, "filter": 768, "heads": 2, "layers_ssl": 3, "layers_text": 6,
    "layers_post": 3, "mrte_dim": 512, "mrte_heads": 4, "ref_bins": 704, "style_dim": 128, "feature_dim": 512, "wns_layers": 8,
    "dit_dim": 1024, "dit_depth": 22, "dit_heads": 16, "dit_text_layers": 4, "mel_bands": 100, "steps": 8}
BY_FORM = {"v1": ({"phoneme_vocab": 512}, {"phonemes": 322, "ref_bins": 1025})}
FLOW_FORMS = ("v3", "v4")                       # published forms with flow matching; format 1 has it always
VOCODERS = {"v3": {"channels": 1536, "upsample_rates": [4, 4, 2, 2, 2, 2], "upsample_kernels": [8, 8, 4, 4, 4, 4]},
            "v4": {"channels": 512, "upsample_rates": [10, 6, 2, 2, 2], "upsample_kernels": [20, 12, 4, 4, 4]}}
LEAST, PER_LAYER, TOTAL = 16, 0.4, 0.6          # channels kept, shares that pruning may take


def form_of(manifest):
    return manifest.get("form", "starter")


def t2s_sizes(manifest):
    """All sizes of a manifest's T2S; `filter` and `head_dim` always as numbers."""
    part = manifest["t2s"]
    names = (*PUBLISHED_T2S, "filter", "head_dim")
    sizes = {k: part[k] for k in names if k in part}
    if manifest["format"] == 2:
        sizes = {**PUBLISHED_T2S, **BY_FORM.get(form_of(manifest), ({}, {}))[0], **sizes}
    sizes.setdefault("filter", 4 * sizes["hidden"])
    sizes.setdefault("head_dim", sizes["hidden"] // sizes["heads"])
    return sizes


def acoustic_sizes(manifest):
    part = {k: v for k, v in manifest["acoustic"].items() if k != "file"}
    if manifest["format"] == 2:
        part = {**PUBLISHED_ACOUSTIC, **BY_FORM.get(form_of(manifest), ({}, {}))[1], **part}
        part.setdefault("dit_filter", 2 * part["dit_dim"])
        part["attention_window"] = None
    return part


def vocoder_sizes(manifest):
    return {**VOCODERS.get(form_of(manifest), {}), **{k: v for k, v in manifest.get("vocoder", {}).items() if k != "file"}}


def with_t2s(manifest, sizes):
    """The manifest of a model whose T2S has these sizes; keys at their defaults are left out where the format lets them be."""
    out = copy.deepcopy(manifest)
    usual = {"filter": 4 * sizes["hidden"], "head_dim": sizes["hidden"] / sizes["heads"]}
    if manifest["format"] == 2:
        usual.update(PUBLISHED_T2S, **BY_FORM.get(form_of(manifest), ({}, {}))[0])
    for key, value in sizes.items():
        out["t2s"].pop(key, None)
        if value != usual.get(key):
            out["t2s"][key] = value
    return out


def t2s_parameters(sizes):
    """Number of weights of a T2S."""
    d, a, f = sizes["hidden"], sizes["heads"] * sizes["head_dim"], sizes["filter"]
    layer = 3 * a * (d + 1) + d * (a + 1) + f * (d + 1) + d * (f + 1) + 4 * d
    rest = (sizes["phoneme_vocab"] + 2 * sizes["vocab"]) * d + sizes["bert_dim"] * d + d + 2
    return sizes["layers"] * layer + rest


def student_sizes(teacher, layers, hidden, heads):
    """A student of a T2S; heads are multiples of 16 columns, as the engine's kernels want them."""
    if hidden % heads or hidden // heads % 16:
        raise ValueError(f"hidden {hidden} is not {heads} heads of a multiple of 16 columns")
    return {**teacher, "layers": layers, "hidden": hidden, "heads": heads, "filter": 4 * hidden, "head_dim": hidden // heads}


def spread_layers(student, teacher):
    """Which teacher layer each of `student` layers is matched with: evenly, the last with the last."""
    return [math.ceil((i + 1) * teacher / student) - 1 for i in range(student)]


def kept(width, share, multiple=1, least=LEAST):
    """How many of `width` channels are left when about `share` goes: a multiple, at least `least`, no more than PER_LAYER gone."""
    if not 0 <= share <= PER_LAYER:
        raise ValueError(f"a share of {share:g} may not be pruned, at most {PER_LAYER:g} of a layer")
    floor = max(math.ceil(width * (1 - PER_LAYER) - 1e-9), min(least, width))
    left = max(round(width * (1 - share) / multiple) * multiple, math.ceil(floor / multiple) * multiple)
    return min(left, width)


def check_total(before, after):
    """Raises when more than TOTAL of a network's weights has gone."""
    gone = 1 - after / before
    if gone > TOTAL + 1e-9:
        raise ValueError(f"{100 * gone:.0f} % of the weights would go, at most {100 * TOTAL:.0f} % may")
    return gone


def stage_channels(channels, stages):
    """Channels of the stages of a generator that halves them at each."""
    return [channels >> (i + 1) for i in range(stages)]


def kept_generator(channels, stages, share):
    """Channels before the first stage of a pruned generator: every stage stays half of the one before it and has LEAST or more."""
    unit = 1 << stages
    if channels < LEAST * unit or kept(channels // unit, share) == channels // unit:
        raise ValueError(f"the last of {stages} stages has {channels // unit} channels and {LEAST} have to stay: nothing can go")
    return kept(channels // unit, share) * unit
