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


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--t2s", required=True)
    ap.add_argument("--flow", required=True)
    ap.add_argument("--vocoder", required=True)
    ap.add_argument("--features", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--id", default="starter")
    ap.add_argument("--name", default="Starter")
    ap.add_argument("--steps", type=int, default=2)
    ap.add_argument("--gain-db", type=float, default=4.1, help="brings the voice to -20 LUFS; measure it with scripts/eval/run.py")
    ap.add_argument("--top-k", type=int, default=5)
    ap.add_argument("--temperature", type=float, default=0.6)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    t2s = torch.load(a.t2s)
    t2s["bert_proj.bias"] = t2s.pop("bert_proj_bias")
    fill_unseen(t2s["ar_text_embedding.word_embeddings.weight"])
    save_file(half(t2s, "model."), f"{a.out}/t2s.safetensors")
    flow = torch.load(a.flow)["net"]
    fill_unseen(flow["enc_p.text_embedding.weight"])
    save_file(half(flow), f"{a.out}/acoustic.safetensors")
    save_file(half(torch.load(a.vocoder)), f"{a.out}/vocoder.safetensors")
    net = nets.AcousticModel(nets.STARTER["acoustic"])
    net.load_state_dict(flow)
    save_file({"ge": average_speaker(net, load_features(a.features, 2))[0].to(torch.float32)}, f"{a.out}/reference.safetensors")
    t, c, v = (dict(nets.STARTER[k]) for k in ("t2s", "acoustic", "vocoder"))
    manifest = {
        "format": 1, "id": a.id, "name": a.name, "languages": ["en"], "sample_rate_hz": nets.RATE_HZ, "license": "Apache-2.0",
        "text": {"word_separator": "SP"},
        "t2s": {"file": "t2s.safetensors", "layers": t["layers"], "hidden": t["dim"], "heads": t["heads"], "phoneme_vocab": t["phonemes"],
                "vocab": t["vocab"], "bert_dim": 0,
                "sampling": {"top_k": a.top_k, "top_p": 1.0, "temperature": a.temperature, "repetition_penalty": 1.0, "min_tokens": 11}},
        "acoustic": {"file": "acoustic.safetensors", **c, "steps": a.steps},
        "vocoder": {"file": "vocoder.safetensors", **v, "gain_db": a.gain_db},
        "reference": {"file": "reference.safetensors"},
    }
    with open(f"{a.out}/manifest.json", "w", encoding="utf8") as f:
        json.dump(manifest, f, indent=2)
        f.write("\n")
    size = sum(os.path.getsize(f"{a.out}/{x}") for x in os.listdir(a.out))
    print(f"{a.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
