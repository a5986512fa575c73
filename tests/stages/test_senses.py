"""Rows of different senses on several processes are refused in one sentence, and only where they must be."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from rlcomm.stages.senses import check_senses, senses
from rlcomm.utils.errors import UserError
from tests.conftest import make_sample

BOTH, SEEN, HEARD = make_sample("b"), make_sample("s").without("audio"), make_sample("h").without("video")


def recipe(**keys) -> SimpleNamespace:
    zero = keys.pop("zero", 0)
    return SimpleNamespace(
        **{
            "dataset": "rows.jsonl", "world_size": 2, "ddp_find_unused_parameters": None,
            "deepspeed_plugin": SimpleNamespace(zero_stage=zero) if zero else None,
            "gradient_checkpointing": False, **keys,
        }
    )  # fmt: skip


def model(towers_train: bool) -> torch.nn.Module:
    parts = {name: torch.nn.Linear(1, 1) for name in ("audio_tower", "visual", "language_model")}
    for name in ("audio_tower", "visual"):
        parts[name].requires_grad_(towers_train)
    return torch.nn.ModuleDict({"model": torch.nn.ModuleDict(parts)})


@pytest.mark.parametrize(
    ("keys", "towers_train", "says"),
    [
        (dict(zero=3), False, "under ZeRO-3 .* start with launch/zero2.yaml"),
        (dict(zero=2), True, "freeze_encoders false under ZeRO-2 .* set freeze_encoders true"),
        (dict(ddp_find_unused_parameters=False), True, "set ddp_find_unused_parameters true"),
        (dict(gradient_checkpointing=True), True, "set ddp_find_unused_parameters true"),
        (dict(zero=3, modality_dropout_video=0.1), False, "rows of one kind and no modality_dropout"),
    ],
)
def test_where_processes_would_wait_for_each_other(keys, towers_train, says):
    with pytest.raises(UserError, match=says) as caught:
        check_senses(recipe(**keys), model(towers_train), [BOTH, BOTH, SEEN, HEARD])
    assert "row 'b' is read with sound and picture, row 's' with picture" in str(caught.value)
    for same in ([BOTH, BOTH], [HEARD, HEARD]):
        check_senses(recipe(**keys), model(towers_train), same)


@pytest.mark.parametrize(
    ("keys", "towers_train"),
    [
        (dict(world_size=1, zero=3), True),  # nobody to wait for
        (dict(), True),  # transformers has DDP look for what was left out
        (dict(ddp_find_unused_parameters=True, gradient_checkpointing=True), True),
        (dict(ddp_find_unused_parameters=False), False),
        (dict(zero=2), False),
    ],
)
def test_everywhere_else_rows_may_differ(keys, towers_train):
    check_senses(recipe(**keys), model(towers_train), [BOTH, SEEN, HEARD])


def test_an_image_is_no_video_to_a_partitioned_tower():
    photo = dataclasses.replace(BOTH, id="p", video="p.JPG")
    assert senses(photo, images_apart=True) == ("sound", "image")
    assert senses(photo) == senses(BOTH) == ("sound", "picture")
    with pytest.raises(UserError, match="sound and image"):
        check_senses(recipe(zero=3), model(False), [BOTH, photo])
    check_senses(recipe(zero=2), model(True), [BOTH, photo])
