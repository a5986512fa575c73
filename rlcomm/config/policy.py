"""Which model, and what of it trains."""

from dataclasses import dataclass

from rlcomm.utils.options import option

DTYPES = ("float32", "bfloat16", "float16")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")


@dataclass
class ModelFields:
    """Which model."""

    model_name_or_path: str = option("", "folder, hub id, or a model that ships with rlcomm; must be set")
    model_revision: str | None = option(None, "hub revision")
    dtype: str = option("float32", "of the loaded weights", choices=DTYPES)


@dataclass
class OmniFields(ModelFields):
    """Which model that hears and sees."""

    attn_implementation: str = option("sdpa", "kernel of the attention", choices=ATTENTIONS)


@dataclass
class PolicyFields(OmniFields):
    """Which model, and what of it trains."""

    freeze_encoders: bool = option(True, "audio and vision towers do not train")
    use_peft: bool = option(False, "train LoRA adapters on the decoder instead of the weights")
    lora_r: int = option(16, "LoRA rank", at_least=1)
    lora_alpha: int = option(32, "LoRA scale", at_least=1)
    lora_dropout: float = option(0.0, "LoRA dropout", at_least=0, at_most=0.99)
