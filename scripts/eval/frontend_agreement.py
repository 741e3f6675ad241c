#!/usr/bin/env python3
"""Compares our front end with GPT-SoVITS's own, phoneme by phoneme, on the sentences of frontend_sentences.py.

    scripts/eval/frontend_agreement.py --upstream CHECKOUT --phonemize build/release/tests/obj/tools/phonemize
        [--kind zh|zh-g2pw|en|mixed|cut] [--count 1500] [--sentences FILE] [--default] [--show 20] [--golden FILE]

CHECKOUT is a GPT-SoVITS tree; its text code is run as it is, in this process. It needs jieba_fast, pypinyin, cn2an and, for
English, g2p_en, inflect, wordsegment and NLTK's averaged_perceptron_tagger_eng.

zh       Chinese as upstream does without its G2PW model: readings by pypinyin
zh-g2pw  the way of the G2PW model, with one on both sides that says what pypinyin says of the whole sentence
en       English
mixed    Chinese with English words; upstream's own splitting of languages is left out, ours cuts for both
cut      the pieces of the six cutting methods, no phonemes

Ours runs with --reference, which keeps upstream's defects; --default leaves it away. Accuracy is one minus edits (substituted,
added, missing phonemes) over upstream's phonemes, all sentences together. Sentences on which upstream fails are counted apart.
"""
import argparse
import collections
import contextlib
import io
import os
import pathlib
import re
import subprocess
import sys
import types

import frontend_sentences


def load_upstream(checkout, g2pw):
    """Upstream's clean_text for zh and en; `g2pw`: with a stand-in for its model."""
    root = checkout / "GPT_SoVITS"
    sys.path.insert(0, str(root))
    import pypinyin
    import text  # upstream's package

    class StandIn:
        def __init__(self, **_):
            pass

        def _g2pw(self, batch):
            return [[item[0] for item in pypinyin.pinyin(s, neutral_tone_with_five=True, style=pypinyin.Style.TONE3)]
                    for s in batch]

    corrections = {}
    for name in ("polyphonic.rep", "polyphonic-fix.rep"):
        for line in open(root / "text/g2pw" / name, encoding="utf-8"):
            key, value = line.split(":")
            corrections[key.strip()] = re.findall(r"'([a-z]+[1-5])'", value)

    def correct(word, pinyins):
        if word in corrections:
            return corrections[word]
        return [corrections[c][0] if c in corrections else p for c, p in zip(word, pinyins)]

    module = types.ModuleType("text.g2pw")
    module.G2PWPinyin, module.correct_pronunciation = StandIn, correct
    sys.modules["text.g2pw"] = module
    with contextlib.redirect_stdout(io.StringIO()):
        from text import chinese2
        from text.cleaner import clean_text
    chinese2.is_g2pw = g2pw

    def run(sentence, language):
        with contextlib.redirect_stdout(io.StringIO()):
            phones, _, spoken = clean_text(sentence, language, "v2")
        return phones, spoken

    return run


def short_rule(run):
    """Upstream's TextPreprocessor puts a full stop before what gives less than six phonemes."""
    def with_rule(sentence):
        phones, spoken = run(sentence)
        return (phones, spoken) if len(phones) >= 6 else run("." + sentence)
    return with_rule


def mixed(run, sentence):
    phones, spoken = [], []
    for part in re.findall(r"[A-Za-z][A-Za-z ]*[^A-Za-z一-龥0-9]*|[^A-Za-z]+", sentence):
        part_phones, part_spoken = run(part, "en" if re.match("[A-Za-z]", part) else "zh")
        phones += part_phones
        spoken.append(part_spoken)
    return phones, "|".join(spoken)


def alignment(ours, theirs):
    """Edits as (ours, theirs) pairs of differing phonemes; "" for none."""
    rows = [list(range(len(theirs) + 1))]
    for i, a in enumerate(ours, 1):
        row = [i]
        for j, b in enumerate(theirs, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
        rows.append(row)
    edits, i, j = [], len(ours), len(theirs)
    while i or j:
        if i and j and rows[i][j] == rows[i - 1][j - 1] + (ours[i - 1] != theirs[j - 1]):
            if ours[i - 1] != theirs[j - 1]:
                edits.append((ours[i - 1], theirs[j - 1]))
            i, j = i - 1, j - 1
        elif i and rows[i][j] == rows[i - 1][j] + 1:
            edits.append((ours[i - 1], ""))
            i -= 1
        else:
            edits.append(("", theirs[j - 1]))
            j -= 1
    return edits


def compare_cuts(args, lines):
    sys.path.insert(0, str(args.upstream / "GPT_SoVITS/TTS_infer_pack"))
    source = (args.upstream / "GPT_SoVITS/TTS_infer_pack/TextPreprocessor.py").read_text(encoding="utf-8")
    import text_segmentation_method as methods

    # TextPreprocessor wants a whole installation; the functions that matter stand alone.
    scope = {"re": re, "splits": methods.splits, "split_big_text": methods.split_big_text, "i18n": lambda s: s,
             "get_seg_method": methods.get_method, "punctuation": set("!?…,.-"), "List": list, "Dict": dict, "Tuple": tuple}
    for start, end in (("def get_first", "class TextPreprocessor"), ("    def pre_seg_text", "    def segment_and"),
                       ("    def filter_text", None)):
        body = source[source.index(start):source.index(end) if end else None]
        exec("\n".join(line[4:] if start.startswith(" ") else line for line in body.split("\n")), scope)
    this = types.SimpleNamespace(filter_text=lambda texts: scope["filter_text"](None, texts))
    total = different = 0
    for method in ("cut0", "cut1", "cut2", "cut3", "cut4", "cut5"):
        ours = subprocess.run([args.phonemize, "--lang", "zh", "--cut", method], input="\n".join(lines) + "\n", text=True,
                              capture_output=True, check=True).stdout.split("\n")
        for line, mine in zip(lines, ours):
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    theirs = scope["pre_seg_text"](this, scope["replace_consecutive_punctuation"](None, line), "zh", method)
                except (ValueError, IndexError):
                    theirs = []
            total += 1
            if mine != "\t".join(theirs):
                different += 1
                if different <= args.show:
                    print(method, line, "\n  ours ", mine, "\n  theirs", "\t".join(theirs))
    print(f"cut: {total} texts, {different} different")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", type=pathlib.Path, required=True)
    parser.add_argument("--phonemize", required=True)
    parser.add_argument("--kind", choices=("zh", "zh-g2pw", "en", "mixed", "cut"), default="zh")
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--sentences", type=pathlib.Path, help="one a line, instead of our own")
    parser.add_argument("--default", action="store_true", help="ours without --reference")
    parser.add_argument("--show", type=int, default=20)
    parser.add_argument("--golden", type=pathlib.Path, help="write sentence, tab, upstream's phonemes")
    args = parser.parse_args()

    source = {"zh-g2pw": "zh", "cut": "zh"}.get(args.kind, args.kind)
    lines = (args.sentences.read_text(encoding="utf-8").rstrip("\n").split("\n") if args.sentences
             else frontend_sentences.sentences(source, args.count))
    if args.kind == "cut":
        pieces = ["".join(lines[i:i + 1 + i % 7]) for i in range(len(lines))]
        return compare_cuts(args, pieces)

    command = [args.phonemize, "--separator", ""]
    command += ["--lang", "en"] if args.kind == "en" else ["--lang", "zh"]
    command += ["--languages", "zh"] if source == "zh" else []
    command += ["--polyphones"] if args.kind == "zh-g2pw" else []
    command += [] if args.default else ["--reference"]
    ours = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True, check=True).stdout
    ours = [row.split("\t") for row in ours.rstrip("\n").split("\n")]

    upstream = load_upstream(args.upstream.resolve(), args.kind == "zh-g2pw")
    if args.kind == "mixed":
        run = lambda sentence: mixed(upstream, sentence)
    else:
        run = lambda sentence: upstream(sentence, "en" if args.kind == "en" else "zh")
    run = short_rule(run)
    total = errors = same = failed = shown = 0
    kinds = collections.Counter()
    golden = []
    for line, (spoken, phonemes) in zip(lines, ours, strict=True):
        try:
            theirs, their_spoken = run(line)
        except Exception as fault:  # upstream's asserts
            failed += 1
            print("upstream fails:", line, repr(fault)[:100])
            continue
        golden.append(f"{line}\t{' '.join(theirs)}\n")
        mine = phonemes.split()
        edits = alignment(mine, theirs)
        total += len(theirs)
        errors += len(edits)
        same += not edits
        kinds.update(edits)
        if edits and shown < args.show:
            shown += 1
            print(line, "\n  ours  ", spoken, "\n  theirs", their_spoken, "\n  edits ",
                  ", ".join(f"{a or '-'} for {b or '-'}" for a, b in reversed(edits)))
    if args.golden:
        args.golden.write_text("".join(golden), encoding="utf-8")
    print("most frequent (ours for theirs):", ", ".join(f"{a or '-'} for {b or '-'} {n}" for (a, b), n in kinds.most_common(20)))
    print(f"{args.kind}: {len(lines)} sentences, {total} phonemes, accuracy {100 * (1 - errors / max(total, 1)):.3f} %, "
          f"sentences alike {100 * same / max(len(lines) - failed, 1):.2f} %, upstream failed on {failed}")


if __name__ == "__main__":
    main()
