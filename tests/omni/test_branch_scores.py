"""Labels of several branches in one forward equal one prompt at a time; media are read once."""

import dataclasses

import pytest
import torch

from rlcomm.omni import grouped
from rlcomm.omni.encode import encode, reword, swap_media
from rlcomm.omni.policy import load_policy
from rlcomm.omni.score import branch_scores, candidate_scores
from tests.conftest import make_clip, make_prompt, make_sample

LABELS = ["yes", "no", "yes and no", "a harp", "a drum"]
WORDS = ["I hear a drum. Is there a violin sound?", "Is there a violin sound?", "I see a harp."]


@pytest.mark.parametrize("lost", [None, "audio", "video", "both"])
def test_a_reworded_prompt_is_the_encoded_one(policy, lost):
    clip = make_clip(3, 3.3)
    if lost in ("audio", "both"):
        clip = dataclasses.replace(clip, audio=None)
    if lost in ("video", "both"):
        clip = dataclasses.replace(clip, frames=None)
    prompt = encode(policy, make_sample(), clip, "direct")
    for text in WORDS:
        other, expected = reword(policy, prompt, text), encode(policy, make_sample(), clip, text=text)
        assert torch.equal(other.ids, expected.ids)
        assert torch.equal(other.positions, expected.positions)
        assert other.next_position == expected.next_position
        assert other.media is prompt.media


@pytest.fixture
def items(policy):
    """Three items: two wordings of a clip; three of a longer one; with and without the picture."""
    first, second = make_prompt(policy, 0), make_prompt(policy, 1, 5.0)
    clip = make_clip(2)
    joint = encode(policy, make_sample(), clip, "direct")
    alone = encode(policy, make_sample(), dataclasses.replace(clip, frames=None), "direct")
    return [
        [reword(policy, first, WORDS[0]), reword(policy, first, WORDS[1])],
        [second, *(reword(policy, second, text) for text in WORDS[::-1])],
        [joint, alone],
    ]


@pytest.mark.parametrize("normalise", [True, False])
def test_branches_score_what_single_prompts_score(policy, items, normalise):
    candidates = [LABELS, LABELS[:2], LABELS[2:]]
    found = branch_scores(policy.model, policy.processor, items, candidates, normalise)
    for prompts, labels, scores in zip(items, candidates, found, strict=True):
        expected = candidate_scores(
            policy.model, policy.processor, prompts, [labels] * len(prompts), normalise, scoring="rows"
        )
        assert torch.allclose(torch.tensor(scores), torch.tensor(expected), atol=1e-5)
        assert len({round(score, 4) for row in scores for score in row}) > len(labels)


def test_one_prompt_alone_and_one_label_alone(policy, items):
    ((scores,),) = branch_scores(policy.model, policy.processor, [items[0][:1]], [["yes"]])
    expected = candidate_scores(policy.model, policy.processor, items[0][:1], [["yes"]], scoring="rows")
    assert scores == pytest.approx(expected[0], abs=1e-5)


def test_swapping_the_sound_changes_every_branch():
    policy = load_policy("nano_omni")
    prompt, other = make_prompt(policy, 0), make_prompt(policy, 9)
    swapped = swap_media(prompt, other, ("input_features",))
    before, after = (
        torch.tensor(branch_scores(policy.model, policy.processor, [branches], [["yes", "no"]])[0])
        for branches in (
            [reword(policy, prompt, WORDS[0]), reword(policy, prompt, WORDS[1])],
            [reword(policy, swapped, WORDS[0]), reword(policy, swapped, WORDS[1])],
        )
    )
    assert ((before - after).abs().amax(1) > 1e-3).all()


def test_the_media_of_an_item_are_read_once(policy, items):
    heard, seen = [], []
    towers = policy.model.model
    hooks = [
        towers.audio_tower.register_forward_hook(lambda module, args, out: heard.append(1)),
        towers.visual.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(len(args[0])), with_kwargs=True
        ),
    ]
    branch_scores(policy.model, policy.processor, items[:1], [LABELS])
    for hook in hooks:
        hook.remove()
    assert len(heard) == 1
    assert seen == [len(items[0][0].media["pixel_values_videos"])]  # of one clip, not of two wordings


def test_wordings_that_part_before_their_media_share_nothing(policy, items):
    first = items[0][0]
    broken = dataclasses.replace(items[0][1], ids=torch.cat([items[0][1].ids[:1] + 1, items[0][1].ids[1:]]))
    found = branch_scores(policy.model, policy.processor, [[first, broken]], [LABELS])[0]
    alone = [candidate_scores(policy.model, policy.processor, [one], [LABELS])[0] for one in (first, broken)]
    assert torch.allclose(torch.tensor(found), torch.tensor(alone), atol=1e-5)


@pytest.mark.parametrize("kind", ["eager", "without groups"])
def test_every_attention_scores_them(policy, items, kind, nano_folder, monkeypatch):
    """Trap: one that cannot attend by groups would read the branches wrongly or not at all."""
    expected = branch_scores(policy.model, policy.processor, items, [LABELS] * 3)
    if kind == "eager":
        policy = load_policy(str(nano_folder), attn_implementation="eager")
    else:
        monkeypatch.setattr(grouped, "refusal", lambda config: "it cannot")
    found = branch_scores(policy.model, policy.processor, items, [LABELS] * 3)
    for some, other in zip(found, expected, strict=True):
        assert torch.allclose(torch.tensor(some), torch.tensor(other), atol=1e-5)
