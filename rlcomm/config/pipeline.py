"""The recipe of a chain of stages."""

import re
from dataclasses import dataclass

from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option


@dataclass
class PipelineRecipe:
    """A chain of stages, each its own process; every stage starts from the model of the one before."""

    stage: str = option("pipeline", "pipeline")
    output_dir: str = option("runs/pipeline", "a folder per stage, summary.json, report.html")
    model_name_or_path: str = option("", "the base the first stage starts from; must be set")
    stages: list[str] = option([], "recipe files, in order, beside this one")
    data: str | None = option(
        None, "data folder with warmup.jsonl, train.jsonl, test/: replaces the stages' own"
    )
    asymmetric: float | None = option(
        None,
        "share of the training scenes with one instrument muted; the quickstart renders so",
        at_least=0,
        at_most=1,
    )
    evaluate_base: str | None = option(None, "eval recipe for the base, beside this one")
    seed: int | None = option(None, "replaces the seed of every stage", at_least=0)
    launch: str | None = option(None, "accelerate configuration or launch script that starts each stage")
    overrides: list[str] = option([], "stage.key=value for one stage; also as --stage.key value")

    def __post_init__(self) -> None:
        options.check(self)
        if not self.stages:
            raise UserError("stages is empty; list the recipe files of the stages in order.")
        for item in self.overrides:
            if not re.fullmatch(r"\w+\.\w+=.*", item):
                raise UserError(
                    f"overrides has {item!r}, which is not stage.key=value; write e.g. step_rr.max_steps=10."
                )
