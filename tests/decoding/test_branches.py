"""What each branch sees: exactly the joint input but for what its name says."""

import dataclasses

import pytest
import torch

from rlcomm.data.sample import Turn
from rlcomm.decoding.branches import NAMES, WORDS, branch_prompts
from rlcomm.omni.encode import encode, user_text
from rlcomm.utils.errors import UserError
from tests.conftest import make_clip, make_sample

QUESTION, TEXT = "Is there a violin sound?", "I hear a drum."


@pytest.fixture
def sample():
    sample = make_sample(question=f"{TEXT} {QUESTION}")
    return dataclasses.replace(sample, meta={"without_text": QUESTION})


def equal(one, other):
    return (
        torch.equal(one.ids, other.ids)
        and torch.equal(one.positions, other.positions)
        and one.media.keys() == other.media.keys()
        and all(torch.equal(one.media[key], other.media[key]) for key in one.media)
    )


def test_branches_that_leave_something_out_are_that_input_encoded_plainly(policy, sample):
    clip = make_clip(0)
    made = branch_prompts(policy, sample, clip, NAMES)
    assert set(made) == set(NAMES)
    bare = dataclasses.replace(sample, turns=(Turn(QUESTION, "yes"),))
    deaf, blind = (dataclasses.replace(clip, **{name: None}) for name in ("audio", "frames"))
    none = dataclasses.replace(clip, audio=None, frames=None)
    for name, expected in {
        "joint": encode(policy, sample, clip, "direct"),
        "evidence": encode(policy, bare, clip, "direct"),
        "no_audio": encode(policy, sample, deaf, "direct"),
        "no_video": encode(policy, sample, blind, "direct"),
        "no_media": encode(policy, sample, none, "direct"),
    }.items():
        assert equal(made[name], expected), name


def test_words_alone_share_the_media_tensors_and_noise_spoils_one_sense(policy, sample):
    made = branch_prompts(policy, sample, make_clip(0), NAMES)
    joint = made["joint"]
    for name, sentence in WORDS.items():
        assert made[name].media is joint.media
        words = policy.processor.tokenizer.decode(made[name].ids)
        assert f"{sentence}\n{user_text(sample.turns[0], 'direct')}" in words
    for name, spoilt in (("noisy_audio", "input_features"), ("noisy_video", "pixel_values_videos")):
        other = made[name]
        assert torch.equal(other.ids, joint.ids)
        changed = {key for key in joint.media if not torch.equal(joint.media[key], other.media[key])}
        assert changed == {spoilt}
    again = branch_prompts(policy, sample, make_clip(0), NAMES)
    assert equal(made["noisy_audio"], again["noisy_audio"])
    other = branch_prompts(policy, dataclasses.replace(sample, id="b"), make_clip(0), NAMES)
    assert not equal(made["noisy_video"], other["noisy_video"])


def test_what_a_leaves_out_is_one_flag(policy, sample):
    clip = make_clip(0)
    made = {
        arbitrate: branch_prompts(policy, sample, clip, ["evidence"], arbitrate=arbitrate)["evidence"]
        for arbitrate in ("text", "video", "audio")
    }
    kinds = {name: {key.split("_")[0] for key in prompt.media} for name, prompt in made.items()}
    assert kinds["video"] == {"input", "feature"}
    assert kinds["audio"] == {"pixel", "video"}
    assert kinds["text"] == kinds["video"] | kinds["audio"]
    words = {name: policy.processor.tokenizer.decode(prompt.ids) for name, prompt in made.items()}
    assert TEXT not in words["text"]
    assert TEXT in words["video"]
    with pytest.raises(UserError, match="arbitrate is 'smell'"):
        branch_prompts(policy, sample, clip, ["evidence"], arbitrate="smell")


def test_a_branch_that_would_be_the_joint_one_is_none(policy):
    sample = make_sample()  # without a text beside the question
    blind = dataclasses.replace(make_clip(0), frames=None)
    made = branch_prompts(policy, sample, blind, ["evidence", "no_video", "noisy_video", "no_audio"])
    assert made["no_audio"] is not None
    assert [made[name] for name in ("evidence", "no_video", "noisy_video")] == [None] * 3
    with pytest.raises(UserError, match="branch 'upside_down' is unknown"):
        branch_prompts(policy, sample, blind, ["upside_down"])
