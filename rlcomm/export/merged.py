"""A trained policy with its adapters merged, what the merging cost, and the adapters kept beside it."""

import shutil
from pathlib import Path

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

import torch  # isort: skip
from peft import PeftModel

from rlcomm.export.checkpoint import ADAPTER, DTYPES, adapter_settings, local, stored_dtype
from rlcomm.omni.merge import Merged, merge_adapters
from rlcomm.omni.policy import Policy, in_short, load_policy
from rlcomm.utils.errors import UserError

KEPT = "adapter"  # folder of the adapters inside what is exported


def open_merged(folder: Path, dtype: str | None) -> tuple[Policy, Merged | None]:
    """Loads a policy as it is stored, and merges its adapters in float32.

    Args:
        folder: of the policy or of its adapters.
        dtype: of what will be written; None: as stored.

    Returns:
        The policy in that dtype, and what merging changed; None: it had no adapters.

    Raises:
        UserError: it cannot be read, or its adapters are no numbers.
    """
    settings = adapter_settings(folder)
    source = folder if settings is None else local(settings["base_model_name_or_path"] or "", "the base")
    policy = load_policy(str(folder), stored_dtype(source))
    merged = None
    if isinstance(policy.model, PeftModel):
        try:
            merged = merge_adapters(policy.model, DTYPES[dtype] if dtype else None)
        except ValueError as error:  # weights that are no numbers
            raise UserError(
                f"MODEL is {str(folder)!r}, whose adapters cannot be merged ({in_short(error)}); export an "
                "earlier checkpoint-N of the run."
            ) from error
        policy.model = merged.model
    return policy, merged


def keep_adapter(folder: Path, out: Path) -> None:
    """Copies the adapters themselves into `out`: what a cast lost of them can be had again."""
    (out / KEPT).mkdir()
    for name in ADAPTER:
        shutil.copyfile(folder / name, out / KEPT / name)


def told(merged: Merged | None, dtype: torch.dtype) -> str:
    """The half sentence about what was merged; "" where nothing was."""
    if merged is None:
        return ""
    name = str(dtype).removeprefix("torch.")
    if not merged.lost:
        return f"; adapters merged in float32, nothing of them lost; they lie in {KEPT}/"
    return (
        f"; adapters merged in float32, of whose update the cast to {name} loses {merged.lost:.1%} "
        f"(--dtype float32 keeps all of it); they lie in {KEPT}/"
    )
