"""The keyword judge; every case is a trap that plain substring matching falls into."""

import pytest

from rlcomm.data.vocabulary import Vocabulary
from rlcomm.evaluation.judge import halves, judge

WORDS = Vocabulary.of(["kazoo", "steel drum"])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I hear a flute and two violins.", {"flute", "violin"}),
        ("birds chirpin", {"bird"}),
        ("a person playing the acoustic_guitar", {"guitar"}),
        ("Snare drums, then a drum kit", {"drum"}),
        ("a kazoo", {"kazoo"}),
        ("a steel drum", {"steel drum"}),
        ("the bassoonist is drumming up support", set()),  # whole words only
        ("a wind instrument", set()),  # no weather
        ("The wind howls.", {"wind"}),
        ("It is raining", {"rain"}),
        ("train", set()),
        ("I hear rain, not a piano.", {"rain"}),
        ("I hear no bird and no flute, only a drill", {"drill"}),
        ("There is only the sound of thunder, with no other sounds such as rain or wind.", {"thunder"}),
        ("a harp is playing but the flute is silent", {"harp"}),
        ("a harp is playing and the flute is muted", {"harp"}),
        ("I don\N{RIGHT SINGLE QUOTATION MARK}t hear the cello", set()),
        ("Not a piano, I hear wind", {"wind"}),
        ("", set()),
    ],
)
def test_claims(text, names):
    assert WORDS.claimed(text) == names


@pytest.mark.parametrize(
    ("word", "name"),
    [("thunderstorm", "thunder"), ("acoustic_guitar", "guitar"), ("Bird", "bird"), ("theremin", "theremin")],
)
def test_one_name_a_family(word, name):
    assert WORDS.name(word) == name


def test_halves_of_the_official_form():
    heard, seen = halves(
        "Based on the video, a man plays the piano. Based on the audio,there is a sound of rain."
    )
    assert (heard, seen) == ("there is a sound of rain.", "a man plays the piano.")
    assert halves("Based on the audio: wind. Based on the video: a harp.") == (": wind.", ": a harp.")


def test_halves_of_plain_sentences():
    assert halves("I hear rain. I see a harp.") == ("I hear rain.", "I see a harp.")
    assert halves("I see a harp! I hear rain") == ("I hear rain", "I see a harp!")


@pytest.mark.parametrize(
    "text",
    [
        "I see a harp and hear wind.",
        "I hear rain. A harp.",
        "I hear rain.",
        "Based on the video, a harp.",
        "",
    ],
)
def test_a_text_without_both_halves_is_given_whole(text):
    assert halves(text) == (text, text)


@pytest.mark.parametrize(
    ("heard", "seen", "a_acc", "v_acc"),
    [
        ("I hear rain.", "I see a flute and a harp.", 5.0, 5.0),
        (
            "I hear rain and a flute.",
            "I see a flute.",
            2.5,
            2.5,
        ),  # one of two visible ones invented, one seen
        ("I hear rain, a flute and a harp.", "nothing", 0.0, 0.0),  # everything named: worth nothing
        ("I hear a flute.", "a harp, a flute and a tuba", 0.0, 5.0),  # the sound itself must be named
        ("I hear rain and a tuba.", "", 5.0, 0.0),  # only visible instruments count as visual dominance
        ("", "", 0.0, 0.0),
    ],
)
def test_scores_by_hand(heard, seen, a_acc, v_acc):
    result = judge(heard, seen, "rain", ["flute", "harp"], WORDS)
    assert (result.a_acc, result.v_acc) == (a_acc, v_acc)


def test_nothing_known_to_be_visible_gives_no_v_acc():
    result = judge("thunder", "a stage", "thunderstorm", [], WORDS)
    assert result.a_acc == 5.0
    assert result.v_acc is None


def test_the_reason_is_given():
    assert judge("rain and a harp", "a harp", "rain", ["harp"], WORDS).why == (
        "rain named as heard; visible but claimed as heard: harp; seen 1 of 1 visible"
    )
