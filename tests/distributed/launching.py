"""Real processes on this machine's CPU: gloo instead of NCCL, everything else as on a cluster."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def launch(
    config: str | Path,
    words: Sequence[object],
    seconds: float = 600,
    program: Sequence[object] = ("-m", "rlcomm"),
) -> subprocess.CompletedProcess:
    """`accelerate launch` of rlcomm on two CPU ranks; all of them end with the call.

    Under a DeepSpeed configuration the recipe needs `ddp_backend: gloo` and no `use_cpu`: where accelerate is
    told to use the CPU, it leaves DeepSpeed out and says nothing.

    Args:
        config: file of launch/, "cpu_2.yaml" or a DeepSpeed one, or the path of another.
        words: of the command, e.g. ["train", "recipe.yaml"].
        seconds: after which it has failed.
        program: what is started instead of rlcomm.
    """
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / config)]
    command += ["--num_processes", "2", *map(str, program), *map(str, words)]
    environment = {
        **os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        "ACCELERATE_USE_CPU": str(Path(config).name == "cpu_2.yaml").lower(),
    }  # fmt: skip
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as started:  # fmt: skip
        try:
            out, err = started.communicate(timeout=seconds)
        except BaseException:
            os.killpg(started.pid, signal.SIGKILL)  # ranks may wait for each other for ever
            raise
    return subprocess.CompletedProcess(command, started.returncode, out, err)
