"""Which model is measured, on which benchmarks."""

from dataclasses import dataclass, field
from typing import Any

from rlcomm.config.media import MediaFields
from rlcomm.utils.errors import UserError


@dataclass
class MeasuredFields(MediaFields):
    """Which model is measured, on which benchmarks."""

    model_name_or_path: str = field(default="nano_omni", metadata={"help": "folder, hub id, or nano_omni"})
    model_revision: str | None = field(default=None, metadata={"help": "hub revision"})
    dtype: str = field(default="float32", metadata={"help": "of the loaded weights"})
    attn_implementation: str = field(default="sdpa", metadata={"help": "sdpa, eager or flash_attention_2"})
    eval_data: str = field(
        default="", metadata={"help": "data folder with test/avconfuse/, test/music_avqa/, clips/"}
    )
    eval_max_rows: int | None = field(
        default=None, metadata={"help": "the first so many rows of each benchmark"}
    )
    eval_batch_size: int = field(default=32, metadata={"help": "prompts at a time"})
    disable_tqdm: bool = field(default=False, metadata={"help": "no progress bar"})
    benchmarks: list[str] = field(
        default_factory=list,
        metadata={"help": "names (mcr, avconfuse_muted, ...) or YAML files; none: the data folder's own"},
    )
    benchmark_files: list[str] = field(
        default_factory=list, metadata={"help": "name=file of benchmarks that lie outside eval_data"}
    )
    benchmark_media: list[str] = field(default_factory=list, metadata={"help": "name=folder of their media"})


def check_measured(recipe: Any) -> None:
    for name in ("benchmark_files", "benchmark_media", "beside"):
        for item in getattr(recipe, name, ()):
            if "=" not in item:
                raise UserError(f"{name} has {item!r}, which is not name=path; write e.g. mmau=/data/mmau.")
    if not recipe.eval_data:
        raise UserError("eval_data is not set; name the data folder to evaluate on.")
