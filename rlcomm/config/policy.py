"""Which model, and what of it trains."""

from dataclasses import dataclass, field


@dataclass
class PolicyFields:
    """Which model, and what of it trains."""

    stage: str = field(
        default="",
        metadata={
            "help": "sft, warmup, base, audio, step_rr, grpo, ans_co, reference, eval, diagnose or pipeline"
        },
    )
    model_name_or_path: str = field(default="nano_omni", metadata={"help": "folder, hub id, or nano_omni"})
    model_revision: str | None = field(default=None, metadata={"help": "hub revision"})
    dtype: str = field(
        default="float32", metadata={"help": "of the loaded weights: float32, bfloat16 or float16"}
    )
    attn_implementation: str = field(default="sdpa", metadata={"help": "sdpa, eager or flash_attention_2"})
    freeze_encoders: bool = field(default=True, metadata={"help": "audio and vision towers do not train"})
    use_peft: bool = field(
        default=False, metadata={"help": "train LoRA adapters on the decoder instead of the weights"}
    )
    lora_r: int = field(default=16, metadata={"help": "LoRA rank"})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA scale"})
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA dropout, in [0, 1)"})
