"""SFT on clips equals plain cross entropy with the media; checkpoints are whole or absent; a resumed run is
the run."""

import dataclasses
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import get_peft_model
from transformers import TrainerCallback

from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample, Turn
from rlcomm.omni.encode import conversation_pieces
from rlcomm.omni.policy import load_policy, lora_config, set_trainable
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.score import Work
from rlcomm.trainers.checkpoints import last_checkpoint
from rlcomm.trainers.sft import ConversationCollator, OmniSFTTrainer, targets
from rlcomm.utils.errors import UserError
from tests.trainers.plain import gradients, plain, sft_config, weights


def make(policy, samples, folder, style="steps", rows=None, **settings) -> OmniSFTTrainer:
    rows = [{"row": i} for i in range(len(samples))] if rows is None else rows
    return OmniSFTTrainer(
        model=policy.model, args=sft_config(folder, **settings), train_dataset=Dataset.from_list(rows),
        processing_class=policy.processor,
        data_collator=ConversationCollator(samples, Prompts(policy, MediaSettings(), style)),
    )  # fmt: skip


def loss_of(trainer, samples) -> torch.Tensor:
    trainer.model.train()
    return trainer.compute_loss(
        trainer.model, trainer.data_collator([{"row": i} for i in range(len(samples))])
    )


def conversation(sample: Sample) -> Sample:
    """The same clip asked three times."""
    turns = (
        Turn("Is there a drum?", "no"),
        Turn("What do you hear?", "I hear a flute."),
        Turn("Harp?", "yes"),
    )
    return dataclasses.replace(sample, turns=turns)


def cross_entropy(policy, prompts, samples, style) -> torch.Tensor:
    """-sum log p / tokens over the assistant's words, a row at a time, by full logits."""
    losses = []
    for sample in samples:
        ids, mask = conversation_pieces(policy, sample, style, targets(sample))
        logps, _ = plain(policy, prompts(sample), ids)
        losses += [-p for p, m in zip(logps, mask, strict=True) if m]
    return torch.stack(losses).mean()


# -- the loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["steps", "direct"])
def test_loss_and_gradients_equal_plain_cross_entropy_with_the_media(policy, clip_rows, tmp_path, style):
    """Rows of one turn with the three segments, and conversations of three turns of unlike length."""
    samples = clip_rows[:3] if style == "steps" else [conversation(clip_rows[0]), *clip_rows[1:3]]
    trainer = make(policy, samples, tmp_path, style)
    loss = loss_of(trainer, samples)
    loss.backward()
    found = gradients(policy)
    expected = cross_entropy(policy, trainer.data_collator.prompts, samples, style)
    expected.backward()
    direct = gradients(policy)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert (found - direct).norm() / direct.norm() < 1e-5


@pytest.mark.parametrize("sense", ["audio", "video"])
def test_another_clips_sound_or_picture_changes_the_loss(policy, clip_rows, tmp_path, sense):
    mine, others = clip_rows[:2], clip_rows[2:4]
    swapped = [
        dataclasses.replace(m, **{sense: getattr(o, sense)}) for m, o in zip(mine, others, strict=True)
    ]
    logps = []
    for rows in (mine, swapped):
        trainer = make(policy, rows, tmp_path)
        batch = trainer.data_collator([{"row": 0}, {"row": 1}])
        logps.append(trainer.compute_loss(trainer.model, batch, return_outputs=True)[1]["logps"])
    assert (logps[0] - logps[1]).abs().max() > 1e-3


def test_only_the_assistants_words_of_every_turn_are_learned(policy, clip_rows):
    samples = [conversation(clip_rows[0]), clip_rows[1]]
    collator = ConversationCollator(samples, Prompts(policy, MediaSettings(), "direct"))
    batch = collator([{"row": 0}, {"row": 1}])
    tokenizer = policy.processor.tokenizer
    learned = [tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert learned[0] == "no<|im_end|>I hear a flute.<|im_end|>yes<|im_end|>"
    assert learned[1] == f"{clip_rows[1].turns[0].target}<|im_end|>"
    lengths = batch["completion_mask"].sum(1).tolist()
    assert lengths[0] != lengths[1]
    assert (batch["labels"][batch["completion_mask"] == 0] == -100).all()
    asked = tokenizer.decode(batch["completion_ids"][0, : lengths[0]])
    assert "What do you hear?" in asked


def test_a_row_without_a_target_learns_its_answer(clip_rows):
    bare = dataclasses.replace(clip_rows[0], turns=(Turn("Is there a drum?", "no"),))
    assert targets(bare) == ["no"]
    assert targets(clip_rows[0]) == [clip_rows[0].turns[0].target]


def test_accumulation_does_not_change_the_step(nano_folder, clip_rows, tmp_path):
    """Batch 4 x 1 = 1 x 4, with rows of unlike length: the mean is over tokens of the whole window."""
    samples = [conversation(clip_rows[0]), *clip_rows[1:3], conversation(clip_rows[3])]
    after = {}
    for size, accumulation in ((4, 1), (1, 4)):
        policy = load_policy(str(nano_folder))
        before = weights(policy)
        trainer = make(
            policy, samples, tmp_path, "direct", per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        trainer.train()
        after[size] = weights(policy)
        assert (after[size] - before).abs().max() > 1e-3
    assert (after[4] - after[1]).abs().max() < 1e-5


def test_rows_about_one_clip_read_it_once_and_learn_the_same(policy, clip_rows, tmp_path):
    """Two questions and three targets on one clip beside another: the loss of rows, at the cost of two."""
    first, other = clip_rows[:2]
    samples = [
        dataclasses.replace(first, turns=(Turn(question, "yes", target=target),))
        for question, target in (("Is there a drum?", "yes"), ("Is there a drum?", "I see."), ("Harp?", "no"))
    ] + [other]
    trainer = make(policy, samples, tmp_path, "direct")
    losses, moved, read = {}, {}, {}
    for scoring in ("rows", "grouped", "auto"):
        trainer.scoring, trainer.work = scoring, Work()
        loss = loss_of(trainer, samples)
        loss.backward()
        losses[scoring], moved[scoring], read[scoring] = loss.item(), gradients(policy), trainer.work.read
    prompt = trainer.data_collator.prompts(samples[0])
    for scoring in ("grouped", "auto"):
        assert losses[scoring] == pytest.approx(losses["rows"], abs=1e-5)
        assert (moved[scoring] - moved["rows"]).norm() / moved["rows"].norm() < 1e-4
        media = int(torch.isin(prompt.ids, torch.tensor([policy.config.audio_token_id])).sum())
        assert read["rows"] - read[scoring] > 2 * media


def test_every_step_says_where_its_time_went(policy, clip_rows, tmp_path):
    trainer = make(
        policy, clip_rows, tmp_path, max_steps=2, logging_steps=1, per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
    )  # fmt: skip
    trainer.train()
    trained = [row for row in trainer.state.log_history if "loss" in row]
    assert len(trained) == 2
    for row in trained:
        assert row["time/score"] > 0
        assert row["time/backward"] > 0
        assert row["time/tokens_per_second"] > 0
        assert 0 <= row["time/padding"] < 0.5
    found = trainer.evaluate(trainer.train_dataset)
    assert found["eval_loss"] > 0
    assert trainer.state.log_history[-1]["eval_time/score"] > 0
    assert trainer.work == Work()  # what an evaluation read is not the next step's


# -- checkpoints ---------------------------------------------------------------------------------------------

LONG = dict(
    max_steps=6, per_device_train_batch_size=2, save_strategy="steps", save_steps=1, optim="adamw_torch",
    learning_rate=1e-3, lr_scheduler_type="cosine",
)  # fmt: skip
ROWS = [{"row": i % 4} for i in (3, 1, 0, 2, 2, 0, 1, 3, 0, 3, 2, 1)]


class StopAfter(TrainerCallback):
    """Kills the run when so many steps are done and saved."""

    def __init__(self, steps: int):
        self.steps = steps

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize("adapters", [False, True])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    nano_folder, clip_rows, tmp_path, adapters
):
    """With transformers' own loading the full fine-tune fails this: no tensor's name matches."""

    def fresh(name):
        policy = load_policy(str(nano_folder))
        set_trainable(policy.model, freeze_encoders=True)
        if adapters:
            torch.manual_seed(0)
            policy.model = get_peft_model(policy.model, lora_config(4, 8))
        return policy, make(policy, clip_rows[:4], tmp_path / name, rows=ROWS, **LONG)

    ended = {}
    for name in ("whole", "killed"):
        policy, trainer = fresh(name)
        start = weights(policy)
        if name == "killed":
            trainer.add_callback(StopAfter(3))
            with pytest.raises(KeyboardInterrupt):
                trainer.train()
            assert Path(str(last_checkpoint(tmp_path / name))).name == "checkpoint-3"
            policy, trainer = fresh(name)
        trainer.train(resume_from_checkpoint=last_checkpoint(tmp_path / name))
        assert trainer.state.global_step == 6
        ended[name] = weights(policy)
        assert (ended[name] - start).abs().max() > 1e-3
    assert (ended["whole"] - ended["killed"]).abs().max() < 1e-6


def test_checkpoints_hold_safetensors_and_keep_to_their_number(policy, clip_rows, tmp_path):
    trainer = make(
        policy, clip_rows[:4], tmp_path, rows=ROWS, **{**LONG, "max_steps": 3, "save_total_limit": 2}
    )
    trainer.train()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    assert (tmp_path / "checkpoint-3" / "model.safetensors").exists()
    assert not list(tmp_path.rglob("pytorch_model*.bin"))


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("breaks", ["_save_optimizer_and_scheduler", "_save_rng_state", "save_model"])
def test_a_save_that_fails_leaves_the_earlier_checkpoint_and_nothing_half_written(
    policy, clip_rows, tmp_path, monkeypatch, breaks
):
    trainer = make(policy, clip_rows[:4], tmp_path, rows=ROWS, **{**LONG, "save_total_limit": 1})

    class FillTheDisk(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                monkeypatch.setattr(trainer, breaks, full_disk)

    trainer.add_callback(FillTheDisk())
    with pytest.raises(UserError, match=r"checkpoint of step 2 .*No space left on device"):
        trainer.train()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]
    found = last_checkpoint(tmp_path)
    assert found == str(tmp_path / "checkpoint-1")
    monkeypatch.undo()
    again = make(policy, clip_rows[:4], tmp_path, rows=ROWS, **{**LONG, "save_total_limit": 1})
    again.train(resume_from_checkpoint=found)
    assert again.state.global_step == 6


def test_last_checkpoint_is_the_newest_whole_one(tmp_path):
    assert last_checkpoint(tmp_path) is None
    for name, whole in (("checkpoint-9", True), ("checkpoint-10", True), ("checkpoint-11", False)):
        (tmp_path / name).mkdir()
        if whole:
            (tmp_path / name / "trainer_state.json").write_text("{}")
    (tmp_path / ".unfinished-checkpoints" / "checkpoint-12").mkdir(parents=True)
    (tmp_path / ".unfinished-checkpoints" / "checkpoint-12" / "trainer_state.json").write_text("{}")
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")
