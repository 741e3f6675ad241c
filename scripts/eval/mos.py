#!/usr/bin/env python3
"""DNSMOS: the networks of the package speechmos guess how listeners would rate a recording, 1 (bad) to 5 (excellent).

    mos.py FILE.wav ...

P.835 gives three ratings: SIG (the voice), BAK (5 = no background noise heard) and OVRL; P.808 gives one. Higher is better
in all four. They were trained on noisy calls at 16 kHz: good for finding noise, buzz and distortion, blind
to wrong words, to prosody and to everything above 8 kHz.
"""
import argparse
import multiprocessing

import numpy as np

import asr

KEYS = {"ovrl_mos": "ovrl", "sig_mos": "sig", "bak_mos": "bak", "p808_mos": "p808"}
_scorer = None


def make_scorer():
    """speechmos' DNSMOS (the plain model, not the personalised one) with its two networks on one thread each."""
    import onnxruntime
    import pathlib
    import speechmos
    from speechmos import dnsmos

    class OneThread(dnsmos.DNSMOS):
        def __init__(self, primary, p808):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            self.onnx_sess = onnxruntime.InferenceSession(str(primary), options, providers=["CPUExecutionProvider"])
            self.p808_onnx_sess = onnxruntime.InferenceSession(str(p808), options, providers=["CPUExecutionProvider"])

    models = pathlib.Path(speechmos.__file__).parent / "dnsmos_models"
    return OneThread(models / "sig_bak_ovr.onnx", models / "model_v8.onnx")


def rate(wave, scorer):
    """16 kHz samples in [-1, 1] -> dict ovrl, sig, bak, p808. Short recordings are repeated to 9.01 s, as DNSMOS does."""
    if len(wave) == 0:
        return None
    scores = scorer(np.clip(wave, -1, 1), asr.RATE_HZ, False)
    return {short: float(scores[key]) for key, short in KEYS.items()}


def _start():
    global _scorer
    _scorer = make_scorer()


def _rate(path):
    return rate(asr.load_wav(path), _scorer) if path is not None else None


def rate_files(paths, jobs=1):
    """One dict per file, None where the file is missing or empty."""
    from tqdm import tqdm

    with multiprocessing.get_context("spawn").Pool(jobs, _start) as pool:
        return list(tqdm(pool.imap(_rate, paths), total=len(paths), desc="dnsmos", unit="file"))


def mean(ratings):
    """Mean of each score over the rated files."""
    rated = [r for r in ratings if r]
    return {k: float(np.mean([r[k] for r in rated])) if rated else None for k in KEYS.values()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wavs", nargs="+")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    ratings = rate_files(args.wavs, args.jobs)
    for path, scores in zip(args.wavs, ratings):
        print(path, "no samples" if scores is None else "  ".join(f"{k.upper()} {v:.2f}" for k, v in scores.items()))
    print("mean", "  ".join(f"{k.upper()} {v:.3f}" for k, v in mean(ratings).items() if v is not None))


if __name__ == "__main__":
    main()
