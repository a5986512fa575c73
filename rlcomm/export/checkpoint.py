"""A checkpoint on disk: where it lies, which tensor is in which file, what lies beside its weights."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open

from rlcomm.omni.policy import in_short, resolve_model
from rlcomm.utils.errors import UserError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
INDEX = "model.safetensors.index.json"
THINKER = "thinker."  # before the thinker's tensors in a full checkpoint
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # names of safetensors
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
_VOICES = "spk_dict.pt"


def local(name: str, what: str) -> Path:
    """The folder of a model; one on the hub is fetched (or found in the hub's cache)."""
    name = resolve_model(name)
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise UserError(
            f"{what} is {name!r}, which is neither a folder nor a hub id that this machine can reach "
            f"({in_short(error)}); correct it."
        ) from error


def weight_map(folder: Path) -> dict[str, str]:
    """Tensor -> file of a checkpoint, in the files' order."""
    try:
        if (folder / INDEX).exists():
            return json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        with safe_open(folder / "model.safetensors", "pt") as weights:
            return dict.fromkeys(weights.keys(), "model.safetensors")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: has no safetensors weights that can be read ({in_short(error)}); give a checkpoint "
            f"with model.safetensors, or {INDEX} and its shards."
        ) from error


def tensors_of(path: Path, names: list[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
    """The named tensors of a file (None: all), one at a time."""
    if names == []:
        return
    try:
        with safe_open(path, "pt") as weights:
            for name in weights.keys() if names is None else names:
                yield name, weights.get_tensor(name)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be read ({in_short(error)}); give the whole checkpoint, every shard that its "
            "index names."
        ) from error


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as weights:
        return weights.metadata() or {"format": "pt"}


def stored_dtype(folder: Path) -> str:
    """The dtype of a checkpoint's thinker on disk: of its first tensor of reals."""
    weights = weight_map(folder)
    for name in sorted(weights, key=lambda name: not name.startswith(THINKER)):
        with safe_open(folder / weights[name], "pt") as shard:
            if (stored := shard.get_slice(name).get_dtype()) in _STORED:
                return _STORED[stored]
    raise UserError(f"{folder}: holds no float32, bfloat16 or float16 weights; give a checkpoint that does.")


def copy_others(source: Path, target: Path) -> None:
    """Every file of a checkpoint but its weights: configurations, processor, chat template, voices."""
    for path in sorted(source.rglob("*")):
        place = path.relative_to(source)
        if not path.is_file() or any(part.startswith(".") for part in place.parts):
            continue
        if path.suffix in _WEIGHTS and path.name != _VOICES:
            continue
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / place)  # of a hub cache, what its links point to


def adapter_settings(folder: Path) -> dict[str, Any] | None:
    path = folder / "adapter_config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
