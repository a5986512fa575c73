"""Ranks forked off a server that has imported everything: starting costs no import, so a run can die often.

The ranks get the environment that a launcher gives them. `Death` has them kill themselves at some moment.
"""

import io
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers.modeling_utils

from rlcomm.cli import main
from rlcomm.stages import run, step_rr
from rlcomm.trainers import checkpoints
from tests.forking import CONTEXT, free_port, of_rank
from tests.stages.conftest import format_


@dataclass
class Death:
    """When a rank kills itself (SIGKILL).

    Attributes:
        event: a callback's event, e.g. "on_step_end"; or "write", half through a file; or "rename", before a
            whole checkpoint gets its name.
        step: of an event.
        place: part of the path that is being written, e.g. "checkpoint-4".
        file: its name.
    """

    event: str
    step: int = 0
    place: str = ""
    file: str = ""

    def prepare(self) -> None:
        if self.event == "write":
            torch.save = self._half(torch.save)  # type: ignore[assignment]
            transformers.modeling_utils.safe_save_file = self._half(  # type: ignore[assignment]
                transformers.modeling_utils.safe_save_file
            )
        elif self.event == "rename":
            checkpoints.os = _Renaming(self.place)  # type: ignore[assignment]
        else:
            base = run.MetricsFile

            def at(callback: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == self.step:
                    _die()
                getattr(base, self.event)(callback, args, state, control, **kwargs)

            run.MetricsFile = type("Dying", (base,), {self.event: at})  # type: ignore[misc]

    def _half(self, write: Any) -> Any:
        def writing(value: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(path, io.IOBase) or Path(path).name != self.file or self.place not in str(path):
                return write(value, path, *args, **kwargs)
            write(value, path, *args, **kwargs)
            os.truncate(path, os.path.getsize(path) // 2)
            _die()

        return writing


class _Renaming:
    """The module os, with a `replace` that never comes to its end where a path has `place` in it."""

    def __init__(self, place: str):
        self.place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def replace(self, source: Any, target: Any) -> None:
        if self.place in str(target):
            _die()
        os.replace(source, target)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Started:
    """Ranks that run, or have ended."""

    ranks: list[Any]
    logs: list[Path]

    def kill(self) -> None:
        """SIGKILL to all of them."""
        for rank in self.ranks:
            rank.kill()
        for rank in self.ranks:
            rank.join()

    def alive(self) -> bool:
        return all(rank.is_alive() for rank in self.ranks)

    def wait(self, seconds: float = 300) -> list[int]:
        """The exit codes, -9 of a killed one; where one ends with another code than 0, all are killed, as a
        launcher does."""
        waiting = list(self.ranks)
        try:
            while waiting:
                ready = multiprocessing.connection.wait([rank.sentinel for rank in waiting], seconds)
                assert ready, f"still running after {seconds} s:\n{self.said()}"
                waiting = [rank for rank in waiting if rank.sentinel not in ready]
                if any(rank.exitcode for rank in self.ranks):
                    break
        finally:
            self.kill()
        return [rank.exitcode for rank in self.ranks]

    def said(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in self.logs if log.exists())


def start(recipe: str | Path, log: Path, world: int = 1, death: Death | None = None) -> Started:
    """`rlcomm train RECIPE` on `world` ranks; what they say is added to `log`.<rank>."""
    port = free_port()
    logs = [log.with_name(f"{log.name}.{rank}") for rank in range(world)]
    ranks = [
        CONTEXT.Process(
            target=_rank,
            args=(rank, world, port, ["train", str(recipe)], str(logs[rank]), death, dict(os.environ)),
        )
        for rank in range(world)
    ]
    for rank in ranks:
        rank.start()
    return Started(ranks, logs)


def _rank(
    rank: int, world: int, port: int, words: Sequence[str], log: str, death: Death | None,
    environment: dict[str, str],
) -> None:  # fmt: skip
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)  # as it is now; the server has that of its own start
    os.environ.update(of_rank(rank, world, port))
    torch.set_num_threads(1)
    step_rr.reward_functions = lambda recipe, weights: [format_]  # type: ignore[assignment]
    if death is not None:
        death.prepare()
    sys.exit(main(list(words)))
