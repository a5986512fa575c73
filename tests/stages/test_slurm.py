"""train.slurm over two nodes: what it calls on a cluster stands here in small, each node a process."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rlcomm.stages.run import read_metrics

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
