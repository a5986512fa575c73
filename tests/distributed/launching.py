"""Real processes on this machine's CPU: gloo instead of NCCL, everything else as on a cluster."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


def configured(name: str, folder: Path) -> Path:
    """A configuration of launch/, under which ZeRO-3 partitions small weights as well: DeepSpeed leaves those
    whole that have fewer than 100,000 numbers, which is all of the miniature."""
    shipped = yaml.safe_load((LAUNCH / name).read_text())
    del shipped["mixed_precision"]  # "no", which accelerate refuses beside a file of DeepSpeed's own
    settings = shipped["deepspeed_config"]
    zero = {
        "stage": settings["zero_stage"], "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": settings.get("zero3_save_16bit_model", False),
    }  # fmt: skip
    automatic = dict.fromkeys(
        ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps",
         "gradient_clipping"), "auto",
    )  # fmt: skip
    (folder / "deepspeed.json").write_text(json.dumps({**automatic, "zero_optimization": zero}))
    shipped["deepspeed_config"] = {
        "deepspeed_config_file": str(folder / "deepspeed.json"),
        "zero3_init_flag": settings["zero3_init_flag"],
    }  # fmt: skip
    (folder / name).write_text(yaml.safe_dump(shipped))
    return folder / name


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
