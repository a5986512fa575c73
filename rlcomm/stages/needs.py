"""Rows that lack what a stage needs of them: left out, counted and listed, up to a share of all.

row that lacks a reference, sight or target, or has another prompt -> <output_dir>/left_out.jsonl, said aloud
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.sample import Sample
from rlcomm.llm_api import short
from rlcomm.omni.encode import style_of
from rlcomm.rewards import avc
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError

LEFT_OUT = "left_out.jsonl"

# what a field is needed for, and how it is made
_WHY = {
    "meta.prompt_style": (
        "a row that is asked for the answer alone has no reasoning to reward",
        "train on rows without it (those replayed in a warm-up are for SFT)",
    ),
    "target": (
        "under the step prompt SFT has nothing else to imitate",
        "write warm-up rows with `rlcomm reference RECIPE --for warmup`, or set prompt_style direct",
    ),
    "reference": (
        "the rewards compare with it",
        "run `rlcomm reference RECIPE` on this file, which tries failed rows again, and train on what it "
        "writes",
    ),
    "sight": (
        "avc_mode witnessed compares with it",
        "run `rlcomm reference RECIPE --sight true` on this file, which tries failed rows again, and train "
        "on what it writes",
    ),
}


def leave_out(recipe: Any, samples: Sequence[Sample]) -> list[Sample]:
    """`usable` rows of a training stage; the others are listed in its run folder and counted aloud."""
    kept, others = usable(recipe, samples)
    place = Path(recipe.output_dir) / LEFT_OUT
    if others and processes.is_main():
        files.write_jsonl(place, others)
        print(f"{len(others)} of {len(samples)} rows are left out, as they lack what is needed; see {place}")
    return kept


def usable(recipe: Any, samples: Sequence[Sample]) -> tuple[list[Sample], list[dict[str, Any]]]:
    """The rows that have what the stage needs, and the others.

    Args:
        recipe: of SFT, Step-RR, GRPO or Ans-CO.
        samples: its rows.

    Returns:
        The rows that have all, and of each other one {"row" (from 1), "id", "field", "reason"}.

    Raises:
        UserError: more rows lack something than `max_failed_share` allows; names the first.
    """
    kept: list[Sample] = []
    others: list[dict[str, Any]] = []
    fields = ["meta.prompt_style"] * hasattr(recipe, "rewards") + needed(recipe)
    for number, sample in enumerate(samples, 1):
        if field := next((field for field in fields if not _has(sample, field, recipe)), None):
            others.append({"row": number, "id": sample.id, "field": field, "reason": _reason(sample, field)})
        else:
            kept.append(sample)
    if others and (not kept or len(others) > recipe.max_failed_share * len(samples)):
        first = others[0]
        why, mend = _WHY[first["field"]]
        is_so = "is another" if first["field"] == "meta.prompt_style" else "is missing"
        raise UserError(
            f"{recipe.dataset}, row {first['row']}, field {first['field']}: {is_so} ({first['reason']}), "
            f"and {len(others)} of {len(samples)} rows lack what is needed, more than max_failed_share "
            f"{recipe.max_failed_share:g} allows: {why}; {mend}."
        )
    return kept, others


def needed(recipe: Any) -> list[str]:
    """The fields that every row of a stage must have."""
    if not hasattr(recipe, "rewards"):
        return [] if recipe.prompt_style == "direct" else ["target"]
    mode = recipe.avc_mode if "avc" in recipe.rewards else None
    hears = "arr" in recipe.rewards or mode in avc.NEED_REFERENCE
    return ["sight"] * (mode == "witnessed") + ["reference"] * hears


def _has(sample: Sample, field: str, recipe: Any) -> bool:
    if field == "meta.prompt_style":
        return style_of(sample, recipe.prompt_style) == recipe.prompt_style
    if field == "target":
        asked = style_of(sample, recipe.prompt_style)
        return asked == "direct" or all(turn.target is not None for turn in sample.turns)
    return bool(getattr(sample, field))


def _reason(sample: Sample, field: str) -> str:
    """Why a row has none, as `rlcomm reference` noted it."""
    if field == "meta.prompt_style":
        return f"it is {sample.meta['prompt_style']!r}, not the recipe's"
    noted = sample.meta.get(field)
    failed = noted.get("failed") if isinstance(noted, dict) else None
    return short(failed) if isinstance(failed, str) else "never written"
