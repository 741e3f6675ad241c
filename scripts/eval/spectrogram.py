#!/usr/bin/env python3
"""Draws recordings as waveform and spectrogram, one above the other, for looking.

    spectrogram.py --out FILE.png A.wav [B.wav ...]
"""
import argparse
import pathlib

import numpy as np

FLOOR_DB = -80.0


def spectrogram_db(wave, n_fft=1024, hop=256):
    """[n_fft / 2 + 1, frames] in dB below the loudest bin, cut at FLOOR_DB."""
    wave = np.pad(np.asarray(wave, float), (0, max(0, n_fft - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop] * np.hanning(n_fft)
    power = np.abs(np.fft.rfft(frames, axis=1).T) ** 2
    return np.maximum(10 * np.log10(power / max(power.max(), 1e-20) + 1e-20), FLOOR_DB)


def main():
    import matplotlib
    import soundfile

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wavs", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    n = len(args.wavs)
    figure, axes = plt.subplots(2 * n, 1, figsize=(14, 4.2 * n), squeeze=False, gridspec_kw=dict(height_ratios=[1, 3] * n))
    for i, path in enumerate(args.wavs):
        wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        wave = wave.mean(axis=1)
        top, bottom = axes[2 * i, 0], axes[2 * i + 1, 0]
        seconds = max(len(wave), 1) / rate_hz
        top.plot(np.arange(len(wave)) / rate_hz, wave, linewidth=0.4)
        top.set(xlim=(0, seconds), ylim=(-1, 1), title=f"{path.name}  {rate_hz} Hz", xticks=[])
        bottom.imshow(spectrogram_db(wave), origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, rate_hz / 2000))
        bottom.set(ylabel="kHz", xlabel="s")
    figure.tight_layout()
    figure.savefig(args.out, dpi=80)


if __name__ == "__main__":
    main()
