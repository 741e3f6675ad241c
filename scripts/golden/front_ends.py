#!/usr/bin/env python3
"""Writes what other programs make of fixed inputs, for the tests of the front ends of reference audio and Chinese text.

tests/data/golden/reference_16k.safetensors  librosa's resampling to 16 kHz (tests/models/hubert_test.cpp)
tests/text/data/wordpiece_vocab.txt          a small vocabulary
tests/text/data/wordpiece.txt                what the tokenizers package makes of texts (tests/text/wordpiece_test.cpp)

Needs librosa 0.10.2, tokenizers 0.23, numpy, safetensors. Usage: front_ends.py [--root DIR]
"""
import argparse
import random
from pathlib import Path

import librosa
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

RATES = (48000, 44100, 22050)
STRIDE, LAST = 101, 16


def noise(n):
    """White noise in [-0.5, 0.5): the upper 24 bits of splitmix64 at 1..n."""
    with np.errstate(over="ignore"):
        z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5).astype(np.float32)


def write_resampled(path):
    tensors = {}
    for rate in RATES:
        n = rate * 31 // 10 + 7
        wave = librosa.resample(noise(n), orig_sr=rate, target_sr=16000)
        tensors[f"{rate}.strided"] = np.ascontiguousarray(wave[::STRIDE])
        tensors[f"{rate}.last"] = np.ascontiguousarray(wave[-LAST:])
        tensors[f"{rate}.samples"] = np.array([len(wave)], dtype=np.int64)
    save_file(tensors, path)


CHINESE = "的一是不了在人有我他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小"
PIECES = ["the", "##ing", "un", "##aff", "##able", "want", "##want", "##ed", "2026", "##26", "hello", "he", "##llo",
          "##l", "tts", "㐀", "丽", "𠀀", "𪚥", "ά", "α", "##σ", "σ", "##ς", "한", "ᄒ", "##ᅡ", "##ᆫ", "##ᄀ", "の", "##の",
          "カ", "##タ", "ー", "##ー", "ア", "##ハ", "й", "и", "##и", "ß", "##ß", "ñ"]
TEXTS = ["", "你好。", "他说:“这是三个人”…", "I want hello", "unaffable", "UNWANTED wanting", "xqx qx", "héllo HÉLLO ÀÉÎ",
         "tts2026年", "a\u0000b\ufffdc\u200bd\u00ade", "一\t二\r\n三  四\u3000五\u00a0六", "한국", "カタカナ ガ ー",
         "İstanbul ΣΑΣ ς", "ﬁ ½ Ⅷ ①", "𠀀𪚥𫝀\U0002b830\U0002b920\U0002ceaf\U0002ceb0丽", "-—–‐…!?,。!¿§¶",
         "[CLS] 的 [SEP]", "a" * 100, "a" * 101, "qqq的xxx", "e\u0301\u0327x \u0301", "\ue000x\U000f0000y",
         "$5+3=8^2`~|<>", "🙂好🇨🇳", "\u0378的\u2028大\u2029小\u0085上", "Ǆ ǅ ẞ ŉ", "\u1e9e\u0130", "㐀䶿鿿ꀀ豈\ufaff",
         "ﾊﾟ", "a.b,c'd", "12.5%", "\u0e33\u0e01", "\u202ahello\u202c", "\U0001d400\U0001d7d8"]
POOL = ("的一是不了在人abcdefquxABCDEFÉéèüÜñçßİıΣσςжЙй ,.!?;:'\"-_()[]{}…—。,!?、 \t\n\r\u3000\u00a0\u200b\u00ad"
        "\u0301\u0308\u0327カガのハパﾊ한국각①½ﬁ🙂𠀀𪚥\ufffd\u0000\u2028漢字龍龘豈")


def random_text(generator):
    def character():
        draw = generator.random()
        if draw < 0.85:
            return generator.choice(POOL)
        code = generator.randint(0, 0x2FFF) if draw < 0.95 else generator.randint(0x3000, 0x30000)
        return "的" if 0xD800 <= code < 0xE000 else chr(code)

    return "".join(character() for _ in range(generator.randint(0, 24)))


def write_wordpiece(vocabulary_path, texts_path):
    letters = "0123456789abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", *letters,
                  *("##" + c for c in letters if c != "q"), *"…—。,!?、《》“”·€", *PIECES, *CHINESE]
    vocabulary = list(dict.fromkeys(vocabulary))
    vocabulary_path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tokenizer = Tokenizer(models.WordPiece({v: i for i, v in enumerate(vocabulary)}, unk_token="[UNK]",
                                           continuing_subword_prefix="##", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    generator = random.Random(11)
    lines = ["# A text's code points in hexadecimal | id begin end of each of its tokens, in code points"]
    for text in TEXTS + [random_text(generator) for _ in range(80)]:
        encoded = tokenizer.encode(text, add_special_tokens=False)
        lines.append(" ".join("%X" % ord(c) for c in text) + " | " +
                     " ".join(f"{i} {a} {b}" for i, (a, b) in zip(encoded.ids, encoded.offsets)))
    texts_path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2])
    root = parser.parse_args().root
    write_resampled(root / "tests/data/golden/reference_16k.safetensors")
    write_wordpiece(root / "tests/text/data/wordpiece_vocab.txt", root / "tests/text/data/wordpiece.txt")


if __name__ == "__main__":
    main()
