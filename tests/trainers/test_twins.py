"""Twins in a generation: found, handed to the rewards, and measured against one baseline."""

import dataclasses

import pytest
import torch

from rlcomm.data.sample import Sample
from rlcomm.rewards.adapters import reward_functions
from rlcomm.trainers.order import Drawing
from rlcomm.trainers.twins import advantages, twin_groups
from tests.trainers.test_grpo import GROUP, batch, make, replay

TWINS = {0: 1, 1: 0}


def test_groups_of_twins_are_those_that_stand_side_by_side():
    twins = {0: 1, 1: 0, 2: 3, 3: 2}
    assert twin_groups([0, 0, 1, 1, 7, 7, 3, 3, 2, 2], 2, twins) == [(0, 1), (3, 4)]
    assert twin_groups([0, 7, 1], 1, twins) == []
    assert twin_groups([0, 1, 0], 1, twins) == [(0, 1)]  # the third is asked alone
    assert twin_groups([1, 1, 0, 0], 1, twins) == [(1, 2)]


def test_one_baseline_over_a_pair_by_hand():
    """A clip always answered right and its twin never: each group is flat, the pair is not."""
    rewards = torch.tensor([1.0, 1.0, 0.0, 0.0, 3.0, 1.0])
    found, flat = advantages(rewards, [(0, 1)], 2, "none")
    assert found.tolist() == [0.5, 0.5, -0.5, -0.5, 1.0, -1.0]
    assert flat == 0
    found, flat = advantages(rewards, [(0, 1)], 2, "group")
    pair, alone = (1 / 3) ** 0.5, 2**0.5  # standard deviations, n - 1
    assert found.tolist() == pytest.approx(
        [0.5 / pair] * 2 + [-0.5 / pair] * 2 + [1 / alone, -1 / alone], abs=1e-3
    )
    found, _ = advantages(rewards, [(0, 1)], 2, "batch")
    assert found.tolist() == pytest.approx(
        [x / rewards.std().item() for x in (0.5, 0.5, -0.5, -0.5, 1, -1)], abs=1e-3
    )


def test_what_teaches_nothing_and_what_could_not_be_scored():
    found, flat = advantages(torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 2.0]), [(0, 1)], 2, "group")
    assert found[:4].tolist() == [0] * 4
    assert flat == pytest.approx(4 / 6)
    found, _ = advantages(torch.tensor([1.0, torch.nan, 0.0, 0.5]), [(0, 1)], 2, "none")
    assert found.tolist() == [0.5, 0.0, -0.5, 0.0]


def twinned(rows: list[Sample]) -> list[Sample]:
    """Row 1 shows the clip of row 0 and plays another: its answer is the other one."""
    second = dataclasses.replace(rows[1], video=rows[0].video)
    return [rows[0], second, *rows[2:]]


def texts(policy, *answers: str) -> list[list[int]]:
    tokenizer = policy.processor.tokenizer
    said = [f"<a-think> I hear </a-think> <v-think> I see </v-think> <answer> {a} </answer>" for a in answers]
    return [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in said]


def generated(policy, samples, tmp_path, twin_baseline: bool, weights: dict[str, float], drawing=None):
    """A generation of rows 0 and 1 (twins; gold no and yes) and 2 (alone; gold no); what they earn."""
    trainer = make(
        policy, samples, tmp_path, rewards=reward_functions(weights), per_device_train_batch_size=3 * GROUP,
        max_completion_length=64, reward_weights=list(weights.values()),
    )  # fmt: skip
    trainer.drawing = drawing or Drawing(TWINS, 0.5)
    trainer.twin_baseline = twin_baseline
    replay(trainer, texts(policy, *["no"] * 4, "yes", "no", "no", "no", "no", "yes", "yes", "yes"))
    trainer.model.train()
    output = trainer._generate_and_score_completions(batch(trainer, 3))
    return trainer, output


def test_each_completion_is_paid_for_what_its_twin_does(policy, clip_rows, tmp_path):
    weights = {"accuracy": 0.0, "consistency": 1.0}
    trainer, output = generated(policy, twinned(clip_rows), tmp_path, False, weights)
    earned = trainer._earned[:, 1]
    assert earned[:8].tolist() == [0.25] * 4 + [1.0, 0.0, 0.0, 0.0]
    assert earned[8:].isnan().all()  # row 2 was asked without a twin
    metrics = trainer._metrics["train"]
    assert metrics["twins/share"] == [pytest.approx(2 / 3)]
    assert metrics["rewards/consistency/mean"] == [pytest.approx(0.25)]  # p(right) x p(twin right)
    assert output["advantages"][:4].tolist() == [0.0] * 4
    assert metrics["frac_reward_zero_std"] == [pytest.approx(2 / 3)]


def test_the_pairs_baseline_replaces_trls_and_leaves_other_groups(policy, clip_rows, tmp_path):
    samples, weights = twinned(clip_rows), {"accuracy": 1.0}
    plain, before = generated(policy, samples, tmp_path, False, weights)
    trainer, after = generated(policy, samples, tmp_path, True, weights)
    assert before["advantages"][:4].tolist() == [0.0] * 4  # all right: no gradient by the group
    expected = torch.tensor([1.0] * 4 + [1.0, 0.0, 0.0, 0.0])
    expected = (expected - expected.mean()) / (expected.std() + 1e-4)
    assert torch.allclose(after["advantages"][:8], expected)
    assert torch.allclose(after["advantages"][8:], before["advantages"][8:])
    assert trainer.rollouts()[0].advantage == pytest.approx(
        expected[0].item()
    )  # what is logged is what trains
    assert plain._metrics["train"]["frac_reward_zero_std"] == [pytest.approx(1 / 3)]
    assert trainer._metrics["train"]["frac_reward_zero_std"] == [0.0]


def test_with_no_pair_the_baseline_is_trls(policy, clip_rows, tmp_path):
    weights = {"accuracy": 1.0}
    _, before = generated(policy, clip_rows, tmp_path, False, weights)
    trainer, after = generated(policy, clip_rows, tmp_path, True, weights, Drawing({0: 5, 5: 0}, 0.5))
    assert torch.allclose(before["advantages"], after["advantages"])
    assert trainer._metrics["train"]["twins/share"] == [0.0]
