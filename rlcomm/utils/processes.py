"""One command over several processes (`accelerate launch`): which one this is, and how they keep in step.

Where one process fails, it ends; the launcher sees that and ends the others, wherever they wait for it. In a
single process nobody waits.
"""

import functools
import os
import resource
import sys
from datetime import timedelta
from typing import Any, TypeVar

import torch

PATIENCE = timedelta(days=1)  # of a process that is done, with the slowest one; NCCL's own is ten minutes

Value = TypeVar("Value")


def rank() -> int:
    """The number of this process; the first, 0, writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def world() -> int:
    """The number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device() -> torch.device:
    """Where this process computes: its own GPU, or the CPU where there is none.

    A process by itself takes the first of several GPUs, and says so once.
    """
    if world() > 1:
        return _state().device
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if torch.cuda.device_count() > 1:
        _say_which()
    return torch.device("cuda", 0)


@functools.cache
def _say_which() -> None:
    print(
        f"{torch.cuda.device_count()} GPUs are visible; this process uses the first "
        "(CUDA_VISIBLE_DEVICES names another; all: "
        "`accelerate launch --config_file launch/multi_gpu.yaml -m rlcomm ...`).",
        file=sys.stderr,
    )


def wait() -> None:
    """Returns when all processes are here."""
    if world() > 1:
        _state().wait_for_everyone()


def tell(value: Value) -> Value:
    """The first process's `value`, on all; what the others give is not looked at."""
    if world() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _state()
    return broadcast_object_list([value])[0]


def peak_rss_mb() -> float:
    """Peak resident memory of this process and its children so far, in megabytes."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return round(max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024, 1)


def _state() -> Any:
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
