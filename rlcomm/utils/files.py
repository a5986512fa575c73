"""Files that matter are written beside and renamed into place, so a good one is never half-overwritten."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rlcomm.utils.errors import UserError


def write_failure(error: BaseException) -> str | None:
    """Why a write failed, in words; None where `error` is about something else.

    A full disk is an OSError to Python, a SafetensorError to safetensors and a RuntimeError to torch.save.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__name__ == "SafetensorError":
        return str(error)
    if isinstance(error, RuntimeError) and ("inline_container" in str(error) or "StreamWriter" in str(error)):
        return "the file came out shorter than it should be"
    return None


@contextlib.contextmanager
def replacing(path: str | os.PathLike, directory: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is renamed into place, on failure removed.

    Args:
        path: final place of the file or folder; missing parents are made.
        directory: the temporary path is an existing empty folder instead of a file to be written.

    Raises:
        UserError: the disk is full or the folder cannot be written; whatever stood at `path` is untouched.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if directory:
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
            temporary.chmod(0o755)
        else:
            handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            temporary.chmod(0o644)
        yield temporary
        if directory and path.exists():
            retired = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(retired)
            temporary.rename(path)
            shutil.rmtree(retired, ignore_errors=True)
        else:
            os.replace(temporary, path)
    except Exception as error:
        if (reason := write_failure(error)) is None:
            raise
        raise UserError(
            f"{path}: could not be written ({reason}); free space or choose another "
            "folder and run the same command again, nothing was lost."
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary) if directory else temporary.unlink()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` (UTF-8) in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes `value` as indented JSON in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line in one step."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
