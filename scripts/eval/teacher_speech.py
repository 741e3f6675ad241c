#!/usr/bin/env python3
"""Reads the held-out sentences with the teacher: the ceiling that the trained voice is compared with.

    teacher_speech.py --style af_heart.pt --cmudict cmudict.dict --out DIR

The teacher and the way phonemes are written for it are those of the training recordings: scripts/train/teacher.py. Words that are not
in the dictionary are read as the two words they are made of, or letter by letter. Writes NNN.wav, 24 kHz, 16 bit; files that
exist are kept.
"""
import argparse
import pathlib
import re
import sys
import unicodedata

import wording

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "train"))
import teacher  # noqa: E402


def known_words(word, words):
    """The word itself, or the two words it is made of, or its letters."""
    if word in words:
        return [word]
    splits = [(word[:i], word[i:]) for i in range(3, len(word) - 2) if word[:i] in words and word[i:] in words]
    if splits:
        return list(min(splits, key=lambda pair: abs(len(pair[0]) - len(pair[1]))))
    return [c for c in word if c in words]


def sequence(text, lexicon):
    """What the teacher is given for a sentence (teacher.parse), or None when there is nothing to say."""
    text = unicodedata.normalize("NFKD", wording.spell(text).lower().replace("’", "'").replace("-", " "))
    text = "".join(c for c in text if not unicodedata.combining(c))
    spoken = [t if t in ".,!?;:" else " ".join(known_words(t.strip("'"), lexicon.words)) for t in re.findall(r"[a-z']+|[.,!?;:]", text)]
    return teacher.parse(" ".join(spoken), lexicon)


def main():
    import numpy as np
    import soundfile
    from tqdm import tqdm

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--style", type=pathlib.Path, required=True)
    parser.add_argument("--cmudict", type=pathlib.Path, required=True)
    parser.add_argument("--sentences", type=pathlib.Path, default=HERE / "sentences_en.txt")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    lexicon, voice = teacher.Lexicon(args.cmudict), teacher.Teacher(args.style)
    args.out.mkdir(parents=True, exist_ok=True)
    for i, sentence in enumerate(tqdm([s for s in args.sentences.read_text(encoding="utf8").splitlines() if s.strip()])):
        path = args.out / f"{i:03d}.wav"
        if not path.exists():
            wave = voice.speak(sequence(sentence, lexicon))[0]
            soundfile.write(path, np.clip(wave, -1, 1), 24000, subtype="PCM_16")


if __name__ == "__main__":
    main()
