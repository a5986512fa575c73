"""The process of a stage: after Ctrl-C it may leave by itself."""

import os
import signal
import subprocess
import sys
import time

import pytest

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
