"""Places of the parts of a prompt, and how two branches' places are paired."""

import dataclasses

import pytest
import torch

from rlcomm.diagnostics.segments import pairings, segments
from rlcomm.omni.encode import encode, reword
from tests.conftest import make_clip, make_prompt, make_sample

QUESTION = "Is there a violin sound?\nAnswer with a word or a phrase."
TEXT = "I hear a harp and a flute.\n"


def said(policy, prompt, at):
    return policy.processor.tokenizer.decode(prompt.ids[at])


@pytest.mark.parametrize(("joint", "text"), [(TEXT + QUESTION, TEXT), (f"{QUESTION} {TEXT}", TEXT)])
def test_words_of_one_branch_alone_are_the_text(policy, joint, text):
    """Before the question and behind it; the rest of the words is the question, whatever its indices."""
    prompt = make_prompt(policy, 0)
    whole, alone = reword(policy, prompt, joint), reword(policy, prompt, QUESTION)
    found, other = segments(policy.processor, whole, alone), segments(policy.processor, alone, whole)
    # Which of two equal full stops is the text's cannot be told.
    assert said(policy, whole, found["text"]).strip(" .\n") == text.strip(" .\n")
    assert "text" not in other
    assert said(policy, whole, found["question"]).startswith("Is there a violin sound?")
    assert torch.equal(whole.ids[found["question"]], alone.ids[other["question"]])


def test_every_place_behind_the_opening_is_in_one_group(policy):
    prompt = make_prompt(policy, 0)
    whole, alone = reword(policy, prompt, TEXT + QUESTION), reword(policy, prompt, QUESTION)
    found = segments(policy.processor, whole, alone, behind=3)
    places = torch.cat(list(found.values()))
    assert len(places.unique()) == len(places)
    assert found["answer"].tolist() == list(range(len(whole) - 1, len(whole) + 3))
    config = policy.config
    for group, token in (("audio", config.audio_token_index), ("video", config.video_token_index)):
        assert found[group].tolist() == (whole.ids == token).nonzero().flatten().tolist()
    left = set(range(len(whole) + 3)) - set(places.tolist())
    frames = policy.processor.tokenizer.convert_ids_to_tokens(whole.ids[sorted(left)].tolist())
    assert "<|vision_bos|>" in frames
    assert all(place < int(found["text"][0]) for place in left)


def test_media_are_paired_by_kind(policy):
    """Sound and picture are interleaved in one branch; the other has the sound alone, at other places."""
    clip = make_clip(0, 3.0)
    whole = encode(policy, make_sample(), clip, "direct")
    alone = encode(policy, make_sample(), dataclasses.replace(clip, frames=None), "direct")
    here, there = segments(policy.processor, whole, alone), segments(policy.processor, alone, whole)
    found = pairings(here, there)
    assert {group: pairing.rule for group, pairing in found.items()} == {
        "audio": "tokens", "video": "absent", "question": "tokens", "answer": "tokens", "all": "mixed",
    }  # fmt: skip
    assert here["audio"].tolist() != there["audio"].tolist()
    states = torch.arange(len(alone), dtype=torch.float32)[:, None]
    assert found["audio"].values(states)[:, 0].tolist() == there["audio"].tolist()
    silent = found["video"].values(states)[:, 0]
    assert len(silent) == len(here["video"])
    assert set(silent.tolist()) == {there["question"].float().mean().item()}


def test_segments_of_other_lengths_get_the_mean(policy):
    """Trap: cut to the shorter one, tokens would be paired with their neighbours."""
    here = {"text": torch.tensor([1, 2, 3]), "answer": torch.tensor([4])}
    there = {"text": torch.tensor([1, 2]), "answer": torch.tensor([3])}
    found = pairings(here, there)
    states = torch.tensor([[9.0], [1.0], [2.0], [7.0]])
    assert found["text"].rule == "mean"
    assert found["text"].values(states)[:, 0].tolist() == [1.5, 1.5, 1.5]
    assert found["all"].at.tolist() == [1, 2, 3, 4]
    assert found["all"].values(states)[:, 0].tolist() == [1.5, 1.5, 1.5, 7.0]
