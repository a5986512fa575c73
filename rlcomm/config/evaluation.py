"""The recipe of an evaluation, and what `rlcomm eval --benchmarks` compares."""

from dataclasses import dataclass, field

from rlcomm.config.check import check_choice, check_values, commas
from rlcomm.config.data import PROMPT_STYLES
from rlcomm.config.measured import MeasuredFields, check_measured
from rlcomm.data import controls
from rlcomm.utils.errors import UserError


@dataclass
class ConflictFields:
    """What `rlcomm eval --benchmarks` compares: `rlcomm.evaluation.conflict.Plan`."""

    decoders: list[str] = field(
        default_factory=lambda: ["greedy"],
        metadata={"help": "greedy, gacl, aad, acd, cad, vcd, icd, avcd, or prompt interventions"},
    )
    conditions: list[str] = field(
        default_factory=list,
        metadata={
            "help": "greedy decoding is also asked with no_audio, silent_audio, other_audio, no_video, "
            "black_video, static_video, other_video, no_media, or a fragment such as audio_1of2"
        },
    )
    beside: list[str] = field(
        default_factory=list,
        metadata={
            "help": "name=folder of finished evaluations of other models on the same items: their joint "
            "answers stand as a line of this name beside the decoders"
        },
    )
    gacl_mode: str = field(default="candidates", metadata={"help": "candidates, hypotheses or tokens"})
    gacl_lambda: float = field(default=0.5, metadata={"help": "of GACL where nothing is tuned"})
    gacl_tau: float = field(default=0.5, metadata={"help": "of GACL where nothing is tuned"})
    gacl_alpha_max: float = field(default=1.0, metadata={"help": "bound of GACL's alpha, in [0, 1]"})
    score_norm: str = field(default="log_softmax", metadata={"help": "log_softmax, none, center or zscore"})
    candidate_score: str = field(
        default="mean", metadata={"help": "of a label's token log-probabilities: mean or sum"}
    )
    arbitrate: str = field(
        default="auto", metadata={"help": "what the second branch leaves out: text, video, audio or auto"}
    )
    dev_share: float = field(
        default=0.0, metadata={"help": "share of the clips on which decoders are tuned; 0: not tuned"}
    )
    budget_points: float = field(
        default=5.0, metadata={"help": "faithful drop that a tuned decoder may have, in points"}
    )
    judge_model: str | None = field(
        default=None,
        metadata={"help": "scores the modified set; base URL and key from the environment; null: keywords"},
    )
    judge_concurrency: int = field(default=8, metadata={"help": "requests to the judge at a time"})
    judge_timeout: float = field(default=60.0, metadata={"help": "seconds a request may take"})
    judge_retries: int = field(default=4, metadata={"help": "of a request that failed"})


@dataclass
class EvalRecipe(ConflictFields, MeasuredFields):
    """Evaluation of one model on conflict benchmarks in their official files."""

    stage: str = "eval"
    output_dir: str = field(default="runs/eval", metadata={"help": "where results.json and records.jsonl go"})
    prompt_style: str = field(default="steps", metadata={"help": "steps or direct"})
    eval_max_new_tokens: int = field(default=96, metadata={"help": "new tokens at most"})

    def __post_init__(self) -> None:
        check_values(self)
        check_choice(self, "prompt_style", PROMPT_STYLES)
        check_choice(self, "candidate_score", ("mean", "sum"))
        self.media()
        for name in ("benchmarks", "decoders", "conditions", "beside"):
            setattr(self, name, commas(getattr(self, name)))
        controls.check(self.conditions)
        for name, usual in (("conditions", []), ("beside", []), ("decoders", ["greedy"])):
            if not self.benchmarks and getattr(self, name) != usual:
                raise UserError(
                    f"{name} is {', '.join(getattr(self, name))}, but no benchmarks are named for them; set "
                    "benchmarks, e.g. mcr,avconfuse_muted."
                )
        check_measured(self)
