"""The text: English, Chinese and mixed sentences with the symbols of our front end and the teacher's characters.

    text.py --cmudict FILE --phonemize PROGRAM --out DIR [--prose FILE ...] [--size N]

Writes DIR/{en,zh,mixed}.tsv, DIR/{held_en,held_zh}.tsv: id, text, symbols, the teacher's characters (one field each, apart by spaces;
`_` stands for a space in them, an empty field for nothing). English comes from corpus.py (own sentences, templates, rare words, public-domain prose of
--prose), Chinese from templates below filled with words of jieba's dictionary, from scripts/eval/frontend_sentences.py and from lists of words, so that
every syllable occurs. PROGRAM is tests/tools/phonemize. A sentence is held out when the first byte of its SHA-256 is below 4 (English: 6); what is
held out trains nothing, in any voice. Sentences of scripts/eval are in neither.
"""
import argparse
import hashlib
import os
import random
import re
import subprocess
import sys
from collections import Counter

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "../../..")
sys.path.insert(0, os.path.join(HERE, ".."))

import zh_sounds
from corpus import templates as english_templates
from teacher import MARKS, PLAIN, Lexicon, parse

SENTENCES = """
你好。|谢谢。|再见。|是的。|不是。|好。|不行！|真的吗？|当然可以。|没关系。|对不起。|请进。|等一下。|为什么？|什么时候？|在哪里？|多少钱？|太好了！|小心！|加油！
欢迎来到直播间！|谢谢你的礼物，我非常喜欢。|大家晚上好，今天我们来聊聊天。|你吃饭了吗？|今天天气怎么样？|我不知道你在说什么。|他从来没有来过这里。
请把窗户关上，外面很冷。|你能再说一遍吗？|我觉得这个主意不错，你看呢？|明天早上八点，我们在门口见面。|如果下雨，我们就不去了。|虽然很累，但是我很开心。
她一边唱歌，一边做饭。|这件衣服太贵了，能便宜一点吗？|因为堵车，所以我迟到了。|孩子们在公园里跑来跑去。|别担心，一切都会好起来的。|我已经等了你半个小时了！
他说的话我一句也没听懂。|你想喝茶还是喝咖啡？|请问，去火车站怎么走？|往前走，到路口左转，就到了。|这个问题很复杂，需要慢慢解释。|时间过得真快啊，一年又过去了。
老师说，明天要考试，请大家好好复习。|我的手机没电了，可以借你的充电器用一下吗？|春天来了，花都开了，小鸟在树上唱歌。|祝你生日快乐，身体健康，万事如意！
女儿今年六岁，喜欢画画，也喜欢听故事。|医生让他多休息，少抽烟，每天散步。|这部电影讲的是一个普通人的故事。|我们应该保护环境，节约用水。|你先走吧，我随后就到。
""".replace("\n", "|").strip("|").split("|")
PATTERNS = """{nr}觉得{n}很{a}。|{nr}在{ns}{v}{n}。|你{v}过{n}吗？|我们明天去{ns}{v}{n}，好不好？|{n}和{n}有什么关系？|这个{n}真{a}！|{nr}，你能{v}一下{n}吗？|听说{ns}的{n}很有名。
{ns}的{n}比{ns}的{a}得多。|如果没有{n}，我们就不能{v}{n}。|他{d}{v}{n}，{d}不{v}{n}。|请{v}{n}，然后告诉{nr}。|{t}，{nr}从{ns}回来了。|为了{v}{n}，他们{v}了{n}。|谁{v}了我的{n}？
{n}。|{n}？|{a}！|{nr}！|{nr}，{n}在哪儿？|{v}{n}的人越来越多，{n}却越来越少。|{t}的{n}让大家都很{a}，{nr}说，他从来没有见过这么{a}的{n}。|不但{n}{a}，而且{n}也{a}。|我最喜欢的是{n}、{n}和{n}。
虽然{n}很{a}，但是{nr}还是{v}了{n}。|一{q}{n}放在{n}上面。|{nr}问：“你为什么不{v}{n}呢？”|{ns}到{ns}有多远？|关于{n}的{n}，{nr}已经{v}了三次。|小{nr}{d}{v}着{n}，没有注意到{n}。
把{n}{v}到{ns}去，需要多长时间？|{t}有{n}，{t}有{n}，你选哪一个？|{nr}的{n}是{a}的，{nr}的{n}是{a}的。|{n}、{n}、{n}，还有{n}，我都{v}过了。|别{v}了，{n}已经没有了。|哦，原来{nr}是{ns}人啊！
""".replace("\n", "|").strip("|").split("|")
MIXED = """我用{E}给{nr}打电话。|这个{E}太{a}了！|今天的{E}你看了吗？|{nr}说{E}，我说{E}。|我们公司用{E}做{n}。|打开{E}，然后{v}{n}。|{E}和{E}，哪个更{a}？|他的{E}在{ns}。|{E}，大家好，欢迎来到我的{E}！|OK，{nr}，{v}{n}吧。
请把{E}发给{nr}，谢谢。|在{ns}，{E}就是{n}的意思。|我{d}喜欢{E}，因为它很{a}。""".replace("\n", "|").split("|")
# Yes or no, of every kind of beginning; each with a statement in the same words, so that what differs is how they end.
QUESTIONS = """is {thing} {adj}?|{thing} is {adj}.|are you {adj} {day}?|you are {adj} {day}.|did {name} {verb} {thing}?|{name} did {verb} {thing}.|has {name} been to {place}?|{name} has been to {place}.|was {place} {adj}?
{place} was {adj}.|will {name} {verb} {thing} {day}?|{name} will {verb} {thing} {day}.|does {name} like {place}?|{name} does like {place}.|have you ever been to {place}?|we have never been to {place}.|are there {num} people at {place}?
there are {num} people at {place}.|can we {verb} {thing} {day}?|we can {verb} {thing} {day}.|should I {verb} {thing}?|you should {verb} {thing}.|is {name} {adj}?|{name} is {adj}.|were they {adj}?|they were {adj}.|do they {verb} {thing} {adv}?
they {verb} {thing} {adv}.|may I {verb} {thing}?|you may {verb} {thing}.|had {name} seen {place}?|{name} had seen {place}.|is it {adj} at {place}?|it is {adj} at {place}.|would {name} {verb} {thing}?|{name} would {verb} {thing}.
""".replace("\n", "|").strip("|").split("|")
TIMES = "今天 明天 昨天 后天 上个月 下个星期 去年 明年 刚才 现在 早上 晚上 中午 周末 春天 夏天 秋天 冬天 星期一 星期三 星期天 三年前 十分钟以后 小时候 最近".split()
HAN = re.compile(r"[\u4e00-\u9fff]")


def held_out(text, below):
    return hashlib.sha256(text.encode()).digest()[0] < below


def teacher_field(chars):
    return chars.replace(" ", "_")


def arpa(symbol):
    """The teacher's characters of an ARPAbet symbol outside a known word."""
    stress, base = (symbol[-1], symbol[:-1]) if symbol[-1].isdigit() else ("", symbol)
    s = {"AH": "ə" if stress == "0" else "ʌ", "ER": "əɹ" if stress in "0" else "ɜɹ"}.get(base) or PLAIN[base]
    return {"1": "ˈ", "2": "ˌ"}.get(stress, "") + s


def chinese(spoken, symbols, cut):
    """Spoken text and its symbols -> [(symbol, characters)], or None where the two do not go together. `cut` gives words."""
    words = [w for w in cut(spoken) if w.strip()]
    ends, n = set(), 0                                      # after how many Chinese characters a word ends
    for w in words:
        n += len(HAN.findall(w))
        if HAN.search(w):
            ends.add(n)
    out, at, i = [], 0, 0
    while i < len(symbols):
        s = symbols[i]
        if s in MARKS + "-":
            s = "," if s == "-" else s
            if out and out[-1][0] not in MARKS:
                if out[-1][1].endswith(" "):
                    out[-1] = (out[-1][0], out[-1][1].rstrip())
                out.append((s, s + (" " if i < len(symbols) - 1 else "")))
            i += 1
        elif s == "SP":
            out.append((s, " "))
            i += 1
        elif zh_sounds.is_initial(s) and i + 1 < len(symbols) and zh_sounds.is_final(symbols[i + 1]):
            front, rest = zh_sounds.syllable(s, symbols[i + 1])
            at += 1
            if out and out[-1][0] not in MARKS and out[-1][0] != "SP" and not zh_sounds.is_final(out[-1][0]) and not out[-1][1].endswith(" "):
                out[-1] = (out[-1][0], out[-1][1] + " ")     # English before Chinese
            out += [(s, front), (symbols[i + 1], rest + (" " if at in ends else ""))]
            i += 2
        else:
            try:
                chars = arpa(s)
            except KeyError:
                return None
            if out and zh_sounds.is_final(out[-1][0]) and not out[-1][1].endswith(" "):
                out[-1] = (out[-1][0], out[-1][1] + " ")
            out.append((s, chars))
            i += 1
    if at != n or not out:
        return None
    if out[-1][1].endswith(" "):
        out[-1] = (out[-1][0], out[-1][1].rstrip())
    return out


def dictionary():
    """{part of speech: [(word, count)]} of jieba's dictionary, words of two to four characters that are common enough to be said."""
    import jieba
    out = {}
    with jieba.get_dict_file() as f:
        for line in f:
            word, count, tag = line.decode("utf8").split()
            if 2 <= len(word) <= 4 and all(HAN.match(c) for c in word):
                out.setdefault(tag, []).append((word, int(count)))
    return out


def chinese_lines(rng, count, words):
    """Sentences of patterns; words are drawn by the square root of how common they are."""
    pools = {}
    for slot, tag, least in (("n", "n", 20), ("v", "v", 60), ("a", "a", 20), ("ns", "ns", 30), ("nr", "nr", 10), ("d", "d", 30)):
        some = [(w, c) for w, c in words[tag] if c >= least and len(w) <= 3]
        pools[slot] = ([w for w, _ in some], [c ** 0.5 for _, c in some])
    plain = dict(t=TIMES, q="个 只 本 张 把 件 条 位 辆 座 杯 块 朵 双 台".split())
    names = "Peter Mary iPhone Windows Google Python GPU Wi-Fi Twitter Facebook YouTube Linux email OK hello app CPU party coffee shopping project meeting London New_York Microsoft Java".split()

    def fill(pattern):
        def draw(m):
            if m[1] in plain:
                return rng.choice(plain[m[1]])
            if m[1] == "E":
                return rng.choice(names).replace("_", " ")
            return rng.choices(*pools[m[1]])[0]
        return re.sub(r"\{(\w+)\}", draw, pattern)
    common = [w for tag in words for w, c in words[tag] if c >= 5]
    zh, mixed = list(SENTENCES), []
    for _ in range(count):
        zh.append(fill(rng.choice(PATTERNS)))
        if len(zh) % 4 == 0:
            zh.append("、".join(rng.sample(common, rng.randint(3, 6))) + rng.choice("。！？。"))
        if len(zh) % 9 == 0:                                 # long ones
            zh.append("，".join(fill(rng.choice(PATTERNS)).rstrip("。！？") for _ in range(rng.randint(2, 4))).replace("：“", "").replace("”", "") + "。")
        if len(mixed) < count // 3:
            mixed.append(fill(rng.choice(MIXED)))
    for lang, out in (("zh", zh), ("mixed", mixed)):
        got = subprocess.run([sys.executable, f"{ROOT}/scripts/eval/frontend_sentences.py", lang, str(count // 4), str(rng.randrange(10 ** 6))],
                             capture_output=True, text=True, check=True, encoding="utf8")
        out += got.stdout.splitlines()
    return zh, mixed


def phonemize(program, lines, lang):
    got = subprocess.run([program, f"{ROOT}/src/text/data", "--lang", lang], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True, encoding="utf8")
    rows = [l.split("\t") for l in got.stdout.splitlines()]
    if len(rows) != len(lines):
        raise SystemExit(f"phonemize gave {len(rows)} lines for {len(lines)}")
    return rows


def prose_lines(paths, longest):
    for path in paths:
        for l in open(path, encoding="utf8"):
            text = l.rstrip("\n").split("|")[1]
            if 3 <= len(text.split()) <= longest:
                yield text


def english_lines(rng, count, lexicon, prose):
    with open(f"{HERE}/sentences_en.txt", encoding="utf8") as f:
        own = [l.strip() for l in f if l.strip()]
    plain = [w for w in lexicon.words if w.isalpha() and 4 <= len(w) <= 11]
    rare = ["{} {}, {} and {}.".format(*rng.sample(plain, 4)).capitalize() for _ in range(count // 6)]
    prose = list(prose_lines(prose, 30))
    rng.shuffle(prose)
    own += [t for _, t in english_templates(rng, lexicon, count // 12, QUESTIONS)]
    return own + [t for _, t in english_templates(rng, lexicon, count // 3)] + rare + prose[: count // 2]


def write(path, rows):
    with open(path, "w", encoding="utf8") as f:
        for i, (text, sequence) in enumerate(rows):
            f.write("\t".join((f"{i:06d}", text, " ".join(s for s, _ in sequence), " ".join(teacher_field(c) for _, c in sequence))) + "\n")


def read(path):
    """[(id, text, [(symbol, characters)])]"""
    out = []
    for line in open(path, encoding="utf8"):
        name, text, symbols, chars = line.rstrip("\n").split("\t")
        out.append((name, text, [(s, c.replace("_", " ")) for s, c in zip(symbols.split(" "), chars.split(" "))]))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cmudict", required=True)
    ap.add_argument("--phonemize", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--prose", nargs="*", default=[])
    ap.add_argument("--size", type=int, default=12000, help="about how many sentences of each language")
    ap.add_argument("--seed", type=int, default=7)
    a = ap.parse_args()
    import jieba
    jieba.setLogLevel(60)
    os.makedirs(a.out, exist_ok=True)
    rng, lexicon = random.Random(a.seed), Lexicon(a.cmudict)
    judged = set()
    for lang in ("en", "zh"):
        with open(f"{ROOT}/scripts/eval/sentences_{lang}.txt", encoding="utf8") as f:
            judged |= {l.strip() for l in f}
    english_rows = {}
    for text in english_lines(rng, a.size, lexicon, a.prose):
        sequence = parse(text, lexicon) if text not in judged else None
        if sequence and sum(len(s) for _, s in sequence) <= 400:
            english_rows[text] = sequence
    zh, mixed = chinese_lines(rng, a.size, dictionary())
    sets = {"en": english_rows}
    for lang, lines in (("zh", zh), ("mixed", mixed)):
        lines = list(dict.fromkeys(lines))
        rows = {}
        for line, (spoken, symbols) in zip(lines, phonemize(a.phonemize, lines, "zh")):
            sequence = chinese(spoken, symbols.split(), jieba.lcut)
            if sequence and line not in judged and sum(len(s) for _, s in sequence) <= 400:
                rows[line] = sequence
        sets[lang] = rows
    for lang, rows in sets.items():
        rows = list(rows.items())
        rng.shuffle(rows)
        below = 6 if lang == "en" else 4
        kept = [r for r in rows if lang == "mixed" or not held_out(r[0], below)]
        write(f"{a.out}/{lang}.tsv", kept)
        seen = Counter(s for _, q in kept for s, _ in q)
        print(f"{lang}: {len(kept)} sentences, {len(seen)} symbols, the rarest " + ", ".join(f"{s} {n}" for s, n in seen.most_common()[:-9:-1]))
        if lang != "mixed":
            held = [r for r in rows if held_out(r[0], below)]
            write(f"{a.out}/held_{lang}.tsv", held)
            print(f"  held out: {len(held)}")


if __name__ == "__main__":
    main()
