"""Checkpoints of the cloning voice -> a folder in the starter form, float16, that speaks with one take as its reference and can be cloned from.

    export_voice.py --tokens F --flow F --vocoder F --t2s F --takes DIR --voice SPEAKER --out DIR [--id NAME] [--steps 4] [--gain-db 5.7] [--no-prompt]

The reference is the take of that speaker (in --takes) whose length is nearest to 5 s; the mean spectrum is matched to all of the speaker's takes there (mel_shift.py), at most
16. Refuses when a network holds a value that is not finite or the folder would be larger than 60 MB.
"""
import os
import sys

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import stage  # first: the path of the other scripts
import mel_shift
import nets
from config import SIZES
from export import half, options, write
from train_flow import tokenize
from train_tokenizer import CODE_DIM, DIM

LIMIT_MB, NEPER_DB, MOST_TAKES = 60, 8.685889638, 16


def checked(state, what):
    for k, v in state.items():
        if v.is_floating_point() and not torch.isfinite(v).all() or v.abs().max() > 6e4:
            raise SystemExit(f"{what}: {k} does not fit float16 or is not finite")
    return state


def takes_of(takes, speaker):
    """Some takes of a speaker, first the one that is to be the reference."""
    mine = [t for t in takes if t["speaker"] == speaker]
    if not mine:
        raise SystemExit(f"no take of {speaker}; there are {', '.join(sorted({t['speaker'] for t in takes}))}")
    return sorted(mine, key=lambda t: abs(len(t["mel50"]) / 50 - 5))[:MOST_TAKES]


def main():
    ap = options(__doc__, "clone", 4, 5.7, "scripts/eval/clone.py")
    for name in ("tokens", "voice"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--takes", nargs="+", required=True)
    ap.add_argument("--languages", default="en,zh")
    ap.add_argument("--no-prompt", action="store_true", help="the voice itself speaks without a prompt, which is sooner; clones have theirs")
    ap.add_argument("--own-gain-db", type=float, default=0.0, help="on top of --gain-db, of the voice itself and not of its clones")
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    load = lambda p: torch.load(p, map_location="cpu")
    t2s, flow, vocoder, tokens = load(a.t2s), load(a.flow), load(a.vocoder), load(a.tokens)
    sizes = SIZES[flow["size"]]
    if t2s["size"] != flow["size"]:
        raise SystemExit(f"the T2S is of size {t2s['size']}, the flow of {flow['size']}")
    assert sizes["acoustic"]["code_dim"] == CODE_DIM
    encoder = {k: v for k, v in checked(tokens["net"], "tokenizer").items() if k.split(".")[0] in ("inp", "enc1", "down", "enc2", "to_code")}
    save_file(half(encoder), f"{a.out}/tokenizer.safetensors")
    takes = takes_of(stage.load_takes(a.takes), a.voice)
    take = takes[0]
    codes, _ = tokenize(a.tokens, takes, torch.device("cpu"))
    net = nets.AcousticModel(sizes["acoustic"]).eval()
    net.load_state_dict(flow["net"])
    shift = mel_shift.of_takes(net, take, takes, codes, a.steps, a.flow_temperature, a.postfilter)
    reference = {"mel": torch.from_numpy(np.ascontiguousarray(take["mel"], np.float32)), "mel_shift": shift + a.own_gain_db / NEPER_DB}
    if not a.no_prompt:
        reference.update(prompt_tokens=torch.from_numpy(codes[0].astype(np.int32)), prompt_phonemes=torch.from_numpy(take["ph"].astype(np.int32)))
    size = write(a, a.languages.split(","), sizes, checked(t2s["net"], "T2S"), checked(flow["net"], "flow"), checked(vocoder["net"], "vocoder"), reference,
                 tokenizer={"file": "tokenizer.safetensors", "dim": DIM, "layers": 3, "mel_bands": 80})
    if size > LIMIT_MB:
        raise SystemExit(f"{a.out}: {size:.1f} MB, more than {LIMIT_MB}")
    print(f"{a.out}: {size:.1f} MB")


if __name__ == "__main__":
    main()
