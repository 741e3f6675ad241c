"""Checkpoints -> a voice folder: manifest.json and safetensors in float16.

    export.py --t2s F --flow F --vocoder F --features DIR --out DIR [--id starter] [--steps 2] [--gain-db 4.1]
"""
import argparse
import json
import os

import torch
from safetensors.torch import save_file

import nets
from flow import average_speaker
from symbols import IDS
from tokenizer import load_features


UNSEEN = {"…": ".", "-": ","}                   # marks no training text had: they sound like the nearest one that had


def fill_unseen(table):
    for symbol, like in UNSEEN.items():
        table[IDS[symbol]] = table[IDS[like]]


def half(state, prefix=""):
    return {prefix + k: v.detach().to(torch.float16).contiguous() for k, v in state.items()}


def options(doc, name, steps, gain_db, measured_with):
    """Those of every exported voice."""
    ap = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for required in ("t2s", "flow", "vocoder", "out"):
        ap.add_argument("--" + required, required=True)
    ap.add_argument("--id", default=name)
    ap.add_argument("--name", default=name.capitalize())
    ap.add_argument("--steps", type=int, default=steps)
    ap.add_argument("--gain-db", type=float, default=gain_db, help=f"brings the voice to -20 LUFS; measure it with {measured_with}")
    ap.add_argument("--top-k", type=int, default=5)
    ap.add_argument("--temperature", type=float, default=0.6)
    ap.add_argument("--flow-temperature", type=float, default=1.0, help="of the noise that the flow starts from")
    ap.add_argument("--postfilter", type=float, default=0.0, help="depth of models/mel_postfilter.h")
    return ap


def write(a, languages, sizes, t2s, flow, vocoder, reference, **more):
    """The folder a.out but for files of `more`, parts of the manifest. sizes: as nets.STARTER; networks: state dicts; reference: tensors. -> MB."""
    os.makedirs(a.out, exist_ok=True)
    t2s["bert_proj.bias"] = t2s.pop("bert_proj_bias")
    fill_unseen(t2s["ar_text_embedding.word_embeddings.weight"])
    fill_unseen(flow["enc_p.text_embedding.weight"])
    for name, state in (("t2s", half(t2s, "model.")), ("acoustic", half(flow)), ("vocoder", half(vocoder)), ("reference", reference)):
        save_file(state, f"{a.out}/{name}.safetensors")
    t = sizes["t2s"]
    manifest = {
        "format": 1, "id": a.id, "name": a.name, "languages": languages, "sample_rate_hz": nets.RATE_HZ, "license": "Apache-2.0",
        "text": {"word_separator": "SP"},
        "t2s": {"file": "t2s.safetensors", "layers": t["layers"], "hidden": t["dim"], "heads": t["heads"], "phoneme_vocab": t["phonemes"],
                "vocab": t["vocab"], "bert_dim": 0,
                "sampling": {"top_k": a.top_k, "top_p": 1.0, "temperature": a.temperature, "repetition_penalty": 1.0, "min_tokens": 11}},
        "acoustic": {"file": "acoustic.safetensors", **sizes["acoustic"], "steps": a.steps, **({"temperature": a.flow_temperature} if a.flow_temperature != 1 else {}),
                     **({"postfilter": a.postfilter} if a.postfilter else {})},
        "vocoder": {"file": "vocoder.safetensors", **sizes["vocoder"], "gain_db": a.gain_db},
        **more,
        "reference": {"file": "reference.safetensors"},
    }
    with open(f"{a.out}/manifest.json", "w", encoding="utf8") as f:
        json.dump(manifest, f, indent=2)
        f.write("\n")
    files = [f"{a.out}/{x}" for x in os.listdir(a.out)]
    for x in files:
        os.chmod(x, 0o644)                                                     # save_file lets nobody else read it
    return sum(map(os.path.getsize, files)) / 1e6


def main():
    ap = options(__doc__, "starter", 2, 4.1, "scripts/eval/run.py")
    ap.add_argument("--features", required=True)
    a = ap.parse_args()
    flow = torch.load(a.flow)["net"]
    net = nets.AcousticModel(nets.STARTER["acoustic"])
    net.load_state_dict(flow)
    reference = {"ge": average_speaker(net, load_features(a.features, 2))[0].to(torch.float32)}
    print(f"{a.out}: {write(a, ['en'], nets.STARTER, torch.load(a.t2s), flow, torch.load(a.vocoder), reference):.1f} MB")


if __name__ == "__main__":
    main()
