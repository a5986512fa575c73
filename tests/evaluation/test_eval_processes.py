"""`rlcomm eval` on two processes gives the bytes of one."""

import pytest

from rlcomm.orchestra.build import build
from tests import forking

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
    words = ["eval", *options, "--eval_data", tmp_path / "world", "--output_dir"]
    for ranks, name in enumerate(("one", "two"), 1):
        environment = {"ACCELERATE_USE_CPU": "true", "NOTES": str(tmp_path / name)}
        done = forking.command([*words, tmp_path / "out" / name], ranks, tmp_path / "noted.py", environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("results.json") == 1  # the first process alone speaks
    batches = {p.name: p.read_text().count("batch\n") for p in tmp_path.iterdir() if p.is_file()}
    assert batches["one0"] == batches["two0"] + batches["two1"]
    assert batches["two1"] >= batches["one0"] / 3
    for name in ("results.json", "records.jsonl"):
        assert (tmp_path / "out" / "one" / name).read_bytes() == (
            tmp_path / "out" / "two" / name
        ).read_bytes()
