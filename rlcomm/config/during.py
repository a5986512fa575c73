"""What a training stage measures on its way: an evaluation and a diagnosis every so many steps."""

from dataclasses import dataclass

from rlcomm.config.measured import EvaluatedFields
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option

DIAGNOSES = ("flips", "patching", "probes", "reliance")


@dataclass
class DuringFields(EvaluatedFields):
    """What is measured when, from eval_data."""

    eval_every: int = option(0, "run eval_benchmarks every so many steps; 0: not during training", at_least=0)
    eval_benchmarks: list[str] = option([], "benchmarks asked during training, from eval_data", commas=True)
    eval_decoders: list[str] = option(["greedy"], "decoders they are asked with", commas=True)
    eval_subset: int = option(64, "the first so many items of each, always the same", at_least=1)
    eval_metric: str | None = option(None, "benchmark/metric whose best model is kept in best/")
    eval_budget: float | None = option(
        None,
        "stop when the aligned (faithful, control) accuracy fell by more points than this",
        at_least=0,
    )
    diagnose_every: int = option(
        0, "diagnose the model every so many steps; 0: not during training", at_least=0
    )
    diagnose_which: list[str] = option(
        ["flips", "reliance"], "parts measured then", commas=True, choices=DIAGNOSES, called="part"
    )
    diagnose_benchmarks: list[str] = option([], "benchmarks diagnosed on, from eval_data", commas=True)
    diagnose_subset: int = option(16, "the first so many items of each, always the same", at_least=1)


def check_during(recipe: DuringFields) -> None:
    """Whether what is measured during training is said completely.

    Raises:
        UserError: how often without what, or what without where.
    """
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
    check_parts("diagnose_which", recipe.diagnose_which)
    if bool(recipe.diagnose_every) != bool(recipe.diagnose_benchmarks) or (
        recipe.diagnose_benchmarks and not recipe.eval_data
    ):
        raise UserError(
            "diagnose_every, diagnose_benchmarks and eval_data go together: how often, on what, in which "
            f"data folder; these are {recipe.diagnose_every}, {recipe.diagnose_benchmarks} and "
            f"{recipe.eval_data!r}."
        )


def check_parts(name: str, parts: list[str]) -> None:
    """Whether a diagnosis has a part to measure.

    Raises:
        UserError: it has none.
    """
    if not parts:
        raise UserError(f"{name} is empty, so nothing would be measured; use some of {', '.join(DIAGNOSES)}.")
