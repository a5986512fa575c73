"""Adapters merged into their base in float32, whatever the base is stored in.

W, A, B -> W + B A in float32 -> cast to the type that is kept, and what of B A the cast lost
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer


@dataclass(frozen=True)
class Merged:
    """A model without adapters.

    Attributes:
        model: the base, its weights changed.
        changed: names of those weights.
        lost: share of the update that the cast lost, ||(cast(W + D) - cast(W)) - D|| / ||D|| over all changed
            weights, >= 0; 0 in float32.
    """

    model: Any
    changed: frozenset[str]
    lost: float


@torch.no_grad()
def merge_adapters(model: PeftModel, dtype: torch.dtype | None = None) -> Merged:
    """Merges all active adapters, a layer at a time: only that layer is held in float32.

    A sum taken in bfloat16 rounds the update once more, and most updates are so small beside their weight
    that the rounding is all that is left of them.

    Args:
        model: with adapters whose layers have one `weight` each (LoRA).
        dtype: of the changed weights; None: as they are stored.

    Returns:
        The base model, and what the cast lost.

    Raises:
        ValueError: merged weights that are no finite numbers.
    """
    changed, missed, whole = set(), 0.0, 0.0
    for name, module in model.get_base_model().named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        changed.add(f"{name}.weight")
        layer: Any = module
        weight = layer.get_base_layer().weight
        before, kept = weight.data, dtype or weight.dtype
        weight.data = before.float()
        for part, adapters in layer.named_children():
            if part != "base_layer":  # stored in half precision, they would be multiplied in it
                adapters.float()
        layer.merge(safe_merge=True)
        update = weight.data - before.float()
        after = weight.data.to(kept)
        missed += float((after.float() - before.to(kept).float() - update).square().sum(dtype=torch.float64))
        whole += float(update.square().sum(dtype=torch.float64))
        weight.data = after
    return Merged(model.unload(), frozenset(changed), (missed / whole) ** 0.5 if whole else 0.0)
