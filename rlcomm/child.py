"""A stage as a process of its own, which Ctrl-C ends in good order."""

import contextlib
import signal
import subprocess
from collections.abc import Mapping

# Seconds that an interrupted process gets to end by itself (a launcher gives its ranks 30), before it is told
# so again, and harder.
LEAVE_TAKING = 40.0


def run_process(command: list[str], environment: Mapping[str, str]) -> int:
    """Runs a process to its end, its bad end too, and returns its exit code.

    After Ctrl-C it is given time to leave. `subprocess.run` would kill it within a quarter of a second, and a
    killed launcher leaves its ranks behind: they have sessions of their own, get no Ctrl-C, and would go on
    training into the folder.
    """
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to the process as well; whoever sends it to this one alone does not.
        for harder in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LEAVE_TAKING)
                break
            process.send_signal(harder)
        raise
