#!/usr/bin/env python3
"""Pack the data of the Chinese front end into src/text/data/zh.bin, which src/text/zh_data.h describes.

    scripts/train/zh_lexicon.py --opencc DIR [--upstream DIR]

Needs the packages jieba and pypinyin (tested with 0.42.1 and 0.55.0). DIR of --opencc holds TSCharacters.txt and
TSPhrases.txt of OpenCC's data/dictionary. --upstream takes a checkout of GPT-SoVITS and packs where its character table
and its table of corrected readings differ from OpenCC's and pypinyin's; without it that part stays empty.
"""
import argparse
import ast
import collections
import json
import math
import pathlib
import re
import struct

import jieba
import jieba.posseg
import pypinyin
from pypinyin.style import convert as pinyin_style

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIRST, LAST = 0x4E00, 0x9FA5  # what the front end speaks
NO_WORD = 63
TONELESS_SPECIAL = {"yo": "o", "fiao": "biao", "hm": "hen", "hng": "heng", "m": "mu", "n": "en", "ng": "en"}


def han(text):
    return all(FIRST <= ord(c) <= LAST for c in text)


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def short(text):
    raw = text.encode()
    return bytes([len(raw)]) + raw


def section(body):
    return struct.pack("<I", len(body)) + body


class Syllables:
    """Toneless syllables, as upstream spells them, in order of use; a reading is its index times eight plus the tone (5: neutral)."""

    def __init__(self):
        self.names = {}

    def reading(self, marked):
        plain = pinyin_style(marked, pypinyin.Style.TONE3, strict=True, default=marked)
        match = re.fullmatch(r"([a-zêü]+)([1-4]?)", plain.replace("ê", "e"))
        if not match:
            return None
        name, tone = match.groups()
        name = name.replace("ü", "v")
        name = TONELESS_SPECIAL.get(name, name)
        return self.names.setdefault(name, len(self.names)) << 3 | int(tone or 5)

    def plain(self, name_tone):
        return self.names.setdefault(name_tone[:-1], len(self.names)) << 3 | int(name_tone[-1])

    def pack(self):
        body = struct.pack("<H", len(self.names))
        for name in self.names:
            first, rest = symbols(name)
            body += short(name) + short(first) + short(rest)
        return body


def symbols(name):
    """The opencpop pair of a syllable in pinyin spelling: "zhi" is zh ir, "yan" is y En, "o" is OO o."""
    if name[0] in "aeo":
        return name[0].upper() * 2, name
    first = name[:2] if name[:2] in ("zh", "ch", "sh") else name[0]
    rest = name[len(first):]
    if first in ("j", "q", "x", "y") and rest.startswith("u"):
        rest = "v" + rest[1:]
    if rest == "i" and first in ("zh", "ch", "sh", "r"):
        rest = "ir"
    elif rest == "i" and first in ("z", "c", "s"):
        rest = "i0"
    elif first == "y" and rest in ("an", "e"):
        rest = {"an": "En", "e": "E"}[rest]
    return first, rest


def read_words():
    words, total = {}, 0
    for line in open(pathlib.Path(jieba.__file__).parent / "dict.txt", encoding="utf-8"):
        word, count, tag = line.split()
        words[word] = (int(count), tag)
        total += int(count)
    return {word: value for word, value in words.items() if han(word) and value[0] > 0}, total


class Node:
    __slots__ = ("children", "word", "phrase")

    def __init__(self):
        self.children, self.word, self.phrase = {}, None, None


def pack_trie(words, total, phrases, corrections, singles, rank, syllables):
    root = Node()

    def at(text):
        node = root
        for char in text:
            node = node.children.setdefault(rank[char], Node())
        return node

    tags = [tag for tag, _ in collections.Counter(tag for _, tag in words.values()).most_common()]
    assert len(tags) < NO_WORD
    counts = [count for count, _ in collections.Counter(count for count, _ in words.values()).most_common()]
    tag_index = {tag: i for i, tag in enumerate(tags)}
    count_index = {count: i for i, count in enumerate(counts)}
    for word, value in words.items():
        at(word).word = value
    for phrase in [*phrases, *(word for word in corrections if word not in phrases)]:
        default = [singles[char] for char in phrase]
        own = phrases.get(phrase)
        over = [(i, r) for i, r in enumerate(own or default) if r != default[i]]
        fixed = corrections.get(phrase)
        fix = [(i, r) for i, r in enumerate(fixed) if r != (own or default)[i]] if fixed else []
        head = len(over) | (0x20 if own else 0) | (0x40 if fixed else 0) | (0x80 if fix else 0)
        assert len(over) < 0x20
        body = bytes([head]) + b"".join(struct.pack("<BH", i, r) for i, r in over)
        if fix:
            body += bytes([len(fix)]) + b"".join(struct.pack("<BH", i, r) for i, r in fix)
        at(phrase).phrase = body

    body = bytearray()
    level, n_nodes = [root], 0
    body += varint(len(root.children))
    while level:
        below = []
        for parent in level:
            before = 0
            for label in sorted(parent.children):
                node = parent.children[label]
                tag = tag_index[node.word[1]] if node.word else NO_WORD
                body += varint(label - before)
                body.append(tag | (0x40 if node.children else 0) | (0x80 if node.phrase else 0))
                if node.word:
                    body += varint(count_index[node.word[0]])
                if node.children:
                    body += varint(len(node.children))
                if node.phrase:
                    body += node.phrase
                before = label
                below.append(node)
                n_nodes += 1
        level = below
    head = bytes([len(tags)]) + b"".join(map(short, tags))
    head += struct.pack(f"<II{len(counts)}I", total, len(counts), *counts)
    return section(head) + section(struct.pack("<I", n_nodes) + bytes(body)), n_nodes


class Values:
    """Doubles stored once, most frequent first."""

    def __init__(self, values):
        self.order = [v for v, _ in collections.Counter(values).most_common()]
        self.index = {v: i for i, v in enumerate(self.order)}
        assert len(self.order) < 0x8000

    def pack(self):
        return struct.pack(f"<I{len(self.order)}d", len(self.order), *self.order)


def pack_tagger(alphabet):
    emit, trans, start = jieba.posseg.emit_P, jieba.posseg.trans_P, jieba.posseg.start_P
    table = jieba.posseg.char_state_tab_P
    states = sorted(start)
    assert len(states) == 256
    number = {state: i for i, state in enumerate(states)}
    body = bytearray()
    for state in states:
        body += state[0].encode() + short(state[1]) + struct.pack("<d", start[state])
    for state in states:
        nexts = sorted((number[to], p) for to, p in trans[state].items())
        body += struct.pack("<H", len(nexts)) + b"".join(struct.pack("<Bd", to, p) for to, p in nexts)
    by_char = collections.defaultdict(dict)
    for state, chars in emit.items():
        for char, p in chars.items():
            by_char[char][number[state]] = p
    listed = {char: {number[state] for state in known} for char, known in table.items()}
    for char, known in listed.items():
        for state in known:
            by_char[char].setdefault(state, -3.14e100)
    values = Values(p for char in alphabet for p in by_char.get(char, {}).values())
    body += values.pack()
    for char in alphabet:
        rows = sorted(by_char.get(char, {}).items())
        body += varint(len(rows))
        for state, p in rows:
            body += struct.pack("<BH", state, values.index[p] | (0x8000 if state in listed.get(char, ()) else 0))
    return section(bytes(body))


def pack_cutter(alphabet):
    final = jieba.finalseg
    names = "BMES"
    body = bytearray(struct.pack("<4d", *(final.start_P[s] for s in names)))
    for a in names:
        body += struct.pack("<4d", *(final.trans_P[a].get(b, -3.14e100) for b in names))
    values = Values(p for s in names for char, p in final.emit_P[s].items() if han(char))
    body += values.pack()
    for char in alphabet:
        known = [(i, final.emit_P[s][char]) for i, s in enumerate(names) if char in final.emit_P[s]]
        body.append(sum(1 << i for i, _ in known))
        body += b"".join(struct.pack("<H", values.index[p]) for _, p in known)
    return section(bytes(body))


def read_opencc(folder):
    chars, phrases = {}, {}
    for name in ("TSCharacters.txt", "TSPhrases.txt"):
        for line in open(folder / name, encoding="utf-8"):
            if line.startswith("#") or not line.strip():
                continue
            key, value = line.rstrip("\n").split("\t")[:2]
            value = value.split(" ")[0]
            if not han(value) or any(ord(c) > 0xFFFF for c in key) or len(key) != len(value):
                continue
            if len(key) == 1:
                if key != value:
                    chars[key] = value
            else:
                phrases[key] = value
    # A phrase that its characters give anyway says nothing, unless a shorter one lies in it.
    plain = lambda text: "".join(chars.get(c, c) for c in text)
    useful = {k: v for k, v in phrases.items() if plain(k) != v}
    return chars, {k: v for k, v in phrases.items() if k in useful or any(u in k for u in useful)}


def read_upstream(folder, chars):
    text = folder / "GPT_SoVITS/text"
    scope = {}
    exec((text / "zh_normalization/char_convert.py").read_text(encoding="utf-8"), scope)  # two strings and a loop
    theirs = {k: v for k, v in scope["t2s_dict"].items() if k != v}
    differ = {c: theirs.get(c, c) for c in {*chars, *theirs} if theirs.get(c, c) != chars.get(c, c)}
    corrections = {}
    for name in ("polyphonic.rep", "polyphonic-fix.rep"):
        for line in open(text / "g2pw" / name, encoding="utf-8"):
            key, value = line.split(":")
            corrections[key.strip()] = ast.literal_eval(value.strip())
    return differ, corrections


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opencc", type=pathlib.Path, required=True)
    parser.add_argument("--upstream", type=pathlib.Path)
    args = parser.parse_args()

    data = pathlib.Path(pypinyin.__file__).parent
    single_text = json.loads((data / "pinyin_dict.json").read_text(encoding="utf-8"))
    phrase_text = json.loads((data / "phrases_dict.json").read_text(encoding="utf-8"))
    words, total = read_words()
    chars, t2s_phrases = read_opencc(args.opencc)
    differ, corrections = read_upstream(args.upstream, chars) if args.upstream else ({}, {})

    syllables = Syllables()
    everything = [chr(code) for code in range(FIRST, LAST + 1)]
    singles = {}
    for char in everything:
        marked = single_text.get(str(ord(char)), "").split(",")[0]
        singles[char] = syllables.reading(marked) if marked else None
    phrases = {p: [syllables.reading(r[0]) for r in rs] for p, rs in phrase_text.items() if han(p)}
    corrections = {p: [syllables.plain(r) for r in rs] for p, rs in corrections.items() if han(p)}

    uses = collections.Counter(char for word in words for char in word)
    alphabet = sorted(everything, key=lambda c: (-uses[c], c))
    rank = {char: i for i, char in enumerate(alphabet)}

    out = bytearray(b"TTSZH001")
    out += section(struct.pack(f"<{len(alphabet)}H", *map(ord, alphabet)))
    out += section(syllables_pack := syllables.pack())
    out += section(b"".join(struct.pack("<H", 0xFFFF if singles[c] is None else singles[c]) for c in alphabet))
    trie, n_nodes = pack_trie(words, total, phrases, corrections, singles, rank, syllables)
    assert syllables.pack() == syllables_pack
    out += trie
    out += pack_tagger(alphabet)
    out += pack_cutter(alphabet)
    for table in (chars, differ):
        out += section(b"".join(struct.pack("<HH", ord(a), ord(b)) for a, b in sorted(table.items())))
    body = b""
    for key, value in sorted(t2s_phrases.items()):
        body += bytes([len(key)]) + struct.pack(f"<{2 * len(key)}H", *map(ord, key + value))
    out += section(body)
    path = ROOT / "src/text/data/zh.bin"
    path.write_bytes(out)
    print(f"{len(words)} words, {len(phrases)} phrases, {len(corrections)} corrections, {n_nodes} nodes, "
          f"{len(syllables.names)} syllables, {len(chars)}+{len(differ)} characters, {len(t2s_phrases)} phrases t2s, "
          f"{len(out)} bytes, total {total} ({math.log(total):.3f})")


if __name__ == "__main__":
    main()
