"""The policy: thinker and processor, what of it trains, and which tokens it must never sample."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlcomm.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

import torch  # isort: skip
from peft import LoraConfig, PeftModel
from transformers import (
    AutoConfig,
    AutoProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)
from transformers.utils import logging
from trl.trainer import utils as trl_utils
from trl.trainer.utils import add_fused_lm_head

from rlcomm.errors import UserError

# Where there are no Triton kernels TRL's head scores every position, prompt and media included; only those
# of completions are asked for (tests/omni/test_score.py counts them).
trl_utils._use_triton = lambda device: True

# LoRA names such as q_proj also exist in the audio tower: the pattern is anchored on the decoder.
LORA_TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
ENCODERS = ("audio_tower", "visual")


@dataclass
class Policy:
    """A thinker with its processor.

    Attributes:
        model: the thinker (or a PeftModel around it), with TRL's fused head:
            `model(..., fused_lm_head=True)`.
        processor: tokenizer, feature extractor, image and video processors, chat template.
        path: where it was loaded from.
    """

    model: Any
    processor: Any
    path: str

    @property
    def config(self) -> Qwen2_5OmniThinkerConfig:
        return self.model.config


def load_policy(
    model_name_or_path: str,
    dtype: str = "float32",
    revision: str | None = None,
    attn_implementation: str = "sdpa",
    device: str | torch.device | None = None,
) -> Policy:
    """Loads a thinker from a thinker-only checkpoint, a full Qwen2.5-Omni one, or a LoRA adapter folder.

    Args:
        model_name_or_path: local folder or hub id. `nano_omni` names the miniature that ships with rlcomm.
        dtype: `float32`, `bfloat16` or `float16`.
        revision: hub revision.
        attn_implementation: `sdpa`, `eager` or `flash_attention_2`.
        device: where to put it; None leaves that to the trainer.

    Raises:
        UserError: the folder is missing, or is not an omni model that this library reads.
    """
    name = resolve_model(model_name_or_path)
    adapter = None
    if (Path(name) / "adapter_config.json").exists():
        adapter = name
        name = resolve_model(LoraConfig.from_pretrained(adapter).base_model_name_or_path or "")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model_name_or_path is {model_name_or_path!r}, which cannot be read as a model "
            f"({str(error).splitlines()[0]}); give a folder with config.json and safetensors weights, or a "
            "hub id that this machine can reach."
        ) from error
    if config.model_type not in ("qwen2_5_omni", "qwen2_5_omni_thinker"):
        raise UserError(
            f"model_name_or_path is {model_name_or_path!r}, a {config.model_type!r} model without the "
            "senses rlcomm balances; give a Qwen2.5-Omni checkpoint (full or thinker only)."
        )
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UserError(
            f"dtype is {dtype!r}, which is no floating type we train in; use float32, bfloat16 or float16."
        )
    logging.disable_progress_bar()
    load: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained
    model = load(
        name, dtype=getattr(torch, dtype), revision=revision, attn_implementation=attn_implementation
    )
    # Temperature 1: these are the model's own log-probabilities. TRL's trainers add theirs on top.
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    processor = AutoProcessor.from_pretrained(
        adapter if adapter and _has_processor(adapter) else name, revision=revision
    )
    if device is not None:
        model.to(device)
    return Policy(model.eval(), processor, str(model_name_or_path))


@contextlib.contextmanager
def own_temperature(model: Any) -> Iterator[None]:
    """Scores at temperature 1 inside, whatever temperature TRL's trainer gave the fused head.

    Args:
        model: the thinker, or a PeftModel around it.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = inner.__dict__.get("forward")
    add_fused_lm_head(inner, outputs=("log_probs", "entropy"))
    try:
        yield
    finally:
        if before is None:
            inner.__dict__.pop("forward", None)
        else:
            inner.forward = before


def _has_processor(path: str) -> bool:
    return any((Path(path) / name).exists() for name in ("processor_config.json", "preprocessor_config.json"))


def resolve_model(name: str) -> str:
    """`nano_omni` and `nano_audio` are the miniatures inside the package; anything else is itself.

    Raises:
        UserError: `name` looks like a path and nothing is there.
    """
    packaged = Path(__file__).resolve().parent.parent / "assets" / name
    if name in ("nano_omni", "nano_audio"):
        return str(packaged)
    if not Path(name).exists() and (name.startswith((".", "/", "~", "runs/")) or name.count("/") != 1):
        raise UserError(
            f"model_name_or_path is {name!r}, where no folder is; train the stage that writes it first, or "
            "correct the path."
        )
    return name


def set_trainable(model: torch.nn.Module, freeze_encoders: bool) -> tuple[int, int]:
    """Freezes the audio and vision towers (their projections included) or lets everything train.

    Returns:
        Number of trained and of frozen parameters.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(
            not (freeze_encoders and re.search(rf"(^|\.)({'|'.join(ENCODERS)})\.", name))
        )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in model.parameters()) - trained


def lora_config(r: int, alpha: int, dropout: float = 0.0) -> LoraConfig:
    """LoRA on the decoder's attention and MLP projections, and on nothing in the towers."""
    return LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=LORA_TARGETS, task_type="CAUSAL_LM"
    )


def suppressed_tokens(tokenizer: Any) -> list[int]:
    """Every special token but the end of turn: a sampled media pad or bos would break the next forward."""
    return sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})
