"""The recipe of the audio model's reasoning."""

from dataclasses import dataclass

from rlcomm.config.data import DataFields
from rlcomm.config.during import DuringFields
from rlcomm.config.measured import AskedFields
from rlcomm.config.policy import ModelFields
from rlcomm.data.media import MediaSettings
from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import like, option
from rlcomm.utils.shipped import shipped_model

SIGHT_PROMPT = (
    "Describe in one or two sentences what is visible here: the things, the people and what they do. "
    "Say only what can be seen, and draw no conclusion about sounds."
)


@dataclass
class ReferenceRecipe(DuringFields, AskedFields, DataFields, ModelFields):
    """The audio model's reasoning, one per row."""

    stage: str = option("reference", "reference")
    reference_backend: str = option(
        "transformers",
        "where the model is; of an endpoint, base URL and key come from the environment",
        choices=("transformers", "endpoint"),
    )
    model_name_or_path: str = option(
        "", "audio-language model of transformers, one that ships with rlcomm, or the name at the endpoint"
    )
    audio_window: float | None = option(
        None, "seconds heard at a time; null: what the model takes, an endpoint all", at_least=1
    )
    concurrency: int = option(8, "requests to the endpoint at a time", at_least=1)
    timeout: float = option(120.0, "seconds a request may take", at_least=1e-6)
    retries: int = option(4, "of a request that failed", at_least=0)
    output: str = option("", "JSON Lines file with the reference filled in")
    purpose: str = option(
        "rl",
        "rl; warmup: write warm-up rows from reference and policy; labels: rows of exchanged senses answered "
        "by policy_model from one sense alone",
        choices=("rl", "warmup", "labels"),
    )
    sight: bool = option(False, "for rl: also what policy_model sees without sound, for avc_mode witnessed")
    policy_model: str = option(
        "", "for warmup and sight: the model that says what is seen; for labels: that answers"
    )
    batch_size: int = option(32, "rows at a time", at_least=1)
    temperature: float = option(0.5, "sampling temperature; 0: greedy", at_least=0)
    top_p: float = option(0.95, "nucleus share", at_least=1e-6, at_most=1)
    max_new_tokens: int = option(64, "at most so many", at_least=1)
    attempts: int = option(3, "texts a row at most, each with another seed, until one will do", at_least=1)
    sight_prompt: str = option(SIGHT_PROMPT, "for warmup and sight: what policy_model is asked")
    sight_max_new_tokens: int = option(128, "of a description, at most so many", at_least=1)
    warmup_rows: int | None = option(
        None,
        "for warmup and labels: so many rows, drawn from dataset and counterfactual; null: one of each",
        at_least=1,
    )
    min_type_share: float = option(
        0.0,
        "for warmup and labels: no question type shall be rarer; its rows are repeated",
        at_least=0,
        at_most=1,
    )
    balance_answers: bool = option(
        False, "for warmup and labels: within a question type every answer as often, exchanged rows included"
    )
    counterfactual: str = option(
        "",
        "for warmup and labels: rows of two clips (`rlcomm data counterfactual`), beside dataset's",
    )
    counterfactual_share: float | None = option(
        None,
        "for warmup and labels: of the rows with reasoning; null: as they come",
        at_least=0,
        at_most=0.95,
    )
    replay: list[str] = option(
        [], "for warmup: files of the rows asked directly; none: dataset and counterfactual", commas=True
    )
    replay_share: float = option(
        0.0, "for warmup: rows asked for the answer alone (meta.prompt_style direct)", at_least=0, at_most=0.9
    )
    ordinary_labels: str = option(
        "gold",
        "for labels: dataset's rows keep their answer, are answered by both senses, or are left out",
        choices=("gold", "joint", "none"),
    )
    exchanged_labels: str = option(
        "branch",
        "for labels: counterfactual's rows are answered by the sense they ask, or keep the answer they have",
        choices=("branch", "own"),
    )
    label_margin: float = option(
        0.0, "for labels: nats a label must be ahead of the next; others are left out", at_least=0
    )
    texts: str = option(
        "", "for labels: rows beside a text (meta.without_text); each gets another's, answered without it"
    )
    names: list[str] = option(
        [], "for labels: things that clips may hold; pairs of dataset's clips are asked for them", commas=True
    )
    pairs: int = option(600, "for labels with names: pairs of clips drawn blindly", at_least=1)
    heard_question: str = option("Is there a {} sound?", "for labels with names: asked of the sound")
    seen_question: str = option("Is there a {} in the entire video?", "the same of the picture")
    heard_type: str = option("Audio/Existential", "for labels with names: question type of the rows")
    seed: int = option(0, "with the row's id, makes each row's own random stream", at_least=0)
    media_audio_seconds: float | None = like(
        MediaSettings,
        "audio_seconds",
        default=None,
        help="the reference hears the first so many seconds; null: all, split to its window",
    )

    def __post_init__(self) -> None:
        options.split_commas(self)
        options.check(self)
        if not self.dataset or not self.output:
            raise UserError(
                "dataset and output are not both set; name the rows to read and the file to write."
            )
        exchanged = self.counterfactual or (self.purpose == "labels" and (self.names or self.texts))
        if self.counterfactual_share is not None and not exchanged:
            raise UserError(
                f"counterfactual_share is {self.counterfactual_share:g}, but counterfactual names no file of "
                "exchanged rows; make them with `rlcomm data counterfactual`, or leave the share out."
            )
        at_endpoint = self.reference_backend == "endpoint"
        if at_endpoint and (not self.model_name_or_path or shipped_model(self.model_name_or_path)):
            raise UserError(
                f"model_name_or_path is {self.model_name_or_path!r}, which is no model at an endpoint; "
                "give its name there."
            )
        if not self.policy_model and (self.sight or self.purpose in ("warmup", "labels")):
            raise UserError(
                "policy_model is not set, so nobody says what is seen; name the model that will be trained."
            )
        if self.reference_backend == "endpoint" and self.model_revision is not None:
            raise UserError(
                f"model_revision is {self.model_revision!r}, which an endpoint cannot be told; leave it out."
            )
