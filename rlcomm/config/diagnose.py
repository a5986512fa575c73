"""The recipe of a diagnosis."""

from dataclasses import dataclass

from rlcomm.config.during import DIAGNOSES, check_parts
from rlcomm.config.measured import MeasuredFields, check_measured
from rlcomm.utils import options
from rlcomm.utils.errors import UserError
from rlcomm.utils.options import option


@dataclass
class DiagnoseRecipe(MeasuredFields):
    """Why one model chooses the wrong sense.

    `rlcomm.diagnostics.run.Plan` is made of it.
    """

    stage: str = option("diagnose", "diagnose")
    output_dir: str = option("runs/diagnose", "where diagnosis.json, diagnosis.html and records go")
    which: list[str] = option(
        list(DIAGNOSES), "parts that are measured", commas=True, choices=DIAGNOSES, called="part"
    )
    distractor: str = option(
        "auto",
        "what patching and probes leave out",
        choices=("auto", "text", "video", "audio", "all"),
    )
    compare: list[str] = option([], "folders of earlier diagnoses, shown beside this one", commas=True)
    seed: int = option(0, "of what a part draws", at_least=0)

    def __post_init__(self) -> None:
        options.split_commas(self)
        options.check(self)
        check_parts("which", self.which)
        if not self.benchmarks:
            raise UserError(
                "benchmarks is not set, so there is nothing to diagnose on; name some, e.g. "
                "mcr,avconfuse_muted."
            )
        check_measured(self)
