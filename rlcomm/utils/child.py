"""A stage as a process of its own, ended in good order by Ctrl-C and SIGTERM; the memory of all processes."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psutil

# Seconds that an interrupted process gets to end by itself (a launcher gives its ranks 30), before it is told
# so again, and harder.
LEAVE_TAKING = 40.0


def run_process(command: list[str], environment: Mapping[str, str]) -> int:
    """Runs a process to its end, its bad end too, and returns its exit code.

    After Ctrl-C it is given time to leave. `subprocess.run` would kill it within a quarter of a second, and a
    killed launcher leaves its ranks behind: they have sessions of their own, get no Ctrl-C, and would go on
    training into the folder. SIGTERM, a job manager's word, goes on to the process for the same reason.

    Raises:
        KeyboardInterrupt: after Ctrl-C.
        SystemExit: with 143, after SIGTERM.
    """
    with _terminable():
        process = subprocess.Popen(command, env=environment)
        try:
            return process.wait()
        except (KeyboardInterrupt, SystemExit) as word:
            if isinstance(word, SystemExit):
                process.terminate()
            # A terminal sends Ctrl-C to the process as well; whoever sends it to this one alone does not.
            for harder in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(LEAVE_TAKING)
                    break
                process.send_signal(harder)
            raise


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM raises SystemExit(143) inside, where it would end this process and nobody else."""

    def end(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def memory_of_all() -> int:
    """Bytes of memory that this process and all below it hold now; pages that they share count once."""
    held, here = 0, psutil.Process()
    for process in (here, *here.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended, or is another user's
            full = process.memory_full_info()
            held += getattr(full, "pss", full.uss)  # the proportional share is Linux's
    return held


@contextlib.contextmanager
def peak_of_all(every: float = 1.0) -> Iterator[Callable[[], int]]:
    """Looks at `memory_of_all` every so many seconds; the callable says the most that was seen, in bytes."""
    seen, over = [memory_of_all()], threading.Event()

    def look() -> None:
        while not over.wait(every):
            seen[0] = max(seen[0], memory_of_all())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: seen[0]
    finally:
        over.set()
        thread.join()
