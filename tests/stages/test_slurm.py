"""train.slurm over two nodes: what it calls on a cluster stands here in small, each node a process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rlcomm.trainers.metrics_file import read_metrics
from tests.stages.conftest import COMMON, STAGES

LAUNCH = Path(__file__).resolve().parents[2] / "launch"

SCONTROL = """#!/usr/bin/env bash
echo 127.0.0.1
echo 127.0.0.2
"""
SRUN = r"""#!/usr/bin/env bash
printf '%s\n' "$*" >> "$TOLD"
while [[ "$1" == --* ]]; do shift; done
for ((node = 0; node < SLURM_NNODES; node++)); do SLURM_NODEID=$node "$@" & done
for ((node = 0; node < SLURM_NNODES; node++)); do wait -n || { kill $(jobs -p); exit 1; }; done
"""


@pytest.fixture
def slurm(tmp_path):
    """The environment of a job on two nodes with one process each."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("scontrol", SCONTROL), ("srun", SRUN)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TOLD": str(tmp_path / "told"), "SLURM_NNODES": "2", "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_SUBMIT_DIR": str(LAUNCH.parent), "PROCESSES_PER_NODE": "1",
        "CONFIG": str(LAUNCH / "cpu_2.yaml"), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def submit(environment, *arguments):
    return subprocess.run(
        ["bash", str(LAUNCH / "train.slurm"), *map(str, arguments)],
        env=environment, cwd="/", capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


@pytest.mark.distributed
def test_a_slurm_job_trains_over_its_nodes_and_goes_on_when_requeued(slurm, recipe, tmp_path):
    path = recipe("sft", max_steps=2, ddp_find_unused_parameters=True)
    done = submit(slurm, "train", path)
    assert done.returncode == 0, done.stderr[-3000:]
    told = Path(slurm["TOLD"]).read_text()
    assert "--kill-on-bad-exit=1" in told
    assert "--num_processes 2" in told
    assert "--main_process_ip 127.0.0.1 " in told
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2]
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    again = submit(slurm, "train", path)
    assert again.returncode == 0
    assert "this stage is finished" in again.stdout


@pytest.mark.distributed
def test_a_slurm_job_runs_each_stage_of_a_pipeline_over_its_nodes(slurm, rows, nano_folder, tmp_path):
    shared = {**COMMON, "dataset": str(rows), "ddp_find_unused_parameters": True, "max_steps": 2}
    for stage, as_in in (("warmup", "sft"), ("ans_co", "ans_co")):
        (tmp_path / f"{stage}.yaml").write_text(yaml.safe_dump({"stage": stage, **STAGES[as_in], **shared}))
    out = tmp_path / "run"
    chain = {
        "stage": "pipeline", "model_name_or_path": str(nano_folder), "output_dir": str(out),
        "stages": ["warmup.yaml", "ans_co.yaml"],
    }  # fmt: skip
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(chain))
    done = submit(slurm, "pipeline", tmp_path / "pipeline.yaml")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    started = Path(slurm["TOLD"]).read_text().splitlines()
    stages = [re.findall(r"-m rlcomm train \S+/(\w+)\.yaml ", line) for line in started]
    assert stages == [["warmup"], ["ans_co"]]
    for stage in ("warmup", "ans_co"):
        assert [row["step"] for row in read_metrics(out / stage / "metrics.jsonl")] == [1, 2]
        kept = out / stage / "checkpoint-2"
        assert {path.name for path in kept.glob("rng_state*")} == {"rng_state_0.pth", "rng_state_1.pth"}
    assert (out / "summary.json").exists()
    again = submit(slurm, "pipeline", tmp_path / "pipeline.yaml")
    assert again.returncode == 0
    assert "ans_co: finished before" in again.stdout
    assert Path(slurm["TOLD"]).read_text().splitlines() == started


@pytest.mark.distributed
def test_a_slurm_job_ends_when_the_recipe_is_wrong(slurm, recipe):
    done = submit(slurm, "train", recipe("sft", learning_rate=-1.0))
    assert done.returncode != 0
    assert "learning_rate" in done.stderr


def test_train_slurm_names_what_it_runs(slurm):
    done = submit(slurm, "eval", "recipe.yaml")
    assert done.returncode == 2
    assert done.stderr.strip() == "train.slurm runs `train` or `pipeline`, not `eval`."


def test_the_scripts_name_no_site():
    for name in ("train.slurm", "srun.sh"):
        text = (LAUNCH / name).read_text()
        assert not re.search(r"#SBATCH --(account|partition|qos|mail)|module load|/(scratch|home|gpfs)", text)
