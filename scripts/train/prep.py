"""Teacher recordings -> training features, one .npz shard per part of the corpus.

    prep.py --data DIR --out DIR [--gain G]

DIR holds PREFIX_WORKER.jsonl (one utterance a line: id, voice, ph, dur in teacher frames of 600 samples, lead, tail, n) and
the waveforms as int16 .npy. For every utterance: wave (int16), log mel [T, 100] f16, F0 [T] f16 (0 = unvoiced), 50 Hz log mel
[2N, 80] f16 for the tokenizer, phoneme symbols and their start/end in seconds. Lengths are whole codes of 960 samples.
"""
import argparse
import glob
import json
import os

import numpy as np
import torch
from tqdm import tqdm

import nets

TEACHER_FRAME = 600                    # samples of one teacher duration unit (25 ms)
SHIFT_SAMPLES = 1500                   # the teacher's sound runs about 62 ms ahead of its duration boundaries
LEAD_SAMPLES, TAIL_SAMPLES = 1200, 6000  # kept before the first phoneme (50 ms) and after the last sound (250 ms)

# -------------------------------------------------------------------- F0: normalised autocorrelation and a Viterbi path
N_GRID, WIN = 192, 1536
GRID = nets.F0_MIN * (nets.F0_MAX / nets.F0_MIN) ** (np.arange(N_GRID) / (N_GRID - 1))
LAG = nets.RATE_HZ / GRID
HANN = np.hanning(WIN)
_r = np.fft.irfft(np.abs(np.fft.rfft(HANN, 4096)) ** 2)[:420]
HANN_R = _r / _r[0]
LO, FRAC, REACH = np.floor(LAG).astype(int), LAG - np.floor(LAG), 12


def track_f0(x):
    """Boersma (1993) autocorrelation candidates on a log grid, one Viterbi path; Hz per mel frame, 0 = unvoiced."""
    n = len(x) // nets.HOP
    p = np.pad(x, (WIN // 2 - nets.HOP // 2, WIN))
    f = np.lib.stride_tricks.sliding_window_view(p, WIN)[:: nets.HOP][:n].astype(np.float32)
    energy = np.sqrt((f ** 2).mean(1))
    f = (f - f.mean(1, keepdims=True)) * HANN.astype(np.float32)
    a = np.fft.irfft(np.abs(np.fft.rfft(f, 4096, axis=1)) ** 2, axis=1)[:, :420]
    r = a / (a[:, :1] + 1e-9) / HANN_R
    s = r[:, LO] * (1 - FRAC) + r[:, np.minimum(LO + 1, 419)] * FRAC
    score = np.where(energy[:, None] < 2e-3, 0, s + 0.025 * np.log2(GRID / nets.F0_MIN))
    best, back = score[0].copy(), np.zeros((n, N_GRID), np.int32)
    penalty = -0.02 * np.abs(np.arange(-REACH, REACH + 1))
    bins = np.arange(N_GRID)
    for t in range(1, n):
        q = np.lib.stride_tricks.sliding_window_view(np.pad(best, REACH, constant_values=-1e9), 2 * REACH + 1) + penalty
        m, j = q.argmax(1), best.argmax()
        v = q[bins, m]
        far = best[j] - 0.5 > v
        back[t] = np.where(far, j, bins + m - REACH)
        best = np.where(far, best[j] - 0.5, v) + score[t]
    path = np.zeros(n, int)
    path[-1] = best.argmax()
    for t in range(n - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    strength = s[np.arange(n), path]
    voiced = np.convolve((strength > 0.5) & (energy > 3e-3), np.ones(3), "same") >= 2
    return np.where(voiced, GRID[path], 0).astype(np.float16)


# ---------------------------------------------------------------------------------------------- 50 Hz tokenizer features
BANK50, _ = nets.slaney_bank(80)


def log_mel50(x):
    """x [samples], a multiple of 960 -> [samples / 480, 80]."""
    m = nets.stft_magnitude(x[None], nets.N_FFT, 480)
    return torch.log(torch.clamp(BANK50 @ m, min=1e-5))[0].T


def spoken_at(u, count, seconds):
    """Index of the phoneme spoken in the middle of each of so many stretches of a recording."""
    return np.clip(np.searchsorted(u["start"], (np.arange(count) + 0.5) * seconds, "right") - 1, 0, len(u["ph"]) - 1)


def prepare(r, data, gain):
    x = np.load(f"{data}/{r['voice']}_{r['id']}.npy").astype(np.float32) / 32768 * gain
    ends = (r["lead"] + np.cumsum(r["dur"])) * TEACHER_FRAME - SHIFT_SAMPLES
    starts = np.concatenate([[r["lead"] * TEACHER_FRAME - SHIFT_SAMPLES], ends[:-1]])
    a = max(0, int(starts[0]) - LEAD_SAMPLES)
    loud = np.sqrt(np.add.reduceat(x ** 2, np.arange(0, len(x), 240)) / 240) > 0.002   # the last phoneme's own duration
    b = min(len(x), (int(np.flatnonzero(loud)[-1]) + 1) * 240 + TAIL_SAMPLES)          # holds silence: cut by sound
    b = a + (b - a) // nets.CODE_SAMPLES * nets.CODE_SAMPLES
    x = np.clip(x[a:b], -1, 1)
    fade = min(480, len(x) // 4)
    x[:fade] *= np.linspace(0, 1, fade)
    x[-fade:] *= np.linspace(1, 0, fade)
    t = torch.from_numpy(x)
    clip = lambda z: np.clip((z - a) / nets.RATE_HZ, 0, len(x) / nets.RATE_HZ).astype(np.float32)
    return dict(id=r["id"], voice=r["voice"], text=r["text"], ph=r["ph"], wave=(x * 32767).astype(np.int16),
                mel=nets.log_mel(t[None])[0].T.numpy().astype(np.float16), f0=track_f0(x), mel50=log_mel50(t).numpy().astype(np.float16),
                start=clip(starts), end=clip(ends))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--data", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--gain", type=float, default=1.0)
    ap.add_argument("--shard", type=int, default=200)
    a = ap.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    done, shards = set(), sorted(glob.glob(f"{a.out}/*.pt"))
    for s in shards:
        done |= {u["id"] for u in torch.load(s, weights_only=False)}
    rows = [json.loads(l) for f in sorted(glob.glob(f"{a.data}/*.jsonl")) for l in open(f, encoding="utf8")]
    rows = [r for r in rows if r["id"] not in done]
    for i in range(0, len(rows), a.shard):
        out = [prepare(r, a.data, a.gain) for r in tqdm(rows[i: i + a.shard], leave=False) if len(r["ph"]) > 1]
        torch.save(out, f"{a.out}/{len(shards):04d}.pt")
        shards.append(None)
    print(f"{len(rows)} new utterances, {len(shards)} shards")


if __name__ == "__main__":
    main()
