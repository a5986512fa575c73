"""rlcomm as processes of its own that import nothing: forked off a server that has imported everything.

Importing torch, transformers and TRL takes a process ten seconds of a core. What a launcher does beside
giving its ranks an environment, and what `python -m rlcomm` does before its first line, `distributed/` and
`test_wheel.py` hold.
"""

import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CONTEXT: Any = multiprocessing.get_context("forkserver")
# One server a pytest process. Nothing in it may compute gradients: their threads do not come along in a fork.
CONTEXT.set_forkserver_preload(
    ["pytest", *(f"rlcomm.stages.{name}" for name in ("sft", "step_rr", "ans_co", "pipeline")),
     "rlcomm.evaluation.conflict", "rlcomm.evaluation.runner", "rlcomm.diagnostics.run",
     "rlcomm.reference.rows", "rlcomm.orchestra.quickstart", "tests.distributed.forked"]
)  # fmt: skip


def of_rank(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What a launcher tells a rank on this machine's CPU; nothing to one that is alone."""
    if ranks == 1:
        return {}
    return {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def command(
    words: Sequence[object],
    ranks: int = 1,
    program: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float = 400,
) -> subprocess.CompletedProcess:
    """`rlcomm WORDS` on so many ranks with a thread each; all of them have ended when it returns.

    Where a rank ends with another code than 0 the others are killed, as a launcher does. A pipeline's stages
    are forked off its own process.

    Args:
        words: of the command.
        program: a script that is started with these words instead of rlcomm.
        environment: added to this process's own.
        seconds: after which it has failed.

    Returns:
        With the code of the first rank that failed, or 0, and what all ranks said.
    """
    port = free_port() if ranks > 1 else 0
    given = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder, "out"), Path(folder, "err")
        for path in said:
            path.touch()
        started = [
            CONTEXT.Process(
                target=_rank,
                args=(
                    [str(word) for word in words], None if program is None else str(program),
                    {**given, **of_rank(rank, ranks, port)}, [str(path) for path in said],
                ),
            )
            for rank in range(ranks)
        ]  # fmt: skip
        for process in started:
            process.start()
        code = _first_bad(started, seconds)
        return subprocess.CompletedProcess(list(words), code, *(path.read_text() for path in said))


def _first_bad(processes: Sequence[Any], seconds: float) -> int:
    """The code of the first process that failed, or 0; all have ended then."""
    waiting = list(processes)
    try:
        while waiting:
            ready = multiprocessing.connection.wait([one.sentinel for one in waiting], seconds)
            if not ready:
                raise subprocess.TimeoutExpired("rlcomm", seconds)
            ended = [one for one in waiting if one.sentinel in ready]
            waiting = [one for one in waiting if one.sentinel not in ready]
            for one in ended:
                one.join()
                if one.exitcode:
                    return one.exitcode
        return 0
    finally:
        for one in processes:
            one.kill()
            one.join()


def _rank(words: list[str], program: str | None, environment: dict[str, str], said: list[str]) -> None:
    for stream, path in enumerate(said, 1):
        with open(path, "ab", buffering=0) as file:
            os.dup2(file.fileno(), stream)
    _run(words, program, environment)


def _run(words: list[str], program: str | None, environment: Mapping[str, str]) -> None:
    """In a process of its own, which it ends."""
    import torch

    from rlcomm.cli import main
    from rlcomm.stages import pipeline

    gc.freeze()
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    pipeline.run_process = run_process
    sys.argv = [program or "rlcomm", *words]
    try:
        if program is not None:
            runpy.run_path(program, run_name="__main__")
        else:
            sys.exit(main(words))
    finally:
        # pools tell their workers to end when the interpreter does; such a process waits for them before
        for left in multiprocessing.active_children():
            left.kill()


def run_process(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """As `rlcomm.utils.child.run_process`, of a command of rlcomm without a launcher."""
    assert command[1:3] == ["-m", "rlcomm"], command
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(ValueError):
            stream.flush()
    process = multiprocessing.get_context("fork").Process(
        target=_run, args=(list(command[3:]), None, dict(environment))
    )
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode
