#!/usr/bin/env python3
"""Does a voice pause where a comma stands and rise at the end of a question? Spoken through the command line.

    prosody.py --sonorant build/release/sonorant --voice starter --lang en --out DIR

Of every pair of QUESTIONS, a yes-or-no question and the statement that answers it, the last 120 ms of voiced sound are compared, in semitones over the median of
the utterance (F0 by pYIN, Mauch and Dixon 2014, package librosa). Sentences of PAUSES have commas, or none for comparison: an inner silence of 80 ms or more
counts as a pause. Prints a table and writes DIR/prosody.json.
"""
import argparse
import json
import pathlib
import re
import subprocess

import numpy as np
import soundfile

import repeats

QUESTIONS = {
    "en": [("Are you coming tomorrow?", "You are coming tomorrow."), ("Has she already left?", "She has already left."), ("Is this the last train?", "This is the last train."),
           ("Did they sell the house?", "They sold the house."), ("Does he want more coffee?", "He wants more coffee."), ("Is the meeting over?", "The meeting is over."),
           ("Can you see the river?", "You can see the river."), ("Was that your brother?", "That was your brother."), ("Is the shop still open?", "The shop is still open."),
           ("Do we have enough time?", "We have enough time."), ("Will it rain again?", "It will rain again."), ("Does Anna know the answer?", "Anna knows the answer.")],
    "zh": [("你明天来吗？", "你明天来。"), ("他已经走了吗？", "他已经走了。"), ("这是最后一班车吗？", "这是最后一班车。"), ("你喜欢喝茶吗？", "你喜欢喝茶。"), ("会议结束了吗？", "会议结束了。"),
           ("商店还开着吗？", "商店还开着。"), ("你听见了吗？", "你听见了。"), ("今天会下雨吗？", "今天会下雨。"), ("他们卖了房子吗？", "他们卖了房子。"), ("我们还有时间吗？", "我们还有时间。")],
}
PAUSES = {
    "en": ["When the rain stopped, we walked home.", "The red one, the blue one, and the green one are mine.", "If you are late, call me first.",
           "My brother, who lives in Rome, is a doctor.", "After lunch, she read a book.", "Yes, that is what I said.", "In the end, nobody came.",
           "We bought bread, milk, and two lemons."],
    "zh": ["下雨的时候，我们在家里看书。", "他来了，可是没有说话。", "如果你有时间，请给我打电话。", "吃完饭以后，我们出去走走。", "早上很冷，中午很热，晚上下雨。"],
}
PLAIN = {
    "en": ["We walked home in the rain.", "The green one on the table is mine.", "Please call me when you are late.", "She read a book after lunch.",
           "My brother works as a doctor in Rome.", "Nobody came to the party in the end."],
    "zh": ["我们在家里看书。", "请你有时间给我打电话。", "我们吃完饭出去走走。", "他昨天没有来上课。"],
}
PAUSE_S, END_S, HOP_S = 0.08, 0.12, 0.01
HEARD_DB = -26.0                # frames below the loudest one by more have no F0 worth looking at


def pauses(wave, rate_hz):
    """Seconds of every inner silence of at least PAUSE_S."""
    return [s for s in repeats.pauses(wave, rate_hz) if s >= PAUSE_S - 1e-9]


def final_height(wave, rate_hz):
    """Semitones of the median F0 of the last END_S of voiced sound over the median of all; nan without voice."""
    import librosa

    wave, hop, size = np.asarray(wave, np.float32), round(rate_hz * HOP_S), 1024
    f0, voiced, _ = librosa.pyin(wave, fmin=60, fmax=450, sr=rate_hz, frame_length=size, hop_length=hop)
    level = librosa.feature.rms(y=wave, frame_length=size, hop_length=hop)[0]
    sound = f0[voiced & np.isfinite(f0) & (level > level.max() * 10 ** (HEARD_DB / 20))]
    return float(12 * np.log2(np.median(sound[-round(END_S / HOP_S):]) / np.median(sound))) if len(sound) >= 10 else float("nan")


def summary(questions, statements, with_commas, commas, without):
    """questions, statements: final heights of the same sentences; with_commas, without: pauses of each sentence; commas: how many each has."""
    rise = np.asarray(questions) - np.asarray(statements)
    rise = rise[np.isfinite(rise)]
    found = [min(len(p), c) for p, c in zip(with_commas, commas)]
    lengths = [s for p in with_commas for s in p]
    return dict(pairs=len(rise), question_end_semitones=float(np.nanmean(questions)), statement_end_semitones=float(np.nanmean(statements)),
                questions_higher=float(np.mean(rise > 0)) if len(rise) else float("nan"), commas=int(sum(commas)), commas_with_pause=sum(found) / max(1, sum(commas)),
                pause_median_s=float(np.median(lengths)) if lengths else float("nan"), pauses_per_plain_sentence=float(np.mean([len(p) for p in without])))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sonorant", required=True)
    parser.add_argument("--voice", required=True)
    parser.add_argument("--lang", choices=QUESTIONS, default="en")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)

    def say(name, text):
        path = a.out / f"{name}.wav"
        subprocess.run([a.sonorant, "say", "--voice", a.voice, "--lang", a.lang, "--seed", "1", "--out", str(path), text], check=True, capture_output=True)
        return soundfile.read(path, dtype="float32")

    heights = {kind: [final_height(*say(f"{a.lang}_{kind}_{i:02d}", pair[k])) for i, pair in enumerate(QUESTIONS[a.lang])]
               for k, kind in enumerate(("question", "statement"))}
    commas = [pauses(*say(f"{a.lang}_comma_{i:02d}", text)) for i, text in enumerate(PAUSES[a.lang])]
    plain = [pauses(*say(f"{a.lang}_plain_{i:02d}", text)) for i, text in enumerate(PLAIN[a.lang])]
    result = summary(heights["question"], heights["statement"], commas, [len(re.findall("[,，]", t)) for t in PAUSES[a.lang]], plain)
    print("| | |\n| --- | ---: |")
    for key, value in result.items():
        print(f"| {key.replace('_', ' ')} | {value:.3g} |")
    (a.out / "prosody.json").write_text(json.dumps(dict(result, heights=heights, pauses=commas, pauses_plain=plain), indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
