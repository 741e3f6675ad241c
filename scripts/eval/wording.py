"""English wording for scoring: numbers to words, contractions, spelling variants, joined compounds.

The reference text and the recogniser's text go through the same `normalise`, so that "3:30" against "three thirty" or
"I'm" against "I am" is not counted as an error of the voice.
"""
import re
import unicodedata

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
SCALES = ((10**9, "billion"), (10**6, "million"), (10**3, "thousand"))
ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
            "twelve": "twelfth"}
MONTHS = "january february march april may june july august september october november december".split()
MONEY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
NUMBER_WORDS = set(ONES) | set(TENS) | {"hundred", "thousand", "million", "billion"}


def cardinal(n):
    """Words of a non-negative integer, American style: 221 -> two hundred twenty one."""
    for size, name in SCALES:
        if n >= size:
            return cardinal(n // size) + " " + name + (" " + cardinal(n % size) if n % size else "")
    if n >= 100:
        return ONES[n // 100] + " hundred" + (" " + cardinal(n % 100) if n % 100 else "")
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + (" " + ONES[n % 10] if n % 10 else "")


def ordinal(n):
    """Words of a positive ordinal: 21 -> twenty first."""
    head, _, last = cardinal(n).rpartition(" ")
    last = ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return (head + " " + last).strip()


def year(n):
    """Words of a year 1100..2099: 1969 -> nineteen sixty nine, 2005 -> two thousand five."""
    if n % 1000 < 10:
        return cardinal(n)
    if n % 100 == 0:
        return cardinal(n // 100) + " hundred"
    low = n % 100
    return cardinal(n // 100) + " " + (cardinal(low) if low >= 10 else "oh " + ONES[low])


def decimal(text):
    """Words of "2", "2.3", "1,000" or "0.50"."""
    whole, _, fraction = text.replace(",", "").partition(".")
    words = cardinal(int(whole or 0))
    return words + (" point " + " ".join(ONES[int(d)] for d in fraction) if fraction else "")


def _money(match):
    unit, small = MONEY[match[1]]
    whole, _, cents = match[2].replace(",", "").partition(".")
    if match[3]:
        return f" {decimal(match[2])} {match[3]} {unit}s "
    words = f" {cardinal(int(whole))} {unit}{'' if int(whole) == 1 else 's'} "
    if cents and int(cents):
        amount = int(cents.ljust(2, "0")[:2])
        plural = ("pence" if small == "penny" else small + "s") if amount != 1 else small
        words += f"{cardinal(amount)} {plural} "
    return words


def _clock(match):
    hour, minute = int(match[1]), int(match[2])
    words = cardinal(hour)
    if minute:
        words += " " + (cardinal(minute) if minute > 9 else "oh " + ONES[minute])
    elif not match[3]:
        words += " o'clock"
    return f" {words} "


def _integer(match):
    digits = match[0]
    n = int(digits.replace(",", ""))
    if "," not in digits and len(digits) == 4 and 1100 <= n <= 2099:
        return f" {year(n)} "
    if len(digits) > 12 or (digits[0] == "0" and len(digits) > 1):
        return " " + " ".join(ONES[int(d)] for d in digits if d.isdigit()) + " "
    return f" {cardinal(n)} "


def spell(text):
    """Digits, money, per cent, clock times and dates as words; case and punctuation are kept."""
    text = re.sub(r"([$£€])\s?(\d[\d,]*(?:\.\d+)?)(?:\s+(hundred|thousand|million|billion)\b)?", _money, text)
    text = re.sub(r"\b(\d{1,2})[:.]([0-5]\d)\b(?=\s*[ap]\.?m\b)()", _clock, text, flags=re.I)
    text = re.sub(r"\b(\d{1,2}):([0-5]\d)\b(\s*[ap]\.?m\b)?", lambda m: _clock(m) + (m[3] or ""), text, flags=re.I)
    text = re.sub(r"(\d[\d,]*(?:\.\d+)?)\s?%", lambda m: decimal(m[1]) + " percent", text)
    text = re.sub(r"\b(\d[\d,]*)(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1].replace(",", ""))), text, flags=re.I)
    text = re.sub(r"\b(" + "|".join(MONTHS) + r")\s+(\d{1,2})\b(?!:)",
                  lambda m: f"{m[1]} {ordinal(int(m[2]))}" if 0 < int(m[2]) <= 31 else m[0], text, flags=re.I)
    text = re.sub(r"\b\d[\d,]*\.\d+\b", lambda m: decimal(m[0]), text)
    text = re.sub(r"\d+(?:,\d{3})+(?!\d)|\d+", _integer, text)
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"\s+([,.!?;:])", r"\1", text)


CONTRACTIONS = ((r"\bwon't\b", "will not"), (r"\bcan't\b", "can not"), (r"\bcannot\b", "can not"), (r"\bshan't\b", "shall not"),
                (r"\blet's\b", "let us"), (r"n't\b", " not"), (r"'re\b", " are"), (r"'ll\b", " will"), (r"'ve\b", " have"),
                (r"'m\b", " am"), (r"'d\b", " would"), (r"\bgonna\b", "going to"), (r"\bwanna\b", "want to"),
                (r"\bgotta\b", "got to"))
# One spelling of what sounds alike or is written in several ways. "'s" (is, has, possessive) loses only its apostrophe.
VARIANTS = {"ok": "okay", "mr": "mister", "mrs": "missus", "dr": "doctor", "prof": "professor", "grey": "gray", "harbour": "harbor",
            "colour": "color", "favourite": "favorite", "neighbour": "neighbor", "theatre": "theater", "centre": "center",
            "kilometre": "kilometer", "kilometres": "kilometers", "metre": "meter", "metres": "meters", "travelled": "traveled",
            "cancelled": "canceled", "programme": "program", "apologise": "apologize", "realise": "realize", "alright": "all right",
            "til": "until", "till": "until", "oh": "oh", "o": "oh", "ooh": "oh", "hurray": "hooray", "hurrah": "hooray", "km": "kilometers",
            "lbs": "pounds", "lb": "pounds", "vs": "versus", "st": "saint", "whoever's": "whoever is", "tv": "television"}


def normalise(text):
    """Lower-case words separated by single spaces: what is compared for the word error rate."""
    text = unicodedata.normalize("NFKD", text.replace("’", "'").replace("‘", "'").replace("—", " ").replace("–", " "))
    text = "".join(c for c in text if not unicodedata.combining(c)).lower()
    text = re.sub(r"\[[^\]]*\]|\([^)]*\)", " ", text)          # a recogniser's notes: [music], (laughs)
    text = spell(text).lower()
    text = re.sub(r"\b([ap])\.\s?m\b\.?", r"\1m", text)
    text = text.replace("&", " and ")
    for pattern, words in CONTRACTIONS:
        text = re.sub(pattern, words, text)
    text = re.sub(r"[^a-z0-9' ]", " ", text)
    text = re.sub(r"'", "", text)
    words = " ".join(VARIANTS.get(w, w) for w in text.split()).split()
    # "two hundred and ten", "twelve dollars and fifty cents": the "and" is optional in speech and in writing
    keep = []
    for i, w in enumerate(words):
        follows = words[i + 1] if i + 1 < len(words) else ""
        if w == "and" and keep and follows in NUMBER_WORDS and keep[-1] in {"hundred", "thousand", "million", "dollar", "dollars"}:
            continue
        keep.append(w)
    # the year 2010 is written alike and spoken in two ways
    return re.sub(r"\btwo thousand (?=(?:" + "|".join(ONES[10:] + TENS[2:]) + r")\b)", "twenty ", " ".join(keep))


def join_compounds(reference, hypothesis):
    """Makes the two word lists agree where only a space differs: "foot bridge" / "footbridge". Returns both lists."""
    ref, hyp = list(reference), list(hypothesis)
    for one, other in ((ref, hyp), (hyp, ref)):
        whole = set(other)
        i = 0
        while i + 1 < len(one):
            joined = one[i] + one[i + 1]
            if joined in whole and joined not in one and one[i] + " " + one[i + 1] not in " ".join(other):
                one[i:i + 2] = [joined]
            i += 1
    return ref, hyp
