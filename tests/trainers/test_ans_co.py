"""Ans-CO: the loss worked by hand and by full logits, the gate exact, the answer's tokens exact."""

import math

import pytest
import torch
from datasets import Dataset

from rlcomm.data.media import MediaSettings
from rlcomm.omni.encode import completion_ids
from rlcomm.omni.policy import load_policy, set_trainable
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.score import score
from rlcomm.trainers import sft
from rlcomm.trainers.ans_co import AnsCOCollator, AnsCOTrainer, ans_co_loss, answer_masks, uncertainty
from tests.trainers.plain import gradients, plain, sft_config, weights

WHOLE = "<a-think> I hear a drum. </a-think> <v-think> I see a drum. </v-think> <answer> yes </answer>"
SHORT = "<a-think> a </a-think> <v-think> a </v-think> <answer> no drum </answer>"
NO_VISION = "<a-think> I hear a drum. </a-think> <answer> yes </answer>"
NO_ANSWER = "<a-think> a </a-think> <v-think> I see. </v-think>"


# -- which tokens --------------------------------------------------------------------------------------------


def marked(tokenizer, text: str) -> tuple[str, str]:
    """The words (special tokens too) under each of the two masks."""
    ids = completion_ids(tokenizer, text)
    after, content = answer_masks(tokenizer, ids)
    assert len(after) == len(content) == len(ids)
    texts = [tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m]) for mask in (after, content)]
    return texts[0], texts[1].strip()  # a blank of its own carries nothing


@pytest.mark.parametrize(
    ("text", "after", "content"),
    [
        (WHOLE, " <answer> yes </answer><|im_end|>", "yes"),
        (SHORT, " <answer> no drum </answer><|im_end|>", "no drum"),
        (NO_VISION, "", "yes"),  # nothing to stand after
        (NO_ANSWER, "<|im_end|>", ""),
        ("", "", ""),
    ],
)
def test_the_answers_tokens_are_those_behind_v_think(tokenizer, text, after, content):
    assert marked(tokenizer, text) == (after, content)


def test_the_masks_start_at_the_v_think_that_was_read(tokenizer):
    """A second v-think belongs to the answer's side: N starts behind the first complete one."""
    twice = "<a-think> a </a-think> <v-think> a </v-think> <v-think> a </v-think> <answer> no </answer>"
    assert marked(tokenizer, twice) == (" <v-think> a </v-think> <answer> no </answer><|im_end|>", "no")


def test_a_completion_cut_off_in_the_answer_has_answer_tokens_but_no_content(tokenizer):
    ids = tokenizer("<a-think> a </a-think> <v-think> a </v-think> <answer> no")["input_ids"]
    after, content = answer_masks(tokenizer, ids)
    assert tokenizer.decode([i for i, m in zip(ids, after, strict=True) if m]) == " <answer> no"
    assert not any(content)


def test_words_of_many_bytes_keep_their_place(tokenizer):
    """The miniature's tokenizer spells these letters out in bytes: several tokens a character."""
    text = "<a-think> 二胡 </a-think> <v-think> é </v-think> <answer> 二胡 </answer>"
    after, content = marked(tokenizer, text)
    assert after == " <answer> 二胡 </answer><|im_end|>"
    assert content.strip()
    assert set(content) <= set(" 二胡\ufffd")


# -- by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("nats", 2.5),
        ("log10", 2.5 / math.log(10)),
        ("normalised", 2.5 / math.log(32)),
        ("1-pmax", (0.5 + 0.2) / 2),
    ],
)
def test_uncertainty_in_every_unit(unit, expected):
    entropies = torch.tensor([[9.0, 2.0, 3.0], [1.0, 1.0, 1.0]])
    top = torch.tensor([[0.1, 0.5, 0.8], [0.3, 0.3, 0.3]])
    content = torch.tensor([[0, 1, 1], [0, 0, 0]])  # the second has no answer: certain, not undefined
    found = uncertainty(entropies, top, content, unit, vocab=32)
    assert found.tolist() == pytest.approx([expected, 0.0])


def test_a_two_way_answer_at_its_most_uncertain():
    """0.69 nats, 0.30 log10: with the paper's threshold of 0.75 neither unit would ever close the gate."""
    entropy, content = torch.tensor([[math.log(2)]]), torch.ones(1, 1)
    values = {u: uncertainty(entropy, torch.tensor([[0.5]]), content, u, vocab=2).item()
              for u in ("nats", "log10", "normalised", "1-pmax")}  # fmt: skip
    assert values == pytest.approx(
        {"nats": 0.6931, "log10": 0.3010, "normalised": 1.0, "1-pmax": 0.5}, abs=1e-4
    )


def test_loss_by_hand():
    logps = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, -6.0, -99.0]])
    entropies = torch.tensor([[0.5, 1.0, 2.0], [3.0, 5.0, 99.0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    after = torch.tensor([[0, 1, 1], [0, 1, 0]])
    # row 1: (1 + 2 + 3) / 3 + 0.5 * (1 + 2) / 2 = 2.75;  row 2, gate closed: (4 + 6) / 2 = 5
    assert ans_co_loss(logps, entropies, mask, after, torch.tensor([0.5, 0.0])).item() == pytest.approx(3.875)
    assert ans_co_loss(logps, entropies, mask, 0 * after, torch.tensor([0.5, 0.5])).item() == pytest.approx(
        3.5
    )


# -- the trainer ---------------------------------------------------------------------------------------------


def make(policy, samples, texts, folder, threshold=0.75, unit="nats", weight=0.5, **settings) -> AnsCOTrainer:
    set_trainable(policy.model, freeze_encoders=True)
    prompts = Prompts(policy, MediaSettings(), "steps")
    chosen = [(s, completion_ids(policy.processor.tokenizer, t)) for s, t in zip(samples, texts, strict=True)]
    return AnsCOTrainer(
        model=policy.model, args=sft_config(folder, **settings),
        train_dataset=Dataset.from_list([{"row": i} for i in range(len(chosen))]),
        processing_class=policy.processor, data_collator=AnsCOCollator(chosen, prompts), ansco_lambda=weight,
        ansco_threshold=threshold, ansco_uncertainty=unit,
    )  # fmt: skip


def collated(trainer, rows: int) -> dict:
    return trainer.data_collator([{"row": i} for i in range(rows)])


def by_full_logits(trainer, policy, threshold: float, weight: float) -> tuple[torch.Tensor, list[float]]:
    """Loss and uncertainties (nats), a row at a time."""
    losses, certain = [], []
    for sample, ids in trainer.data_collator.chosen:
        logps, entropies = plain(policy, trainer.data_collator.prompts(sample), ids)
        after, content = (torch.tensor(m) for m in answer_masks(policy.processor.tokenizer, ids))
        u = (entropies * content).sum() / content.sum()
        gate = weight if u <= threshold else 0.0
        losses.append(-logps.mean() + gate * (entropies * after).sum() / after.sum())
        certain.append(u.item())
    return torch.stack(losses).mean(), certain


def test_loss_and_gradients_equal_a_full_logits_computation(policy, clip_rows, tmp_path):
    texts = [WHOLE, SHORT, WHOLE.replace("yes", "no drum and flute"), WHOLE.replace("drum", "harp")]
    trainer = make(policy, clip_rows[:4], texts, tmp_path)
    _, certain = by_full_logits(trainer, policy, 0.0, 0.0)
    threshold = sum(sorted(certain)[1:3]) / 2  # two gates open, two closed
    trainer.ansco_threshold = threshold

    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, collated(trainer, 4))
    loss.backward()
    found = gradients(policy)
    assert trainer._metrics["train"]["ansco/gate_rate"] == [0.5]
    assert trainer._metrics["train"]["ansco/lambda"] == [0.25]

    expected, _ = by_full_logits(trainer, policy, threshold, 0.5)
    expected.backward()
    direct = gradients(policy)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert direct.norm() > 0.1
    assert (found - direct).norm() / direct.norm() < 1e-5


@pytest.mark.parametrize("weight", [0.5, 0.3])
@pytest.mark.parametrize(("u", "open_"), [(0.5, True), (0.75, True), (0.7500001, False), (2.0, False)])
def test_lambda_is_exactly_zero_above_the_threshold_and_whole_up_to_it(
    policy, clip_rows, tmp_path, u, open_, weight
):
    trainer = make(policy, clip_rows[:1], [WHOLE], tmp_path, threshold=0.75, weight=weight)
    trainer.model.train()
    logps = torch.tensor([[-1.0, -3.0]])
    entropies = torch.tensor([[9.0, u]], requires_grad=True)
    inputs = {"after": torch.tensor([[0, 1]]), "content": torch.tensor([[0, 1]])}
    loss = trainer.token_loss(logps, entropies, torch.ones(1, 2, dtype=torch.bool), inputs, None)
    applied = weight if open_ else 0.0
    assert trainer._metrics["train"]["ansco/lambda"] == [torch.tensor(applied).item()]
    assert trainer._metrics["train"]["ansco/gate_rate"] == [0.0 if open_ else 1.0]
    assert loss.item() == pytest.approx(2.0 + applied * u, abs=1e-6)
    loss.backward()
    assert entropies.grad[0].tolist() == pytest.approx([0.0, applied])
    assert (entropies.grad[0, 1].item() == 0.0) == (not open_)


def test_the_unit_decides_what_the_gate_compares(policy, clip_rows, tmp_path):
    vocab = policy.config.get_text_config().vocab_size
    entropies, inputs = torch.tensor([[1.0]]), {"after": torch.ones(1, 1), "content": torch.ones(1, 1)}
    for unit, closed in (("nats", 1.0), ("log10", 0.0), ("normalised", 0.0), ("1-pmax", 1.0)):
        trainer = make(policy, clip_rows[:1], [WHOLE], tmp_path, threshold=0.75, unit=unit)
        trainer.model.train()
        trainer.token_loss(
            torch.tensor([[-2.0]]), entropies, torch.ones(1, 1, dtype=torch.bool), inputs, None
        )
        assert trainer._metrics["train"]["ansco/gate_rate"] == [closed], unit
    assert 1.0 / math.log(vocab) < 0.75


def test_confidence_is_pushed_into_the_answer(policy, clip_rows, tmp_path, monkeypatch):
    """One step with the entropy term alone narrows the answer's distribution; without it, nothing moves."""
    monkeypatch.setattr(
        sft, "score", lambda *arguments, **options: score(*arguments[:-1], **options)
    )  # all, though none has a label
    for weight in (0.5, 0.0):
        before = weights(policy)
        trainer = make(policy, clip_rows[:1], [WHOLE], tmp_path, threshold=99.0, weight=weight)
        trainer.model.train()
        batch = collated(trainer, 1)
        batch["labels"] = torch.full_like(batch["labels"], -100)  # no likelihood term
        optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.01)
        first = trainer.compute_loss(trainer.model, batch)
        first.backward()
        optimizer.step()
        optimizer.zero_grad()
        if weight:
            assert trainer.compute_loss(trainer.model, batch).item() < first.item() - 1e-3
        else:
            assert first.item() == 0.0
            assert torch.equal(before, weights(policy))


def test_accumulation_does_not_change_the_step(nano_folder, clip_rows, tmp_path):
    """Batch 4 x 1 = 1 x 4: the loss is a mean over samples, not over micro-batches of unlike lengths."""
    texts = [WHOLE, SHORT, NO_VISION, WHOLE.replace("yes", "no")]
    after = {}
    for size, accumulation in ((4, 1), (1, 4)):
        policy = load_policy(str(nano_folder))
        before = weights(policy)
        trainer = make(
            policy, clip_rows[:4], texts, tmp_path, threshold=99.0, per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
        )  # fmt: skip
        trainer.train()
        after[size] = weights(policy)
        assert (after[size] - before).abs().max() > 1e-3
    assert (after[4] - after[1]).abs().max() < 1e-5
