"""Models of experts: TRL would add an auxiliary loss on their routers, which our forwards do not compute."""

import pytest
import torch

from rlcomm.omni.policy import load_policy
from tests.checkpoints import qwen3_omni, qwen3_processor, qwen3_tokenizer
from tests.trainers.test_grpo import make, weights


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3")
    renamed = qwen3_tokenizer(tokenizer)
    qwen3_omni(renamed).thinker.save_pretrained(folder)
    qwen3_processor(renamed).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("coefficient", [None, 0.01])
def test_grpo_trains_a_model_of_experts(folder, clip_rows, tmp_path, coefficient):
    """Trap: the coefficient of the model's own configuration asks for the loss where the recipe is silent."""
    policy = load_policy(str(folder))
    assert policy.model.config.get_text_config().router_aux_loss_coef > 0
    before = weights(policy)
    trainer = make(
        policy, clip_rows, tmp_path, max_steps=1, learning_rate=0.05, optim="sgd",
        router_aux_loss_coef=coefficient,
    )  # fmt: skip
    trainer.train()
    moved = (weights(policy) - before).abs().max()
    assert torch.isfinite(moved)
    assert moved > 0
    assert not any("aux_loss" in entry for entry in trainer.state.log_history)
