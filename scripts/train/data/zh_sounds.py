"""Mandarin for the teacher: symbols of the v2 inventory (initial, final with tone) to the characters it was taught with.

The teacher reads IPA with arrows for tones (first →, second ↗, third ↓, fourth ↘, neutral without), ʨ ʦ ꭧ for the affricates, ɨ for the vowel
of "zi" and "zhi", words apart by spaces. The arrow follows the syllable's nucleus.
"""
INITIALS = dict(b="p", p="pʰ", m="m", f="f", d="t", t="tʰ", n="n", l="l", g="k", k="kʰ", h="x", j="ʨ", q="ʨʰ", x="ɕ", zh="ꭧ", ch="ꭧʰ", sh="ʂ",
                r="ɻ", z="ʦ", c="ʦʰ", s="s", y="", w="", AA="", EE="", OO="")
TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
# nucleus | what comes after the arrow
FINALS = dict(a="a|", ai="ai|", an="a|n", ang="a|ŋ", ao="au|", e="ɤ|", ei="ei|", en="ə|n", eng="ə|ŋ", er="ɚ|", i="i|", i0="ɨ|", ir="ɨ|", ia="ja|",
              ian="jɛ|n", iang="ja|ŋ", iao="jau|", ie="je|", iu="jou|", ing="i|ŋ", iong="jʊ|ŋ", o="wo|", ong="ʊ|ŋ", ou="ou|", u="u|",
              ua="wa|", uai="wai|", uan="wa|n", uang="wa|ŋ", uo="wo|", ui="wei|", un="wə|n", v="y|", ve="ɥe|", van="ɥɛ|n", vn="y|n", E="ɛ|",
              En="ɛ|n")
FINALS["in"] = "i|n"
# Syllables without an initial are written with y or w: their glide belongs to the y or w.
AFTER_Y = dict(a="ia", ao="iao", e="ie", ou="iu", an="ian", ang="iang", ong="iong", En="ian")
AFTER_W = dict(a="ua", o="uo", ai="uai", ei="ui", an="uan", en="un", ang="uang")
GLIDES = "jwɥ"


def split_final(symbol):
    return symbol[:-1], symbol[-1]


def is_initial(symbol):
    return symbol in INITIALS


def is_final(symbol):
    return len(symbol) > 1 and symbol[-1] in TONES and symbol[:-1] in FINALS


def syllable(initial, final):
    """The teacher's characters of (initial, final) of one syllable, e.g. ("zh", "ong1") -> ("ꭧ", "ʊ→ŋ")."""
    name, tone = split_final(final)
    if initial == "y":
        name = AFTER_Y.get(name, name)
    elif initial == "w":
        name = AFTER_W.get(name, name)
        if name == "eng":
            return "w", "ə" + TONES[tone] + "ŋ"
    elif initial == "OO" and name == "o":
        return "", "ɔ" + TONES[tone]
    nucleus, coda = FINALS[name].split("|")
    front = INITIALS[initial]
    if not front and nucleus[0] in GLIDES and initial in "yw":
        front, nucleus = nucleus[0], nucleus[1:]
    return front, nucleus + TONES[tone] + coda
