"""DeepSpeed's real engine on two CPU ranks: every stage, the real embedder, benchmarks during training."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rlcomm.data.sample import read_jsonl, write_jsonl
from rlcomm.evaluation.records import read_records
from rlcomm.omni.policy import load_policy
from rlcomm.orchestra.build import build
from rlcomm.orchestra.questions import hear_text
from rlcomm.trainers.metrics_file import read_metrics
from tests.distributed.launching import configured, launch

pytestmark = pytest.mark.distributed

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "orchestra"
# As on a small machine: batches of two a rank, a few steps, and an evaluation of an odd number of items.
# So short a warm-up gives well-formed rollouts at a low temperature only.
ROLLOUTS = {"num_generations": 4, "temperature": 0.5, "logging_steps": 1}
SHORT = {
    "warmup": {"max_steps": 80, "per_device_train_batch_size": 4, "eval_every": 80},
    "step_rr": {"max_steps": 3, "per_device_train_batch_size": 4, **ROLLOUTS},
    "ans_co": {"max_steps": 2, "per_device_train_batch_size": 2, **ROLLOUTS},
}
DURING = {
    "eval_benchmarks": ["mcr_aqa", "avconfuse_muted"], "eval_decoders": ["greedy", "gacl"], "eval_subset": 3,
    "eval_every": 2, "eval_metric": "mcr_aqa/gacl/acc", "eval_max_new_tokens": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A small Orchestra whose training rows have a reference."""
    out = tmp_path_factory.mktemp("world")
    build(out, warmup=20, train=20, test=5, workers=1, progress=False)
    rows = [
        dataclasses.replace(row, reference=hear_text(tuple(row.meta["audible"]), row.meta["ambient"]))
        for row in read_jsonl(out / "train.jsonl")
    ]
    write_jsonl(out / "train.jsonl", rows)
    return out


def words(values: dict) -> list[str]:
    """As on the command line."""
    found: list[str] = []
    for key, value in values.items():
        found += [f"--{key}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    return found


@pytest.mark.parametrize("config", ["zero2.yaml", "zero3.yaml"])
def test_every_stage_trains_under_deepspeed(config, world, tmp_path):
    model = "nano_omni"
    for stage, short in SHORT.items():
        run = tmp_path / stage
        keys = {
            "model_name_or_path": model, "output_dir": run, "eval_data": world, "disable_tqdm": True,
            "dataset": world / ("warmup.jsonl" if stage == "warmup" else "train.jsonl"),
            "ddp_backend": "gloo", "save_steps": short["max_steps"], "save_strategy": "steps",
            **DURING, **short,
        }  # fmt: skip
        done = launch(configured(config, tmp_path), ["train", RECIPES / f"{stage}.yaml", *words(keys)])
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        rows = read_metrics(run / "metrics.jsonl")
        assert max(row["step"] for row in rows) == short["max_steps"]
        losses = [row["loss"] for row in rows if "loss" in row]
        assert losses
        assert all(map(math.isfinite, losses))
        asked = read_records(run / "eval_during.jsonl")
        assert asked[0]["step"] == 0
        assert asked[-1]["step"] == short["max_steps"]
        assert all("mcr_aqa/gacl/acc" in row for row in asked)
        # the engine's own optimiser states, one of each rank: accelerate may leave DeepSpeed out, unsaid
        assert len(list(run.glob("checkpoint-*/global_step*/*_optim_states.pt"))) == 2
        whole = load_policy(str(run / "model")).model  # gathered: it loads anywhere
        before = load_policy(model).model.state_dict()
        moved = [name for name, value in whole.state_dict().items() if not torch.equal(value, before[name])]
        assert moved
        assert not any(name.startswith(("audio_tower.", "visual.")) for name in moved)
        assert sum(t.numel() for t in load_file(run / "model" / "model.safetensors").values()) > 900_000
        if stage == "step_rr":
            assert max(row["steps/format_ok"] for row in rows if "steps/format_ok" in row) > 0
            assert max(row["rewards/avc/std"] for row in rows if "rewards/avc/std" in row) > 0
        model = str(run / "model")
