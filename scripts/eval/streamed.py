#!/usr/bin/env python3
"""Speaks sentences through a running server as a client does whose text is still being written, for run.py --wavs.

    streamed.py --url ws://127.0.0.1:8080/v1/stream --voice starter --out DIR [--whole DIR]

Every sentence is a context of its own; its text comes in pieces of one to six characters, words split anywhere, --pause milliseconds apart, then `end`. DIR/NNN.wav as run.py writes them. With
--whole, a folder of recordings of the same sentences and seed given at once (run.py --sonorant .. --wavs DIR), tells how many are the same to the sample.
"""
import argparse
import asyncio
import json
import pathlib
import random
import struct
import sys

import numpy as np
import soundfile

import asr

HEADER = struct.Struct("<BBHIIQ")


def pieces(text, rng):
    """The text in pieces of one to six characters."""
    out = []
    while text:
        n = rng.randint(1, 6)
        out.append(text[:n])
        text = text[n:]
    return out


class Take:
    """The audio of one context: frames in order, without gaps."""

    def __init__(self):
        self.frames, self.count = [], 0

    def add(self, frame):
        version, kind, _, _, seq, position = HEADER.unpack_from(frame)
        if (version, kind, seq, position) != (1, 2, len(self.frames), self.count):
            raise ValueError(f"frame {seq} of kind {kind} begins at {position}, {self.count} samples came before it in {len(self.frames)} frames")
        self.frames.append(np.frombuffer(frame, "<i2", offset=HEADER.size))
        self.count += len(self.frames[-1])

    def wave(self):
        return np.concatenate(self.frames) if self.frames else np.zeros(0, np.int16)


async def speak(socket, ctx, sentence, options, pause_s, rng):
    """-> int16 samples of one sentence."""
    await socket.send(json.dumps(dict(type="open", ctx=ctx, format=dict(codec="pcm_s16le", rate=24000), **options)))

    async def write():
        for piece in pieces(sentence, rng):
            await socket.send(json.dumps(dict(type="text", ctx=ctx, text=piece)))
            await asyncio.sleep(pause_s)
        await socket.send(json.dumps(dict(type="end", ctx=ctx)))

    writing = asyncio.ensure_future(write())
    take = Take()
    async for message in socket:
        if isinstance(message, bytes):
            take.add(message)
            continue
        told = json.loads(message)
        if told["type"] == "error":
            writing.cancel()
            raise RuntimeError(f"{sentence!r}: {told['code']}: {told['message']}")
        if told["type"] == "done":
            break
    else:
        writing.cancel()
        raise RuntimeError(f"{sentence!r}: the server closed the connection before it was done")
    await writing
    return take.wave()


def same(wave, whole):
    """Whether wave is `whole` and then silence of at most the one frame of 20 ms that ends a context."""
    rest = len(wave) - len(whole)
    return 0 <= rest <= 480 and bool((wave[: len(whole)] == whole).all()) and not wave[len(whole):].any()


async def run(a, sentences):
    import websockets
    from tqdm import tqdm
    rng, equal, compared = random.Random(a.seed), 0, 0
    options = dict(voice=a.voice, lang=a.lang, seed=a.seed)
    async with websockets.connect(a.url, subprotocols=["sonorant.v1"], max_size=None, additional_headers={"Authorization": f"Bearer {a.token}"} if a.token else None) as socket:
        for i, sentence in enumerate(tqdm(sentences, desc="speak", unit="file")):
            wave = await speak(socket, i, sentence, options, a.pause / 1000, rng)
            soundfile.write(a.out / f"{i:03d}.wav", wave, 24000, subtype="PCM_16")
            whole = a.whole / f"{i:03d}.wav" if a.whole else None
            if whole and whole.exists():
                other, _ = soundfile.read(whole, dtype="int16")
                compared += 1
                equal += same(wave, other)
    return equal, compared


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--url", default="ws://127.0.0.1:8080/v1/stream")
    ap.add_argument("--voice", default="starter")
    ap.add_argument("--lang", default="en")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--token", help="where the server asks for one")
    ap.add_argument("--pause", type=float, default=30, help="milliseconds between the pieces")
    ap.add_argument("--sentences", type=pathlib.Path, default=pathlib.Path(__file__).with_name("sentences_en.txt"))
    ap.add_argument("--whole", type=pathlib.Path)
    ap.add_argument("--out", type=pathlib.Path, required=True)
    a = ap.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    sentences = asr.read_sentences(a.sentences)
    equal, compared = asyncio.run(run(a, sentences))
    print(f"{len(sentences)} sentences" + (f", {equal} of {compared} the same to the last sample as the text given at once" if a.whole else ""))


if __name__ == "__main__":
    sys.exit(main())
