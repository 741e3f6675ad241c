"""Checkpoints of the cloning voice -> a folder in the starter form, float16, that speaks with one take as its reference and can be cloned from.

    export_voice.py --tokens F --flow F --vocoder F --t2s F --takes DIR --voice SPEAKER --out DIR [--id NAME] [--steps 4] [--gain-db 5.7]

The reference is the take of that speaker (in --takes) whose length is nearest to 5 s. Refuses when a network holds a value that is not finite or the folder would be
larger than 60 MB.
"""
import argparse
import json
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import stage
import nets
from config import SIZES
from export import fill_unseen, half
from train_flow import tokenize
from train_tokenizer import CODE_DIM, DIM

LIMIT_MB = 60


def checked(state, what):
    for k, v in state.items():
        if v.is_floating_point() and not torch.isfinite(v).all() or v.abs().max() > 6e4:
            raise SystemExit(f"{what}: {k} does not fit float16 or is not finite")
    return state


def reference_take(takes, speaker):
    mine = [t for t in takes if t["speaker"] == speaker]
    if not mine:
        raise SystemExit(f"no take of {speaker}; there are {', '.join(sorted({t['speaker'] for t in takes}))}")
    return min(mine, key=lambda t: abs(len(t["mel50"]) / 50 - 5))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("tokens", "flow", "vocoder", "t2s", "voice", "out"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--takes", nargs="+", required=True)
    ap.add_argument("--id", default="clone")
    ap.add_argument("--name", default="Clone")
    ap.add_argument("--languages", default="en,zh")
    ap.add_argument("--steps", type=int, default=4)
    ap.add_argument("--gain-db", type=float, default=5.7, help="brings level 0 to -20 LUFS; measure it with scripts/eval/clone.py")
    ap.add_argument("--top-k", type=int, default=5)
    ap.add_argument("--temperature", type=float, default=0.6)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    load = lambda p: torch.load(p, map_location="cpu")
    t2s, flow, vocoder, tokens = load(a.t2s), load(a.flow), load(a.vocoder), load(a.tokens)
    sizes = SIZES[flow["size"]]
    if t2s["size"] != flow["size"]:
        raise SystemExit(f"the T2S is of size {t2s['size']}, the flow of {flow['size']}")
    t = checked(t2s["net"], "T2S")
    t["bert_proj.bias"] = t.pop("bert_proj_bias")
    fill_unseen(t["ar_text_embedding.word_embeddings.weight"])
    save_file(half(t, "model."), f"{a.out}/t2s.safetensors")
    fill_unseen(flow["net"]["enc_p.text_embedding.weight"])
    save_file(half(checked(flow["net"], "flow")), f"{a.out}/acoustic.safetensors")
    save_file(half(checked(vocoder["net"], "vocoder")), f"{a.out}/vocoder.safetensors")
    encoder = {k: v for k, v in checked(tokens["net"], "tokenizer").items() if k.split(".")[0] in ("inp", "enc1", "down", "enc2", "to_code")}
    save_file(half(encoder), f"{a.out}/tokenizer.safetensors")
    take = reference_take(stage.load_takes(a.takes), a.voice)
    codes, _ = tokenize(a.tokens, [take], torch.device("cpu"))
    save_file({"mel": torch.from_numpy(np.ascontiguousarray(take["mel"], np.float32)), "prompt_tokens": torch.from_numpy(codes[0].astype(np.int32)),
               "prompt_phonemes": torch.from_numpy(take["ph"].astype(np.int32))}, f"{a.out}/reference.safetensors")
    s, v = sizes["t2s"], sizes["vocoder"]
    manifest = {
        "format": 1, "id": a.id, "name": a.name, "languages": a.languages.split(","), "sample_rate_hz": nets.RATE_HZ, "license": "Apache-2.0",
        "text": {"word_separator": "SP"},
        "t2s": {"file": "t2s.safetensors", "layers": s["layers"], "hidden": s["dim"], "heads": s["heads"], "phoneme_vocab": s["phonemes"], "vocab": s["vocab"],
                "bert_dim": 0, "sampling": {"top_k": a.top_k, "top_p": 1.0, "temperature": a.temperature, "repetition_penalty": 1.0, "min_tokens": 11}},
        "acoustic": {"file": "acoustic.safetensors", **sizes["acoustic"], "steps": a.steps},
        "vocoder": {"file": "vocoder.safetensors", **v, "gain_db": a.gain_db},
        "tokenizer": {"file": "tokenizer.safetensors", "dim": DIM, "layers": 3, "mel_bands": 80},
        "reference": {"file": "reference.safetensors"},
    }
    assert sizes["acoustic"]["code_dim"] == CODE_DIM
    with open(f"{a.out}/manifest.json", "w", encoding="utf8") as f:
        json.dump(manifest, f, indent=2)
        f.write("\n")
    for x in os.listdir(a.out):
        os.chmod(f"{a.out}/{x}", 0o644)
    size = sum(os.path.getsize(f"{a.out}/{x}") for x in os.listdir(a.out)) / 1e6
    if size > LIMIT_MB:
        raise SystemExit(f"{a.out}: {size:.1f} MB, more than {LIMIT_MB}")
    print(f"{a.out}: {size:.1f} MB")


if __name__ == "__main__":
    main()
