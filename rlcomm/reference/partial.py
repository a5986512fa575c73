"""What of a file of references is finished: the file itself, and what its processes have appended so far.

    <out>.partial, <out>.partial.1, ... (one a process, a line a row)  --merge-->  <out>

A process that is killed leaves whole lines; the next run, of however many processes, goes on from them.
"""

import contextlib
import dataclasses
import glob
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlcomm.data.sample import Sample, write_jsonl
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

Row = dict[str, Any]
"""{"reference": the text or None, "meta": its provenance}"""


def journal(out_path: Path, rank: int) -> Path:
    """Where a process keeps what it has finished."""
    return out_path.with_name(f"{out_path.name}.partial" + (f".{rank}" if rank else ""))


def journals(out_path: Path) -> list[Path]:
    """All there are, of however many processes."""
    found = out_path.parent.glob(glob.escape(f"{out_path.name}.partial") + "*")
    return sorted(p for p in found if re.fullmatch(r"\.partial(\.\d+)?", p.name[len(out_path.name) :]))


def take_up(
    out_path: Path, hashes: Mapping[str, str], settled: Callable[[Row], bool]
) -> tuple[set[str], dict[str, int]]:
    """Puts what earlier runs finished into one journal; called by the first process, before any computes.

    Args:
        out_path: the file to come; what stands there is of a run that has ended.
        hashes: of each row's inputs, by id; a row of other inputs is made anew.
        settled: whether a row of the run that has ended is to stay as it is.

    Returns:
        The ids of the rows that are finished; and how many texts were made of the rows that are not.
    """
    done: dict[str, Row] = {}
    tried: dict[str, int] = {}
    for id, row in _current(out_path, "reference", hashes):
        if settled(row):
            done[id] = row
        elif not row["meta"].get("refused"):
            tried[id] = row["meta"].get("attempt", 0)
    for path in journals(out_path):  # of a run that was cut off: its failures are finished, refusals are not
        done |= {id: row for id, row in _current(path, None, hashes) if not row["meta"].get("refused")}
    of_inputs = {row["meta"]["inputs_hash"]: row for row in done.values()}
    done |= {id: of_inputs[inputs] for id, inputs in hashes.items() if id not in done and inputs in of_inputs}
    if len(done) < len(hashes):  # one journal again, without torn lines, however many there were
        files.write_jsonl(journal(out_path, 0), [{"id": id, **row} for id, row in done.items()])
        for path in set(journals(out_path)) - {journal(out_path, 0)}:
            path.unlink()
    return set(done), tried


def merge(
    samples: Sequence[Sample], out_path: Path, hashes: Mapping[str, str], provenance: dict[str, Any]
) -> list[Sample]:
    """Writes the rows with what the journals hold, in the order of `samples`, and removes the journals.

    Raises:
        UserError: a row is in none of them.
    """
    done = dict(_current(out_path, "reference", hashes))
    for path in journals(out_path):
        done |= dict(_current(path, None, hashes))
    of_inputs = {row["meta"]["inputs_hash"]: row for row in done.values()}
    done |= {id: of_inputs[inputs] for id, inputs in hashes.items() if inputs in of_inputs and id not in done}
    if lost := [id for id in hashes if id not in done]:
        raise UserError(
            f"{out_path}: {len(lost)} row(s), the first is {lost[0]!r}, were computed but are in no "
            f"{out_path.name}.partial file; run one command at a time on it, and this one again."
        )
    deaf = {"reference": None, "meta": {**provenance, "failed": "no audio"}}
    filled = []
    for sample in samples:
        row = done.get(sample.id, deaf)
        meta = {**sample.meta, "reference": row["meta"]}
        filled.append(dataclasses.replace(sample, reference=row["reference"], meta=meta))
    write_jsonl(out_path, filled)
    for path in journals(out_path):
        path.unlink(missing_ok=True)
    return filled


@contextlib.contextmanager
def appending(path: Path) -> Iterator[Callable[[list[dict]], None]]:
    """Yields a function that appends JSON objects, a line each, in one go: a process that is killed leaves
    all of a batch or none; a line that a failing disk cut off is read by nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = path.open("ab", buffering=1 << 20)

    def append(rows: list[dict]) -> None:
        try:
            stream.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
            stream.flush()
        except OSError as error:
            raise UserError(
                f"{path}: could not be written ({error.strerror or error}); free space and run the same "
                "command again, the rows before are kept."
            ) from error

    try:
        yield append
    finally:
        with contextlib.suppress(OSError):  # what could not be flushed has been reported
            stream.close()


def _current(path: Path, field: str | None, hashes: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    """(id, row) of a file's rows of these inputs, their meta in its `field` where that is given; lines that
    cannot be read are as if they were not there."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            row = json.loads(line)
            meta, id = row["meta"][field] if field else row["meta"], str(row["id"])
            if meta["inputs_hash"] == hashes[id]:
                yield id, {"reference": row.get("reference"), "meta": meta}
