"""What a long measurement has done so far: a folder with one file a batch and the plan they belong to.

Whole files alone: a batch is there or it is not, so a measurement that was cut off goes on where it stood,
and several processes write into one folder. When all is counted the folder goes.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlcomm.utils import files
from rlcomm.utils.errors import UserError

PLAN = "plan.json"


def open_journal(journal: Path, made: dict[str, Any], first: bool) -> Path:
    """Claims a folder for one measurement.

    Args:
        journal: the folder; it need not exist.
        made: JSON values that say what is measured; a journal of other values is another measurement.
        first: this process writes the plan where there is none.

    Raises:
        UserError: the folder holds another measurement, or files without a plan.
    """
    place = journal / PLAN
    if place.exists():
        before = json.loads(place.read_text(encoding="utf-8"))
        if changed := sorted(key for key in before.keys() | made.keys() if before.get(key) != made.get(key)):
            raise UserError(
                f"{journal}: holds the scores of another evaluation that was cut off ({', '.join(changed)} "
                "differ), which this one would mix with; choose another --output_dir or remove the folder."
            )
    elif journal.exists() and any(journal.iterdir()):
        raise UserError(
            f"{journal}: holds scores, but not the plan that says of what; choose another --output_dir or "
            "remove the folder."
        )
    elif first:
        files.write_json(place, made)
    return journal


def kept(journal: Path | None, name: str, measure: Callable[[], list[dict]]) -> list[dict]:
    """The records of one batch: those kept under `name`, or those measured now, which are kept."""
    place = journal / f"{name}.json" if journal is not None else None
    if place is not None and place.exists():
        return json.loads(place.read_text(encoding="utf-8"))
    found = measure()
    if place is not None:
        files.write_text(place, json.dumps(found, ensure_ascii=False))
    return found


def close_journal(journal: Path) -> None:
    """Removes the folder; it is renamed first, so that it is whole or not there."""
    retired = journal.with_name(f".{journal.name}.done")
    shutil.rmtree(retired, ignore_errors=True)
    journal.rename(retired)
    shutil.rmtree(retired)


def weights(path: str) -> list:
    """Name, size and time of the weight files of a local model: it may be trained again under its name."""
    folder = Path(path)
    found = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in found]
