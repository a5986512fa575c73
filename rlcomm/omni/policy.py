"""The policy: thinker and processor, what of it trains, and which tokens it must never sample."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import LoraConfig, PeftModel
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoProcessor,
    PreTrainedModel,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen3OmniMoeThinkerForConditionalGeneration,
)
from transformers.utils import is_flash_attn_2_available, logging
from trl.trainer import utils as trl_utils
from trl.trainer.utils import add_fused_lm_head

from rlcomm.utils.errors import UserError
from rlcomm.utils.shipped import shipped_model

# Where there are no Triton kernels TRL's head scores every position, prompt and media included; only those
# of completions are asked for (tests/omni/test_score.py counts them).
trl_utils._use_triton = lambda device: True

# The families of omni models, by the model type of the whole (a thinker alone adds "_thinker" to it). They
# share one shape: `model.audio_tower`, `model.visual`, `model.language_model`, `lm_head`, `get_rope_index`.
THINKERS: dict[str, Any] = {
    "qwen2_5_omni": Qwen2_5OmniThinkerForConditionalGeneration,
    "qwen3_omni_moe": Qwen3OmniMoeThinkerForConditionalGeneration,
}
# LoRA names such as q_proj also exist in the audio tower, so the pattern is anchored on the decoder. For a
# mixture of experts PEFT keeps only the last part of each name: `lora_config` also excludes the towers.
LORA_TARGETS = r".*language_model\.layers\.\d+\.(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
ENCODERS = ("audio_tower", "visual")


@dataclass
class Policy:
    """A thinker with its processor.

    Attributes:
        model: the thinker (or a PeftModel around it); it gets TRL's fused head, `model(...,
            fused_lm_head=True)`, where it has none yet.
        processor: tokenizer, feature extractor, image and video processors, chat template.
        path: where it was loaded from.
    """

    model: Any
    processor: Any
    path: str

    def __post_init__(self) -> None:
        inner = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        if isinstance(inner, PreTrainedModel) and "forward" not in inner.__dict__:
            # Temperature 1: these are the model's own log-probabilities. TRL's trainers add theirs on top.
            add_fused_lm_head(inner, outputs=("log_probs", "entropy"))

    @property
    def config(self) -> Any:
        """The thinker's own configuration, also where the checkpoint is of the whole model."""
        return self.model.config


def load_policy(
    model_name_or_path: str,
    dtype: str = "float32",
    revision: str | None = None,
    attn_implementation: str = "sdpa",
    device: str | torch.device | None = None,
) -> Policy:
    """Loads a thinker from a thinker-only checkpoint, a full omni one, or a LoRA adapter folder.

    A full checkpoint holds thinker, talker and vocoder; only the thinker is read. Every tensor of the thinker
    comes from the checkpoint: one that would start from random weights is refused.

    Args:
        model_name_or_path: local folder or hub id. `nano_omni` names the miniature that ships with rlcomm.
        dtype: `float32`, `bfloat16` or `float16`.
        revision: hub revision.
        attn_implementation: `sdpa`, `eager` or `flash_attention_2`.
        device: where to put it; None leaves that to the trainer.

    Raises:
        UserError: the folder is missing, is not an omni model that this library reads, lacks a tensor or its
            processor, or holds an adapter of another model; or a package that the attention needs is missing.
    """
    name = resolve_model(model_name_or_path)
    adapter = None
    if (Path(name) / "adapter_config.json").exists():
        adapter = name
        name = resolve_model(LoraConfig.from_pretrained(adapter).base_model_name_or_path or "")
    config = _read_config(name, model_name_or_path, revision)
    if (why := missing_kernel(attn_implementation)) is not None:
        raise UserError(why)
    if dtype not in ("float32", "bfloat16", "float16"):
        raise UserError(
            f"dtype is {dtype!r}, which is no floating type we train in; use float32, bfloat16 or float16."
        )
    logging.disable_progress_bar()
    model = _whole(
        thinker_class(config.model_type, model_name_or_path), name, model_name_or_path,
        dtype=getattr(torch, dtype), revision=revision, attn_implementation=attn_implementation,
    )  # fmt: skip
    if adapter is not None:
        model = _adapted(model, adapter, name)
    beside = adapter if adapter and _has_processor(adapter) else name
    processor = _read_processor(beside, model_name_or_path, revision)
    if device is not None:
        model.to(device)
    return Policy(model.eval(), processor, str(model_name_or_path))


def _read_config(name: str, given: str, revision: str | None) -> Any:
    """The configuration of the checkpoint `name`, which the user called `given`."""
    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise UserError(
            f"model_name_or_path is {given!r}, which cannot be read as a model "
            f"({in_short(error)}); give a folder with config.json and safetensors weights, or a "
            "hub id that this machine can reach."
        ) from error


def _read_processor(name: str, given: str, revision: str | None) -> Any:
    """The processor in the folder `name`, whose weights the user called `given`."""
    try:
        return AutoProcessor.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model_name_or_path is {given!r}, which has weights but no processor that can be "
            f"read ({in_short(error)}); put the processor's and tokenizer's files beside them."
        ) from error


def missing_kernel(attn_implementation: str) -> str | None:
    """Why this machine cannot attend so, as a sentence for the user; None: it can."""
    if attn_implementation != "flash_attention_2" or is_flash_attn_2_available(kernels_fallback_ok=True):
        return None
    return (
        "attn_implementation is flash_attention_2, but the package flash_attn (2.3.3 or newer, and a GPU for "
        "it) is not here; pip install flash-attn, or set attn_implementation sdpa."
    )


def base_model(model: Any) -> Any:
    """The thinker inside a PeftModel (its LoRA layers stay active), or the thinker itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def in_short(error: BaseException) -> str:
    """The words of another library's error on one line, for a sentence of ours."""
    words = " ".join(str(error).split()).rstrip(".")
    return words if len(words) <= 200 else f"{words[:200]}..."


def thinker_class(model_type: str, given: str) -> Any:
    """The class of a thinker by the model type of its checkpoint, full or thinker only.

    Args:
        model_type: of config.json.
        given: what the user called the model, for the message.

    Raises:
        UserError: it is no omni model that this library reads.
    """
    family = model_type.removesuffix("_thinker")
    if family not in THINKERS:
        raise UserError(
            f"model_name_or_path is {given!r}, a {model_type!r} model without the senses rlcomm balances; "
            "give a Qwen2.5-Omni or Qwen3-Omni checkpoint (full or thinker only)."
        )
    return THINKERS[family]


def _whole(thinker: Any, name: str, given: str, **options: Any) -> Any:
    """The thinker with every one of its tensors read from the checkpoint `name`."""
    try:
        model, found = thinker.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, **options
        )
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"model_name_or_path is {given!r}, whose weights cannot be read ({in_short(error)}); give "
            "the whole checkpoint in safetensors files, every shard that its index names."
        ) from error
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise UserError(
            f"model_name_or_path is {given!r}, whose weights have other shapes than its config.json says; "
            "give the config.json that belongs to them."
        ) from error
    if missing := sorted(found["missing_keys"]):
        raise UserError(
            f"model_name_or_path is {given!r}, whose weights lack {len(missing)} of the thinker's tensors "
            f"(the first is {missing[0]}), which would stay random; give the whole checkpoint, every shard, "
            "with the config.json that belongs to it."
        )
    # Under ZeRO-3 transformers keeps every renaming that it knows for such a model, not those alone that this
    # checkpoint needed, and would save it under names from which nothing loads.
    if (renamings := getattr(model, "_weight_conversions", None)) is not None:
        model._weight_conversions = [one for one in renamings if one.was_used()]
    return model


def _adapted(model: Any, adapter: str, base: str) -> PeftModel:
    """`model` with the trained adapters of a folder, all of them and nothing random."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*missing adapter keys")  # PEFT only warns
            return PeftModel.from_pretrained(model, adapter, is_trainable=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, UserWarning) as error:
        if isinstance(error, RuntimeError) and "mismatch" not in str(error):
            raise
        raise UserError(
            f"model_name_or_path is {adapter!r}, an adapter that does not fit its base {base!r} "
            f"({in_short(error)}); give the folder as it was trained, with the base it names."
        ) from error


@contextlib.contextmanager
def own_temperature(model: Any) -> Iterator[None]:
    """Scores at temperature 1 inside, whatever temperature TRL's trainer gave the fused head.

    Args:
        model: the thinker, or a PeftModel around it.
    """
    inner = base_model(model)
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
    """The folder of a model that rlcomm ships, by its name; anything else is itself.

    Raises:
        UserError: `name` is empty, or looks like a path and nothing is there.
    """
    if not name:
        raise UserError(
            "model_name_or_path is not set; give a folder, a hub id such as Qwen/Qwen2.5-Omni-7B, or "
            "nano_omni, the miniature that ships with rlcomm."
        )
    if folder := shipped_model(name):
        return str(folder)
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
    """LoRA on the decoder's attention and MLP projections, and on nothing in the towers.

    The experts of Qwen3-Omni are parameters and no layers of their own: there it trains attention alone.
    """
    return LoraConfig(
        r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=LORA_TARGETS,
        exclude_modules=rf".*\b({'|'.join(ENCODERS)})\..*", task_type="CAUSAL_LM",
    )  # fmt: skip


def suppressed_tokens(tokenizer: Any) -> list[int]:
    """Every special token but the end of turn: a sampled media pad or bos would break the next forward."""
    return sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})
