"""The teacher with any style, any pitch and questions that rise: Kokoro-82M with one more input, what its predicted F0 is multiplied by."""
import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from teacher import DURATIONS, session, teacher_graph

F0 = "/encoder/Reshape_output_0"                            # [1, 2 * frames] Hz at 80 Hz; below 10 the source is silent
VOICED = 40.0                                               # Hz
STYLE = 128                                                 # values of a style that the waveform generator is given; the rest is for durations and F0
TRUNK = "/decoder/decoder/decode.3/Div_4_output_0"          # [1, 512, 2 * frames], enters the waveform generator


def rising(sequence, got, semitones):
    """Factors of F0 [2 frames], 1 up to the last vowel with primary stress: what got["f0"] has to be multiplied by to rise evenly from there to the last voiced sound, from its
    height in the middle of the sentence or where that vowel begins, whichever is higher."""
    f0, out = got["f0"], np.ones(len(got["f0"]), np.float32)
    stressed = [i for i, (symbol, _) in enumerate(sequence) if symbol[-1] in "15"]      # 5: the neutral tone of a Chinese question's last word
    voiced = f0 > VOICED
    if not stressed or not voiced.any():
        return out
    first = int(2 * (got["lead"] + got["durations"][: stressed[-1]].sum()))
    end = np.flatnonzero(voiced)[-1]
    begin = f0[first: first + 4][voiced[first: first + 4]]
    base = max([np.median(f0[voiced]), *begin])
    at = np.arange(first, len(f0))
    wanted = base * 2 ** (semitones / 12 * np.clip((at - first) / max(1, end - first), 0, 1))
    out[first:] = np.where(voiced[first:], wanted / np.maximum(f0[first:], VOICED), 1)
    return out


class Teacher:
    """`outputs`: any of "audio", "trunk"; what they do not need is not computed. Durations and F0 are always there."""

    def __init__(self, outputs=("trunk",), threads=1):
        import onnx
        graph, self.ids = teacher_graph()
        for node in graph.graph.node:
            for i, name in enumerate(node.input):
                if name == F0:
                    node.input[i] = F0 + "/scaled"
        at = next(i for i, n in enumerate(graph.graph.node) if F0 in n.output)
        graph.graph.node.insert(at + 1, onnx.helper.make_node("Mul", [F0, "pitch"], [F0 + "/scaled"], name="pitch"))
        graph.graph.input.append(onnx.helper.make_tensor_value_info("pitch", onnx.TensorProto.FLOAT, ["factors"]))   # one, or one each 12.5 ms
        names = {"audio": graph.graph.output[0].name, "trunk": TRUNK}
        self.outputs = [DURATIONS, F0 + "/scaled"] + [names[o] for o in outputs]
        self.session = session(graph, self.outputs, threads)
        self.inputs = {i.name for i in self.session.get_inputs()}

    def run(self, sequence, style, speed=1.0, pitch=1.0, rise=0.0):
        """sequence: [(symbol, characters)]; style [510, 256]. -> dict of durations per symbol, lead (both in frames of 600 samples), f0 [2 frames] Hz,
        style [STYLE] that the waveform generator was given, and the outputs: audio [samples] or trunk [2 frames, 512]. A symbol without characters has half of the next one's time.
        rise: semitones that F0 goes up from the last stressed vowel to the end, in place of what the teacher would do there (which is not to rise)."""
        got = self.once(sequence, style, speed, [pitch])
        return self.once(sequence, style, speed, pitch * rising(sequence, got, rise)) if rise else got

    def once(self, sequence, style, speed, pitch):
        ids = [self.ids[c] for _, s in sequence for c in s]
        row = style[min(len(ids), len(style) - 1)]
        feed = dict(tokens=np.array([[0] + ids + [0]], np.int64), style=row[None].astype(np.float32), speed=np.array([speed], np.float32),
                    pitch=np.asarray(pitch, np.float32))
        d, f0, *rest = self.session.run(self.outputs, {k: v for k, v in feed.items() if k in self.inputs})
        d, dur, k = d.reshape(-1), [], 1
        for _, s in sequence:
            dur.append(float(d[k: k + len(s)].sum()))
            k += len(s)
        for i, (_, s) in enumerate(sequence[:-1]):
            if not s:
                dur[i] = dur[i + 1] = dur[i + 1] / 2
        out = dict(durations=np.array(dur), lead=float(d[0]), f0=f0.reshape(-1), style=row[:STYLE].astype(np.float32))
        for name, value in zip(self.outputs[2:], rest):
            out["trunk" if name == TRUNK else "audio"] = value[0].T if name == TRUNK else value.reshape(-1)
        return out
