"""The recipe of a diagnosis."""

from dataclasses import dataclass, field

from rlcomm.config.check import check_choice, check_values, commas
from rlcomm.config.data import check_parts
from rlcomm.config.measured import MeasuredFields, check_measured
from rlcomm.utils.errors import UserError


@dataclass
class DiagnoseRecipe(MeasuredFields):
    """Why one model chooses the wrong sense: `rlcomm.diagnostics.run.Plan`."""

    stage: str = "diagnose"
    output_dir: str = field(
        default="runs/diagnose", metadata={"help": "where diagnosis.json, diagnosis.html and records go"}
    )
    which: list[str] = field(
        default_factory=lambda: ["flips", "patching", "probes", "reliance"],
        metadata={"help": "parts: flips, patching, probes, reliance"},
    )
    distractor: str = field(
        default="auto",
        metadata={"help": "what patching and probes leave out: text, video, audio, all, or auto"},
    )
    compare: list[str] = field(
        default_factory=list, metadata={"help": "folders of earlier diagnoses, shown beside this one"}
    )
    seed: int = field(default=0, metadata={"help": "of what a part draws"})

    def __post_init__(self) -> None:
        check_values(self)
        self.media()
        for name in ("benchmarks", "which", "compare"):
            setattr(self, name, commas(getattr(self, name)))
        check_parts("which", self.which)
        check_choice(self, "distractor", ("auto", "text", "video", "audio", "all"))
        if not self.benchmarks:
            raise UserError(
                "benchmarks is not set, so there is nothing to diagnose on; name some, e.g. "
                "mcr,avconfuse_muted."
            )
        check_measured(self)
