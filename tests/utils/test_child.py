"""The process of a stage: after Ctrl-C and SIGTERM it may leave by itself."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rlcomm.utils import child

LEAVING = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    Path(sys.argv[1], "started").touch()
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # as a launcher ends its ranks
    Path(sys.argv[1], "left").touch()
"""


@pytest.mark.parametrize(
    ("word", "whom"),
    [
        (signal.SIGINT, "the terminal's group"),
        (signal.SIGINT, "the driver alone"),
        (signal.SIGTERM, "the driver alone"),
    ],
)
def test_a_stage_is_told_to_end_and_has_time_to_leave(word, whom, tmp_path):
    """Killed at once, an accelerate launcher would leave its ranks behind, training on."""
    driver = (
        "import os, sys\nfrom rlcomm.utils import child\n"
        f"child.LEAVE_TAKING = {4 if word == signal.SIGINT else 90}\n"
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
            os.kill(process.pid, word)
        else:
            os.killpg(process.pid, word)
        said = process.communicate(timeout=60)[1]
    if word == signal.SIGINT:
        assert "KeyboardInterrupt" in said
    else:
        assert process.returncode == 143
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
