"""The networks of a model folder in PyTorch, starter form and published forms, at whatever sizes its manifest tells.

What the forms share is scripts/train/nets.py; here is what only the published ones have. Tensors are [batch, time, channels].
"""
import math
import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "train"))
import nets  # noqa: E402

import sizes  # noqa: E402


def filled(net, state, folder, optional=frozenset()):
    """The network with its weights out of a folder's, which may hold more."""
    wanted = net.state_dict()
    missing, _ = net.load_state_dict({k: v for k, v in state.items() if k in wanted}, strict=False)
    if missing := [k for k in missing if k not in optional]:
        raise KeyError(f"{folder.home}: no {', '.join(missing[:5])}")
    return net.eval()


# ----------------------------------------------------------------------------------------------------------------- T2S
def make_t2s(s):
    return nets.TextToSemantic(s["layers"], s["hidden"], s["heads"], s["phoneme_vocab"], s["vocab"], s["filter"], s["head_dim"], s["bert_dim"])


BERT = {"model.bert_proj.bias": "bert_proj_bias", "model.bert_proj.weight": "bert_proj_weight"}


def load_t2s(folder):
    s = sizes.t2s_sizes(folder.manifest)
    net = make_t2s(s)
    state = {BERT.get(k, k.removeprefix("model.")): v for k, v in folder.state("t2s").items()}
    return filled(net, state, folder, {"bert_proj_bias"}), s


def t2s_state(net):
    back = {v: k for k, v in BERT.items()}
    return {back.get(k, "model." + k): v.detach().cpu() for k, v in net.state_dict().items()}


# ------------------------------------------------------------------------------------------- flow matching of v3 and v4
class TextBlock(nn.Module):
    """ConvNeXt V2 (Woo et al. 2023): depthwise convolution, norm, GELU, global response norm over the whole window."""

    def __init__(self, dim):
        super().__init__()
        self.dwconv, self.norm = nn.Conv1d(dim, dim, 7, padding=3, groups=dim), nn.LayerNorm(dim, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.grn = nn.Module()
        self.grn.gamma, self.grn.beta = (nn.Parameter(torch.zeros(1, 1, 2 * dim)) for _ in range(2))

    def forward(self, m):
        h = F.gelu(self.pwconv1(self.norm(self.dwconv(m.transpose(1, 2)).transpose(1, 2))))
        g = h.float().pow(2).sum(1, keepdim=True).add(1e-12).sqrt()
        return m + self.pwconv2(self.grn.gamma * (h * (g / (g.mean(-1, keepdim=True) + 1e-6))) + self.grn.beta + h)


class DitBlock(nn.Module):
    def __init__(self, dim, heads, filter):
        super().__init__()
        self.heads = heads
        self.attn_norm = nn.ModuleDict({"linear": nn.Linear(dim, 6 * dim)})
        self.attn = nn.ModuleDict({"to_q": nn.Linear(dim, dim), "to_k": nn.Linear(dim, dim), "to_v": nn.Linear(dim, dim),
                                   "to_out": nn.ModuleDict({"0": nn.Linear(dim, dim)})})
        self.ff = nn.ModuleDict({"ff": nn.ModuleDict({"0": nn.ModuleDict({"0": nn.Linear(dim, filter)}), "2": nn.Linear(filter, dim)})})

    def forward(self, h, tvec, turn):
        B, T, D = h.shape
        norm = lambda x, gain, shift: F.layer_norm(x, (D,), eps=1e-6) * (1 + gain) + shift
        shift_a, gain_a, gate_a, shift_m, gain_m, gate_m = self.attn_norm["linear"](F.silu(tvec))[:, None].chunk(6, -1)
        u, split = norm(h, gain_a, shift_a), lambda z: z.view(B, T, self.heads, -1).transpose(1, 2)
        q, k, v = turn(self.attn["to_q"](u)), turn(self.attn["to_k"](u)), self.attn["to_v"](u)
        y = F.scaled_dot_product_attention(split(q), split(k), split(v))
        h = h + gate_a * self.attn["to_out"]["0"](y.transpose(1, 2).reshape(B, T, D))
        ff = self.ff["ff"]
        return h + gate_m * ff["2"](F.gelu(ff["0"]["0"](norm(h, gain_m, shift_m)), approximate="tanh"))


class Dit(nn.Module):
    """The velocity field of v3 and v4 (models/dit.h): a diffusion transformer that is also told the width of the step."""

    takes_width = True

    def __init__(self, s):
        super().__init__()
        dim, text, mel = s["dit_dim"], s["feature_dim"], s["mel_bands"]
        self.time_embed, self.d_embed = nets.TimeEmbed(dim), nets.TimeEmbed(dim)
        self.text_embed = nn.ModuleDict({"text_blocks": nn.ModuleList(TextBlock(text) for _ in range(s["dit_text_layers"]))})
        conv = lambda: nn.Conv1d(dim, dim, 31, padding=15, groups=16)
        self.input_embed = nn.ModuleDict({"proj": nn.Linear(2 * mel + text, dim),
                                          "conv_pos_embed": nn.ModuleDict({"conv1d": nn.ModuleDict({"0": conv(), "2": conv()})})})
        self.transformer_blocks = nn.ModuleList(DitBlock(dim, s["dit_heads"], s["dit_filter"]) for _ in range(s["dit_depth"]))
        self.norm_out, self.proj_out = nn.ModuleDict({"linear": nn.Linear(dim, 2 * dim)}), nn.Linear(dim, mel)

    def text(self, mu):
        T, dim = mu.shape[1], mu.shape[2]
        f = torch.arange(T, device=mu.device).clamp(max=4095)[:, None] * 10000 ** (-2 * torch.arange(dim // 2, device=mu.device) / dim)
        m = mu + torch.cat([f.cos(), f.sin()], -1)
        for block in self.text_embed["text_blocks"]:
            m = block(m)
        return m

    def forward(self, x, mu, t, width, prompt):
        """x [B, T, mel], mu [B, T, text], t and width [B], prompt [B, T, mel] (zero where speech is made) -> velocity [B, T, mel]."""
        T = x.shape[1]
        tvec = self.time_embed(t) + self.d_embed(width)
        h = self.input_embed["proj"](torch.cat([x, prompt, self.text(mu)], -1))
        conv, c = self.input_embed["conv_pos_embed"]["conv1d"], h.transpose(1, 2)
        h = h + F.mish(conv["2"](F.mish(conv["0"](c)))).transpose(1, 2)
        angle = torch.arange(T, device=x.device)[:, None] * 10000 ** (-2 * torch.arange(32, device=x.device) / 64)
        cos, sin = angle.cos(), angle.sin()

        def turn(z):                                                           # rotary positions on head 0 alone, as published
            even, odd = z[..., 0:64:2], z[..., 1:64:2]
            return torch.cat([torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2).to(z.dtype), z[..., 64:]], -1)

        for block in self.transformer_blocks:
            h = block(h, tvec, turn)
        gain, shift = self.norm_out["linear"](F.silu(tvec))[:, None].chunk(2, -1)
        return self.proj_out(F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + gain) + shift)


class PublishedAcoustic(nets.AcousticModel):
    """enc_p, features and flow of v3 and v4; `frames_per` mel frames to two of the encoder's are 15 / 8 (v3) or 2 (v4)."""

    def __init__(self, s, form):
        super().__init__(dict(s, estimator={"dim": 16, "ff": 16, "layers": 1, "kernel": 3}))
        self.cfm.estimator = Dit(s)
        self.rate = 15 / 8 if form == "v3" else 2

    def features(self, codes, phonemes, n_phonemes, ge):
        y = self.bridged(codes, phonemes, n_phonemes, ge)
        T = int(y.shape[1] * self.rate)
        return self.wns1(y[:, (torch.arange(T, device=y.device) / self.rate).long()], ge)


def make_acoustic(s, form):
    if form != "starter" and form not in sizes.FLOW_FORMS:
        raise ValueError(f"{form} has no flow matching")
    return nets.AcousticModel(s) if form == "starter" else PublishedAcoustic(s, form)


def load_acoustic(folder):
    """-> network, sizes. Only forms with flow matching."""
    s = sizes.acoustic_sizes(folder.manifest)
    return filled(make_acoustic(s, sizes.form_of(folder.manifest)), folder.state("acoustic"), folder), s


def style_of(net, folder):
    """ge [1, mrte_dim] of the prepared reference of a folder, by an acoustic network on the CPU."""
    reference = folder.reference()
    if not reference:
        raise SystemExit("give a voice: a folder without a prepared reference says not how it sounds")
    if "ge" in reference:
        return reference["ge"][None].float()
    if "spectrogram.0" in reference:
        return net.ref_enc(reference["spectrogram.0"].float()[None, :, : net.c["ref_bins"]])
    return net.ref_enc(nets.normalise_mel(reference["mel"].float())[None])


# --------------------------------------------------------------------------------------------------------- vocoder of v3
def kaiser_filter():
    """The twelve taps of BigVGAN's up- and downsampling by two: a windowed sinc, cut-off 1/4, half width 0.3."""
    attenuation = 2.285 * 5 * math.pi * 1.2 + 7.95
    n = torch.arange(12, dtype=torch.float64) - 5.5
    f = torch.kaiser_window(12, False, 0.1102 * (attenuation - 8.7), dtype=torch.float64) * torch.sinc(n / 2)
    return (f / f.sum()).float()


class Snake(nn.Module):
    """Periodic activation at twice the rate (Lee et al. 2023, sec. 3.2), logarithmic alpha and beta; x [B, C, T]."""

    def __init__(self, channels):
        super().__init__()
        self.act = nn.Module()
        self.act.alpha, self.act.beta = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
        self.register_buffer("taps", kaiser_filter(), persistent=False)

    def forward(self, x):
        C, w = x.shape[1], self.taps.to(x.dtype).expand(x.shape[1], 1, 12)
        y = 2 * F.conv_transpose1d(F.pad(x, (5, 5), mode="replicate"), w, stride=2, groups=C)[..., 15:-15]
        y = y + torch.sin(y * self.act.alpha.exp()[:, None]).pow(2) / (self.act.beta.exp()[:, None] + 1e-9)
        return F.conv1d(F.pad(y, (5, 6), mode="replicate"), w, stride=2, groups=C)


class SnakeBlock(nn.Module):
    def __init__(self, channels, kernel):
        super().__init__()
        conv = lambda d: nn.Conv1d(channels, channels, kernel, padding=(kernel - 1) // 2 * d, dilation=d)
        self.convs1, self.convs2 = nn.ModuleList(map(conv, (1, 3, 5))), nn.ModuleList(conv(1) for _ in range(3))
        self.activations = nn.ModuleList(Snake(channels) for _ in range(6))

    def forward(self, x):
        for i in range(3):
            x = x + self.convs2[i](self.activations[2 * i + 1](self.convs1[i](self.activations[2 * i](x))))
        return x


class Bigvgan(nn.Module):
    """The vocoder of v3: log mel [B, T, 100] -> waveform [B, 256 T] (models/bigvgan.h)."""

    def __init__(self, s):
        super().__init__()
        c = s["channels"]
        self.conv_pre = nn.Conv1d(100, c, 7, padding=3)
        self.ups = nn.ModuleList(nn.ModuleList([nn.ConvTranspose1d(c >> i, c >> (i + 1), k, r, padding=(k - r) // 2)])
                                 for i, (r, k) in enumerate(zip(s["upsample_rates"], s["upsample_kernels"])))
        stages = sizes.stage_channels(c, len(self.ups))
        self.resblocks = nn.ModuleList(SnakeBlock(n, k) for n in stages for k in (3, 7, 11))
        self.activation_post, self.conv_post = Snake(stages[-1]), nn.Conv1d(stages[-1], 1, 7, padding=3, bias=False)

    def forward(self, mel):
        x = self.conv_pre(mel.transpose(1, 2))
        for i, up in enumerate(self.ups):
            x = up[0](x)
            x = sum(b(x) for b in self.resblocks[3 * i: 3 * i + 3]) / 3
        return self.conv_post(self.activation_post(x)).clamp(-1, 1)[:, 0]


def make_vocoder(s, form):
    return nets.Vocoder(**{k: v for k, v in s.items() if k not in ("type", "gain_db")}) if form == "starter" else Bigvgan(s)


def load_vocoder(folder):
    """-> network, sizes: of the starter form or v3."""
    s = sizes.vocoder_sizes(folder.manifest)
    return filled(make_vocoder(s, sizes.form_of(folder.manifest)), folder.state("vocoder"), folder), s
