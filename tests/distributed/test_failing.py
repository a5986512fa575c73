"""One rank that fails ends all of them, soon, and its error is what is read; a hang is what is feared."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rlcomm.data.sample import write_jsonl
from tests.distributed.launching import configured, launch
from tests.stages.conftest import COMMON, STAGES

pytestmark = pytest.mark.distributed

# rlcomm whose second rank fails inside a step, behind which the first one waits for its gradients
FAILING = """
import os, sys, time
import rlcomm.utils.torchvision_ops
import torch
from rlcomm.cli import main
from rlcomm.utils.errors import UserError
from rlcomm.trainers.{module} import {trainer} as Trainer
step = Trainer.training_step
def failing(self, *args, **kwargs):
    if self.state.global_step == 1 and os.environ["RANK"] == "1":
        open("{noted}", "w").write(str(time.time()))
        {action}
    return step(self, *args, **kwargs)
Trainer.training_step = failing
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def recipe(clip_rows, nano_folder, tmp_path) -> Callable[..., Path]:
    def write(stage: str, rows=clip_rows, **keys) -> Path:
        write_jsonl(tmp_path / "rows.jsonl", rows)
        values = {
            "stage": stage, "model_name_or_path": str(nano_folder), "dataset": str(tmp_path / "rows.jsonl"),
            **COMMON, **STAGES[stage], "output_dir": str(tmp_path / "run"), **keys,
        }  # fmt: skip
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
        return tmp_path / "recipe.yaml"

    return write


@pytest.mark.parametrize(
    ("stage", "action", "read"),
    [
        ("sft", "raise RuntimeError('on purpose')", r"RuntimeError: on purpose$"),
        ("step_rr", "raise torch.OutOfMemoryError('CUDA out of memory, on purpose')",
         r"OutOfMemoryError: CUDA out of memory, on purpose"),
        ("sft", "raise UserError('row 3 is broken; mend it.')", r"^rlcomm: row 3 is broken; mend it\.$"),
        ("sft", "os.kill(os.getpid(), 9)", r"SIGKILL"),
    ],
    ids=["error", "memory", "sentence", "killed"],
)  # fmt: skip
def test_one_rank_that_fails_ends_all_with_its_own_error(stage, action, read, recipe, tmp_path):
    trainer = {"sft": "OmniSFTTrainer", "step_rr": "OmniGRPOTrainer"}[stage]
    driver = tmp_path / "failing.py"
    driver.write_text(
        FAILING.format(
            module={"sft": "sft", "step_rr": "grpo"}[stage], trainer=trainer, noted=tmp_path / "failed",
            action=action,
        )
    )  # fmt: skip
    path = recipe(stage, rewards=["accuracy"]) if stage == "step_rr" else recipe(stage)
    done = launch("cpu_2.yaml", ["train", path], seconds=300, program=[driver])  # every rank's pipe is closed
    ended = time.time()
    assert done.returncode != 0
    assert re.search(read, done.stderr, re.MULTILINE), done.stderr[-4000:]
    assert ended - float((tmp_path / "failed").read_text()) < 60
    assert not (tmp_path / "run" / "stage.json").exists()
    assert not (tmp_path / "run" / "model").exists()


def test_one_rank_that_fails_under_deepspeed_ends_all_with_its_own_error(recipe, tmp_path):
    """The other rank waits in the collectives of DeepSpeed's engine, not in DDP's."""
    driver = tmp_path / "failing.py"
    engine = "from deepspeed import DeepSpeedEngine; assert isinstance(self.model_wrapped, DeepSpeedEngine)"
    raised = f"{engine}; raise RuntimeError('on purpose')"
    driver.write_text(
        FAILING.format(module="sft", trainer="OmniSFTTrainer", noted=tmp_path / "failed", action=raised)
    )
    path = recipe("sft", use_cpu=False, ddp_backend="gloo")
    done = launch(configured("zero2.yaml", tmp_path), ["train", path], seconds=300, program=[driver])
    ended = time.time()
    assert done.returncode != 0
    assert re.search(r"RuntimeError: on purpose$", done.stderr, re.MULTILINE), done.stderr[-4000:]
    assert ended - float((tmp_path / "failed").read_text()) < 60
    assert not (tmp_path / "run" / "model").exists()


def test_rows_that_would_leave_ranks_waiting_are_refused(recipe, clip_rows):
    rows = [row.without("audio") if i % 2 else row for i, row in enumerate(clip_rows)]
    path = recipe("sft", rows, freeze_encoders=False, ddp_find_unused_parameters=False)
    done = launch("cpu_2.yaml", ["train", path], seconds=300)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("rlcomm: ")]
    assert said
    assert "ddp_find_unused_parameters true or freeze_encoders true" in said[0]


@pytest.mark.parametrize("stage", STAGES)
def test_a_sense_missing_on_one_rank_is_refused_under_zero3(stage, recipe, clip_rows, tmp_path):
    """Every other row has no sound, so that one rank would gather a tower that the other does not run."""
    rows = [row.without("audio") if i % 2 else row for i, row in enumerate(clip_rows)]
    path = recipe(stage, rows, use_cpu=False, ddp_backend="gloo")
    done = launch(configured("zero3.yaml", tmp_path), ["train", path], seconds=300)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if line.startswith("rlcomm: ")]
    assert said, done.stderr[-4000:]
    assert "with sound and picture, " in said[0]
    assert "and under ZeRO-3 processes that read different senses" in said[0]
    assert "start with launch/zero2.yaml" in said[0]
    assert not (tmp_path / "run" / "model").exists()
