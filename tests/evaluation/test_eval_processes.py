"""`accelerate launch -m rlcomm eval` on two processes gives the bytes of one."""

import os
import subprocess
import sys

import pytest

from rlcomm.orchestra.build import build

CONFLICT = [
    "recipes/orchestra/conflict.yaml", "--benchmarks", "mcr_aqa,avconfuse_muted", "--decoders", "gacl,aad",
]  # fmt: skip
PLAIN = ["recipes/orchestra/eval.yaml", "--model_name_or_path", "nano_omni", "--eval_max_new_tokens", "8"]
# rlcomm with a note of which process scored how many batches
NOTED = """
import os, sys
from rlcomm.cli import main
from rlcomm.evaluation import generated, scored
module = {{"scored": scored, "generated": generated}}["{module}"]
score = module.{function}
def noted(*args):
    with open(os.environ["NOTES"] + os.environ.get("RANK", "0"), "a") as file:
        file.write("batch\\n")
    return score(*args)
module.{function} = noted
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("options", "module", "function"),
    [(CONFLICT, "scored", "_score_batch"), (PLAIN, "generated", "_ask")],
    ids=["conflict", "plain"],
)
def test_two_processes_give_the_numbers_of_one(options, module, function, tmp_path):
    options = [*options, "--eval_max_rows", "5", "--eval_batch_size", "2", "--disable_tqdm", "true"]
    build(tmp_path / "world", seed=8, test=6, progress=False)
    (tmp_path / "noted.py").write_text(NOTED.format(module=module, function=function))
    launcher = ["-m", "accelerate.commands.launch", "--config_file", "launch/cpu_2.yaml"]
    for name, start in (("one", []), ("two", launcher)):
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "NOTES": str(tmp_path / name),
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, *start, str(tmp_path / "noted.py"), "eval", *options, "--eval_data",
             str(tmp_path / "world"), "--output_dir", str(tmp_path / "out" / name)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("results.json") == 1  # the first process alone speaks
    batches = {p.name: p.read_text().count("batch\n") for p in tmp_path.iterdir() if p.is_file()}
    assert batches["one0"] == batches["two0"] + batches["two1"]
    assert batches["two1"] >= batches["one0"] / 3
    for name in ("results.json", "records.jsonl"):
        assert (tmp_path / "out" / "one" / name).read_bytes() == (
            tmp_path / "out" / "two" / name
        ).read_bytes()
