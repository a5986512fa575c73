"""`group_by_clip`: every row once an epoch, clips together, the same order in a resumed run, fewer tokens."""

import dataclasses
import random
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset

from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Turn
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.score import Work
from rlcomm.stages.sft import schedule
from rlcomm.trainers.clips import ClipSampler, by_clip
from rlcomm.trainers.sft import ConversationCollator, OmniSFTTrainer
from tests.trainers.plain import sft_config

CLIPS = list("abacabbd")  # a: 0 2 4, b: 1 5 6, c: 3, d: 7


def batches(order: list[int], size: int) -> list[list[int]]:
    return [order[at : at + size] for at in range(0, len(order), size)]


def reads(order: list[int], size: int) -> int:
    """Clips read, summed over micro-batches."""
    return sum(len({CLIPS[row] for row in batch}) for batch in batches(order, size))


@pytest.mark.parametrize("seed", range(20))
def test_every_row_once_and_clips_together(seed):
    """By hand, two a micro-batch: aa and bb whole; the rest a, b, c, d in two pairs: 1 + 1 + 2 + 2 = 6."""
    order = by_clip(CLIPS, 2, random.Random(seed))
    assert sorted(order) == list(range(8))
    assert reads(order, 2) == 6
    assert reads(by_clip(CLIPS, 1, random.Random(seed)), 1) == 8
    assert reads(by_clip(CLIPS, 8, random.Random(seed)), 8) == 4


@pytest.mark.parametrize("seed", range(20))
def test_a_micro_batch_at_hand_is_filled_first(seed):
    """An epoch that begins in the middle of a micro-batch leaves the others as whole as ever."""
    order = by_clip(CLIPS, 3, random.Random(seed), room=1)
    assert sorted(order) == list(range(8))
    assert len({CLIPS[row] for row in order[:1]}) == 1
    both = [{CLIPS[row] for row in batch} for batch in batches(order[1:], 3)]
    assert {"a"} in both
    assert {"b"} in both
    assert sorted(by_clip(["a", "a"], 2, random.Random(seed), room=1)) == [0, 1]  # only a whole one is there


def test_the_order_is_that_of_seed_and_epoch():
    trainer = SimpleNamespace(state=SimpleNamespace(epoch=None))
    clips = [row // 3 for row in range(30)]
    sampler = ClipSampler(clips, 2, 5, trainer)
    orders = {}
    for epoch in (None, 0.5, 0.9999999, 1.0, 1.7, 2.0):
        trainer.state.epoch = epoch
        orders[epoch] = list(sampler)
    assert len(sampler) == 30
    assert orders[None] == orders[0.5] != orders[1.0] == orders[1.7] == orders[0.9999999] != orders[2.0]
    assert all(sorted(order) == list(range(30)) for order in orders.values())
    trainer.state.epoch = None
    assert list(ClipSampler(clips, 2, 6, trainer)) != orders[None]


def asked(clip_rows) -> list:
    """Three questions on each of two clips, interleaved."""
    return [
        dataclasses.replace(row, id=f"{row.id} {n}", turns=(Turn(question, "yes"),))
        for n, question in enumerate(("Is there a drum?", "Harp?", "Is there a flute or a bell?"))
        for row in clip_rows[:2]
    ]


def test_the_schedule_of_sft_keeps_clips_together_over_its_epochs(clip_rows):
    samples = asked(clip_rows)
    recipe = SimpleNamespace(
        seed=1, group_by_clip=True, per_device_train_batch_size=4, modality_dropout_guess=False,
        modality_dropout_start=0.0, modality_dropout_video=0.0, modality_dropout_audio=0.0,
    )  # fmt: skip
    _, rows = schedule(samples, 6, 4, recipe)
    order = [row["row"] for row in rows]
    for epoch in batches(order, 6):
        assert sorted(epoch) == list(range(6))
    assert schedule(samples, 6, 4, recipe)[1] == rows
    recipe.per_device_train_batch_size = 3
    order = [row["row"] for row in schedule(samples, 8, 3, recipe)[1]]
    assert all(len({samples[row].video for row in batch}) == 1 for batch in batches(order, 3))


@pytest.mark.parametrize("workers", [0, 1])
def test_fewer_tokens_are_read_and_every_row_has_its_loss(policy, clip_rows, tmp_path, workers):
    """Trap: tensors that a worker sends are other objects here, and rows would no longer share their clip."""
    samples = asked(clip_rows)
    trainer = OmniSFTTrainer(
        model=policy.model, processing_class=policy.processor,
        args=sft_config(tmp_path, per_device_train_batch_size=3, dataloader_num_workers=workers),
        train_dataset=Dataset.from_list([{"row": i} for i in range(6)]),
        data_collator=ConversationCollator(samples, Prompts(policy, MediaSettings(), "direct")),
    )  # fmt: skip
    trainer.model.eval()
    found, read = {}, {}
    for name, clips in (("plain", None), ("by clip", [sample.video for sample in samples])):
        trainer.clips, trainer.work = clips, Work()
        found[name] = {}
        for batch in trainer.get_train_dataloader():
            _, out = trainer.compute_loss(trainer.model, batch, return_outputs=True)
            for prompt, row in zip(batch["prompts"], out["logps"], strict=True):
                key = tuple(prompt.ids.tolist()), float(next(iter(prompt.media.values())).double().sum())
                found[name][key] = row.sum()
        read[name] = trainer.work.read
    assert len(found["plain"]) == 6
    assert found["plain"].keys() == found["by clip"].keys()
    for key, value in found["plain"].items():
        assert torch.allclose(found["by clip"][key], value, atol=1e-5)
    shortest = min(len(prompt) for prompt in batch["prompts"])
    assert read["plain"] - read["by clip"] > shortest  # 2 + 2 clips read, then 1 + 1
