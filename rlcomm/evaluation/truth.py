"""What really sounds and is seen in a clip, where that is known: `truth.json` of a data folder.

{video_id: {"visible": [...], "audible": [...], "ambient": [...] or name or null, "muted": ...}}
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlcomm.data.sample import Sample, read_text
from rlcomm.utils.errors import UserError

Truth = Mapping[str, dict[str, Any]]


def read_truth(path: str | os.PathLike) -> dict[str, dict]:
    """Reads the file; a missing one is no truth: {}.

    Raises:
        UserError: the file is there but not such an object.
    """
    if not Path(path).is_file():
        return {}
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: is not valid JSON ({error}); build the data again.") from error
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise UserError(f"{path}: must be an object of video_id -> {{visible, audible, ambient, muted}}.")
    return value


def clip_id(sample: Sample) -> str:
    """The name that a sample's clip goes by in records."""
    return str(sample.meta.get("video_id") or Path(sample.audio or sample.video or sample.id).stem)


def of(sample: Sample, truth: Truth) -> dict[str, Any] | None:
    """What is known of a sample's clip; a variant's own truth comes before its source's."""
    stem = Path(sample.audio or sample.video or "").stem
    return truth.get(stem) or truth.get(clip_id(sample))


def listed(value: Any) -> list[str]:
    """The names of a field: a list, one name, or none."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else [str(v) for v in value]


def names(samples: Iterable[Sample], truth: Truth) -> list[str]:
    """Every name that the truth and the samples know, in a fixed order."""
    found = {
        name
        for known in truth.values()
        for field in ("visible", "audible", "ambient", "muted")
        for name in listed(known.get(field))
    }
    for sample in samples:
        found.update(sample.meta.get("instruments", []))
    return sorted(found)
