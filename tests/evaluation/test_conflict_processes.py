"""`accelerate launch -m rlcomm eval` on two processes gives the bytes of one."""

import os
import subprocess
import sys

import pytest

from rlcomm.data import orchestra

OPTIONS = [
    "recipes/orchestra/conflict.yaml", "--benchmarks", "mcr_aqa,avconfuse_muted", "--decoders", "gacl,aad",
    "--eval_max_rows", "4", "--eval_batch_size", "4", "--disable_tqdm", "true",
]  # fmt: skip


@pytest.mark.distributed
def test_two_processes_give_the_numbers_of_one(tmp_path):
    orchestra.build(tmp_path / "world", seed=8, test=6, progress=False)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes"]
    for name, start in (
        ("one", [sys.executable, "-m", "rlcomm"]),
        ("two", [*launcher, "2", "-m", "rlcomm"]),
    ):
        done = subprocess.run(
            [*start, "eval", *OPTIONS, "--eval_data", str(tmp_path / "world"), "--output_dir",
             str(tmp_path / name)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("results.json") == 1  # the first process alone speaks
    for name in ("results.json", "records.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
