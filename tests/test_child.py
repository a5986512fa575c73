"""The process of a stage: after Ctrl-C it may leave by itself."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rlcomm import child

LEAVING = """
import sys, time
from pathlib import Path
try:
    Path(sys.argv[1], "started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # as a launcher ends its ranks
    Path(sys.argv[1], "left").touch()
"""


@pytest.mark.parametrize("whom", ["the terminal's group", "the driver alone"])
def test_ctrl_c_gives_a_stage_time_to_leave(whom, tmp_path):
    """Killed at once, an accelerate launcher would leave its ranks behind, training on."""
    driver = (
        "import os, sys\nfrom rlcomm import child\n"
        "child.LEAVE_TAKING = 4\n"
        f"child.run_process([sys.executable, '-c', {LEAVING!r}, {str(tmp_path)!r}], os.environ)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", driver], stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where tests run behind an &
    ) as process:  # fmt: skip
        while not (tmp_path / "started").exists():
            assert process.poll() is None
            time.sleep(0.05)
        if whom == "the driver alone":
            os.kill(process.pid, signal.SIGINT)
        else:
            os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert "KeyboardInterrupt" in said
    assert (tmp_path / "left").exists()


def test_the_peak_counts_all_processes_and_what_they_share_once():
    """Two processes of 100 MB each, and 200 MB here that a third shares: 400 MB more than before."""
    before = child.memory_of_all()
    hold = "import sys; held = b'x' * (100 << 20); print('held', flush=True); sys.stdin.read()"
    with child.peak_of_all(every=0.1) as peak:
        held = b"x" * (200 << 20)
        read, write = os.pipe()
        if not (shares := os.fork()):
            os.close(write)
            os.read(read, 1)
            os._exit(len(held) & 0)
        others = [
            subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for other in others:
            assert other.stdout.readline() == b"held\n"
        time.sleep(0.5)
        os.close(write)
        os.waitpid(shares, 0)
        for other in others:
            other.communicate()
        del held
        time.sleep(0.3)
        assert child.memory_of_all() < before + 100 * 2**20  # it is the most that was held, not what is
    assert 380 * 2**20 < peak() - before < 520 * 2**20
