"""The recipe of the audio model's reasoning."""

from dataclasses import dataclass, field

from rlcomm.config.check import check_choice, check_values
from rlcomm.config.data import PROMPT_STYLES, DataFields
from rlcomm.utils.errors import UserError


@dataclass
class ReferenceRecipe(DataFields):
    """The audio model's reasoning, one per row."""

    stage: str = "reference"
    reference_backend: str = field(
        default="transformers",
        metadata={"help": "transformers, or endpoint: base URL and key from the environment"},
    )
    model_name_or_path: str = field(
        default="nano_audio",
        metadata={"help": "audio-language model of transformers, nano_audio, or the name at the endpoint"},
    )
    model_revision: str | None = field(default=None, metadata={"help": "hub revision"})
    dtype: str = field(default="float32", metadata={"help": "of the loaded weights"})
    audio_window: float | None = field(
        default=None,
        metadata={"help": "seconds heard at a time, >= 1; null: what the model takes, an endpoint all"},
    )
    concurrency: int = field(default=8, metadata={"help": "requests to the endpoint at a time"})
    timeout: float = field(default=120.0, metadata={"help": "seconds a request may take"})
    retries: int = field(default=4, metadata={"help": "of a request that failed"})
    output: str = field(default="", metadata={"help": "JSON Lines file with the reference filled in"})
    purpose: str = field(
        default="rl", metadata={"help": "rl, or warmup: write warm-up rows from reference and policy"}
    )
    sight: bool = field(
        default=False,
        metadata={"help": "for rl: also what policy_model sees without sound, for avc_mode witnessed"},
    )
    policy_model: str = field(
        default="nano_omni", metadata={"help": "for warmup and sight: the model that says what is seen"}
    )
    batch_size: int = field(default=32, metadata={"help": "rows at a time"})
    temperature: float = field(default=0.5, metadata={"help": "sampling temperature"})
    top_p: float = field(default=0.95, metadata={"help": "nucleus share"})
    max_new_tokens: int = field(default=64, metadata={"help": "at most so many"})
    seed: int = field(default=0, metadata={"help": "with the row's id, makes each row's own random stream"})
    media_audio_seconds: float | None = field(
        default=None,
        metadata={"help": "the reference hears the first so many seconds; null: all, split to its window"},
    )

    def __post_init__(self) -> None:
        check_values(self)
        check_choice(self, "purpose", ("rl", "warmup"))
        check_choice(self, "reference_backend", ("transformers", "endpoint"))
        check_choice(self, "prompt_style", PROMPT_STYLES)
        self.media()
        if not self.dataset or not self.output:
            raise UserError(
                "dataset and output are not both set; name the rows to read and the file to write."
            )
        if self.reference_backend == "endpoint" and self.model_name_or_path == "nano_audio":
            raise UserError(
                "model_name_or_path is 'nano_audio', which is no model at an endpoint; give its name there."
            )
        if self.reference_backend == "endpoint" and self.model_revision is not None:
            raise UserError(
                f"model_revision is {self.model_revision!r}, which an endpoint cannot be told; leave it out."
            )
