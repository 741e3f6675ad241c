"""The training text: own sentences, everyday templates, rare-word lists, and public-domain prose.

    corpus.py --cmudict FILE --out list.tsv [--prose FILE ...] [--longest 17] [--templates 1500] [--rare 500] [--seed 5]

Writes `id<TAB>text` lines. FILE of --prose: lines `name|text` (the LJ Speech transcripts, public domain, are such a file). Every
word of a kept line is in CMUdict, so that the pronunciation the teacher is given is the one the front end gives.
scripts/eval/sentences_en.txt is never part of it.
"""
import argparse
import os
import random
import re

from teacher import Lexicon, parse

HERE = os.path.dirname(os.path.abspath(__file__))
WORDS = {
    "name": "james mary john sarah david emma michael olivia robert sophia daniel grace peter lucy tom anna kevin rachel jack amy".split(),
    "day": "monday tuesday wednesday thursday friday saturday sunday tomorrow today tonight".split(),
    "num": "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty ninety".split(),
    "big": ["one hundred", "two thousand", "three million", "five hundred and twelve", "nineteen eighty four", "twenty twenty six",
            "seven point five", "forty two", "sixty eight", "ninety nine percent", "a quarter", "one half"],
    "place": ["london", "paris", "chicago", "boston", "berlin", "tokyo", "seattle", "denver", "houston", "miami", "the airport", "the station",
              "the kitchen", "the office", "the garden", "the museum", "the river", "the market", "the hospital"],
    "thing": ["the phone", "my keys", "a new laptop", "the red car", "your ticket", "a cup of coffee", "the window", "the blue jacket", "a good book",
              "the camera", "an umbrella", "the music", "this game", "that video", "the stream", "the microphone", "her bicycle", "our dog",
              "the cake", "a glass of water", "the answer", "the letter", "some bread", "these shoes"],
    "adj": "quick slow happy tired strange quiet loud bright dark warm cold easy hard funny serious cheap expensive fresh broken heavy light "
           "clever brave gentle huge tiny".split(),
    "verb": "open close find buy sell bring check fix watch move share choose remember clean describe forget return lose finish start".split(),
    "adv": "quickly slowly carefully again soon later maybe really almost usually never always together yesterday early".split(),
}
TEMPLATES = [
    "can you {verb} {thing} {adv}?", "please {verb} {thing} before {day}.", "{name}, could you {verb} {thing} for me?",
    "i think {name} is {adj} and {adj}.", "we will meet at {place} on {day} at {num} thirty.", "there are {num} people waiting at {place}.",
    "it costs {big} dollars.", "what a {adj} day!", "thank you, {name}!", "why is it so {adj} here?", "where did {name} put {thing}?",
    "{day} is going to be {adj}, I hope.", "the number is {num} {num} {num}, {num} {num} {num} {num}.", "no, {name}, that is not {adj} at all.",
    "hello {name}, welcome to the show!", "I have never seen such a {adj} place.", "if you {verb} {thing}, {name} will be {adj}.",
    "do you want to {verb} {thing} or {verb} {thing}?", "about {big} of them were {adj}.", "yes.", "no.", "okay.", "maybe {adv}.",
    "{adv}, {name} decided to {verb} {thing}.", "she said that {place} was {adj}, but {name} did not agree.",
    "let's {verb} {thing} and go to {place}.", "how many people live in {place}?", "the {adj} cat sat near {thing}.", "{num} minutes left.",
    "good morning, {name}.", "{name}!", "{name}?", "{adj}.", "{thing}.", "{num}.", "{day}, {num} o'clock.", "who wants to {verb} {thing}?",
    "I do not know, ask {name}.", "don't {verb} {thing}, it is too {adj}.", "everyone laughed when {name} tried to {verb} {thing}.",
]


def templates(rng, lexicon, count, patterns=TEMPLATES):
    out, seen = [], set()
    for _ in range(40 * count):
        if len(out) == count:
            break
        t = re.sub(r"\{(\w+)\}", lambda m: rng.choice(WORDS[m[1]]), rng.choice(patterns))
        t = t[0].upper() + t[1:]
        if t not in seen and parse(t, lexicon):
            out.append((f"t{len(out):05d}", t))
        seen.add(t)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cmudict", required=True)
    ap.add_argument("--prose", nargs="*", default=[])
    ap.add_argument("--out", required=True)
    ap.add_argument("--longest", type=int, default=17, help="words of the longest line of prose")
    ap.add_argument("--templates", type=int, default=1500, help="lines from templates")
    ap.add_argument("--rare", type=int, default=500, help="lists of rare words")
    ap.add_argument("--seed", type=int, default=5)
    a = ap.parse_args()
    rng, lexicon = random.Random(a.seed), Lexicon(a.cmudict)
    with open(os.path.join(HERE, "data/sentences_en.txt"), encoding="utf8") as f:
        own = [(f"c{i:05d}", l.strip()) for i, l in enumerate(f) if l.strip()]
    with open(os.path.join(HERE, "../eval/sentences_en.txt"), encoding="utf8") as f:
        held_out = {l.strip() for l in f}
    prose = []
    for path in a.prose:
        for l in open(path, encoding="utf8"):
            name, text = l.rstrip("\n").split("|")[:2]
            if 3 <= len(text.split()) <= a.longest:
                prose.append((os.path.splitext(os.path.basename(name))[0], text))
    plain = [w for w in lexicon.words if w.isalpha() and 4 <= len(w) <= 11]
    rare = [(f"r{i:05d}", "{} {}, {} and {}.".format(*rng.sample(plain, 4)).capitalize()) for i in range(a.rare)]
    pools = [[r for r in p if r[1] not in held_out and parse(r[1], lexicon)] for p in (own, prose, templates(rng, lexicon, a.templates), rare)]
    for p in pools:
        rng.shuffle(p)
    # Interleaved in proportion, so that any beginning of the list is a fair sample of all of it.
    rows = sorted(((i + rng.random()) / len(p), r) for p in pools for i, r in enumerate(p))
    with open(a.out, "w", encoding="utf8") as f:
        f.writelines(f"{i}\t{t}\n" for _, (i, t) in rows)
    print(f"{len(rows)} lines: " + ", ".join(f"{len(p)} {n}" for p, n in zip(pools, ("own", "prose", "templates", "rare words"))))


if __name__ == "__main__":
    main()
