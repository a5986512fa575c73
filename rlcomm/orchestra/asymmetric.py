"""How many training scenes have one instrument muted: what the rows say, held to what the recipe says."""

from pathlib import Path
from typing import Any

from rlcomm.data.rows import read_rows
from rlcomm.utils.errors import UserError


def share(folder: str | Path) -> float | None:
    """Share in [0, 1] of the training scenes with one instrument muted, counted in `folder`/train.jsonl; None
    where there is no such file, or its rows do not say."""
    path = Path(folder) / "train.jsonl"
    if not path.is_file():
        return None
    muted = {}
    for _, row in read_rows(path, []):  # wrong rows are for the stage to report, which reads them all
        meta = row.get("meta") if isinstance(row, dict) else None
        if not isinstance(meta, dict) or "muted" not in meta:
            return None
        muted[row.get("video")] = meta["muted"] is not None
    return sum(muted.values()) / len(muted) if muted else None


def facts(recipe: Any) -> dict[str, Any]:
    """What a pipeline on Orchestra adds to its summary; nothing where the rows are somebody's own.

    Args:
        recipe: of the pipeline; its `data` and `asymmetric`.

    Returns:
        `{"asymmetric": share}`, or {}.

    Raises:
        UserError: the rows were rendered with another share than the recipe says.
    """
    found = share(recipe.data) if recipe.data else None
    if found is None:
        return {}
    if recipe.asymmetric is not None and abs(found - recipe.asymmetric) > 0.05:
        raise UserError(
            f"asymmetric is {recipe.asymmetric}, but one instrument is muted in {found:.0%} of the training "
            f"scenes of {recipe.data}; set asymmetric to {found:g}, or render them anew with `rlcomm data "
            f"orchestra --asymmetric {recipe.asymmetric}`."
        )
    return {"asymmetric": found}
