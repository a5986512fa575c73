"""The recipe of a chain of stages."""

import re
from dataclasses import dataclass, field

from rlcomm.utils.errors import UserError


@dataclass
class PipelineRecipe:
    """A chain of stages, each its own process; every stage starts from the model of the one before."""

    stage: str = "pipeline"
    output_dir: str = field(
        default="runs/pipeline", metadata={"help": "a folder per stage, summary.json, report.html"}
    )
    model_name_or_path: str = field(
        default="nano_omni", metadata={"help": "the base the first stage starts from"}
    )
    stages: list[str] = field(
        default_factory=list, metadata={"help": "recipe files, in order, beside this one"}
    )
    data: str | None = field(
        default=None,
        metadata={"help": "data folder with warmup.jsonl, train.jsonl, test/: replaces the stages' own"},
    )
    asymmetric: float | None = field(
        default=None,
        metadata={
            "help": "share of the training scenes with one instrument muted; the quickstart renders so"
        },
    )
    evaluate_base: str | None = field(
        default=None, metadata={"help": "eval recipe for the base, beside this one"}
    )
    seed: int | None = field(default=None, metadata={"help": "replaces the seed of every stage"})
    launch: str | None = field(
        default=None, metadata={"help": "accelerate configuration or launch script that starts each stage"}
    )
    overrides: list[str] = field(
        default_factory=list, metadata={"help": "stage.key=value for one stage; also as --stage.key value"}
    )

    def __post_init__(self) -> None:
        if not self.stages:
            raise UserError("stages is empty; list the recipe files of the stages in order.")
        if self.asymmetric is not None and not 0 <= self.asymmetric <= 1:
            raise UserError(f"asymmetric is {self.asymmetric}, which is no share; give a number from 0 to 1.")
        for item in self.overrides:
            if not re.fullmatch(r"\w+\.\w+=.*", item):
                raise UserError(
                    f"overrides has {item!r}, which is not stage.key=value; write e.g. step_rr.max_steps=10."
                )
