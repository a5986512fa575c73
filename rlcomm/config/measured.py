"""On what a model is measured, and how it is asked."""

from dataclasses import dataclass

from rlcomm.config.media import MediaFields
from rlcomm.config.policy import OmniFields
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option


@dataclass
class AskedFields:
    """How a model is asked."""

    prompt_style: str = option(
        "steps", "steps: three segments; direct: the answer alone", choices=("steps", "direct")
    )
    eval_max_new_tokens: int = option(96, "new tokens at most in an evaluation", at_least=1)


@dataclass
class EvaluatedFields:
    """The data folder a model is measured on."""

    eval_data: str | None = option(
        None,
        "data folder to evaluate on, with test/avconfuse/, test/music_avqa/, clips/; a training stage does "
        "so when it ends",
    )
    eval_max_rows: int | None = option(None, "the first so many rows of each benchmark", at_least=1)
    eval_batch_size: int = option(32, "prompts at a time in an evaluation", at_least=1)


@dataclass
class MeasuredFields(EvaluatedFields, MediaFields, OmniFields):
    """Which model is measured, on which benchmarks."""

    disable_tqdm: bool = option(False, "no progress bar")
    benchmarks: list[str] = option(
        [], "names (mcr, avconfuse_muted, ...) or YAML files; none: the data folder's own", commas=True
    )
    benchmark_files: list[str] = option([], "name=file of benchmarks that lie outside eval_data")
    benchmark_media: list[str] = option([], "name=folder of their media")


def check_measured(recipe: MeasuredFields) -> None:
    """Whether there is something to measure on.

    Raises:
        UserError: no data folder, or a place without a name.
    """
    for name in ("benchmark_files", "benchmark_media", "beside"):
        for item in getattr(recipe, name, ()):
            if "=" not in item:
                raise UserError(f"{name} has {item!r}, which is not name=path; write e.g. mmau=/data/mmau.")
    if not recipe.eval_data:
        raise UserError("eval_data is not set; name the data folder to evaluate on.")
