"""Model folders: what models/README.md and models/manifest.h describe, read into float32 tensors and written again."""
import hashlib
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file


def fold(state):
    """Weight norm multiplied out: X.weight_g, X.weight_v -> X.weight."""
    out = {}
    for key, value in state.items():
        if key.endswith(".weight_v"):
            g, dims = state[key[:-1] + "g"], tuple(range(1, value.dim()))
            out[key[:-2]] = value * (g / value.pow(2).sum(dims, keepdim=True).sqrt())
        elif not key.endswith(".weight_g"):
            out[key] = value
    return out


class Folder:
    """A voice or a model. A voice that names a model is read together with it and is written as a folder of its own."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf8"))
        self.home = self.path
        if "model" in self.manifest:
            self.home = self.path.resolve().parent / self.manifest.pop("model")
            networks = json.loads((self.home / "manifest.json").read_text(encoding="utf8"))
            self.manifest.update({k: networks[k] for k in ("t2s", "acoustic", "vocoder", "tokenizer") if k in networks})
            self.manifest.pop("sha256", None)

    def state(self, part):
        """Weights of "t2s", "acoustic" or "vocoder" in float32, weight norm folded."""
        return fold({k: v.float() if v.is_floating_point() else v for k, v in load_file(self.home / self.manifest[part]["file"]).items()})

    def reference(self):
        """Tensors of the prepared reference; empty for a model."""
        name = self.manifest.get("reference", {}).get("file")
        return load_file(self.path / name) if name else {}

    def write(self, out, manifest, parts):
        """A folder beside or elsewhere: `parts` (name -> state) in float16, everything else as it is here."""
        out = pathlib.Path(out)
        manifest = dict(manifest, id=out.name.lower())
        out.mkdir(parents=True, exist_ok=True)
        for part in ("t2s", "acoustic", "vocoder"):
            if part not in manifest:
                continue
            to = out / manifest[part]["file"]
            to.unlink(missing_ok=True)
            if part in parts:
                save_file({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in parts[part].items()}, to)
                to.chmod(0o644)                                                # save_file lets nobody else read it
            else:
                shutil.copyfile(self.home / manifest[part]["file"], to)
        for part, home in (("tokenizer", self.home), ("reference", self.path)):
            if part in manifest:
                shutil.copyfile(home / manifest[part]["file"], out / manifest[part]["file"])
        if "sha256" in manifest:
            manifest["sha256"] = {name: sha256(out / name) for name in manifest["sha256"]}
        (out / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
        return out


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def weights_in(state):
    return sum(v.numel() for v in state.values() if v.is_floating_point())


def size_mb(path):
    return sum(f.stat().st_size for f in pathlib.Path(path).iterdir() if f.suffix == ".safetensors") / 1e6
