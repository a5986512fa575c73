"""The full omni checkpoint with the trained thinker in it: shard by shard, everything else bit by bit.

transformers' own `save_pretrained` of the full class is no substitute. It holds the whole model where one
shard is enough, casts thinker and talker to the dtype that config.json names, and leaves out the voices and
every tensor that no class reads; tests/export/test_export.py shows it.
"""

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

import torch  # isort: skip
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import save_file
from transformers import AutoConfig
from transformers.core_model_loading import revert_weight_conversion

from rlcomm.export.checkpoint import (
    DTYPES,
    INDEX,
    THINKER,
    adapter_settings,
    copy_others,
    local,
    metadata_of,
    tensors_of,
    weight_map,
)  # fmt: skip
from rlcomm.export.merged import keep_adapter, open_merged, told
from rlcomm.omni.merge import Merged
from rlcomm.omni.policy import THINKERS, Policy, in_short
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

# Entries of a thinker's configuration that no forward reads; trainers set some of them.
_IDLE = {
    "architectures", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "output_attentions",
    "output_hidden_states", "pad_token_id", "problem_type", "return_dict", "torch_dtype",
    "transformers_version", "use_cache",
}  # fmt: skip


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


def write(folder: Path, out: Path, given: str | None, dtype: str | None) -> str:
    """Writes the full checkpoint; the arguments are those of `convert.export`, `given` its base."""
    settings = adapter_settings(folder)
    if given is None:
        given = (settings or {}).get("base_model_name_or_path")
    if given is None:
        raise UserError(
            f"--base is not given, and {folder} does not say which full checkpoint its talker comes from; "
            "give the checkpoint (folder or hub id) that training started from."
        )
    base = _open_base(given)
    policy, merged = open_merged(folder, dtype)
    _same_model(base, policy)
    trained = _Trained(policy.model, base.names())
    changed = _fitting(base, policy, trained, merged)
    with files.replacing(out, directory=True) as beside:
        copy_others(base.folder, beside)
        for shard, names in base.shards.items():
            _write_shard(base.folder / shard, beside / shard, names, trained, dtype)
        if dtype is not None:
            _record_dtype(beside, dtype)
        if merged is not None:
            keep_adapter(folder, beside)
    written = len(base.names() & trained.names.keys())
    return (
        f"{out}: a full checkpoint; {written} thinker tensors written, {changed} of them unlike the base's; "
        f"{len(base.names()) - written} tensors copied as they were"
        + told(merged, DTYPES[dtype] if dtype else policy.model.dtype)
    )


def _open_base(given: str) -> _Base:
    folder = local(given, "--base")
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UserError(
            f"--base is {given!r}, which cannot be read as a model ({in_short(error)}); give a full "
            "omni checkpoint."
        ) from error
    shards: dict[str, list[str]] = {}
    for name, shard in weight_map(folder).items():
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
        named = {THINKER + name: name for name in self._own}
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
    return {THINKER + hub.removeprefix(THINKER): part for hub, part in parts.items()}


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


def _fitting(base: _Base, policy: Policy, trained: _Trained, merged: Merged | None) -> int:
    """Checks that every tensor has its place in the base, before anything is written.

    Args:
        base: the full checkpoint.
        policy: for the messages.
        trained: its tensors.
        merged: the weights that adapters changed: all others must still be the base's own. None: it was not
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
        for name, before in tensors_of(base.folder / shard, wanted):
            now = trained[name]
            if now.shape != before.shape:
                raise refuse(name, f"has shape {tuple(before.shape)} and not the {tuple(now.shape)} of")
            if not torch.equal(now.to(before.dtype), before):
                changed += 1
                if merged is not None and trained.names[name] not in merged.changed:
                    raise refuse(name, "differs, though no adapter touches it, from the weights under")
    return changed


def _write_shard(source: Path, target: Path, names: list[str], trained: _Trained, dtype: str | None) -> None:
    """One shard with the trained tensors in place of the base's, in the base's dtypes; others bit by bit."""
    if not any(name in trained.names for name in names):
        shutil.copyfile(source, target)
        return
    tensors = {}
    for name, before in tensors_of(source, names):
        tensors[name] = before
        if name in trained.names:
            # a copy: tied or split tensors share memory, which safetensors refuses
            tensors[name] = trained[name].to(DTYPES[dtype] if dtype else before.dtype, copy=True).contiguous()
    save_file(tensors, target, metadata_of(source))


def _record_dtype(folder: Path, dtype: str) -> None:
    """Says in the thinker's configuration and in the index what `--dtype` made of the thinker.

    The entry of the whole model stays: by it transformers casts talker and vocoder too.
    """
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["thinker_config"].pop("torch_dtype", None)
    config["thinker_config"]["dtype"] = dtype
    files.write_json(path, config)
    if (folder / INDEX).exists():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        sizes = (
            tensor.numel() * tensor.element_size()
            for shard in sorted(set(index["weight_map"].values()))
            for _, tensor in tensors_of(folder / shard)
        )
        index.setdefault("metadata", {})["total_size"] = sum(sizes)
        files.write_json(folder / INDEX, index)
