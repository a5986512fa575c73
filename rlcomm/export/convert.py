"""A trained policy as a checkpoint that plain transformers or PEFT load: `rlcomm export`.

    full      the base omni checkpoint with the thinker's tensors replaced, shard by shard; talker, vocoder
              and every other file as they were
    thinker   the thinker alone, adapters merged, with its processor
    adapter   the adapters of a LoRA run, with the processor

Weights are written as safetensors only. The one pickle that leaves here is `spk_dict.pt`, the voices of
Qwen2.5-Omni's talker: they are no weights of ours, and transformers does not load the full model without that
file. It is copied byte for byte and never opened.
"""

import os
from pathlib import Path

from safetensors.torch import save_file

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)
from rlcomm.export import full
from rlcomm.export.checkpoint import DTYPES, adapter_settings, copy_others, local, stored_dtype, tensors_of
from rlcomm.export.merged import keep_adapter, open_merged, told
from rlcomm.omni.policy import load_policy, resolve_model
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

KINDS = ("full", "thinker", "adapter")


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
            Adapters are merged in float32 and kept in `adapter/` beside what they were merged into.

    Returns:
        One line that says what was written, and what a cast lost of merged adapters.

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
    folder = local(model, "MODEL")
    if (folder / "recipe.yaml").exists() and not (folder / "config.json").exists():
        folder = folder / "model"
        if not folder.exists():
            raise UserError(f"MODEL is {model!r}, a run without model/; let its training finish first.")
    if to == "adapter":
        return _adapter(folder, out, base, dtype)
    if to == "thinker":
        return _thinker(folder, out, dtype)
    return full.write(folder, out, base, dtype)


# -- adapter -------------------------------------------------------------------------------------------------


def _adapter(folder: Path, out: Path, base: str | None, dtype: str | None) -> str:
    settings = adapter_settings(folder)
    if settings is None:
        raise UserError(
            f"MODEL is {str(folder)!r}, which holds no adapters (no adapter_config.json), so none can be "
            "exported; give the model of a run with use_peft: true, or use --to thinker."
        )
    with files.replacing(out, directory=True) as beside:
        copy_others(folder, beside)
        weights = dict(tensors_of(folder / "adapter_model.safetensors"))
        if dtype is not None:
            weights = {key: tensor.to(DTYPES[dtype]) for key, tensor in weights.items()}
        save_file(weights, beside / "adapter_model.safetensors", {"format": "pt"})
        if base is not None:
            source = local(base, "--base")
            hub = not Path(resolve_model(base)).is_dir()
            settings["base_model_name_or_path"] = base if hub else str(source.resolve())
            files.write_json(beside / "adapter_config.json", settings)
            try:
                load_policy(str(beside), stored_dtype(source))
            except UserError as error:
                raise UserError(
                    f"--base is {base!r}, which the adapters of {str(folder)!r} do not fit; give the "
                    "checkpoint that training started from, or leave --base out."
                ) from error
    return f"{out}: {len(weights)} adapter tensors over the base {settings['base_model_name_or_path']}"


# -- thinker -------------------------------------------------------------------------------------------------


def _thinker(folder: Path, out: Path, dtype: str | None) -> str:
    policy, merged = open_merged(folder, dtype)
    if dtype is not None:
        policy.model.to(DTYPES[dtype])
    with files.replacing(out, directory=True) as beside:
        policy.model.save_pretrained(beside, max_shard_size="5GB")
        policy.processor.save_pretrained(beside)
        if merged is not None:
            keep_adapter(folder, beside)
    return f"{out}: a thinker of {len(policy.model.state_dict())} tensors in {policy.model.dtype}" + told(
        merged, policy.model.dtype
    )
