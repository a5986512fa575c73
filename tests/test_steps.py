"""Each test names the trap it guards against."""

import random

import pytest

from rlcomm import steps
from rlcomm.utils.errors import UserError

GOOD = "<a-think> a drum </a-think> <v-think> a drum, a harp </v-think> <answer> no </answer>"


def statuses(text: str) -> tuple[str, str, str]:
    read = steps.parse(text)
    return read.audio.status, read.video.status, read.answer.status


def test_build_writes_the_one_format_and_parse_gives_it_back():
    assert steps.build(" a drum", "a drum, a harp\n", "no") == GOOD
    read = steps.parse(GOOD)
    assert (read.audio.text, read.video.text, read.answer.text) == ("a drum", "a drum, a harp", "no")
    assert statuses(GOOD) == ("ok", "ok", "ok")
    assert read.outside == ""


def test_span_is_the_inner_text_in_characters_of_the_completion():
    text = "\n<a-think>\n  ein Fagott 🎻 é\t</a-think><v-think>ヴァイオリン</v-think> <answer>２</answer>"
    read = steps.parse(text)
    for part, expected in (
        (read.audio, "ein Fagott 🎻 é"),
        (read.video, "ヴァイオリン"),
        (read.answer, "２"),
    ):
        assert text[slice(*part.span)] == part.text == expected
    assert text[read.answer_start :] == " <answer>２</answer>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("missing", "missing", "missing")),
        ("no", ("missing", "missing", "missing")),
        ("<answer>no</answer>", ("missing", "missing", "ok")),
        # never closed: what follows must not be swallowed up to the end or to another tag's close
        ("<a-think>a <v-think>b</v-think> <answer>c</answer>", ("missing", "ok", "ok")),
        ("<a-think>a</a-think> <v-think>b</v-think> <answer>c", ("ok", "ok", "missing")),
        ("a</a-think> <v-think>b</v-think> <answer>c</answer>", ("missing", "ok", "ok")),
        ("</answer>c<answer>", ("missing", "missing", "missing")),
        # nested: the outer one is not a segment
        ("<a-think>a <v-think>b</v-think></a-think> <answer>c</answer>", ("missing", "ok", "ok")),
        ("<a-think>a</a-think><v-think>b<answer>c</answer></v-think>", ("ok", "missing", "ok")),
        # crossing
        ("<a-think>a<v-think>b</a-think>c</v-think><answer>d</answer>", ("missing", "missing", "ok")),
        # repeated, also by a stray half
        (
            "<a-think>a</a-think><a-think>b</a-think><v-think>c</v-think><answer>d</answer>",
            ("repeated", "ok", "ok"),
        ),
        ("<a-think>a</a-think><v-think>c</v-think><answer>d</answer></answer>", ("ok", "ok", "repeated")),
        ("<answer><a-think>a</a-think><v-think>c</v-think><answer>d</answer>", ("ok", "ok", "repeated")),
        # empty, also with characters that cannot be seen
        (
            "<a-think></a-think><v-think> \n</v-think><answer>\u200b\u00a0</answer>",
            ("empty", "empty", "empty"),
        ),
        # out of order
        ("<v-think>b</v-think><a-think>a</a-think><answer>c</answer>", ("ok", "out_of_order", "ok")),
        ("<answer>c</answer><a-think>a</a-think><v-think>b</v-think>", ("ok", "ok", "out_of_order")),
        # almost tags
        ("<A-think>a</A-think><v think>b</v think>< answer >c</ answer >", ("missing", "missing", "missing")),
    ],
)
def test_status_of_every_trap(text, expected):
    assert statuses(text) == expected


def test_repeated_segment_keeps_the_first_text():
    read = steps.parse("<answer>yes</answer> <answer>no</answer>")
    assert (read.answer.text, read.answer.status, read.answer.found) == ("yes", "repeated", True)


def test_nested_answer_is_read_but_the_wrapping_segment_is_not():
    read = steps.parse("<a-think>a drum <answer>no</answer></a-think>")
    assert read.answer.text == "no"
    assert not read.audio.found


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("Sure! " + GOOD, "Sure!"),
        (GOOD + " bye", "bye"),
        (GOOD.replace("</a-think> ", "</a-think> so "), "so"),
        (GOOD + "</answer>", ""),  # a stray tag is no text; the status says "repeated"
    ],
)
def test_outside_text_is_seen(text, outside):
    assert steps.parse(text).outside == outside


def test_answer_start_is_behind_the_v_think_that_was_read():
    assert GOOD[steps.parse(GOOD).answer_start :] == " <answer> no </answer>"
    assert steps.parse("<answer>no</answer>").answer_start is None
    empty = "<v-think> </v-think>x"
    assert empty[steps.parse(empty).answer_start :] == "x"


@pytest.mark.parametrize(
    "parts", [("", "b", "c"), ("a", " \n", "c"), ("a", "b", "\u200b"), ("a</answer>", "b", "c")]
)
def test_build_refuses_what_could_not_be_read_back(parts):
    with pytest.raises(UserError):
        steps.build(*parts)


def test_parse_never_raises_and_spans_always_hold():
    pieces = [
        "<a-think>",
        "</a-think>",
        "<v-think>",
        "</v-think>",
        "<answer>",
        "</answer>",
        "drum",
        " ",
        "<",
        "é",
    ]
    rng = random.Random(0)
    found = 0
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 12)))
        read = steps.parse(text)
        for part in (read.audio, read.video, read.answer):
            assert text[slice(*part.span)] == part.text
            found += part.found
        if read.video.status != "missing":
            assert text[: read.answer_start].endswith("</v-think>")
        assert not any(tag in read.outside for tag in pieces[:6])
    assert found > 100  # the draw does reach the interesting cases


def test_answer_of_each_prompt_style():
    assert steps.answer_of("  Piano. \n", "direct") == "Piano."
    assert steps.answer_of(" \n", "direct") is None
    assert steps.answer_of(GOOD, "steps") == "no"
    assert steps.answer_of("no", "steps") is None
    assert steps.answer_of("<answer> </answer>", "steps") is None
    with pytest.raises(ValueError, match="prompt_style"):
        steps.answer_of("no", "tags")
