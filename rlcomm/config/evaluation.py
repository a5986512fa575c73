"""The recipe of an evaluation, and what `rlcomm eval --benchmarks` compares."""

from dataclasses import dataclass

from rlcomm.config.measured import AskedFields, MeasuredFields, check_measured
from rlcomm.data import controls
from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option

GACL_MODES = ("candidates", "hypotheses", "tokens")
ARBITRATIONS = ("auto", "text", "video", "audio")


@dataclass
class ConflictFields:
    """What `rlcomm eval --benchmarks` compares.

    `rlcomm.evaluation.plan.Plan` is made of it.
    """

    decoders: list[str] = option(
        ["greedy"], "greedy, gacl, aad, acd, cad, vcd, icd, avcd, or prompt interventions", commas=True
    )
    conditions: list[str] = option(
        [],
        "greedy decoding is also asked with no_audio, silent_audio, other_audio, no_video, black_video, "
        "static_video, other_video, no_media, or a fragment such as audio_1of2",
        commas=True,
    )
    beside: list[str] = option(
        [],
        "name=folder of finished evaluations of other models on the same items: their joint answers stand "
        "as a line of this name beside the decoders",
        commas=True,
    )
    gacl_mode: str = option("candidates", "what GACL weighs", choices=GACL_MODES)
    gacl_lambda: float = option(0.5, "of GACL where nothing is tuned", at_least=0)
    gacl_tau: float = option(0.5, "of GACL where nothing is tuned")
    gacl_alpha_max: float = option(1.0, "bound of GACL's alpha", at_least=0, at_most=1)
    score_norm: str = option(
        "log_softmax",
        "what is done to a branch's scores first",
        choices=("log_softmax", "none", "center", "zscore"),
    )
    candidate_score: str = option(
        "mean", "of a label's token log-probabilities: their mean or sum", choices=("mean", "sum")
    )
    arbitrate: str = option("auto", "what the second branch leaves out", choices=ARBITRATIONS)
    dev_share: float = option(
        0.0, "share of the clips on which decoders are tuned; 0: not tuned", at_least=0, below=1
    )
    budget_points: float = option(5.0, "faithful drop that a tuned decoder may have, in points", at_least=0)
    judge_model: str | None = option(
        None, "scores the modified set; base URL and key from the environment; null: keywords"
    )
    judge_concurrency: int = option(8, "requests to the judge at a time", at_least=1)
    judge_timeout: float = option(60.0, "seconds a request may take", above=0)
    judge_retries: int = option(4, "of a request that failed", at_least=0)


@dataclass
class EvalRecipe(ConflictFields, AskedFields, MeasuredFields):
    """Evaluation of one model on conflict benchmarks in their official files."""

    stage: str = option("eval", "eval")
    output_dir: str = option("runs/eval", "where results.json and records.jsonl go")

    def __post_init__(self) -> None:
        options.split_commas(self)
        options.check(self)
        controls.check(self.conditions)
        for name, usual in (("conditions", []), ("beside", []), ("decoders", ["greedy"])):
            if not self.benchmarks and getattr(self, name) != usual:
                raise UserError(
                    f"{name} is {', '.join(getattr(self, name))}, but no benchmarks are named for them; set "
                    "benchmarks, e.g. mcr,avconfuse_muted."
                )
        check_measured(self)
