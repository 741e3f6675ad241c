"""Speech from checkpoints, in PyTorch: to listen and to score before a voice is exported.

    synthesize.py --t2s F --flow F --vocoder F --features DIR --phonemes FILE --out DIR [--steps N] [--codes FILE]

FILE has one line of space-separated phoneme symbols per sentence (the `phonemize` tool writes them). With `--teacher-codes` the
held-out utterances' own codes are used instead of T2S, which scores the acoustic side alone; `--copy` scores the vocoder alone.
"""
import argparse
import os

import numpy as np
import soundfile as sf
import torch

import nets
from symbols import ids_of
from tokenizer import is_held_out, load_features


@torch.no_grad()
def generate(net, phonemes, top_k=5, temperature=0.8, limit=None, generator=None):
    """Plain sampling without a cache; returns codes [N]. EOS is barred for 11 steps, as upstream."""
    ph = torch.tensor(phonemes)[None]
    n = torch.tensor([ph.shape[1]])
    y = torch.zeros(1, 0, dtype=torch.long)
    for step in range(limit or 20 + 6 * len(phonemes)):
        l = net(ph, n, y)[0][0, -1].float()
        if step < 11:
            l[-1] = -1e9
        if l.argmax() == net.eos:
            break
        v, i = (l / temperature).topk(top_k)
        t = i[torch.multinomial(torch.softmax(v, -1), 1, generator=generator)]
        if t == net.eos:
            break
        y = torch.cat([y, t[None]], 1)
    return y[0]


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--t2s")
    ap.add_argument("--flow")
    ap.add_argument("--vocoder", required=True)
    ap.add_argument("--features", required=True)
    ap.add_argument("--phonemes")
    ap.add_argument("--teacher-codes", help="tokenizer checkpoint")
    ap.add_argument("--copy", action="store_true")
    ap.add_argument("--out", required=True)
    ap.add_argument("--steps", type=int, default=4)
    ap.add_argument("--top-k", type=int, default=5)
    ap.add_argument("--temperature", type=float, default=0.8)
    ap.add_argument("--count", type=int, default=40)
    a = ap.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.makedirs(a.out, exist_ok=True)
    voc = nets.Vocoder()
    voc.load_state_dict(torch.load(a.vocoder))
    data = load_features(a.features, 40)
    held = [u for u in data if is_held_out(u)]
    if a.flow:
        flow = nets.AcousticModel(nets.STARTER["acoustic"])
        flow.load_state_dict(torch.load(a.flow)["net"])
        flow.eval()
        ref = next(u for u in data if len(u["mel"]) > 400 and not is_held_out(u))["mel"].astype(np.float32)[40:360]
        ge = flow.ref_enc(nets.normalise_mel(torch.from_numpy(ref))[None])
    if a.t2s:
        t2s = nets.TextToSemantic()
        t2s.load_state_dict(torch.load(a.t2s))
        t2s.eval()
    jobs = []
    if a.copy or a.teacher_codes:
        from t2s import tokenize
        held = held[: a.count]
        codes = tokenize(a.teacher_codes, held) if a.teacher_codes else [None] * len(held)
        jobs = [(ids_of(u["ph"]), c, u) for u, c in zip(held, codes)]
        with open(f"{a.out}/sentences.txt", "w", encoding="utf8") as f:
            f.writelines(u["text"] + "\n" for u in held)
    else:
        lines = [l.split("\t")[-1].split() for l in open(a.phonemes, encoding="utf8")][: a.count]
        jobs = [(ids_of(l), None, None) for l in lines]
    for i, (ph, codes, u) in enumerate(jobs):
        with torch.no_grad():
            if a.copy:
                mel = torch.from_numpy(u["mel"].astype(np.float32))[None]
            else:
                if codes is None:
                    codes = generate(t2s, ph, a.top_k, a.temperature)
                mu = flow.features(codes[None], torch.tensor(ph)[None], torch.tensor([len(ph)]), ge)
                mel = nets.denormalise_mel(flow.sample(mu, torch.randn(1, mu.shape[1], nets.N_MEL), a.steps))
            y = voc(mel, voc.predict_f0(mel), torch.randn(1, mel.shape[1] * nets.HOP + 2 * nets.PAD))
        sf.write(f"{a.out}/{i:03d}.wav", y[0].clamp(-1, 1).numpy(), nets.RATE_HZ)


if __name__ == "__main__":
    main()
