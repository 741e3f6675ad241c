"""The networks of the starter voice, in PyTorch: the reference for the C++ in models/.

State-dict keys and the order of operations are those of GPT-SoVITS v3 wherever the stage exists there (T2S, quantizer,
ref_enc, enc_p, bridge, wns1, CFM sampling); two stages are our own and stream exactly: a causal ConvNeXt estimator for
flow matching and a source-filter iSTFT vocoder. Tensors are [batch, time, channels] unless said otherwise.
"""
import functools
import math
import os

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

RATE_HZ, HOP, N_FFT, N_MEL, N_BINS = 24000, 256, 1024, 100, 513
PAD = (N_FFT - HOP) // 2                       # 384 reflected samples; frame t is centred on sample 256 t + 128
CODE_SAMPLES = 960                             # one semantic token: 40 ms, 2 feature frames, 3.75 mel frames
MEL_MIN, MEL_MAX = -12.0, 2.0


def save(state, path):
    """torch.save that never leaves half a file."""
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


@functools.cache
def _fast_bfloat16(kind):
    if kind != "cpu":
        return True
    try:
        with open("/proc/cpuinfo", encoding="utf8") as f:
            return "bf16" in f.read()
    except OSError:
        return False


def autocast(device="cpu"):
    """bfloat16 where it saves time; processors without instructions for it are slower with it than with float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=_fast_bfloat16(kind))


@torch.no_grad()
def average(ema, net, most, step=None):
    """Averages the weights of `net` into `ema`, which keeps the share `most` of its own; less of it over the first steps where `step` counts them."""
    keep = most if step is None else min(most, (step + 1) / (step + 20))
    torch._foreach_mul_(list(ema.parameters()), keep)
    torch._foreach_add_(list(ema.parameters()), list(net.parameters()), alpha=1 - keep)


# ---------------------------------------------------------------------------------------------------- mel front end (v3)
def slaney_bank(n_mel=N_MEL, n_fft=N_FFT, rate=RATE_HZ):
    """Slaney mel filters with area normalisation, [n_mel, n_fft/2 + 1]."""
    to_hz = lambda m: np.where(m < 15, m * 200.0 / 3, 1000.0 * np.exp((m - 15) * np.log(6.4) / 27))
    top = 15 + 27 * np.log(rate / 2 / 1000.0) / np.log(6.4)
    edges = to_hz(np.linspace(0, top, n_mel + 2))
    f = np.linspace(0, rate / 2, n_fft // 2 + 1)
    up = (f[None] - edges[:-2, None]) / np.diff(edges)[:-1, None]
    down = (edges[2:, None] - f[None]) / np.diff(edges)[1:, None]
    bank = np.maximum(0, np.minimum(up, down)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.tensor(bank, dtype=torch.float32), edges


BANK, EDGES = slaney_bank()
WINDOW = torch.hann_window(N_FFT)


def stft_magnitude(x, n_fft=N_FFT, hop=HOP, pad=None):
    """x [B, samples] -> [B, n_fft/2+1, frames], reflect padding of (n_fft-hop)/2, no centring."""
    pad = (n_fft - hop) // 2 if pad is None else pad
    x = F.pad(x[:, None], (pad, pad), mode="reflect")[:, 0]
    s = torch.view_as_real(torch.stft(x, n_fft, hop, n_fft, torch.hann_window(n_fft, device=x.device), center=False, return_complex=True))
    return torch.sqrt(s.pow(2).sum(-1) + 1e-8)


def log_mel(x):
    """x [B, samples] at 24 kHz -> log mel [B, 100, samples // 256]."""
    return torch.log(torch.clamp(BANK.to(x.device) @ stft_magnitude(x), min=1e-5))


def normalise_mel(mel):
    return (mel - MEL_MIN) / (MEL_MAX - MEL_MIN) * 2 - 1


def denormalise_mel(x):
    return (x + 1) / 2 * (MEL_MAX - MEL_MIN) + MEL_MIN


def mel_postfilter(mel, depth, width=4.0, reach=16, first=60):
    """models/mel_postfilter.h: log mel [.., bands] with its fine structure along the bands deepened from band `first` on."""
    k = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / width) ** 2)
    padded = torch.cat([mel[..., :reach].flip(-1), mel, mel[..., -reach:].flip(-1)], -1)
    smooth = padded.unfold(-1, 2 * reach + 1, 1) @ (k / k.sum()).float().to(mel.device)
    return mel + torch.where(torch.arange(mel.shape[-1], device=mel.device) >= first, depth, 0.0) * (mel - smooth)


# ----------------------------------------------------------------------------------------------------------------- T2S
def channel_dropout(x, p, training):
    """Drops whole channels of [B, T, C]: a sixth of a step cheaper than drawing a number per element."""
    if not training or p == 0:
        return x
    return x * ((torch.rand(x.shape[0], 1, x.shape[2], device=x.device) >= p) / (1 - p)).to(x.dtype)


class Projections(nn.Module):
    """Of an attention with `width` columns in all heads together."""

    def __init__(self, dim, width):
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = nn.Parameter(torch.empty(3 * width, dim)), nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, dim)
        nn.init.xavier_uniform_(self.in_proj_weight), nn.init.zeros_(self.out_proj.bias)

    def project(self, x):
        return F.linear(x, self.in_proj_weight, self.in_proj_bias)


class T2SLayer(nn.Module):
    """Post-norm transformer block (upstream `h.layers.i`); pruning leaves other widths than 4 dim and dim / heads."""

    def __init__(self, dim, heads, filter=None, head_dim=None):
        super().__init__()
        filter, self.head_dim = filter or 4 * dim, head_dim or dim // heads
        self.self_attn = Projections(dim, heads * self.head_dim)
        self.linear1, self.linear2 = nn.Linear(dim, filter), nn.Linear(filter, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.heads, self.dropout = heads, 0.0

    def forward(self, x, bias, want_attention=False):
        B, T, _ = x.shape
        a = self.self_attn
        q, k, v = a.project(x).view(B, T, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        p = None
        if want_attention or (self.training and not x.is_cuda and T < 512):      # on a CPU the fused backward is the slower one
            p = torch.softmax((q @ k.transpose(-1, -2)).float() / math.sqrt(self.head_dim) + bias, -1)
            y = p.to(v.dtype) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        y = a.out_proj(y.transpose(1, 2).reshape(B, T, -1))
        x = self.norm1(x + channel_dropout(y, self.dropout, self.training))
        y = self.linear2(channel_dropout(F.relu(self.linear1(x)), self.dropout, self.training))
        return self.norm2(x + y), p


class Embedding(nn.Module):
    def __init__(self, n, dim):
        super().__init__()
        self.word_embeddings = nn.Embedding(n, dim)

    def forward(self, ids):
        return self.word_embeddings(ids)


class Position(nn.Module):
    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1))


class TextToSemantic(nn.Module):
    """Phonemes -> semantic tokens. State-dict keys as upstream, to be stored with the prefix `model.`."""

    def __init__(self, layers=6, dim=256, heads=4, phonemes=732, vocab=513, filter=None, head_dim=None, bert_dim=0):
        super().__init__()
        self.dim, self.vocab, self.eos = dim, vocab, vocab - 1
        self.bert_proj_bias = nn.Parameter(torch.zeros(dim))                   # stored as bert_proj.bias
        self.bert_proj_weight = nn.Parameter(torch.zeros(dim, bert_dim)) if bert_dim else None
        self.ar_text_embedding, self.ar_audio_embedding = Embedding(phonemes, dim), Embedding(vocab, dim)
        self.ar_text_position, self.ar_audio_position = Position(), Position()
        self.h = nn.ModuleDict({"layers": nn.ModuleList(T2SLayer(dim, heads, filter, head_dim) for _ in range(layers))})
        self.ar_predict_layer = nn.Linear(dim, vocab, bias=False)
        pos = torch.arange(4000, dtype=torch.float32)[:, None]
        w = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * -(math.log(10000.0) / dim))
        pe = torch.zeros(4000, dim)
        pe[:, 0::2], pe[:, 1::2] = torch.sin(pos * w), torch.cos(pos * w)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, phonemes, n_phonemes, tokens, probe=(), bert=None):
        """phonemes [B, T] padded, n_phonemes [B], tokens [B, P] (teacher forced, padded at the end), bert [B, T, bert_dim].

        Returns logits [B, P + 1, vocab] (row 0 predicts the first token) and the attention of the probed layers.
        The text is padded on its right; padded keys are masked, so positions are those of an unpadded run.
        """
        B, T = phonemes.shape
        x = self.ar_text_embedding(phonemes) + self.bert_proj_bias + self.ar_text_position.alpha * self.pe[:T]
        if bert is not None:
            x = x + F.linear(bert, self.bert_proj_weight)
        y = self.ar_audio_embedding(tokens) + self.ar_audio_position.alpha * self.pe[: tokens.shape[1]]
        h = torch.cat([x, y], 1)
        L = h.shape[1]
        row, col = torch.arange(L, device=h.device)[:, None], torch.arange(L, device=h.device)[None]
        allowed = torch.where(row < T, col < T, (col < T) | (col <= row))
        allowed = allowed[None] & ~((col >= n_phonemes[:, None, None]) & (col < T))
        bias = torch.zeros(B, 1, L, L, device=h.device).masked_fill_(~allowed[:, None], float("-inf"))
        probes = {}
        for i, layer in enumerate(self.h["layers"]):
            h, p = layer(h, bias, i in probe)
            if i in probe:
                probes[i] = p
        last = h[torch.arange(B, device=h.device), n_phonemes - 1]             # the prompt-free first row: last text row
        return self.ar_predict_layer(torch.cat([last[:, None], h[:, T:]], 1)), probes


# ------------------------------------------------------------------------------------------------- acoustic conditioning
class Conv1x1(nn.Module):
    """1x1 convolution on [B, T, C]; weight [out, in, 1] as a Conv1d stores it."""

    def __init__(self, cin, cout):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cout, cin, 1))
        self.bias = nn.Parameter(torch.zeros(cout))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x):
        return F.linear(x, self.weight[..., 0], self.bias)


class Conv(nn.Conv1d):
    """Same-padded convolution on [B, T, C]."""

    def __init__(self, cin, cout, kernel):
        super().__init__(cin, cout, kernel, padding=kernel // 2)

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ChannelNorm(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return F.layer_norm(x, x.shape[-1:], self.gamma, self.beta, 1e-5)


class RelativeAttention(nn.Module):
    """Self-attention with relative positions in a window of +-4, keys limited to [i - left, i + right] when banded."""

    def __init__(self, dim, heads, band=None):
        super().__init__()
        self.heads, self.band, dk = heads, band, dim // heads
        self.conv_q, self.conv_k, self.conv_v, self.conv_o = (Conv1x1(dim, dim) for _ in range(4))
        self.emb_rel_k = nn.Parameter(torch.randn(1, 9, dk) * dk ** -0.5)
        self.emb_rel_v = nn.Parameter(torch.randn(1, 9, dk) * dk ** -0.5)

    def forward(self, x, lengths=None):
        B, T, D = x.shape
        split = lambda z: z.view(B, T, self.heads, D // self.heads).transpose(1, 2)
        q, k, v = split(self.conv_q(x)) / math.sqrt(D // self.heads), split(self.conv_k(x)), split(self.conv_v(x))
        i = torch.arange(T, device=x.device)
        d = i[None] - i[:, None]                                               # key - query
        near = d.abs() <= 4
        rel = (q @ self.emb_rel_k[0].to(q.dtype).T).gather(3, (d.clamp(-4, 4) + 4).expand(B, self.heads, T, T))
        s = (q @ k.transpose(-1, -2) + rel * near).float()
        if self.band is not None:
            s = s.masked_fill((d < -self.band[0]) | (d > self.band[1]), -1e4)
        if lengths is not None:
            s = s.masked_fill(i[None, None, None] >= lengths[:, None, None, None], -1e4)
        p = torch.softmax(s, -1).to(v.dtype)
        y = p @ v
        j = i[:, None] + torch.arange(-4, 5, device=x.device)                  # [T, 9] key index of each relative offset
        inside = (j >= 0) & (j < T)
        pr = p.gather(3, j.clamp(0, T - 1).expand(B, self.heads, T, 9)) * inside
        y = y + pr @ self.emb_rel_v[0].to(p.dtype)
        return self.conv_o(y.transpose(1, 2).reshape(B, T, D))


class FeedForward(nn.Module):
    def __init__(self, dim, filter_dim, kernel=3):
        super().__init__()
        self.conv_1, self.conv_2 = Conv(dim, filter_dim, kernel), Conv(filter_dim, dim, kernel)

    def forward(self, x, mask):
        return self.conv_2(F.relu(self.conv_1(x * mask)) * mask) * mask


class Encoder(nn.Module):
    def __init__(self, dim, filter_dim, heads, layers, band=None):
        super().__init__()
        self.attn_layers = nn.ModuleList(RelativeAttention(dim, heads, band) for _ in range(layers))
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(dim) for _ in range(layers))
        self.ffn_layers = nn.ModuleList(FeedForward(dim, filter_dim) for _ in range(layers))
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(dim) for _ in range(layers))
        self.dropout = 0.0

    def forward(self, x, lengths=None):
        mask = 1.0 if lengths is None else (torch.arange(x.shape[1], device=x.device)[None] < lengths[:, None])[..., None].to(x.dtype)
        drop = lambda z: F.dropout(z, self.dropout, self.training)
        x = x * mask
        for a, n1, f, n2 in zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2):
            x = n1(x + drop(a(x, lengths)))
            x = n2(x + drop(f(x, mask)))
        return x * mask


class CrossAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.keep, self.kept = False, None                                     # with keep, the last call's probabilities [B, heads, T, text], for a loss on them
        self.conv_q, self.conv_k, self.conv_v, self.conv_o = (Conv1x1(dim, dim) for _ in range(4))

    def forward(self, x, text, lengths):
        B, T, D = x.shape
        split = lambda z: z.view(B, z.shape[1], self.heads, D // self.heads).transpose(1, 2)
        q, k, v = split(self.conv_q(x)), split(self.conv_k(text)), split(self.conv_v(text))
        mask = None
        if lengths is not None:
            mask = (torch.arange(text.shape[1], device=x.device)[None] < lengths[:, None])[:, None, None]
        if self.keep:
            s = (q @ k.transpose(-1, -2)).float() / math.sqrt(D // self.heads)
            self.kept = torch.softmax(s if mask is None else s.masked_fill(~mask, float("-inf")), -1)
            y = self.kept.to(v.dtype) @ v
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.conv_o(y.transpose(1, 2).reshape(B, T, D))


class Mrte(nn.Module):
    def __init__(self, dim, inner, heads):
        super().__init__()
        self.cross_attention = CrossAttention(inner, heads)
        self.c_pre, self.text_pre, self.c_post = Conv1x1(dim, inner), Conv1x1(dim, inner), Conv1x1(inner, dim)

    def forward(self, y, text, lengths, ge):
        c = self.c_pre(y)
        return self.c_post(self.cross_attention(c, self.text_pre(text), lengths) + c + ge[:, None])


class SemanticEncoder(nn.Module):
    """enc_p: semantic codes and phonemes -> 50 Hz features. Banded in the code direction, global over the text."""

    def __init__(self, c):
        super().__init__()
        d, f, h, band = c["hidden"], c["filter"], c["heads"], c["attention_window"]
        self.ssl_proj = Conv1x1(c["code_dim"], d)
        self.encoder_ssl = Encoder(d, f, h, c["layers_ssl"], band)
        self.text_embedding = nn.Embedding(c["phonemes"], d)
        self.encoder_text = Encoder(d, f, h, c["layers_text"])
        self.mrte = Mrte(d, c["mrte_dim"], c["mrte_heads"])
        self.encoder2 = Encoder(d, f, h, c["layers_post"], band)

    def forward(self, code_vectors, phonemes, n_phonemes, ge):
        """code_vectors [B, 2N, code_dim] (each code twice) -> [B, 2N, hidden]."""
        y = self.encoder_ssl(self.ssl_proj(code_vectors))
        text = self.encoder_text(self.text_embedding(phonemes), n_phonemes)
        return self.encoder2(self.mrte(y, text, n_phonemes, ge))


class GatedConv(nn.Module):
    """MelStyleEncoder's temporal block: x + a * sigmoid(b), [a | b] = conv5(x)."""

    def __init__(self, dim):
        super().__init__()
        self.conv1 = nn.ModuleDict({"conv": Conv(dim, 2 * dim, 5)})

    def forward(self, x):
        a, b = self.conv1["conv"](x).chunk(2, -1)
        return x + a * torch.sigmoid(b)


class StyleAttention(nn.Module):
    def __init__(self, dim, heads=2):
        super().__init__()
        self.heads, self.dim = heads, dim
        self.w_qs, self.w_ks, self.w_vs, self.fc = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x):
        B, T, D = x.shape
        split = lambda z: z.view(B, T, self.heads, D // self.heads).transpose(1, 2)
        p = torch.softmax(split(self.w_qs(x)) @ split(self.w_ks(x)).transpose(-1, -2) / math.sqrt(self.dim), -1)
        return self.fc((p @ split(self.w_vs(x))).transpose(1, 2).reshape(B, T, D)) + x


class Fc(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.fc = nn.Linear(cin, cout)

    def forward(self, x):
        return self.fc(x)


class ReferenceEncoder(nn.Module):
    """ref_enc: normalised log mel [B, T, bins] of the reference -> style [B, gin]."""

    def __init__(self, bins, gin, dim=128):
        super().__init__()
        self.spectral = nn.ModuleDict({"0": Fc(bins, dim), "3": Fc(dim, dim)})
        self.temporal = nn.ModuleList([GatedConv(dim), GatedConv(dim)])
        self.slf_attn = StyleAttention(dim)
        self.fc = Fc(dim, gin)

    def forward(self, x):
        x = F.mish(self.spectral["3"](F.mish(self.spectral["0"](x))))
        for t in self.temporal:
            x = t(x)
        return self.fc(self.slf_attn(x)).mean(1)


class WaveNet(nn.Module):
    """WN (kernel 5, no dilation), plain weights (weight norm folded)."""

    def __init__(self, dim, layers, gin):
        super().__init__()
        self.dim = dim
        self.cond_layer = Conv1x1(gin, 2 * dim * layers)
        self.in_layers = nn.ModuleList(Conv(dim, 2 * dim, 5) for _ in range(layers))
        self.res_skip_layers = nn.ModuleList(Conv1x1(dim, 2 * dim if i < layers - 1 else dim) for i in range(layers))

    def forward(self, x, ge, offset=0):
        """offset: of the conditioning, [2 * dim * layers]."""
        cond, H, out, n = (self.cond_layer(ge) + offset)[:, None], self.dim, 0, len(self.in_layers)
        for i in range(n):
            a = self.in_layers[i](x) + cond[..., 2 * H * i: 2 * H * (i + 1)]
            r = self.res_skip_layers[i](torch.tanh(a[..., :H]) * torch.sigmoid(a[..., H:]))
            if i < n - 1:
                x, out = x + r[..., :H], out + r[..., H:]
            else:
                out = out + r
        return out


class Wns(nn.Module):
    def __init__(self, dim, layers, gin):
        super().__init__()
        self.pre, self.enc, self.proj = Conv1x1(dim, dim), WaveNet(dim, layers, gin), Conv1x1(dim, dim)

    def forward(self, x, ge, offset=0):
        return self.proj(self.enc(self.pre(x), ge, offset))


# -------------------------------------------------------------------------------------- flow matching: causal ConvNeXt
class TimeEmbed(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.time_mlp = nn.ModuleDict({"0": nn.Linear(256, dim), "2": nn.Linear(dim, dim)})

    def forward(self, t):
        w = torch.exp(torch.arange(128, device=t.device) * (-math.log(10000.0) / 127))
        a = 1000.0 * t[:, None] * w
        return self.time_mlp["2"](F.silu(self.time_mlp["0"](torch.cat([a.sin(), a.cos()], -1))))


class CausalConvNeXt(nn.Module):
    """h + gate * W2 gelu_tanh(W1 (LN(dwconv(h)) (1 + scale) + shift)); the depthwise kernel looks left only."""

    def __init__(self, dim, ff, kernel):
        super().__init__()
        self.kernel = kernel
        self.dwconv = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.ada = nn.Linear(dim, 3 * dim)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, ff), nn.Linear(ff, dim)
        nn.init.zeros_(self.ada.weight), nn.init.zeros_(self.ada.bias)
        nn.init.constant_(self.ada.bias[2 * dim:], 0.2)

    def forward(self, h, tvec, offset=0):
        shift, scale, gate = (self.ada(F.silu(tvec)) + offset)[:, None].chunk(3, -1)
        y = depthwise(h, self.dwconv, self.kernel - 1, 0)
        y = F.layer_norm(y, y.shape[-1:], eps=1e-6) * (1 + scale) + shift
        return h + gate * self.pwconv2(F.gelu(self.pwconv1(y), approximate="tanh"))


def depthwise(x, conv, left, right):
    """Depthwise convolution on [B, T, C] as shifted multiply-adds (fast on CPU for small kernels)."""
    T, k = x.shape[1], conv.weight.shape[2]
    p = F.pad(x, (0, 0, left, right))
    w = conv.weight[:, 0].T.to(x.dtype)
    y = conv.bias.to(x.dtype) + p[:, :T] * w[0]
    for i in range(1, k):
        y = torch.addcmul(y, p[:, i: i + T], w[i])
    return y


class NormOut(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)


class InputEmbed(nn.Module):
    def __init__(self, cin, dim):
        super().__init__()
        self.proj = nn.Linear(cin, dim)


class CausalEstimator(nn.Module):
    """Velocity v(x_t, mu, t): x [B, T, 100], mu [B, T, features], t [B] -> [B, T, 100]. Frame i sees frames <= i."""

    def __init__(self, features, dim=256, ff=768, layers=8, kernel=7):
        super().__init__()
        self.time_embed = TimeEmbed(dim)
        self.input_embed = InputEmbed(N_MEL + features, dim)
        self.blocks = nn.ModuleList(CausalConvNeXt(dim, ff, kernel) for _ in range(layers))
        self.norm_out = NormOut(dim)
        self.proj_out = nn.Linear(dim, N_MEL)

    def forward(self, x, mu, t, fit=None):
        """fit: a speaker's, see AcousticModel."""
        tvec = self.time_embed(t)
        h = self.input_embed.proj(torch.cat([x, mu], -1))
        for i, b in enumerate(self.blocks):
            h = b(h, tvec, fit["norms"][i] if fit else 0)
        scale, shift = (self.norm_out.linear(F.silu(tvec)) + (fit["out_norm"] if fit else 0))[:, None].chunk(2, -1)
        return self.proj_out(F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class Codebook(nn.Module):
    def __init__(self, codes, dim):
        super().__init__()
        self.register_buffer("embed", torch.zeros(codes, dim))


def feature_frames(count, device):
    """The 50 Hz frame that each of so many mel frames is made of: the nearest, factor 1.875."""
    return torch.arange(count, device=device) * 8 // 15


class AcousticModel(nn.Module):
    """Semantic codes + phonemes + reference -> mel. Keys: quantizer, ref_enc, enc_p, bridge.0, wns1, cfm.estimator.

    fit: offsets that a speaker's recording taught (clone/speaker_fit.py), of which the flow has norms [estimator layers, 3 dim] and out_norm [2 dim]."""

    def __init__(self, c):
        super().__init__()
        self.c = c
        book = nn.Module()
        book._codebook = Codebook(c["codes"], c["code_dim"])
        vq = nn.Module()
        vq.layers = nn.ModuleList([book])
        self.quantizer = nn.Module()
        self.quantizer.vq = vq
        self.ref_enc = ReferenceEncoder(c["ref_bins"], c["mrte_dim"], c["style_dim"])
        self.enc_p = SemanticEncoder(c)
        self.bridge = nn.ModuleList([Conv1x1(c["hidden"], c["feature_dim"])])
        self.wns1 = Wns(c["feature_dim"], c["wns_layers"], c["mrte_dim"])
        self.cfm = nn.Module()
        e = c["estimator"]
        self.cfm.estimator = CausalEstimator(c["feature_dim"], e["dim"], e["ff"], e["layers"], e["kernel"])

    def bridged(self, codes, phonemes, n_phonemes, ge):
        """codes [B, N] -> [B, 2N, features] at 50 Hz; ge [B, gin] from ref_enc."""
        e = self.quantizer.vq.layers[0]._codebook.embed[codes].repeat_interleave(2, 1)
        return F.leaky_relu(self.bridge[0](self.enc_p(e, phonemes, n_phonemes, ge)), 0.01)

    def features(self, codes, phonemes, n_phonemes, ge):
        """codes [B, N] -> mu [B, floor(2N * 1.875), features]."""
        y = self.bridged(codes, phonemes, n_phonemes, ge)
        T = int(y.shape[1] * 15 // 8)
        y = y[:, feature_frames(T, y.device)]
        return self.wns1(y, ge)

    def sample(self, mu, noise, steps=4, fit=None):
        """noise [B, T, 100] -> normalised mel, Euler from t = 0 (acoustic.md 8.2)."""
        x, d = noise, 1.0 / steps
        for s in range(steps):
            x = x + d * self.cfm.estimator(x, mu, torch.full((x.shape[0],), s * d, device=x.device), fit)
        return x


# ------------------------------------------------------------------------------------------- source-filter iSTFT vocoder
class VocoderBlock(nn.Module):
    """ConvNeXt block, depthwise kernel 7 looking left only, layer scale `gamma`."""

    def __init__(self, dim, ff, layers):
        super().__init__()
        self.dwconv = nn.Conv1d(dim, dim, 7, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.pwconv1, self.pwconv2 = nn.Linear(dim, ff), nn.Linear(ff, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 1.0 / layers))

    def forward(self, x):
        y = depthwise(x, self.dwconv, 6, 0)
        return x + self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(y)), approximate="tanh"))


class VocoderBody(nn.Module):
    """Input convolution of kernel 7 with 3 frames of lookahead, then causal blocks."""

    def __init__(self, cin, dim, ff, layers):
        super().__init__()
        self.conv_in = Conv(cin, dim, 7)
        self.norm_in = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(VocoderBlock(dim, ff, layers) for _ in range(layers))
        self.norm_out = nn.LayerNorm(dim)

    def forward(self, x):
        x = self.norm_in(self.conv_in(x))
        for b in self.blocks:
            x = b(x)
        return self.norm_out(x)


F0_BINS, F0_MIN, F0_MAX, F0_MEL = 96, 60.0, 420.0, 60
F0_GRID = F0_MIN * (F0_MAX / F0_MIN) ** (torch.arange(F0_BINS) / (F0_BINS - 1))
F0_START = 180.0                                                               # held before the first voiced frame


def hold_f0(f0):
    """f0 [B, T], 0 = unvoiced -> the last voiced value held through unvoiced frames (F0_START before the first)."""
    g = f0.detach().cpu().numpy().copy()
    for r in g:
        idx = np.where(r > 0, np.arange(len(r)), -1)
        idx = np.maximum.accumulate(idx)
        r[:] = np.where(idx >= 0, r[np.maximum(idx, 0)], F0_START)
    return torch.from_numpy(g).to(f0.device)


def frames_to_samples(z, start, count):
    """Linear interpolation of frame values z [B, T] (frame t sits on sample 256 t + 128) at samples start..start+count-1.

    Before the first and after the last frame centre the edge value is held.
    """
    pos = ((torch.arange(start, start + count, device=z.device, dtype=torch.float64) - HOP / 2) / HOP).clamp(0, z.shape[1] - 1)
    i = pos.floor().long().clamp(max=z.shape[1] - 1)
    j = (i + 1).clamp(max=z.shape[1] - 1)
    w = (pos - i).to(z.dtype)
    return z[:, i] * (1 - w) + z[:, j] * w


def pulse_train(f0, phase0=None):
    """Band-limited pulse train of unit power in voiced frames: [B, T] -> samples [-384, 256 T + 384), [B, 256 T + 768].

    Closed form (Dirichlet kernel) of K equal cosines, K = floor(12000 / f0); phase runs from sample -384.
    """
    B, T = f0.shape
    n = T * HOP + 2 * PAD
    v = frames_to_samples((f0 > 0).float(), -PAD, n)
    g = frames_to_samples(hold_f0(f0), -PAD, n)
    phase = torch.cumsum(g.double() / RATE_HZ, 1) + (0 if phase0 is None else phase0)
    theta = ((phase - phase.floor()) * 2 * math.pi).float()
    K = torch.floor(RATE_HZ / 2 / g)
    d = torch.sin(theta / 2)
    small = d.abs() < 1e-3
    p = torch.where(small, K, torch.sin((K + 0.5) * theta) / (2 * torch.where(small, torch.ones_like(d), d)) - 0.5)
    return p * torch.sqrt(2 / K) * v


def frame_stft(x):
    """[B, 256 T + 768] -> [B, T, 513] complex, frame t over samples [256 t - 384, 256 t + 640)."""
    return torch.stft(x, N_FFT, HOP, N_FFT, WINDOW.to(x.device), center=False, return_complex=True).transpose(1, 2)


def overlap_add(spec):
    """[B, T, 513] complex -> samples [0, 256 T); Hann analysis and synthesis windows, constant norm 1.5."""
    frames = torch.fft.irfft(spec, N_FFT, dim=2) * (WINDOW.to(spec.device) / 1.5)
    T = frames.shape[1]
    y = F.fold(frames.transpose(1, 2), (1, T * HOP + 2 * PAD), (1, N_FFT), stride=(1, HOP))[:, 0, 0]
    return y[:, PAD: PAD + T * HOP]


_band = BANK.sum(1)
_centre = torch.tensor(EDGES[1:-1], dtype=torch.float32)
ENVELOPE = torch.zeros(N_MEL, N_BINS)                                          # log mel -> log magnitude per bin
_idx = np.clip(np.interp(np.arange(N_BINS) * RATE_HZ / N_FFT, EDGES[1:-1], np.arange(N_MEL)), 0, N_MEL - 1)
for _b, _x in enumerate(_idx):
    _i = min(int(_x), N_MEL - 2)
    ENVELOPE[_i, _b], ENVELOPE[_i + 1, _b] = 1 - (_x - _i), _x - _i
BAND_LOG = torch.log(_band.clamp(min=1e-8))                                    # log of each filter's sum
SOURCE_LOG = 0.5 * math.log(float((WINDOW ** 2).sum()))                        # log magnitude of a unit-power source


class Vocoder(nn.Module):
    """Log mel [B, T, 100] -> waveform [B, 256 T].

    S = Hh exp(i phi) STFT(pulse train) + Hn STFT(noise), both gains relative to the envelope of the mel. Lookahead:
    3 mel frames for F0, 3 more because the body sees F0 through its input convolution, 2 for the overlap-add.
    """

    def __init__(self, dim=256, ff=768, layers=6, f0_dim=128, f0_ff=256, f0_layers=3):
        super().__init__()
        self.f0 = VocoderBody(F0_MEL, f0_dim, f0_ff, f0_layers)
        self.f0_out = nn.Linear(f0_dim, F0_BINS + 1)
        self.body = VocoderBody(N_MEL + 2, dim, ff, layers)
        self.out = nn.Linear(dim, 3 * N_BINS)
        nn.init.normal_(self.out.weight, std=0.01)
        with torch.no_grad():
            self.out.bias[:N_BINS].fill_(-0.5)
            self.out.bias[N_BINS: 2 * N_BINS].fill_(-1.5)
            self.out.bias[2 * N_BINS:].zero_()

    def f0_logits(self, mel):
        return self.f0_out(self.f0(normalise_mel(mel)[..., :F0_MEL]))

    @torch.no_grad()
    def predict_f0(self, mel):
        """[B, T, 100] -> Hz [B, T], 0 = unvoiced: log-mean over the +-2 bins around the best one."""
        o = self.f0_logits(mel).float()
        best = o[..., :F0_BINS].argmax(-1)
        near = (torch.arange(F0_BINS, device=mel.device) - best[..., None]).abs() <= 2
        w = torch.softmax(o[..., :F0_BINS].masked_fill(~near, -1e9), -1)
        f = torch.exp((w * torch.log(F0_GRID.to(mel.device))).sum(-1))
        return torch.where(o[..., F0_BINS] > 0, f, torch.zeros_like(f))

    def gains(self, mel, f0):
        """-> log harmonic gain, log noise gain, harmonic phase offset; each [B, T, 513]."""
        v = (f0 > 0).float()
        c = torch.stack([v * torch.log(f0.clamp(min=F0_MIN) / 150.0), v], -1)
        o = self.out(self.body(torch.cat([normalise_mel(mel), c], -1))).float()
        base = (mel - BAND_LOG.to(mel.device)) @ ENVELOPE.to(mel.device) - SOURCE_LOG
        a, b, p = o.split(N_BINS, -1)
        return torch.clamp(base + a, max=6.0), torch.clamp(base + b, max=6.0), 2 * p

    def forward(self, mel, f0, noise, phase0=None, second_noise=None):
        """mel [B, T, 100] log, f0 [B, T] Hz, noise [B, 256 T + 768] unit Gaussian from sample -384."""
        a, b, p = self.gains(mel, f0)
        with torch.no_grad():
            e, n = frame_stft(pulse_train(f0, phase0)), frame_stft(noise)
        h = torch.polar(torch.exp(a), p) * e
        g = torch.exp(b)
        y = overlap_add(h + g * n)
        if second_noise is None:
            return y
        with torch.no_grad():
            n2 = frame_stft(second_noise)
        return y, overlap_add(h + g * n2)


STARTER = {
    "t2s": {"layers": 6, "dim": 256, "heads": 4, "phonemes": 732, "vocab": 513},
    "acoustic": {"codes": 512, "code_dim": 64, "phonemes": 732, "hidden": 192, "filter": 512, "heads": 2, "layers_ssl": 1,
                 "layers_text": 3, "layers_post": 2, "attention_window": [16, 1], "mrte_dim": 256, "mrte_heads": 4,
                 "ref_bins": 100, "style_dim": 128, "feature_dim": 256, "wns_layers": 2,
                 "estimator": {"type": "causal_convnext", "dim": 256, "ff": 768, "layers": 8, "kernel": 7}},
    "vocoder": {"type": "source_filter_istft", "dim": 256, "ff": 768, "layers": 6, "f0_dim": 128, "f0_ff": 256, "f0_layers": 3},
}
