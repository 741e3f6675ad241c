#!/usr/bin/env python3
"""Writes checkpoints in the form upstream's training saves them, with generated weights.

  generate_checkpoint.py samples DIR            the small files of tests/convert/data
  generate_checkpoint.py voice VERSION DIR      a T2S (.ckpt), an acoustic checkpoint (.pth) and for v3 and v4 a vocoder of
                                                full size; VERSION is v1, v2, v2Pro, v2ProPlus, v3 or v4. They make no speech, but
                                                have the published shapes, so that conversion and speed can be measured.
  generate_checkpoint.py reference VERSION DIR --model ID
                                                a voice folder of a prepared reference of 5 s beside the model folder ID

The generated T2S never ends by itself: the row of its end mark is zero, which is never among the likeliest tokens. So it speaks
until its budget, and whoever measures decides how long. Needs PyTorch. Keys and shapes are those that models/README.md and src/convert/forms.cpp tell; float16 as in fine-tuned files.
"""

import argparse
import io
import json
import pathlib
import struct
import sys
import types
from collections import OrderedDict

import torch

MARKS = {"v2Pro": b"05", "v2ProPlus": b"06"}
EOS = 1024
MODEL_CONFIG = {"inter_channels": 192, "hidden_channels": 192, "filter_channels": 768, "n_heads": 2, "n_layers": 6,
                "kernel_size": 3, "gin_channels": 512, "semantic_frame_rate": "25hz", "freeze_quantizer": True}
GENERATOR_CONFIG = {"p_dropout": 0.0, "resblock": "1", "resblock_kernel_sizes": [3, 7, 11],
                    "resblock_dilation_sizes": [[1, 3, 5]] * 3, "upsample_rates": [10, 8, 2, 2, 2],
                    "upsample_initial_channel": 512, "upsample_kernel_sizes": [16, 16, 8, 2, 2]}
DATA_CONFIG = {"sampling_rate": 32000, "filter_length": 2048, "hop_length": 640, "win_length": 2048, "n_mel_channels": 128,
               "n_speakers": 300}


class HParams:
    """Pickled under the name upstream's class has, utils.HParams, by its attributes."""

    def __init__(self, **entries):
        for key, value in entries.items():
            setattr(self, key, HParams(**value) if isinstance(value, dict) else value)


def name_hparams_as_upstream():
    module = types.ModuleType("utils")
    module.HParams = HParams
    HParams.__module__ = "utils"
    HParams.__qualname__ = "HParams"
    sys.modules["utils"] = module


def save(content, path, mark=None, old=False):
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    data = buffer.getvalue()
    path.write_bytes(mark + data[2:] if mark else data)


def samples(folder):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 4
    state = OrderedDict(
        half=torch.tensor([[1.5, -2.0, 0.25], [65504.0, 0.0, 6e-8]]).half(),
        bfloat=torch.tensor([1.0, -3.0, 1e30]).bfloat16(),
        double=torch.tensor([1 / 3, 2.0], dtype=torch.float64),
        integers=torch.tensor([[1, -2], [3, 2**40]]),
        flag=torch.tensor(True),
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        whole=base,
        transposed=base.t(),
        rows=base[1:3],
        steps=base[::2, 1::2],
        parameter=torch.nn.Parameter(torch.tensor([7.0])),
    )
    state._metadata = OrderedDict({"": {"version": 1}})
    config = HParams(train={"segment_size": 20480, "eps": 1e-9}, model=dict(MODEL_CONFIG, version="v2"), name="sample")
    content = OrderedDict(weight=state, config=config, info="8epoch_200iteration")
    save(content, folder / "new.pth")
    save(content, folder / "marked.pth", mark=b"05")
    save(content, folder / "old.pth", old=True)
    lightning = {
        "epoch": 3, "global_step": 12, "pytorch-lightning_version": "2.1.0", "state_dict": state,
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}, "param_groups": []}],
        "hyper_parameters": {"config": {"model": {"n_layer": 24}}, "output_dir": pathlib.PurePosixPath("/logs/s1")},
    }
    save(lightning, folder / "lightning.ckpt")


class Weights:
    def __init__(self):
        self.state = OrderedDict()
        self.generator = torch.Generator().manual_seed(1)

    def add(self, key, *shape):
        """Weights as wide as keeps activations of the size they had; gains near 1, offsets near 0."""
        fan_in = max(1, int(torch.tensor(shape[1:]).prod())) if len(shape) > 1 else 1
        noise = torch.rand(shape, generator=self.generator) * 2 - 1
        if key.endswith(("gamma", "alpha")) or (key.endswith("weight") and len(shape) == 1):
            value = 1 + 0.1 * noise
        elif len(shape) == 1:
            value = 0.05 * noise
        else:
            value = noise / fan_in**0.5
        self.state[key] = value.half()

    def linear(self, name, *shape):
        self.add(name + ".weight", *shape)
        self.add(name + ".bias", shape[0])

    def plain(self, name, n_bias, *shape):
        self.add(name + ".weight", *shape)
        self.add(name + ".bias", n_bias)

    def normed(self, name, n_bias, *shape):
        """A convolution under weight norm; its gain is the norm, so that nothing changes."""
        self.add(name + ".weight_v", *shape)
        v = self.state[name + ".weight_v"].float()
        self.state[name + ".weight_g"] = v.pow(2).sum(dim=(1, 2), keepdim=True).sqrt().half()
        if n_bias:
            self.add(name + ".bias", n_bias)


def t2s(version):
    w = Weights()
    d, vocab = 512, 512 if version == "v1" else 732
    w.linear("model.bert_proj", d, 1024)
    w.add("model.ar_text_embedding.word_embeddings.weight", vocab, d)
    w.add("model.ar_text_position.alpha", 1)
    w.add("model.ar_audio_embedding.word_embeddings.weight", 1025, d)
    w.add("model.ar_audio_position.alpha", 1)
    for i in range(24):
        layer = f"model.h.layers.{i}."
        w.add(layer + "self_attn.in_proj_weight", 3 * d, d)
        w.add(layer + "self_attn.in_proj_bias", 3 * d)
        w.linear(layer + "self_attn.out_proj", d, d)
        w.linear(layer + "linear1", 4 * d, d)
        w.linear(layer + "linear2", d, 4 * d)
        w.linear(layer + "norm1", d)
        w.linear(layer + "norm2", d)
    w.add("model.ar_predict_layer.weight", 1025, d)
    w.state["model.ar_predict_layer.weight"][EOS] = 0
    config = {"model": {"vocab_size": 1025, "phoneme_vocab_size": vocab, "embedding_dim": d, "hidden_dim": d, "head": 16,
                        "linear_units": 2048, "n_layer": 24, "dropout": 0, "EOS": EOS, "random_bert": 0},
              "data": {"max_sec": 54, "num_workers": 4, "pad_val": 1024}, "train": {"epochs": 15, "precision": "16-mixed"},
              "output_dir": "logs/sample/logs_s1", "inference": {"top_k": 15}}
    return OrderedDict(weight=w.state, config=config, info="GPT-e15")


def wavenet(w, name, channels, layers, ge):
    w.normed(name + ".cond_layer", 2 * channels * layers, 2 * channels * layers, ge, 1)
    for i in range(layers):
        w.normed(f"{name}.in_layers.{i}", 2 * channels, 2 * channels, channels, 5)
        out = channels if i == layers - 1 else 2 * channels
        w.normed(f"{name}.res_skip_layers.{i}", out, out, channels, 1)


def generator(w, prefix, channels, kernels, ups="ups.{}", conv=Weights.normed):
    for i, kernel in enumerate(kernels):
        c = channels >> (i + 1)
        conv(w, prefix + ups.format(i), c, 2 * c, c, kernel)
        for j, k in enumerate((3, 7, 11)):
            for convs in ("convs1", "convs2"):
                for m in range(3):
                    conv(w, f"{prefix}resblocks.{3 * i + j}.{convs}.{m}", c, c, c, k)


def decoder(w, channels, ge, kernels):
    w.linear("dec.conv_pre", channels, 192, 7)
    w.linear("dec.cond", channels, ge, 1)
    generator(w, "dec.", channels, kernels)
    w.add("dec.conv_post.weight", 1, channels >> len(kernels), 7)


def periodic(w, name, channels):
    """An activation of BigVGAN. Its filters are constants of the network that upstream saves with it; here they are means."""
    for part in ("alpha", "beta"):
        w.add(f"{name}.act.{part}", channels)
    for part in ("upsample", "downsample.lowpass"):
        w.state[f"{name}.{part}.filter"] = torch.full((1, 1, 12), 1 / 12)


def vocoder(version):
    """v3: BigVGAN; v4: HiFi-GAN, published without weight norm."""
    w = Weights()
    channels, kernels = (1536, [8, 8, 4, 4, 4, 4]) if version == "v3" else (512, [20, 12, 4, 4, 4])
    last = channels >> len(kernels)
    if version == "v4":
        w.linear("conv_pre", channels, 100, 7)
        generator(w, "", channels, kernels, conv=Weights.plain)
        w.linear("conv_post", 1, last, 7)
        return w.state
    w.normed("conv_pre", channels, channels, 100, 7)
    generator(w, "", channels, kernels, ups="ups.{}.0")
    for i in range(3 * len(kernels)):
        for j in range(6):
            periodic(w, f"resblocks.{i}.activations.{j}", channels >> (i // 3 + 1))
    periodic(w, "activation_post", last)
    w.normed("conv_post", 0, 1, last, 7)
    return {"generator": w.state}


def flow_matching(w):
    f, d = 512, 1024
    w.linear("bridge.0", f, 192, 1)
    w.linear("wns1.pre", f, f, 1)
    w.linear("wns1.proj", f, f, 1)
    wavenet(w, "wns1.enc", f, 8, 512)
    w.linear("linear_mel", 100, f, 1)
    e = "cfm.estimator."
    for part in ("time_embed", "d_embed"):
        w.linear(f"{e}{part}.time_mlp.0", d, 256)
        w.linear(f"{e}{part}.time_mlp.2", d, d)
    for i in range(4):
        block = f"{e}text_embed.text_blocks.{i}."
        w.linear(block + "dwconv", f, 1, 7)
        w.linear(block + "norm", f)
        w.linear(block + "pwconv1", 2 * f, f)
        w.add(block + "grn.gamma", 1, 1, 2 * f)
        w.add(block + "grn.beta", 1, 1, 2 * f)
        w.linear(block + "pwconv2", f, 2 * f)
    w.linear(e + "input_embed.proj", d, 712)
    for part in (0, 2):
        w.linear(f"{e}input_embed.conv_pos_embed.conv1d.{part}", d, 64, 31)
    w.state[e + "rotary_embed.inv_freq"] = (10000 ** (-torch.arange(0, 64, 2) / 64)).half()
    for i in range(22):
        block = f"{e}transformer_blocks.{i}."
        w.linear(block + "attn_norm.linear", 6 * d, d)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            w.linear(block + "attn." + part, d, d)
        w.linear(block + "ff.ff.0.0", 2 * d, d)
        w.linear(block + "ff.ff.2", d, 2 * d)
    w.linear(e + "norm_out.linear", 2 * d, d)
    w.linear(e + "proj_out", 100, d)


def acoustic(version):
    w = Weights()
    h, is_pro = 192, "Pro" in version
    ge = 1024 if is_pro else 512
    w.linear("enc_p.ssl_proj", h, 768, 1)
    w.add("enc_p.text_embedding.weight", 322 if version == "v1" else 732, h)
    for name, layers in (("encoder_ssl", 3), ("encoder_text", 6), ("encoder2", 3)):
        for i in range(layers):
            for part in "qkvo":
                w.linear(f"enc_p.{name}.attn_layers.{i}.conv_{part}", h, h, 1)
            for part in "kv":
                w.add(f"enc_p.{name}.attn_layers.{i}.emb_rel_{part}", 1, 9, 96)
            for norm in (1, 2):
                for part in ("gamma", "beta"):
                    w.add(f"enc_p.{name}.norm_layers_{norm}.{i}.{part}", h)
            w.linear(f"enc_p.{name}.ffn_layers.{i}.conv_1", 768, h, 3)
            w.linear(f"enc_p.{name}.ffn_layers.{i}.conv_2", h, 768, 3)
    for part in "qkvo":
        w.linear(f"enc_p.mrte.cross_attention.conv_{part}", 512, 512, 1)
    w.linear("enc_p.mrte.c_pre", 512, h, 1)
    w.linear("enc_p.mrte.text_pre", 512, h, 1)
    w.linear("enc_p.mrte.c_post", h, 512, 1)
    w.linear("enc_p.proj", 2 * h, h, 1)
    w.linear("ref_enc.spectral.0.fc", 128, 1025 if version == "v1" else 704)
    w.linear("ref_enc.spectral.3.fc", 128, 128)
    for i in range(2):
        w.linear(f"ref_enc.temporal.{i}.conv1.conv", 256, 128, 5)
    for part in ("w_qs", "w_ks", "w_vs", "fc"):
        w.linear("ref_enc.slf_attn." + part, 128, 128)
    w.linear("ref_enc.fc.fc", ge, 128)
    w.linear("ssl_proj", 768, 768, 2)
    codebook = "quantizer.vq.layers.0._codebook."
    w.state[codebook + "inited"] = torch.ones(1).half()
    w.state[codebook + "cluster_size"] = torch.ones(1024).half()
    w.add(codebook + "embed", 1024, 768)
    w.state[codebook + "embed_avg"] = w.state[codebook + "embed"].clone()
    if version in ("v3", "v4"):
        flow_matching(w)
    else:
        for i in (0, 2, 4, 6):
            w.linear(f"flow.flows.{i}.pre", h, h // 2, 1)
            wavenet(w, f"flow.flows.{i}.enc", h, 4, ge)
            w.linear(f"flow.flows.{i}.post", h // 2, h, 1)
        plus = version == "v2ProPlus"
        decoder(w, 768 if plus else 512, ge, [20 if plus else 16, 16, 8, 2, 2])
    if is_pro:
        w.linear("sv_emb", ge, 20480)
        w.linear("ge_to512", 512, ge)
        w.add("prelu.weight", ge)
    config = HParams(train={"segment_size": 20480, "epochs": 8}, data=DATA_CONFIG, name="sample",
                     model=dict(MODEL_CONFIG, **GENERATOR_CONFIG, version=version, gin_channels=ge))
    if version == "v2ProPlus":
        config.model.upsample_initial_channel, config.model.upsample_kernel_sizes = 768, [20, 16, 8, 2, 2]
    return OrderedDict(weight=w.state, config=config, info="8epoch_200iteration")


def write_safetensors(tensors, path):
    names = {torch.float32: "F32", torch.int32: "I32"}
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def reference(version, model, folder):
    """The prepared reference that models/README.md describes, 5 s long, of noise."""
    g = torch.Generator().manual_seed(2)
    tensors = {
        "prompt_tokens": torch.randint(0, 1024, (125,), generator=g, dtype=torch.int32),
        "prompt_phonemes": torch.randint(10, 300, (60,), generator=g, dtype=torch.int32),
        "spectrogram.0": torch.rand(250, 1025, generator=g),
    }
    if "Pro" in version:
        tensors["speaker_embedding.0"] = torch.rand(20480, generator=g) - 0.5
    if version in ("v3", "v4"):
        tensors["mel"] = 4 * torch.rand(468 if version == "v3" else 500, 100, generator=g) - 7
    write_safetensors(tensors, folder / "reference.safetensors")
    rate = {"v3": 24000, "v4": 48000}.get(version, 32000)
    manifest = {"format": 2, "form": version.lower(), "id": folder.name, "name": folder.name, "license": "",
                "languages": ["zh", "en"], "sample_rate_hz": rate, "text": {"word_separator": ""}, "model": model,
                "reference": {"file": "reference.safetensors"}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("samples").add_argument("folder", type=pathlib.Path)
    voice = commands.add_parser("voice")
    voice.add_argument("version", choices=["v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4"])
    voice.add_argument("folder", type=pathlib.Path)
    prepared = commands.add_parser("reference")
    prepared.add_argument("version", choices=["v1", "v2", "v2Pro", "v2ProPlus", "v3", "v4"])
    prepared.add_argument("folder", type=pathlib.Path)
    prepared.add_argument("--model", required=True)
    args = parser.parse_args()
    name_hparams_as_upstream()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.command == "samples":
        samples(args.folder)
        return
    if args.command == "reference":
        reference(args.version, args.model, args.folder)
        return
    save(t2s(args.version), args.folder / "sample-e15.ckpt")
    save(acoustic(args.version), args.folder / "sample_e8_s200.pth", mark=MARKS.get(args.version))
    if args.version in ("v3", "v4"):
        save(vocoder(args.version), args.folder / ("bigvgan_generator.pt" if args.version == "v3" else "vocoder.pth"))


if __name__ == "__main__":
    main()
