#!/usr/bin/env python3
"""What goes wrong in synthesis without changing the word error much: skips, repeats, odd pace, clicks, silence, loudness.

    repeats.py FILE.wav ...        sound measurements only

Skips and repeats come from the recogniser's word alignment (asr.score), so a recogniser that smooths over a stutter hides it.
"""
import argparse

import numpy as np

SILENCE_DB = -45.0          # a 10 ms frame this far below the loudest one is silence
CLICK_RATIO = 9.0           # peak of the second difference over its RMS nearby; the teacher exceeds it in 3 of 160 recordings
CLICK_FLOOR = 0.001         # of full scale, second difference divided by 4
PACE_RANGE = (0.6, 1.6)     # seconds over what the other sentences predict


# ---------------------------------------------------------------------------------------------------------------- words
def word_faults(row):
    """Skips, repeats, babble and truncation of one row of asr.score.

    skip: two or more reference words in a row not heard. truncated: such a run is the end of the sentence.
    repeat: heard words that are not in the text and copy the words right before or after them.
    babble: two or more other words in a row that are not in the text.
    Returns a list of dict(kind, words).
    """
    faults = []
    hyp, ref = row["hypothesis"], row["reference"]
    for kind, ref_start, ref_end, hyp_start, hyp_end in row["chunks"]:
        if kind == "delete" and ref_end - ref_start >= 2:
            faults.append(dict(kind="truncated" if ref_end == len(ref) else "skip", words=" ".join(ref[ref_start:ref_end])))
        if kind == "insert":
            n = hyp_end - hyp_start
            extra = hyp[hyp_start:hyp_end]
            if extra in (hyp[max(0, hyp_start - n):hyp_start], hyp[hyp_end:hyp_end + n]):
                faults.append(dict(kind="repeat", words=" ".join(extra)))
            elif n >= 2:
                faults.append(dict(kind="babble", words=" ".join(extra)))
    return faults


def pace_outliers(seconds, lengths):
    """Indices of recordings that are far longer or shorter than a line fitted to the rest predicts.

    seconds: speech without the silence at both ends; lengths: characters of the normalised text. The line is Theil-Sen's
    (median of pairwise slopes), so the outliers do not bend it. Returns (indices, predicted seconds).
    """
    y, x = np.asarray(seconds, float), np.asarray(lengths, float)
    i, j = np.triu_indices(len(x), 1)
    differ = x[i] != x[j]
    if not differ.any():
        return [], [float(np.median(y))] * len(y) if len(y) else []
    slope = np.median((y[i] - y[j])[differ] / (x[i] - x[j])[differ])
    predicted = np.maximum(np.median(y - slope * x) + slope * x, 0.1)
    ratio = y / predicted
    return [int(k) for k in np.flatnonzero((ratio < PACE_RANGE[0]) | (ratio > PACE_RANGE[1]))], predicted.tolist()


# ---------------------------------------------------------------------------------------------------------------- sound
def clicks(wave, rate_hz):
    """Times in seconds of isolated impulses and jumps.

    A sample is a click when the second difference exceeds CLICK_FLOOR, and CLICK_RATIO times its RMS on either side (from
    3 samples to 2 ms away). The release of a stop, a fricative and a glottal pulse last longer than a jump between two chunks
    or a lost sample, so they pass. The file is taken to lie in silence. Tuned on clean speech: finds single jumps that are
    large beside the speech around them, not all of them.
    """
    near, far = 3, round(0.002 * rate_hz)
    bend = np.diff(np.pad(np.asarray(wave, float), far + 1), 2) / 4
    power = np.concatenate([[0.0], np.cumsum(bend ** 2)])
    at = np.arange(far, len(bend) - far)
    sides = np.maximum(power[at - near] - power[at - far], power[at + far + 1] - power[at + near + 1]).clip(0)
    size = np.abs(bend[at])
    found = at[(size > CLICK_FLOOR) & (size > CLICK_RATIO * np.sqrt(sides / (far - near)))]
    times, last = [], -far
    for k in found:
        if k - last >= far:
            times.append(float((k - far) / rate_hz))
        last = k
    return times


def silence_ends(wave, rate_hz):
    """Seconds of silence before the first and after the last sound; (whole, 0) for a silent recording."""
    hop = rate_hz // 100
    n = len(wave) // hop
    if n == 0 or np.max(np.abs(wave)) < 1e-4:
        return len(wave) / rate_hz, 0.0
    level = np.sqrt(np.mean(np.asarray(wave[: n * hop], float).reshape(n, hop) ** 2, axis=1))
    loud = np.flatnonzero(level > level.max() * 10 ** (SILENCE_DB / 20))
    return loud[0] * hop / rate_hz, (len(wave) - (loud[-1] + 1) * hop) / rate_hz


def pauses(wave, rate_hz):
    """Seconds of every silence between the first and the last sound, in steps of 10 ms."""
    lead, trail = silence_ends(wave, rate_hz)
    hop = rate_hz // 100
    inside = np.asarray(wave[round(lead * rate_hz): len(wave) - round(trail * rate_hz)], float)
    n = len(inside) // hop
    if n == 0:
        return []
    level = np.sqrt(np.mean(inside[: n * hop].reshape(n, hop) ** 2, axis=1))
    quiet = np.concatenate([[0], (level <= level.max() * 10 ** (SILENCE_DB / 20)).astype(int), [0]])
    edges = np.flatnonzero(np.diff(quiet))
    return [float(hops * hop / rate_hz) for hops in edges[1::2] - edges[::2]]


def longest_pause(wave, rate_hz):
    """Seconds of the longest silence between the first and the last sound."""
    return max(pauses(wave, rate_hz), default=0.0)


def k_weighting(rate_hz):
    """The two biquads of ITU-R BS.1770-4 for any rate: high shelf, then high pass, as second-order sections."""
    def section(b, a):
        return [*(np.array(b) / a[0]), *(np.array(a) / a[0])]

    # parameters that reproduce the standard's 48 kHz coefficients (De Man 2014)
    k, q, gain = np.tan(np.pi * 1681.974450955533 / rate_hz), 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = gain ** 0.4996667741545416
    shelf = section([gain + band * k / q + k * k, 2 * (k * k - gain), gain - band * k / q + k * k],
                    [1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k])
    k, q = np.tan(np.pi * 38.13547087602444 / rate_hz), 0.5003270373238773
    a = [1 + k / q + k * k, 2 * (k * k - 1), 1 - k / q + k * k]
    return np.array([shelf, [1.0, -2.0, 1.0, 1.0, a[1] / a[0], a[2] / a[0]]])


def loudness_lufs(wave, rate_hz):
    """Integrated loudness of a mono recording, ITU-R BS.1770-4 (400 ms blocks, 75 % overlap, both gates); -inf if silent.

    Shorter than one block: the ungated level of the whole.
    """
    from scipy import signal

    if len(wave) == 0:
        return float("-inf")
    weighted = signal.sosfilt(k_weighting(rate_hz), np.asarray(wave, float)) ** 2
    block, step = round(0.4 * rate_hz), round(0.1 * rate_hz)
    if len(weighted) < block:
        power = np.array([weighted.mean()])
    else:
        power = np.array([weighted[s: s + block].mean() for s in range(0, len(weighted) - block + 1, step)])
    with np.errstate(divide="ignore"):
        level = -0.691 + 10 * np.log10(power)
        gated = power[level > -70]
        if len(gated) == 0:
            return float("-inf")
        relative = -0.691 + 10 * np.log10(gated.mean()) - 10
        return float(-0.691 + 10 * np.log10(gated[-0.691 + 10 * np.log10(gated) > relative].mean()))


def frame_rate_tone_db(waves, rate_hz, hop_samples=256):
    """Buzz at the vocoder's frame rate: how far its harmonics stand above their neighbours in the mean spectrum, dB.

    waves: many recordings, so that the harmonics of the voice itself wash out. Median over the harmonics from 1.5 kHz up;
    about 0 when there is no buzz.
    """
    size = 16384
    window = np.hanning(size)
    total = np.zeros(size // 2 + 1)
    for wave in waves:
        for start in range(0, len(wave) - size + 1, size // 2):
            total += np.abs(np.fft.rfft(wave[start: start + size] * window)) ** 2
    if not total.any():
        return None
    step = size / hop_samples                                     # bins per harmonic
    found = []
    for k in range(int(1500 * hop_samples / rate_hz) + 1, int(0.45 * hop_samples)):
        centre = round(k * step)
        around = np.concatenate([total[centre - 24: centre - 5], total[centre + 6: centre + 25]])
        found.append(10 * np.log10((total[centre - 1: centre + 2].mean() + 1e-20) / (np.median(around) + 1e-20)))
    return float(np.median(found))


def measure(wave, rate_hz):
    """All sound measurements of one recording."""
    lead, trail = silence_ends(wave, rate_hz)
    return dict(seconds=len(wave) / rate_hz, lead_s=lead, trail_s=trail, longest_pause_s=longest_pause(wave, rate_hz),
                clicks=clicks(wave, rate_hz), lufs=loudness_lufs(wave, rate_hz), peak=float(np.max(np.abs(wave), initial=0)),
                clipped_samples=int(np.sum(np.abs(wave) >= 0.999)))


def main():
    import soundfile

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("wavs", nargs="+")
    for path in parser.parse_args().wavs:
        wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        m = measure(wave.mean(axis=1), rate_hz)
        print(f"{path}  {m['seconds']:.2f} s, silence {m['lead_s']:.2f} + {m['trail_s']:.2f} s, pause {m['longest_pause_s']:.2f} s, "
              f"{m['lufs']:.1f} LUFS, peak {m['peak']:.2f}, clicks at {[round(t, 3) for t in m['clicks']]}")


if __name__ == "__main__":
    main()
