"""Qwen3-Omni's thinker through the same door: the tests of encode, score, rollout and tree on a random one.

It differs where it hurts: another interleaving of sound and picture, fractional positions, experts, visual
features that enter several decoder layers, special tokens of other names, larger patches.
"""

import dataclasses

import pytest
import torch
from peft import get_peft_model

from rlcomm.omni.encode import encode, merge_media
from rlcomm.omni.policy import load_policy, lora_config, set_trainable
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.score import pad_completions, score
from tests.checkpoints import qwen3_omni, qwen3_processor, qwen3_tokenizer
from tests.conftest import make_clip, make_prompt, make_sample
from tests.omni.test_branch_scores import (  # noqa: F401
    items,
    test_a_reworded_prompt_is_the_encoded_one,
    test_branches_score_what_single_prompts_score,
)
from tests.omni.test_encode import (  # noqa: F401
    plain_positions,
    test_a_missing_sense_leaves_no_trace,
    test_an_encoded_prompt_keeps_no_padding_in_memory,
    test_conversation_pieces_put_the_loss_on_the_assistant_alone,
)
from tests.omni.test_rollout import (  # noqa: F401
    reference,
    test_greedy_groups_equal_generate_on_each_prompt_alone,
    test_special_tokens_are_never_sampled,
)
from tests.omni.test_score import (  # noqa: F401
    batch,
    test_another_clips_sound_or_picture_changes_the_score,
    test_candidate_scores_are_sums_over_label_tokens,
    test_gradients_of_every_form_equal_those_of_rows,
    test_scores_equal_a_plain_forward,
)
from tests.omni.test_shared import test_shared_rows_read_what_copies_read  # noqa: F401
from tests.omni.test_towers import (  # noqa: F401
    test_rollouts_are_those_of_running_towers,
    test_scores_and_gradients_are_those_of_running_towers,
    towers,
)


@pytest.fixture(scope="module")
def qwen3_folder(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen3")
    renamed = qwen3_tokenizer(tokenizer)
    qwen3_omni(renamed).thinker.save_pretrained(folder)
    qwen3_processor(renamed).save_pretrained(folder)
    return folder


@pytest.fixture
def policy(qwen3_folder):
    return load_policy(str(qwen3_folder))


def strange_prompt(policy, fps):
    """A clip at a rate at which frames fall between whole positions."""
    clip = dataclasses.replace(make_clip(0, 6.0), fps=fps)
    return encode(policy, make_sample(), clip, "direct")


@pytest.mark.parametrize("fps", [2.0, 1.7])
def test_positions_are_the_models_own(policy, fps):
    """Trap: cut to whole numbers, frames would stand elsewhere than where the model puts them."""
    prompt = strange_prompt(policy, fps)
    seconds = torch.tensor([2 / fps])
    expected = plain_positions(policy, prompt, use_audio_in_video=True, second_per_grids=seconds)
    assert torch.equal(prompt.positions, expected)
    assert bool((prompt.positions % 1).any()) == (fps == 1.7)
    assert prompt.next_position == pytest.approx(float(prompt.positions.max()) + 1)


@pytest.mark.parametrize("rate", [13, 25])
def test_sound_and_picture_are_interleaved_by_the_models_rate(policy, rate):
    """Trap: the processor has a rate of its own, and ids would be in another order than their positions."""
    policy.config.position_id_per_seconds = rate
    prompt = strange_prompt(policy, 2.0)
    times = prompt.positions[0]
    for token in (policy.config.audio_token_id, policy.config.video_token_id):
        own = times[prompt.ids == token]
        assert bool((own.diff() >= 0).all())
    seen = times[prompt.ids == policy.config.video_token_id]
    assert seen.unique().diff().tolist() == [float(rate)] * 5


def test_scores_at_fractional_positions_equal_a_plain_forward(policy):
    prompts = [strange_prompt(policy, 1.7), make_prompt(policy, 1)]
    groups = generate_ids(policy.model, policy.processor, prompts, 2, 12, temperature=1.0, seed=0)
    rows = [prompt for prompt in prompts for _ in range(2)]
    ids, mask = pad_completions([text for group in groups for text in group], 0, torch.device("cpu"))
    found = {scoring: score(policy.model, rows, ids, mask, scoring)[0] for scoring in ("rows", "grouped")}
    assert torch.allclose(found["rows"], found["grouped"], atol=1e-5)
    for i, prompt in enumerate(rows):
        row = torch.cat([prompt.ids, ids[i][mask[i].bool()]])[None]
        logits = policy.model(
            input_ids=row, attention_mask=torch.ones_like(row), use_audio_in_video=True,
            video_second_per_grid=torch.tensor([2 / 1.7 if prompt is prompts[0] else 1.0]),
            **merge_media([prompt], torch.device("cpu"), torch.float32),
        ).logits[0, len(prompt) - 1 : -1]  # fmt: skip
        expected = logits.log_softmax(-1).gather(1, row[0, len(prompt) :, None])[:, 0]
        assert torch.allclose(found["rows"][i][mask[i].bool()], expected, atol=1e-5)


def test_lora_reaches_attention_alone_and_the_towers_can_be_frozen(policy):
    """Experts are no linear layers: adapters of MLPs, which the same pattern names, are not for them."""
    trained, frozen = set_trainable(policy.model, freeze_encoders=True)
    assert trained
    assert frozen
    assert not any(p.requires_grad for p in policy.model.model.audio_tower.parameters())
    model = get_peft_model(policy.model, lora_config(r=2, alpha=4))
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 3 * 4 * 2
    assert all("language_model.layers" in name and "self_attn" in name for name in trained)
