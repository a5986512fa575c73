"""Embeddings that are kept give the numbers of towers that run, and only where the towers stay the same."""

import dataclasses

import pytest
import torch

from rlcomm.data.media import MediaSettings
from rlcomm.omni.encode import encode, reword, swap_media
from rlcomm.omni.policy import set_trainable
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.score import pad_completions, score
from rlcomm.omni.towers import Towers
from rlcomm.utils.errors import UserError
from tests.conftest import make_clip, make_prompt, make_sample

CPU = torch.device("cpu")


@pytest.fixture
def towers(policy):
    set_trainable(policy.model, freeze_encoders=True)
    return Towers(policy.model, 64)


def image_prompt(policy):
    clip = make_clip(3)
    return encode(policy, make_sample(), dataclasses.replace(clip, frames=clip.frames[:1]), "direct")


def sound_prompt(policy):
    return encode(policy, make_sample(), dataclasses.replace(make_clip(4), frames=None), "direct")


def graded(policy, prompts, scoring):
    """Log-probs of fixed completions, and the gradient of their sum."""
    ids, mask = pad_completions([[300 + i, 310, 320 + i] for i in range(len(prompts))], 0, CPU)
    logps, _ = score(policy.model, prompts, ids, mask, scoring)
    policy.model.zero_grad()
    logps.sum().backward()
    grads = [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
    return logps.detach(), torch.cat(grads)


@pytest.mark.parametrize("scoring", ["rows", "grouped"])
def test_scores_and_gradients_are_those_of_running_towers(policy, towers, scoring):
    """Trap: embeddings in the places of another sense, or of another prompt of the batch."""
    prompts = [
        make_prompt(policy, 0),
        make_prompt(policy, 1, 4.0),
        image_prompt(policy),
        sound_prompt(policy),
    ]
    rows = [prompts[i] for i in (0, 0, 1, 2, 3, 3)]
    kept = [towers(prompt) for prompt in prompts]
    ours = [kept[i] for i in (0, 0, 1, 2, 3, 3)]
    expected, slope = graded(policy, rows, scoring)
    found, ours_slope = graded(policy, ours, scoring)
    assert torch.allclose(found, expected, atol=1e-6, rtol=1e-6)
    assert (ours_slope - slope).norm() < 1e-5 * slope.norm()


def test_rollouts_are_those_of_running_towers(policy, towers):
    prompts = [make_prompt(policy, 0), make_prompt(policy, 1, 4.0)]
    kept = [towers(prompt) for prompt in prompts]
    found, expected = (
        generate_ids(policy.model, policy.processor, some, 3, 12, temperature=1.0, seed=0)
        for some in (kept, prompts)
    )
    assert found == expected


@pytest.mark.parametrize("sense", ["audio", "video"])
def test_another_clips_sound_or_picture_changes_the_score(policy, towers, sense):
    one, other = towers(make_prompt(policy, 0)), towers(make_prompt(policy, 1))
    swapped = swap_media(one, other, (f"{sense}_embeds",))
    before, _ = graded(policy, [one, one], "grouped")
    after, _ = graded(policy, [swapped, swapped], "grouped")
    assert (before - after).abs().max() > 1e-3


def test_the_towers_run_once_a_clip(policy, towers):
    """Keyed by content: another question, and another clip with the same picture, ask them no more than they
    must."""
    first = make_prompt(policy, 0)
    one = towers(first)
    assert towers.computed == 2  # sound and picture
    asked = towers(reword(policy, first, "Is there a drum?"))
    again = towers(make_prompt(policy, 0))
    assert towers.computed == 2
    assert asked.media["video_embeds"] is again.media["video_embeds"] is one.media["video_embeds"]
    towers(swap_media(first, make_prompt(policy, 1), ("input_features", "feature_attention_mask")))
    assert towers.computed == 3
    calls = []
    for tower in (policy.model.model.audio_tower, policy.model.model.visual):
        tower.register_forward_hook(lambda *args: calls.append(1))
    graded(policy, [one, one], "grouped")
    generate_ids(policy.model, policy.processor, [one], 2, 4)
    assert not calls


def test_memory_is_bounded(policy, towers):
    prompts = [make_prompt(policy, i) for i in range(6)]
    size = sum(x.numel() * x.element_size() for x in towers(prompts[0]).media.values())
    towers._free = 2 * size
    for prompt in prompts[1:]:
        towers(prompt)
    assert sum(x.numel() * x.element_size() for x in towers._memory.values()) <= 3 * size
    computed = towers.computed
    towers(prompts[1])  # long dropped
    assert towers.computed == computed + 2


def test_towers_that_train_or_are_divided_are_refused(policy):
    set_trainable(policy.model, freeze_encoders=False)
    with pytest.raises(UserError, match=r"cache_encoders_mb is 64, but .* towers train"):
        Towers(policy.model, 64)
    set_trainable(policy.model, freeze_encoders=True)
    next(policy.model.model.visual.parameters()).ds_id = 0
    with pytest.raises(UserError, match="ZeRO-3"):
        Towers(policy.model, 64)


def test_prompts_hold_embeddings_in_place_of_frames(policy, towers, clip_rows):
    prompts = Prompts(policy, MediaSettings(), "direct", towers=towers)
    prompt = prompts(clip_rows[0])
    assert sorted(prompt.media) == ["audio_embeds", "video_embeds"]
    assert prompts(clip_rows[0]) is prompt
