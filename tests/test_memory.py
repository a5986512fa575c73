"""The memory of a step: estimated from a configuration, and measured on real steps of the miniature."""

import dataclasses
from pathlib import Path

import pytest
import yaml

import rlcomm.torchvision_ops  # noqa: F401

import torch  # isort: skip
from torch import nn
from transformers import AutoConfig

from rlcomm import doctor, memory, peak
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import Sample, write_jsonl
from rlcomm.memory import Layer, Step, Stacks
from rlcomm.omni.encode import encode
from tests.conftest import make_clip, make_sample
from tests.real_shapes import omni_config

COMMON = dict(
    max_steps=2, bf16=False, use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=1e-3,
    gradient_checkpointing=False, freeze_encoders=True, media_cache_dir=None,
)  # fmt: skip
SFT = dict(stage="sft", per_device_train_batch_size=2)
STEP_RR = dict(
    stage="step_rr", per_device_train_batch_size=8, num_generations=4, max_completion_length=24,
    rewards=["format"],
)  # fmt: skip


@pytest.fixture
def long_rows(clip_rows, tmp_path) -> Path:
    """The six clips with targets long enough that a step is more than its weights."""
    target = "<a-think> I hear a drum and a flute. </a-think> <v-think> I see a harp. </v-think> <answer> yes </answer>"
    rows = [
        dataclasses.replace(row, turns=(dataclasses.replace(row.turns[0], target=target),)) for row in clip_rows
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def nano_config(nano_folder):
    return AutoConfig.from_pretrained(nano_folder)


# -- against the truth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        SFT,
        SFT | dict(per_device_train_batch_size=6),
        SFT | dict(per_device_train_batch_size=6, gradient_checkpointing=True),
        SFT | dict(per_device_train_batch_size=6, gradient_accumulation_steps=2),
        SFT | dict(per_device_train_batch_size=6, freeze_encoders=False),
        SFT | dict(use_peft=True, lora_r=8),
        SFT | dict(use_peft=True, lora_r=8, per_device_train_batch_size=6),
        SFT | dict(use_peft=True, lora_r=8, per_device_train_batch_size=6, gradient_checkpointing=True),
        STEP_RR,
        STEP_RR | dict(gradient_checkpointing=True),
        STEP_RR | dict(per_device_train_batch_size=24),
        STEP_RR | dict(per_device_train_batch_size=24, gradient_checkpointing=True),
        STEP_RR | dict(per_device_train_batch_size=24, scoring="rows"),
        STEP_RR | dict(gradient_accumulation_steps=3, use_peft=True, lora_r=8),
    ],
    ids=lambda keys: "-".join(f"{k}={v}" for k, v in keys.items() if k not in ("rewards", "max_completion_length")),
)  # fmt: skip
def test_the_estimate_is_within_a_quarter_of_what_real_steps_take(keys, long_rows, nano_folder, tmp_path):
    """The peak of torch's own allocator over two steps of the real stage; weights are no more than a third."""
    path = tmp_path / "recipe.yaml"
    values = {"model_name_or_path": str(nano_folder), "dataset": str(long_rows), **COMMON, **keys}
    path.write_text(yaml.safe_dump(values | {"output_dir": str(tmp_path / "run")}))
    found = doctor.examine(str(path), [], doctor.Options(rows=6, measure=True))
    assert found["problems"] == []
    measured = found["measured"]
    assert 0.75 < measured["ratio"] < 1.25, measured
    assert found["model"]["whole"]["bytes"] < 0.34 * measured["peak"]
    assert not (tmp_path / "run").exists()
