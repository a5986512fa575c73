"""Degenerate policies: what each one writes, and how it is recognised among completions."""

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.diagnostics import degenerate
from rlcomm.diagnostics.degenerate import (
    POLICIES,
    as_heard,
    as_seen,
    differs,
    honest,
    others,
    shares,
    stories,
)
from rlcomm.rewards import accuracy
from rlcomm.steps import build, parse


def row(name="a", heard="I hear a drum.", visible=("drum", "harp"), answer="yes", **fields) -> Sample:
    return Sample(
        name, (Turn("Is a drum heard?", answer),), f"{name}.mp4", f"{name}.mp4", reference=heard,
        meta={"visible": list(visible)} if visible else {}, **fields,
    )  # fmt: skip


MUTED = row()  # a harp is seen and silent
IN_SYNC = row("b", "I hear a flute.", ("flute",), "no")
ROWS = stories([MUTED, IN_SYNC])


@pytest.mark.parametrize(
    ("name", "audio", "video"),
    [
        ("v_into_a", "I see a drum and a harp.", "I see a drum and a harp."),
        ("v_told_as_heard", "I hear a drum and a harp.", "I see a drum and a harp."),
        ("a_told_as_seen", "I hear a drum.", "I see a drum."),
        ("reference_echoed", "I hear a drum.", "I hear a drum."),
        ("another_row", "I hear a flute.", "I see a flute."),
        ("another_view", "I hear a drum.", "I see a flute."),
        ("question_echoed", "Is a drum heard?", "Is a drum heard?"),
        ("gold_everywhere", "yes", "yes"),
        ("v_says_nothing", "I hear a drum.", "I see something."),
        ("both_say_nothing", "I hear something.", "I see something."),
        ("empty_segments", "", ""),
        ("tags_repeated", "I hear a drum.", "I see a drum and a harp."),
        ("always_no", "I hear a drum.", "I see a drum and a harp."),
    ],
)
def test_what_each_policy_says(name, audio, video):
    found = parse(POLICIES[name](ROWS[0], "yes", ROWS[1]))
    assert (found.audio.text, found.video.text) == (audio, video)
    assert found.answer.text == ("no" if name in degenerate.OWN_ANSWER else "yes")
    assert (found.answer.status == "repeated") == (name == "tags_repeated")


def test_every_policy_is_tried_above_and_has_a_meaning():
    tried = {case[0] for case in test_what_each_policy_says.pytestmark[0].args[1]}
    assert tried == set(POLICIES) == set(degenerate.MEANING)


def test_the_answer_is_held_equal():
    """A policy that also answers better or worse would hide what its reasoning earns."""
    for story, other in zip(ROWS, others(ROWS), strict=True):
        for name in set(POLICIES) - degenerate.OWN_ANSWER:
            said = parse(POLICIES[name](story, story.sample.answer, other))
            assert accuracy.score(said, story.sample) == 1.0


def test_what_is_honest():
    assert parse(honest(ROWS[0])).video.text == "I see a drum and a harp."
    target = build("I hear it.", "My own words.", "yes")
    own = Sample("c", (Turn("q", "yes", target=target),), sight="a witness", meta={"visible": ["drum"]})
    assert (degenerate.heard(own), degenerate.seen(own)) == ("I hear it.", "My own words.")
    assert degenerate.seen(row(visible=(), sight="a witness")) == "a witness"
    assert degenerate.seen(row(visible=())) is None
    assert stories([row(visible=()), row(heard=None), IN_SYNC]) == [ROWS[1]]


def test_telling_the_truth_is_no_exploit():
    """Where both senses agree, what is heard told as seen is word for word the honest completion."""
    assert differs("a_told_as_seen", ROWS[0], ROWS[1])
    assert not differs("a_told_as_seen", ROWS[1], ROWS[0])
    assert not differs("v_told_as_heard", ROWS[1], ROWS[0])
    assert differs("reference_echoed", ROWS[1], ROWS[0])
    assert differs("always_no", ROWS[0], ROWS[1])
    assert not differs("always_no", ROWS[1], ROWS[0])


def test_another_row_is_of_another_clip_and_says_something_else():
    same_clip = Sample(
        "a2", (Turn("q", "no"),), "a.mp4", "a.mp4", reference="I hear a lute.", sight="A lute."
    )
    same_words = row("d")
    found = others(stories([MUTED, same_clip, same_words, IN_SYNC]))
    assert found[0].sample.id == "b"
    assert others(ROWS[:1]) == ROWS[:1]  # nobody else is there


def test_words_of_one_sense_become_the_others():
    assert as_seen("I hear a drum, heard clearly.") == "I see a drum, seen clearly."
    assert as_heard("Seeing a harp; I saw it.") == "Hearing a harp; I heard it."
    assert as_seen("A heart and an overseer.") == "A heart and an overseer."  # whole words


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"another_row", "another_view"}))
def test_a_policy_is_recognised_in_its_own_words_and_the_honest_one_is_not(name):
    said = POLICIES[name](ROWS[0], ROWS[0].sample.answer, ROWS[1])
    assert shares([said], [MUTED])[name] == 1.0
    assert shares([honest(ROWS[0])], [MUTED])[name] == 0.0


def test_copying_is_recognised_whatever_is_copied():
    """A policy that trains hears what it hears: a share of the reference's exact words would miss it."""
    copied = build("I hear a lute.", "I see a lute.", "yes")
    found = shares([copied, copied, honest(ROWS[0])], [MUTED, IN_SYNC, MUTED])
    assert found["a_told_as_seen"] == found["v_told_as_heard"] == 0.5  # the row in sync does not count
    assert found["reference_echoed"] == 0.0
    assert shares(["no tags at all", ""], [MUTED, MUTED]) == dict.fromkeys(found, 0.0)
    assert "another_row" not in found


def test_no_row_where_it_would_be_one_gives_zero():
    assert shares([honest(ROWS[1])], [IN_SYNC])["a_told_as_seen"] == 0.0
