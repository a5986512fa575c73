"""Which dataclass holds the recipe of which stage."""

from rlcomm.config.ans_co import AnsCORecipe
from rlcomm.config.audio import AudioRecipe
from rlcomm.config.diagnose import DiagnoseRecipe
from rlcomm.config.evaluation import EvalRecipe
from rlcomm.config.pipeline import PipelineRecipe
from rlcomm.config.reference import ReferenceRecipe
from rlcomm.config.sft import SFTRecipe
from rlcomm.config.step_rr import StepRRRecipe

STAGES: dict[str, type] = {
    "audio": AudioRecipe, "base": SFTRecipe, "sft": SFTRecipe, "warmup": SFTRecipe, "step_rr": StepRRRecipe,
    "grpo": StepRRRecipe, "ans_co": AnsCORecipe, "reference": ReferenceRecipe, "eval": EvalRecipe,
    "diagnose": DiagnoseRecipe, "pipeline": PipelineRecipe,
}  # fmt: skip
