"""Which rows, asked how; evaluated and diagnosed when, on what."""

from dataclasses import dataclass, field
from typing import Any

from rlcomm.config.check import check_choice, commas
from rlcomm.config.media import MediaFields
from rlcomm.config.watch import check_watched
from rlcomm.utils.errors import UserError

PROMPT_STYLES = ("steps", "direct")
DIAGNOSES = ("flips", "patching", "probes", "reliance")


@dataclass
class DataFields(MediaFields):
    """Which rows, asked how."""

    dataset: str = field(default="", metadata={"help": "JSON Lines file of samples"})
    max_rows: int | None = field(default=None, metadata={"help": "the first so many rows"})
    prompt_style: str = field(
        default="steps", metadata={"help": "steps (three segments) or direct (the answer alone)"}
    )
    eval_data: str | None = field(
        default=None, metadata={"help": "data folder to evaluate on when the stage ends"}
    )
    eval_max_rows: int | None = field(
        default=None, metadata={"help": "the first so many rows of each benchmark"}
    )
    eval_max_new_tokens: int = field(default=96, metadata={"help": "new tokens at most in evaluation"})
    eval_batch_size: int = field(default=32, metadata={"help": "prompts at a time in evaluation"})
    eval_every: int = field(
        default=0, metadata={"help": "run eval_benchmarks every so many steps; 0: not during training"}
    )
    eval_benchmarks: list[str] = field(
        default_factory=list, metadata={"help": "benchmarks asked during training, from eval_data"}
    )
    eval_decoders: list[str] = field(
        default_factory=lambda: ["greedy"], metadata={"help": "decoders they are asked with"}
    )
    eval_subset: int = field(
        default=64, metadata={"help": "the first so many items of each, always the same"}
    )
    eval_metric: str | None = field(
        default=None, metadata={"help": "benchmark/metric whose best model is kept in best/"}
    )
    eval_budget: float | None = field(
        default=None,
        metadata={"help": "stop when the aligned (faithful, control) accuracy fell by more points than this"},
    )
    diagnose_every: int = field(
        default=0, metadata={"help": "diagnose the model every so many steps; 0: not during training"}
    )
    diagnose_which: list[str] = field(
        default_factory=lambda: ["flips", "reliance"],
        metadata={"help": "parts measured then: flips, patching, probes, reliance"},
    )
    diagnose_benchmarks: list[str] = field(
        default_factory=list, metadata={"help": "benchmarks diagnosed on, from eval_data"}
    )
    diagnose_subset: int = field(
        default=16, metadata={"help": "the first so many items of each, always the same"}
    )


@dataclass
class OrderFields:
    """In which order rows are learned."""

    group_by_clip: bool = field(
        default=False,
        metadata={
            "help": "rows of one clip come in one micro-batch (of per_device_train_batch_size), which reads "
            "the clip once; one row a micro-batch: a plain shuffle"
        },
    )


def check_common(recipe: Any) -> None:
    check_watched(recipe)
    check_choice(recipe, "prompt_style", PROMPT_STYLES)
    for name in ("eval_benchmarks", "eval_decoders"):
        setattr(recipe, name, commas(getattr(recipe, name)))
    if bool(recipe.eval_every) != bool(recipe.eval_benchmarks) or (
        recipe.eval_benchmarks and not recipe.eval_data
    ):
        raise UserError(
            "eval_every, eval_benchmarks and eval_data go together: how often, what, in which data folder; "
            f"these are {recipe.eval_every}, {recipe.eval_benchmarks} and {recipe.eval_data!r}."
        )
    if (recipe.eval_metric or recipe.eval_budget is not None) and not recipe.eval_every:
        raise UserError(
            "eval_metric and eval_budget need an evaluation during training; set eval_every and "
            "eval_benchmarks, or leave them out."
        )
    for name in ("diagnose_which", "diagnose_benchmarks"):
        setattr(recipe, name, commas(getattr(recipe, name)))
    check_parts("diagnose_which", recipe.diagnose_which)
    if bool(recipe.diagnose_every) != bool(recipe.diagnose_benchmarks) or (
        recipe.diagnose_benchmarks and not recipe.eval_data
    ):
        raise UserError(
            "diagnose_every, diagnose_benchmarks and eval_data go together: how often, on what, in which "
            f"data folder; these are {recipe.diagnose_every}, {recipe.diagnose_benchmarks} and "
            f"{recipe.eval_data!r}."
        )
    recipe.media()
    if recipe.eval_strategy != "no":
        raise UserError(
            f"eval_strategy is {recipe.eval_strategy.value!r}, but a stage evaluates once, when it ends; "
            "leave it out and name the data to evaluate on with eval_data."
        )
    if not recipe.dataset:
        raise UserError(
            "dataset is not set; name a JSON Lines file of samples (`rlcomm data --help` makes them)."
        )


def check_parts(name: str, parts: list[str]) -> None:
    for part in parts:
        if part not in DIAGNOSES:
            raise UserError(f"{name} has {part!r}, which is no part; use some of {', '.join(DIAGNOSES)}.")
    if not parts:
        raise UserError(f"{name} is empty, so nothing would be measured; use some of {', '.join(DIAGNOSES)}.")
