"""The gold answers, against scenes worked out by hand."""

import json

import pytest

from rlcomm.orchestra.questions import (
    Question,
    all_questions,
    existence,
    hear_text,
    open_turn,
    open_turns,
    see_text,
)
from rlcomm.orchestra.scenes import Scene

# A muted harp on the left, a drum in the middle, on the right a flute: late, 6 dB softer than the drum.
TRIO = Scene(
    "trio",
    ("harp", "drum", "flute"),
    ("drum", "flute"),
    "harp",
    None,
    {"drum": 0.05, "flute": 0.45},
    {"drum": 3.0, "flute": -3.0},
    7,
    False,
)
# A cello on the left, a violin on the right, together and equally loud.
DUO = Scene(
    "duo",
    ("cello", "", "violin"),
    ("cello", "violin"),
    None,
    None,
    {"cello": 0.0, "violin": 0.1},
    {"cello": 1.0, "violin": 0.0},
    7,
    False,
)
# A guitar in the middle; rain instead of its sound.
RAIN = Scene("rain", ("", "guitar", ""), (), None, "rain", {}, {}, 7, False)

HEARD = "How many musical instruments were heard throughout the video?"
SEEN = "How many types of musical instruments appeared in the entire video?"
SOUNDING = "How many instruments are sounding in the video?"
FROM_VIDEO = "Is this sound from the instrument in the video?"
FIRST = "What is the first instrument that comes in?"


def answers(scene: Scene) -> dict[str, str]:
    ask = all_questions(scene)
    out = {question.text: question.answer for question in ask}
    assert len(out) == len(ask), "a question is asked twice"
    return out


def of_every_instrument(template: str, yes: set[str]) -> dict[str, str]:
    names = ("cello", "drum", "flute", "guitar", "harp", "trumpet", "violin", "xylophone")
    return {template.format(name): "yes" if name in yes else "no" for name in names}


def test_every_answer_of_a_trio_with_a_muted_harp() -> None:
    assert answers(TRIO) == {
        **of_every_instrument("Is there a {} sound?", {"drum", "flute"}),
        **of_every_instrument("Is there a {} in the entire video?", {"harp", "drum", "flute"}),
        HEARD: "two",
        SEEN: "three",
        SOUNDING: "two",
        "Is the drum louder than the flute?": "yes",
        "Is the flute louder than the drum?": "no",
        "What is the instrument on the right of drum?": "flute",
        "What is the instrument on the left of drum?": "harp",
        # Two stand right of the harp and two left of the flute: not asked.
        FROM_VIDEO: "yes",
        "Is the harp in the video always playing?": "no",
        "Is the drum in the video always playing?": "yes",
        # The flute sounds, but not always: not asked.
        "Where is the loudest instrument?": "middle",
        "Where is the last sounding instrument?": "right",
        "Where is the first sounding instrument?": "middle",
        FIRST: "drum",
        "What is the second instrument that comes in?": "flute",
        "Which instrument makes sounds before the flute?": "drum",
        "Which instrument makes sounds after the drum?": "flute",
    }


def test_every_answer_of_a_duo_that_starts_together() -> None:
    assert answers(DUO) == {
        **of_every_instrument("Is there a {} sound?", {"cello", "violin"}),
        **of_every_instrument("Is there a {} in the entire video?", {"cello", "violin"}),
        HEARD: "two",
        SEEN: "two",
        SOUNDING: "two",
        "What is the instrument on the right of cello?": "violin",
        "What is the instrument on the left of violin?": "cello",
        FROM_VIDEO: "yes",
        "Is the cello in the video always playing?": "yes",
        "Is the violin in the video always playing?": "yes",
        FIRST: "simultaneously",
    }


def test_every_answer_when_rain_replaces_a_guitar() -> None:
    assert answers(RAIN) == {
        **of_every_instrument("Is there a {} sound?", set()),
        **of_every_instrument("Is there a {} in the entire video?", {"guitar"}),
        HEARD: "zero",
        SEEN: "one",
        SOUNDING: "zero",
        "What kind of musical instrument is it?": "guitar",
        FROM_VIDEO: "no",
        "Is the guitar in the video always playing?": "no",
    }


def test_open_questions() -> None:
    hear, see = open_turns(TRIO)
    assert (hear.question, hear.answer) == ("What do you hear?", "I hear a drum and a flute.")
    assert (see.question, see.answer) == ("What do you see?", "I see a drum, a flute and a harp.")
    assert (hear.type, see.type) == ("Open/Hear", "Open/See")
    assert open_turn(RAIN).answer == "Based on the video, I see a guitar. Based on the audio, I hear rain."


@pytest.mark.parametrize(
    ("audible", "ambient", "text"),
    [
        ((), None, "I hear nothing."),
        (("violin",), None, "I hear a violin."),
        (("violin", "cello"), None, "I hear a cello and a violin."),
        (["violin", "cello", "harp"], None, "I hear a cello, a harp and a violin."),
        ((), "wind", "I hear wind."),
        ((), "thunder", "I hear thunder."),
        ((), "bird", "I hear a bird."),
        ((), "drill", "I hear a drill."),
    ],
)
def test_what_is_heard_in_one_sentence(audible: tuple[str, ...], ambient: str | None, text: str) -> None:
    assert hear_text(audible, ambient) == text


def test_what_is_seen_in_one_sentence() -> None:
    assert see_text(("flute", "drum")) == "I see a drum and a flute."


def test_music_avqa_row() -> None:
    template = "Is the <Object> louder than the <Object>?"
    question = Question("Audio/Comparative", template, ("drum", "flute"), "yes")
    row = question.music_avqa("trio", 4)
    assert row == {
        "video_id": "trio",
        "question_id": 4,
        "type": '["Audio", "Comparative"]',
        "question_content": template,
        "templ_values": '["drum", "flute"]',
        "question_deleted": 0,
        "anser": "yes",
    }
    assert json.loads(row["templ_values"]) == ["drum", "flute"]
    assert question.text == "Is the drum louder than the flute?"


def test_existence_is_about_the_sound_not_the_picture() -> None:
    assert existence(TRIO, "harp").answer == "no"
    assert existence(TRIO, "drum").turn().answer == "yes"
