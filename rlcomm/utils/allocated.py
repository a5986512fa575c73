"""How much CPU memory a piece of work takes at its peak, as torch's profiler sees it."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def allocated(work: Callable[[], Any]) -> int:
    """Most bytes of CPU memory that torch held at once of those which `work` asked for."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text(encoding="utf-8"))["traceEvents"]
    alive: dict[int, int] = {}
    now = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        address, size = event["args"]["Addr"], event["args"]["Bytes"]
        if size > 0:
            alive[address] = size
        else:  # what was allocated before is not ours, even where the profiler knows it
            size = -alive.pop(address, 0)
        now += size
        peak = max(peak, now)
    return peak
