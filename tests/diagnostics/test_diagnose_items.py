"""Items, their prompts, and what of a clip reaches the towers under each condition."""

import dataclasses

import pytest
import torch

from rlcomm.data import controls
from rlcomm.diagnostics import items as module
from rlcomm.diagnostics import reliance
from rlcomm.diagnostics.items import Pairs, blocks, items_of
from rlcomm.evaluation import runner
from rlcomm.omni.encode import encode
from rlcomm.omni.labels import label_ids
from rlcomm.omni.policy import base_model
from rlcomm.omni.score import candidate_scores
from tests.conftest import make_sample
from tests.diagnostics.conftest import MEDIA


def by_key(sets, distractor="auto"):
    return {one.key: one for each in sets for one in items_of(each.key, each.samples, distractor)}


def test_what_is_left_out_follows_the_sample(sets):
    found = by_key(sets)
    assert [key for key in found if key.startswith("mcr_aqa")] == [
        f"mcr_aqa/aqa-{row}-{condition}/text"
        for row in (1, 2)
        for condition in ("faithful", "adversarial", "irrelevant")
    ]  # a neutral question has no text beside it
    muted = [one for one in found.values() if one.task == "avconfuse_muted"]
    assert {one.distractor for one in muted} == {"video"}
    assert {one.condition for one in muted} == {"adversarial", "faithful"}
    adversarial = found["mcr_aqa/aqa-1-adversarial/text"]
    assert adversarial.reference.question == "Which one plays: harp or violin?"
    assert adversarial.labels[adversarial.gold] == "harp"
    assert adversarial.labels[adversarial.claimed] == "violin"
    assert adversarial.source == "c1"


def test_everything_that_can_be_left_out_is(sets):
    found = by_key(sets, "all")
    assert {one.distractor for one in found.values() if one.task == "avconfuse_muted"} == {"video", "audio"}
    assert {one.distractor for one in found.values() if one.task == "mcr_aqa"} == {"text"}  # nothing to see


def test_the_margin_is_held_against_what_the_usual_distractor_claims():
    """As conflict evaluation holds it; a claim that stays in both branches misleads neither more."""
    meta = {
        "candidates": ["harp", "violin", "drum"], "text_answer": "Violin", "condition": "adversarial",
        "without_text": "Which one?",
    }  # fmt: skip
    sample = make_sample(answer="harp", meta=meta)
    found = {one.distractor: one for one in items_of("mcr_aqa", [sample], "all")}
    assert {name: one.claimed for name, one in found.items()} == {"text": 1, "video": None, "audio": None}
    assert found["text"].margin([-1.0, -3.0, 0.0]) == 2.0
    assert found["video"].margin([-1.0, -3.0, 0.0]) == -1.0


def test_an_item_about_the_picture_is_misled_by_the_sound():
    sample = make_sample(meta={"candidates": ["yes", "no"], "task": "audio_driven"})
    assert [one.distractor for one in items_of("avhbench", [sample])] == ["audio"]


def test_an_open_question_is_no_item():
    assert items_of("x", [make_sample(answer="a harp", meta={"candidates": ["yes", "no"]})]) == []
    assert items_of("x", [make_sample()]) == []


def test_a_clip_is_never_cut_by_a_block(sets):
    """Trap: a clip on both sides of a block would be encoded twice."""
    units = [one for each in sets for one in reliance.questions_of(each.key, each.samples)]
    found = blocks(units, 1)
    assert sorted(one.key for block in found for one in block) == sorted(one.key for one in units)
    clips = [{one.source for one in block} for block in found]
    assert all(len(some) == 1 for some in clips)
    assert len(clips) == len(set.union(*clips))


def encoded(policy, item):
    return Pairs(policy, MEDIA)(item)


def test_branches_that_differ_in_words_share_their_media(policy, sets):
    joint, reference = encoded(policy, by_key(sets)["mcr_aqa/aqa-1-adversarial/text"])
    assert all(joint.media[name] is reference.media[name] for name in joint.media)
    assert joint.ids.tolist() != reference.ids.tolist()


def test_a_branch_without_the_picture_has_no_trace_of_it(policy, sets):
    item = next(one for one in by_key(sets).values() if one.task == "avconfuse_muted")
    joint, reference = encoded(policy, item)
    assert set(reference.media) == {"input_features", "feature_attention_mask"}
    assert torch.equal(reference.media["input_features"], joint.media["input_features"])
    assert {"pixel_values_videos", "video_grid_thw"} < set(joint.media)


def differing(one, other) -> set[str]:
    """Media tensors that differ in shape or value, or are only in one of the two."""
    return {
        name
        for name in one.media.keys() | other.media.keys()
        if name not in one.media
        or name not in other.media
        or not torch.equal(one.media[name], other.media[name])
    }


SOUND = {"input_features", "feature_attention_mask"}
REACHES = {
    "no_audio": SOUND,
    "silent_audio": {"input_features"},
    "other_audio": {"input_features"},
    "audio_1of2": SOUND,
    "audio_3of5": SOUND,
    "no_video": {"pixel_values_videos", "video_grid_thw"},
    "black_video": {"pixel_values_videos"},
    "static_video": {"pixel_values_videos"},
    "other_video": {"pixel_values_videos"},
    "video_1of2": {"pixel_values_videos", "video_grid_thw"},
    "no_media": {*SOUND, "pixel_values_videos", "video_grid_thw"},
}


@pytest.mark.parametrize("condition", REACHES)
def test_a_condition_reaches_its_tower_and_no_other(condition, policy, sets):
    """Trap: a control that never reaches the encoder shows a model that needs nothing."""
    question = reliance.questions_of("avconfuse_muted", sets[0].samples)[0]
    pairs = Pairs(policy, MEDIA)
    full = pairs.prompt(question.sample)
    assert differing(full, pairs.prompt(question.sample, condition, question.donor)) == REACHES[condition]


def test_another_clips_sound_is_the_one_of_that_clip(policy, sets):
    question = reliance.questions_of("avconfuse_muted", sets[0].samples)[0]
    pairs = Pairs(policy, MEDIA)
    strange = pairs.prompt(question.sample, "other_audio", question.donor)
    whole = pairs.prompt(question.donor)
    assert controls.source(question.donor) != question.source
    assert torch.equal(strange.media["input_features"], whole.media["input_features"])


def test_media_decide_the_scores(policy, sets):
    """The swap test: the same words over another clip's sound must not score the same."""
    question = reliance.questions_of("avconfuse_muted", sets[0].samples)[0]
    pairs = Pairs(policy, MEDIA)
    prompts = [
        pairs.prompt(question.sample, name, question.donor)
        for name in ("full", "silent_audio", "other_audio", "black_video", "other_video")
    ]
    labels = [list(question.labels)] * len(prompts)
    scores = candidate_scores(policy.model, policy.processor, prompts, labels)
    assert len({tuple(round(s, 7) for s in row) for row in scores}) == len(prompts)


def test_without_media_the_language_model_answers_alone(policy, sets, monkeypatch):
    question = reliance.questions_of("avconfuse_muted", sets[0].samples)[0]
    prompt = Pairs(policy, MEDIA).prompt(question.sample, "no_media")
    thinker = base_model(policy.model)

    def never(*args, **kwargs):
        raise AssertionError("a tower ran")

    for tower in ("audio_tower", "visual"):
        monkeypatch.setattr(getattr(thinker.model, tower), "forward", never)
    scores = candidate_scores(policy.model, policy.processor, [prompt], [list(question.labels)])[0]
    ends = label_ids(policy.processor.tokenizer, question.labels)[0]
    ids = torch.cat([prompt.ids, torch.tensor(ends)])[None]
    with torch.no_grad():
        states = thinker.model.language_model(input_ids=ids).last_hidden_state
        logps = thinker.lm_head(states).float().log_softmax(-1)
    own = [logps[0, len(prompt) - 1 + i, token].item() for i, token in enumerate(ends)]
    assert scores[0] == pytest.approx(sum(own) / len(own), abs=1e-4)


def test_media_are_encoded_once_per_condition(policy, sets, monkeypatch):
    """Trap: four questions about one clip would read it four times under each of 23 conditions."""
    calls = []
    monkeypatch.setattr(
        module, "encode", lambda *args, **kwargs: calls.append(args) or encode(*args, **kwargs)
    )
    loads = []
    load = runner.load_clip
    monkeypatch.setattr(runner, "load_clip", lambda *args: loads.append(args) or load(*args))
    first = reliance.questions_of("mcr_aqa", sets[1].samples)[0]
    turn = dataclasses.replace(first.sample.turns[0], question="What sounds?")
    sample = dataclasses.replace(first.sample, id="again", turns=(turn,))
    again = dataclasses.replace(first, key="again", sample=sample)
    others = dataclasses.replace(again, key="other labels", labels=("harp", "flute", "violin"))
    questions = [first, again, others]
    pairs = Pairs(policy, MEDIA)
    records = reliance.measure(policy, questions, pairs=pairs)
    asked = set().union(*(record["scores"] for record in records))
    assert len(calls) == len(asked)
    assert len(loads) == 2  # its own clip and the one that stands in
