"""The machine that a command runs on: versions, devices, disks, tools."""

import importlib.metadata
import netrc
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub import constants, get_token

from rlcomm.utils.shipped import shipped


def free(place: str | os.PathLike) -> int:
    """Free bytes of the disk that a path lies on, or will lie on."""
    path = Path(place).absolute()
    return shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free


def environment(places: Iterable[str] = ()) -> dict[str, Any]:
    """Versions, devices, disks and tools of this machine; no key is read out, only whether there is one.

    Args:
        places: further folders whose disk matters.
    """
    tested = dict(
        line.split("==")
        for line in shipped("launch/constraints.txt").read_text("utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    )
    versions: dict[str, dict[str, str | None]] = {}
    for name, wanted in tested.items():
        try:
            versions[name] = {"installed": importlib.metadata.version(name), "tested": wanted}
        except importlib.metadata.PackageNotFoundError:
            versions[name] = {"installed": None, "tested": wanted}
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    memory_now = psutil.virtual_memory()
    disks = dict.fromkeys([".", tempfile.gettempdir(), constants.HF_HUB_CACHE, *places])
    return {
        "python": platform.python_version(),
        "versions": versions,
        "gpus": [{"name": gpu.name, "memory_gb": gpu.total_memory / 1e9} for gpu in gpus],
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gb": memory_now.total / 1e9,
        "ram_free_gb": memory_now.available / 1e9,
        "disks": {place: {"free_gb": free(place) / 1e9} for place in disks},
        "tools": {
            "wandb key": bool(os.environ.get("WANDB_API_KEY")) or _in_netrc("api.wandb.ai"),
            "Hugging Face token": get_token() is not None,
            **{name: shutil.which(name) is not None for name in ("g++", "ninja", "nvcc")},
        },
    }


def _in_netrc(host: str) -> bool:
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What `environment` found, as text."""
    yield f"python {found['python']}"
    for name, entry in found["versions"].items():
        installed, tested = entry["installed"], entry["tested"]
        same = installed is not None and installed.split("+")[0] == tested
        yield f"  {name:24s}{installed or 'missing':14s}" + ("" if same else f"tested with {tested}")
    for gpu in found["gpus"]:
        yield f"GPU {gpu['name']}, {gpu['memory_gb']:.0f} GB"
    if not found["gpus"]:
        yield "no GPU"
    yield f"CPU {found['cpus']} cores; RAM {found['ram_gb']:.0f} GB, {found['ram_free_gb']:.0f} free"
    for place, entry in found["disks"].items():
        yield f"disk {place}: {entry['free_gb']:.0f} GB free"
    for name, there in found["tools"].items():
        yield f"{name}: {'yes' if there else 'no'}"
