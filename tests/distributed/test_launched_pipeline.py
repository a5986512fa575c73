"""`rlcomm pipeline --launch` for real: every stage is an accelerate launch of two processes on the CPU."""

import json
import os
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from rlcomm.orchestra.build import build
from rlcomm.orchestra.quickstart import TINY, TINY_SIZES
from rlcomm.trainers.metrics_file import read_metrics
from tests.distributed.launching import LAUNCH

pytestmark = pytest.mark.distributed

RECIPES = LAUNCH.parent / "recipes" / "orchestra"
STAGES = ["warmup", "reference", "step_rr", "ans_co"]
# Every Python process imports this first. At its end one of rlcomm notes which of how many accelerate made
# it, where it made it one at all.
NOTING = """
import atexit, json, os, sys
def note():
    state = sys.modules.get("accelerate.state")
    known = state.PartialState._shared_state if state else {}
    if known and os.path.basename(os.path.dirname(sys.argv[0])) == "rlcomm":
        row = [sys.argv[1:], known["process_index"], known["num_processes"]]
        open(os.path.join(os.environ["NOTED"], f"{os.getpid()}.json"), "w").write(json.dumps(row))
atexit.register(note)
"""


def test_every_stage_of_a_launched_pipeline_has_two_ranks_and_is_not_run_twice(tmp_path):
    data, out, noted, hook = (tmp_path / name for name in ("data", "run", "noted", "hook"))
    build(data, benchmarks=False, workers=1, progress=False, **TINY_SIZES)
    noted.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(NOTING)
    small = [
        f"step_rr.{item}"
        for item in ("per_device_train_batch_size=8", "num_generations=4", "logging_steps=1")
    ]
    command = [sys.executable, "-m", "rlcomm", "pipeline", RECIPES / "pipeline.yaml"]
    command += ["--launch", LAUNCH / "cpu_2.yaml", "--output_dir", out, "--data", data]
    for item in [*TINY, *small, f"ans_co.dataset={data / 'warmup.jsonl'}"]:
        key, value = item.split("=", 1)
        command += [f"--{key}", *shlex.split(value)]
    environment = {
        **os.environ, "NOTED": str(noted), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")])),
    }  # fmt: skip

    def run() -> subprocess.CompletedProcess:
        words = list(map(str, command))
        return subprocess.run(
            words, env=environment, capture_output=True, text=True, timeout=800, check=False
        )

    first = run()
    assert first.returncode == 0, first.stdout[-2000:] + first.stderr[-4000:]
    ranks = defaultdict(list)
    for file in noted.iterdir():
        words, rank, world = json.loads(file.read_text())
        if words[0] in ("train", "reference"):
            ranks[Path(words[1]).stem].append((rank, world))
    assert {stage: sorted(found) for stage, found in ranks.items()} == {
        stage: [(0, 2), (1, 2)] for stage in STAGES
    }
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["stages"]) == ["base", "base_steps", "warmup", "step_rr", "ans_co"]
    assert all(row["n"]["muted_acc"] == TINY_SIZES["test"] for row in summary["stages"].values())
    assert max(row["step"] for row in read_metrics(out / "step_rr" / "metrics.jsonl")) == 2
    before = {file.name for file in noted.iterdir()}

    again = run()
    assert again.returncode == 0, again.stderr[-4000:]
    for stage in ["base", "base_steps", *STAGES]:
        assert f"{stage}: finished before" in again.stdout.splitlines()
    assert {file.name for file in noted.iterdir()} == before
