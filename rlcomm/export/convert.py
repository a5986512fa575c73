"""A trained policy as a checkpoint that plain transformers or PEFT load: `rlcomm export`.

    full      the base omni checkpoint with the thinker's tensors replaced, shard by shard; talker, vocoder
              and every other file as they were
    thinker   the thinker alone, adapters merged, with its processor
    adapter   the adapters of a LoRA run, with the processor

Weights are written as safetensors only. The one pickle that leaves here is `spk_dict.pt`, the voices of
Qwen2.5-Omni's talker: they are no weights of ours, and transformers does not load the full model without that
file. It is copied byte for byte and never opened.
"""

import functools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

import torch  # isort: skip
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import AutoConfig
from transformers.core_model_loading import revert_weight_conversion

from rlcomm.omni.policy import THINKERS, Policy, in_short, load_policy, resolve_model
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

KINDS = ("full", "thinker", "adapter")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}  # names of safetensors
_PREFIX = "thinker."
_INDEX = "model.safetensors.index.json"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")
_VOICES = "spk_dict.pt"
# Entries of a thinker's configuration that no forward reads; trainers set some of them.
_IDLE = {
    "architectures", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "output_attentions",
    "output_hidden_states", "pad_token_id", "problem_type", "return_dict", "torch_dtype",
    "transformers_version", "use_cache",
}  # fmt: skip


def export(
    model: str, to: str, out: str | os.PathLike, base: str | None = None, dtype: str | None = None
) -> str:
    """Writes a trained policy as a checkpoint of the wanted kind.

    Memory: one thinker in its stored dtype and, for `full`, one shard of the base beside it.

    Args:
        model: a run folder, its `model/` or `checkpoint-N/`, any checkpoint or adapter folder, or a hub id.
        to: `full`, `thinker` or `adapter`.
        out: folder to make; written beside and renamed.
        base: the full checkpoint the policy was trained from: for `full` (left out, the base that an adapter
            names); for `adapter` the base that the exported folder shall name instead of the recorded one.
        dtype: of the written tensors of thinker or adapter; None keeps the base's (`full`) or the stored one.
            Adapters are merged in the dtype that is written.

    Returns:
        One line that says what was written.

    Raises:
        UserError: `out` exists; the policy or the base cannot be read or do not belong together; adapters are
            asked of a model that has none.
    """
    out = Path(out)
    if out.exists():
        raise UserError(f"--out is {out}, which exists already; remove it or choose another folder.")
    if to not in KINDS or (dtype is not None and dtype not in DTYPES):
        raise UserError(
            f"--to is {to!r} and --dtype is {dtype!r}, of which one is unknown; use --to {', '.join(KINDS)} "
            f"and --dtype {', '.join(DTYPES)}."
        )
    folder = _local(model, "MODEL")
    if (folder / "recipe.yaml").exists() and not (folder / "config.json").exists():
        folder = folder / "model"
        if not folder.exists():
            raise UserError(f"MODEL is {model!r}, a run without model/; let its training finish first.")
    if to == "adapter":
        return _adapter(folder, out, base, dtype)
    if to == "thinker":
        return _thinker(folder, out, dtype)
    return _full(folder, out, base, dtype)


# -- adapter -------------------------------------------------------------------------------------------------


def _adapter(folder: Path, out: Path, base: str | None, dtype: str | None) -> str:
    settings = _adapter_settings(folder)
    if settings is None:
        raise UserError(
            f"MODEL is {str(folder)!r}, which holds no adapters (no adapter_config.json), so none can be "
            "exported; give the model of a run with use_peft: true, or use --to thinker."
        )
    with files.replacing(out, directory=True) as beside:
        _copy_others(folder, beside)
        weights = dict(_tensors(folder / "adapter_model.safetensors"))
        if dtype is not None:
            weights = {key: tensor.to(DTYPES[dtype]) for key, tensor in weights.items()}
        save_file(weights, beside / "adapter_model.safetensors", {"format": "pt"})
        if base is not None:
            source = _local(base, "--base")
            hub = not Path(resolve_model(base)).is_dir()
            settings["base_model_name_or_path"] = base if hub else str(source.resolve())
            files.write_json(beside / "adapter_config.json", settings)
            try:
                load_policy(str(beside), _stored_dtype(source))
            except UserError as error:
                raise UserError(
                    f"--base is {base!r}, which the adapters of {str(folder)!r} do not fit; give the "
                    "checkpoint that training started from, or leave --base out."
                ) from error
    return f"{out}: {len(weights)} adapter tensors over the base {settings['base_model_name_or_path']}"


def _adapter_settings(folder: Path) -> dict[str, Any] | None:
    path = folder / "adapter_config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


# -- thinker -------------------------------------------------------------------------------------------------


def _thinker(folder: Path, out: Path, dtype: str | None) -> str:
    policy, _ = _merged(folder, dtype)
    with files.replacing(out, directory=True) as beside:
        policy.model.save_pretrained(beside, max_shard_size="5GB")
        policy.processor.save_pretrained(beside)
    return f"{out}: a thinker of {len(policy.model.state_dict())} tensors in {policy.model.dtype}"


def _merged(folder: Path, dtype: str | None) -> tuple[Policy, set[str] | None]:
    """The policy with its adapters merged, and the weights they changed (None: it had none)."""
    settings = _adapter_settings(folder)
    source = folder if settings is None else _local(settings["base_model_name_or_path"] or "", "the base")
    policy = load_policy(str(folder), dtype or _stored_dtype(source))
    changed = None
    if isinstance(policy.model, PeftModel):
        changed = {
            f"{name}.weight"
            for name, module in policy.model.get_base_model().named_modules()
            if hasattr(module, "base_layer")
        }
        try:
            policy.model = policy.model.merge_and_unload(safe_merge=True)
        except ValueError as error:  # weights that are no numbers
            raise UserError(
                f"MODEL is {str(folder)!r}, whose adapters cannot be merged ({in_short(error)}); export an "
                "earlier checkpoint-N of the run."
            ) from error
    return policy, changed


# -- full ----------------------------------------------------------------------------------------------------


@dataclass
class _Base:
    """A full checkpoint on disk.

    Attributes:
        given: what the user called it.
        folder: where it lies.
        thinker: configuration of its thinker.
        shards: file -> its tensors' names, in order.
    """

    given: str
    folder: Path
    thinker: Any
    shards: dict[str, list[str]]

    def names(self) -> set[str]:
        """Of all its tensors."""
        return {name for names in self.shards.values() for name in names}


def _full(folder: Path, out: Path, given: str | None, dtype: str | None) -> str:
    settings = _adapter_settings(folder)
    if given is None:
        given = (settings or {}).get("base_model_name_or_path")
    if given is None:
        raise UserError(
            f"--base is not given, and {folder} does not say which full checkpoint its talker comes from; "
            "give the checkpoint (folder or hub id) that training started from."
        )
    base = _open_base(given)
    policy, adapted = _merged(folder, dtype)
    _same_model(base, policy)
    trained = _Trained(policy.model, base.names())
    changed = _fitting(base, policy, trained, adapted)
    with files.replacing(out, directory=True) as beside:
        _copy_others(base.folder, beside)
        for shard, names in base.shards.items():
            _write_shard(base.folder / shard, beside / shard, names, trained, dtype)
        if dtype is not None:
            _record_dtype(beside, dtype)
    written = len(base.names() & trained.names.keys())
    return (
        f"{out}: a full checkpoint; {written} thinker tensors written, {changed} of them unlike the base's; "
        f"{len(base.names()) - written} tensors copied as they were"
    )


def _open_base(given: str) -> _Base:
    folder = _local(given, "--base")
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UserError(
            f"--base is {given!r}, which cannot be read as a model ({in_short(error)}); give a full "
            "omni checkpoint."
        ) from error
    shards: dict[str, list[str]] = {}
    for name, shard in _weight_map(folder).items():
        shards.setdefault(shard, []).append(name)
    if config.model_type not in THINKERS:
        raise UserError(
            f"--base is {given!r}, a {config.model_type!r} checkpoint, which is no full omni model with "
            "talker and vocoder; give the full checkpoint that training started from, or use --to thinker."
        )
    if absent := sorted(shard for shard in shards if not (folder / shard).exists()):
        raise UserError(
            f"--base is {given!r}, which lacks {absent[0]} of its index; give the whole checkpoint."
        )
    return _Base(given, folder, config.thinker_config, shards)


class _Trained:
    """The tensors of a thinker as a full checkpoint calls them, made one at a time.

    transformers saves under the hub's names, in which the decoder has no `language_model` and every expert of
    a mixture is a tensor of its own; a checkpoint may also lie under the names of the class.

    Attributes:
        names: name in the checkpoint -> the class's own.
        twins: names whose tensor stands under another name too (tied): a checkpoint may leave them out.
    """

    def __init__(self, model: Any, present: set[str]):
        """`present` are the names in the checkpoint."""
        self._own = model.state_dict()
        named = {_PREFIX + name: name for name in self._own}
        self._hub = len(named.keys() & present) < len(self._own) // 2
        if self._hub:
            named = {
                hub: name
                for name, tensor in self._own.items()
                for hub in _hub_tensors(model, name, tensor.to("meta"))
            }
        self.names = named
        self.twins = {name for name, own in named.items() if own in model.all_tied_weights_keys}
        # experts are copied when they are taken apart: those of a layer or two at a time
        self._parts = functools.lru_cache(maxsize=4)(lambda name: _hub_tensors(model, name, self._own[name]))

    def __getitem__(self, name: str) -> torch.Tensor:
        own = self.names[name]
        return self._parts(own)[name] if self._hub else self._own[own]


def _hub_tensors(model: Any, name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """One tensor of a thinker under the name it has on the hub; several for the experts of a layer."""
    parts = revert_weight_conversion(model, {name: tensor})
    return {_PREFIX + hub.removeprefix(_PREFIX): part for hub, part in parts.items()}


def _same_model(base: _Base, policy: Policy) -> None:
    """Refuses a base whose configuration computes something else, even where every shape agrees."""
    before = _arithmetic(base.thinker.to_dict())
    now = _arithmetic(policy.config.to_dict())
    unlike = sorted(key for key in before.keys() & now.keys() if before[key] != now[key])
    if unlike:
        raise UserError(
            f"--base is {base.given!r}, whose thinker is another model than {policy.path!r} "
            f"({unlike[0]} is {before[unlike[0]]}, not {now[unlike[0]]}); give the full checkpoint that "
            "training started from."
        )


def _arithmetic(config: dict[str, Any], path: str = "") -> dict[str, Any]:
    """The entries of a configuration that a forward depends on, by dotted name."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if key in _IDLE or str(key).startswith("_"):
            continue
        if isinstance(value, dict):
            flat |= _arithmetic(value, f"{path}{key}.")
        else:
            flat[f"{path}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _fitting(base: _Base, policy: Policy, trained: _Trained, adapted: set[str] | None) -> int:
    """Checks that every tensor has its place in the base, before anything is written.

    Args:
        base: the full checkpoint.
        policy: for the messages.
        trained: its tensors.
        adapted: weights that adapters changed: all others must still be the base's own. None: it was not
            trained with adapters, and anything may have changed.

    Returns:
        How many tensors are unlike the base's. A tensor of the base's thinker that no class of transformers
        reads stays as it is.
    """

    def refuse(name: str, why: str) -> UserError:
        return UserError(
            f"--base is {base.given!r}, whose {name} {why} {policy.path!r}; give the full checkpoint that "
            "training started from."
        )

    if absent := sorted(trained.names.keys() - trained.twins - base.names()):
        raise refuse(absent[0], "is missing, though it is one of the tensors of")
    changed = 0
    for shard, names in base.shards.items():
        wanted = [name for name in names if name in trained.names]
        for name, before in _tensors(base.folder / shard, wanted):
            now = trained[name]
            if now.shape != before.shape:
                raise refuse(name, f"has shape {tuple(before.shape)} and not the {tuple(now.shape)} of")
            if not torch.equal(now.to(before.dtype), before):
                changed += 1
                if adapted is not None and trained.names[name] not in adapted:
                    raise refuse(name, "differs, though no adapter touches it, from the weights under")
    return changed


def _write_shard(source: Path, target: Path, names: list[str], trained: _Trained, dtype: str | None) -> None:
    """One shard with the trained tensors in place of the base's, in the base's dtypes; others bit by bit."""
    if not any(name in trained.names for name in names):
        shutil.copyfile(source, target)
        return
    tensors = {}
    for name, before in _tensors(source, names):
        tensors[name] = before
        if name in trained.names:
            # a copy: tied or split tensors share memory, which safetensors refuses
            tensors[name] = trained[name].to(DTYPES[dtype] if dtype else before.dtype, copy=True).contiguous()
    save_file(tensors, target, _metadata(source))


def _record_dtype(folder: Path, dtype: str) -> None:
    """Says in the thinker's configuration and in the index what `--dtype` made of the thinker.

    The entry of the whole model stays: by it transformers casts talker and vocoder too.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["thinker_config"].pop("torch_dtype", None)
    config["thinker_config"]["dtype"] = dtype
    files.write_json(path, config)
    if (folder / _INDEX).exists():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        sizes = (
            tensor.numel() * tensor.element_size()
            for shard in sorted(set(index["weight_map"].values()))
            for _, tensor in _tensors(folder / shard)
        )
        index.setdefault("metadata", {})["total_size"] = sum(sizes)
        files.write_json(folder / _INDEX, index)


# -- files ---------------------------------------------------------------------------------------------------


def _local(name: str, what: str) -> Path:
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


def _weight_map(folder: Path) -> dict[str, str]:
    """Tensor -> file of a checkpoint, in the files' order."""
    try:
        if (folder / _INDEX).exists():
            return json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
        with safe_open(folder / "model.safetensors", "pt") as weights:
            return dict.fromkeys(weights.keys(), "model.safetensors")
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: has no safetensors weights that can be read ({in_short(error)}); give a checkpoint "
            f"with model.safetensors, or {_INDEX} and its shards."
        ) from error


def _tensors(path: Path, names: list[str] | None = None) -> Iterator[tuple[str, torch.Tensor]]:
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


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as weights:
        return weights.metadata() or {"format": "pt"}


def _stored_dtype(folder: Path) -> str:
    """The dtype of a checkpoint's thinker on disk: of its first tensor of reals."""
    weights = _weight_map(folder)
    for name in sorted(weights, key=lambda name: not name.startswith(_PREFIX)):
        with safe_open(folder / weights[name], "pt") as shard:
            if (stored := shard.get_slice(name).get_dtype()) in _STORED:
                return _STORED[stored]
    raise UserError(f"{folder}: holds no float32, bfloat16 or float16 weights; give a checkpoint that does.")


def _copy_others(source: Path, target: Path) -> None:
    """Every file of a checkpoint but its weights: configurations, processor, chat template, voices."""
    for path in sorted(source.rglob("*")):
        place = path.relative_to(source)
        if not path.is_file() or any(part.startswith(".") for part in place.parts):
            continue
        if path.suffix in _WEIGHTS and path.name != _VOICES:
            continue
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / place)  # of a hub cache, what its links point to
