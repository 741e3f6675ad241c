"""Speaks with GPT-SoVITS's own Python, for compare.py: one JSON line in, one out.

It runs TTS_infer_pack/TTS.py as it is, on an acoustic and a T2S checkpoint, and changes these things around it:

- The prepared reference (prompt tokens, phonemes, spectrogram, speaker embedding) is read from the file that Sonorant's voice
  has, and is never computed again, so that preparing it counts for nobody. As GPT-SoVITS ships, v2Pro runs its speaker network in every
  request; here it does not.
- The phonemes of the text are given; its text front end, BERT and HuBERT are not loaded, and their packages not needed. For English
  text the BERT features are zeros in upstream as well.
- The number of tokens is fixed by upstream's own limit (configs.hz * configs.max_sec).

Packages that only those parts need are replaced by empty modules when they are missing; the first line says which.
"""
import argparse
import importlib.abc
import importlib.machinery
import json
import os
import struct
import sys
import tempfile
import time
import types

OPTIONAL = ("torchaudio", "ffmpeg", "librosa", "librosa.filters", "pytorch_lightning", "torchmetrics", "torchmetrics.classification",
            "peft", "transformers", "x_transformers", "x_transformers.x_transformers", "matplotlib", "tensorboard")
# Parts of upstream that only the text front end and the reference need, and that want further packages.
NOT_USED = ("text.LangSegmenter", "text.chinese", "text.cleaner", "tools.audio_sr", "sv", "huggingface_hub")
MODES = {
    # streaming_mode 3 of api_v2.py, chunks of 16 tokens: the earliest first audio upstream has as it ships.
    "stream": {"streaming_mode": True, "fixed_length_chunk": True, "parallel_infer": False, "split_bucket": False},
    # The same with half the chunk, for who wants the first audio earlier still and takes seams twice as often.
    "stream8": {"streaming_mode": True, "fixed_length_chunk": True, "parallel_infer": False, "split_bucket": False, "min_chunk_length": 8},
    # api_v2.py's defaults: the whole text, then all of its audio.
    "whole": {"streaming_mode": False, "parallel_infer": True},
    # v3 and v4 only have a whole; in batches, as above, they fill every window to its end.
    "serial": {"streaming_mode": False, "parallel_infer": False},
}
STEPS = 8  # flow steps of v3 and v4: Sonorant's default; upstream's is 32
BIGVGAN = {"resblock": "1", "num_mels": 100, "upsample_rates": [4, 4, 2, 2, 2, 2], "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
           "upsample_initial_channel": 1536, "resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3,
           "activation": "snakebeta", "snake_logscale": True, "use_bias_at_final": False, "use_tanh_at_final": False}


class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder


class Placeholder(metaclass=Anything):
    def __init__(self, *args, **kwargs):
        pass

    def __init_subclass__(cls, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return self

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Placeholder()


class EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives empty modules for the names it was made with."""

    def __init__(self, names):
        self.names = set(names)

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: self.attribute(name)
        return module

    def exec_module(self, module):
        pass

    @staticmethod
    def attribute(name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "LightningModule":
            import torch
            return torch.nn.Module
        return Placeholder


def missing(names):
    from importlib.util import find_spec
    absent = []
    for name in names:
        try:
            found = name.split(".")[0] not in absent and find_spec(name) is not None
        except Exception:
            found = False
        if not found:
            absent.append(name)
    return absent


def read_safetensors(path):
    import numpy as np
    import torch
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(size)), f.read()
    types_ = {"F32": np.float32, "I32": np.int32, "I64": np.int64}
    return {name: torch.from_numpy(np.frombuffer(data[slice(*t["data_offsets"])], types_[t["dtype"]]).reshape(t["shape"]).copy())
            for name, t in header.items() if name != "__metadata__"}


class GivenPhonemes:
    """Stands where upstream's TextPreprocessor stands."""

    def __init__(self, phonemes, to_ids):
        self.phonemes, self.to_ids = phonemes, to_ids

    def pre_seg_text(self, text, lang, method):
        return [text]

    def segment_and_extract_feature_for_text(self, text, lang, version):
        import torch
        return self.to_ids(self.phonemes, version), torch.zeros(1024, len(self.phonemes)), text

    def preprocess(self, text, lang, method, version):
        phones, bert, norm = self.segment_and_extract_feature_for_text(text, lang, version)
        return [{"phones": phones, "bert_features": bert, "norm_text": norm}]


def add_newer_functions(torch, absent):
    """What PyTorch 1.13 does not have yet: two helpers of upstream's training, and attention in one call."""
    from typing import Optional
    functional = torch.nn.functional
    for name in ("_canonical_mask", "_none_or_dtype"):
        if not hasattr(functional, name):
            setattr(functional, name, None)
            absent.append("torch.nn.functional." + name)
    if not hasattr(functional, "scaled_dot_product_attention"):
        def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
            weight = torch.matmul(q, k.transpose(-2, -1)) * q.size(-1) ** -0.5
            if mask is not None:
                weight = weight.masked_fill(mask.logical_not(), float("-inf"))
            return torch.matmul(torch.softmax(weight, dim=-1), v)

        functional.scaled_dot_product_attention = attention
        absent.append("torch.nn.functional.scaled_dot_product_attention (plain matrix products instead)")


def place_vocoder(args):
    folder = "GPT_SoVITS/pretrained_models/" + ("models--nvidia--bigvgan_v2_24khz_100band_256x" if args.version == "v3" else "gsv-v4-pretrained")
    os.makedirs(folder)
    os.symlink(args.vocoder, f"{folder}/{'bigvgan_generator.pt' if args.version == 'v3' else 'vocoder.pth'}")
    if args.version == "v3":
        with open(folder + "/config.json", "w") as f:
            json.dump(BIGVGAN, f)


def load(args):
    import torch
    torch.set_num_threads(args.threads)
    absent = missing(OPTIONAL)
    sys.meta_path.insert(0, EmptyModules(absent + list(NOT_USED)))
    sys.path[:0] = [args.upstream, args.upstream + "/GPT_SoVITS"]
    # Upstream writes its configuration into the working directory.
    os.chdir(tempfile.mkdtemp(prefix="upstream-"))
    sys.argv = sys.argv[:1]
    add_newer_functions(torch, absent)
    from TTS_infer_pack import TTS as pack
    if args.version in ("v3", "v4"):
        # Upstream looks for the vocoder here, and knows whole v3 and v4 checkpoints by the checksum of the official ones.
        place_vocoder(args)
        pack.get_sovits_version_from_path_fast = lambda path: ["v2", args.version, False]
        pack.BigVGAN.from_pretrained = classmethod(lambda cls, folder: cls._from_pretrained(
            model_id=folder, revision=None, cache_dir=None, force_download=False, proxies=None, resume_download=False,
            local_files_only=True, token=None))

    prepared = read_safetensors(args.reference)

    class Pipeline(pack.TTS):
        def init_bert_weights(self, base_path):
            pass

        def init_cnhuhbert_weights(self, base_path):
            pass

        def init_sv_model(self):
            self.sv_model = types.SimpleNamespace(compute_embedding3=lambda audio: prepared["speaker_embedding.0"].unsqueeze(0))

    tts = Pipeline(pack.TTS_Config({"custom": {
        "device": "cpu", "is_half": False, "version": args.version, "t2s_weights_path": args.t2s, "vits_weights_path": args.acoustic,
        "bert_base_path": "", "cnhuhbert_base_path": ""}}))
    from text import cleaned_text_to_sequence
    tts.text_preprocessor = GivenPhonemes(args.phonemes.split(), cleaned_text_to_sequence)
    phones = prepared["prompt_phonemes"].tolist()
    tts.prompt_cache.update(
        ref_audio_path="prepared", prompt_semantic=prepared["prompt_tokens"].long(), prompt_text="Prepared.", prompt_lang="en",
        refer_spec=[(prepared["spectrogram.0"].t().unsqueeze(0), torch.zeros(1, 16000))], phones=phones,
        bert_features=torch.zeros(1024, len(phones)), norm_text="Prepared.")
    # v3 and v4 make the reference's mel spectrogram in every request: little beside the rest.
    rate = 24000 if args.version == "v3" else 32000
    tts.prompt_cache.update(raw_audio=0.1 * torch.randn(1, 5 * rate), raw_sr=rate)
    tts.configs.hz = 1  # so that max_sec counts tokens
    return tts, absent, torch


def speak(tts, text, mode, tokens, seed):
    """Upstream stops after max_sec + 1 tokens; its whole mode then drops one of them."""
    tts.configs.max_sec = tokens - 1 if mode.startswith("stream") else tokens
    start, chunks, n = time.perf_counter(), [], 0
    for rate, audio in tts.run({"text": text, "text_lang": "en", "ref_audio_path": "prepared", "prompt_text": "Prepared.",
                                "prompt_lang": "en", "seed": seed, "sample_steps": STEPS, **MODES[mode]}):
        chunks.append((time.perf_counter() - start, n / rate))
        n += len(audio)
    return {"total_s": time.perf_counter() - start, "chunks": chunks, "audio_s": n / rate}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("upstream", "t2s", "acoustic", "version", "reference", "phonemes"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--vocoder", help="of v3 and v4")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # upstream prints

    def say(content):
        out.write(json.dumps(content) + "\n")
        out.flush()

    tts, absent, torch = load(args)
    say({"torch": torch.__version__, "threads": torch.get_num_threads(), "python": sys.version.split()[0],
         "cpu_capability": getattr(torch.backends.cpu, "get_cpu_capability", lambda: "?")() if hasattr(torch.backends, "cpu") else "?",
         "empty_modules": absent + list(NOT_USED)})
    for line in sys.stdin:
        request = json.loads(line)
        say(speak(tts, request["text"], request["mode"], request["tokens"], request["seed"]))


if __name__ == "__main__":
    main()
