"""Chinese wording for scoring: what is compared for the syllable error rate.

A recogniser writes any character of the same sound, simplified or traditional as it likes, and numbers in digits. So characters are compared as pinyin, of simplified characters, whose
readings in words pypinyin knows, and digits as whatever reading of them is nearest to the text: 1986 is said as a number or digit by digit, 2 as er or liang. The same goes
for both sides. An English word counts as one syllable.
"""
import functools
import itertools
import re

NUMBER = re.compile(r"\d[\d,]*(?::\d\d|\.\d+)?[%％]?")
QUARTERS = {"00": [""], "15": ["一刻", "十五", "十五分"], "30": ["半", "三十", "三十分"], "45": ["四十五", "四十五分", "三刻"]}
MOST_READINGS = 200                      # of a whole sentence; beyond, the first ones of each number


@functools.cache
def _simplifier():
    import opencc
    return opencc.OpenCC("tw2s")         # which knows 著 of 看著 from that of 著名


def minutes_spoken(minutes):
    """Ways to say the two digits of minutes behind 点."""
    if minutes in QUARTERS:
        return QUARTERS[minutes]
    number = ("零" if minutes[0] == "0" else "") + spoken(minutes.lstrip("0"))[0]
    return [number, number + "分"]


def spoken(digits):
    """Ways to say one match of NUMBER."""
    import cn2an
    if digits[-1] in "%％":
        return ["百分之" + s for s in spoken(digits[:-1])]
    plain = digits.replace(",", "")
    if ":" in plain:
        hours, minutes = plain.split(":")
        return [h + "点" + m for h in spoken(hours) for m in minutes_spoken(minutes)]
    whole = plain.split(".")[0]
    only_digits = len(whole) > 12 or (whole == plain and len(plain) > 1 and plain[0] == "0")
    out = [] if only_digits else [cn2an.an2cn(plain, "low")]
    one_by_one = "".join("零一二三四五六七八九"[int(d)] if d.isdigit() else "点" for d in plain)
    out += [re.sub(r"二(?=[百千万亿])|^二$", "两", s) for s in out] + [one_by_one, one_by_one.replace("一", "幺")]
    return list(dict.fromkeys(out))


def readings(text):
    """The text in simplified characters, its numbers said in all ways."""
    text = _simplifier().convert(text)
    ways = [spoken(m[0]) for m in NUMBER.finditer(text)]
    keep = max(1, int(MOST_READINGS ** (1 / max(1, len(ways)))))
    between = NUMBER.split(text)
    return ["".join(a + b for a, b in itertools.zip_longest(between, way, fillvalue="")) for way in itertools.product(*(w[:keep] for w in ways))]


def syllables(text, tones=False):
    """Pinyin of the Chinese characters, other words as they are, of a text without digits."""
    import pypinyin
    style = pypinyin.Style.TONE3 if tones else pypinyin.Style.NORMAL
    text = re.sub(r"[^\w\u4e00-\u9fff]+", " ", text.lower())
    return [s for part in pypinyin.lazy_pinyin(text, style=style) for s in part.split()]


def compare(sentence, heard, tones=False):
    """A row as asr.score has them (reference, hypothesis, errors, chunks), of the readings of the two that differ least."""
    import jiwer
    best = None
    for want, got in itertools.product(readings(sentence), readings(heard)):
        want, got = syllables(want, tones), syllables(got, tones)
        words = jiwer.process_words(" ".join(want), " ".join(got))
        errors = words.substitutions + words.deletions + words.insertions
        if best is None or errors < best["errors"]:
            chunks = [(c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx) for c in words.alignments[0]]
            best = dict(reference=want, hypothesis=got, errors=errors, chunks=chunks)
    return best
