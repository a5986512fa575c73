"""A miniature of any width and depth, untrained: what `rlcomm bench step` measures without a checkpoint."""

from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

import torch  # isort: skip
from transformers import AutoProcessor
from trl.trainer.utils import add_fused_lm_head

from rlcomm.omni.policy import Policy, resolve_model
from rlcomm.orchestra.nano import nano_omni, omni_processor
from rlcomm.utils import processes
from rlcomm.utils.errors import UserError

_SECOND = 33  # fewest tokens of one second of a clip


def untrained(hidden: int, layers: int, dtype: str = "float32", longest: int = 2048) -> Policy:
    """A miniature with random weights and the tokenizer of the shipped one.

    Args:
        hidden: width of the decoder, a multiple of 128.
        layers: of the decoder, at least 1.
        dtype: `float32` or `bfloat16`.
        longest: tokens of the longest prompt it will be given; it hears as many seconds as that can hold (its
            processor pads every clip to what it can hear).

    Raises:
        UserError: a number out of its range.
    """
    if hidden < 128 or hidden % 128:
        raise UserError(f"hidden is {hidden}, which its heads do not divide; give a multiple of 128.")
    if layers < 1:
        raise UserError(f"layers is {layers}, which is nothing to measure; give 1 or more.")
    tokenizer = AutoProcessor.from_pretrained(resolve_model("nano_omni")).tokenizer
    model: Any = nano_omni(tokenizer, hidden, layers, std=0.02)
    model.to(processes.device(), getattr(torch, dtype))
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return Policy(model, omni_processor(tokenizer, longest // _SECOND + 2), f"miniature {hidden} x {layers}")
