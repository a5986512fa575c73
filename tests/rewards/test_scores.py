"""The four rewards, each with an example worked out by hand (METHOD: Step-RR)."""

import dataclasses
import math

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.rewards import accuracy, arr, avc, format
from rlcomm.steps import build, parse

HEARD, SEEN, REFERENCE = "I hear a drum.", "I see a drum and a harp.", "I hear one drum."


def sample(answer: str = "no", options: tuple[str, ...] = (), reference: str | None = REFERENCE) -> Sample:
    return Sample("1", (Turn("Is the harp sounding?", answer, options),), reference=reference)


def steps(answer: str = "no", heard: str = HEARD, seen: str = SEEN):
    return parse(build(heard, seen, answer))


# format

GOOD = build(HEARD, SEEN, "no")


@pytest.mark.parametrize(
    ("text", "strict", "lenient"),
    [
        (GOOD, 1, 1),
        ("\n " + GOOD.replace("> <", ">\n\n<") + " \n", 1, 1),
        ("Well: " + GOOD, 0, 1),
        (GOOD + " I am sure.", 0, 1),
        (GOOD + " <answer> yes </answer>", 0, 1),
        (GOOD + " </answer>", 0, 1),
        (build(HEARD, SEEN, "no").replace("</answer>", ""), 0, 0),
        ("<v-think> b </v-think> <a-think> a </a-think> <answer> c </answer>", 0, 1),
        ("<a-think> a <v-think> b </v-think> </a-think> <answer> c </answer>", 0, 1),
        ("<a-think></a-think> <v-think> b </v-think> <answer> c </answer>", 0, 1),
        ("</a-think></v-think></answer><a-think><v-think><answer>", 0, 1),
        ("no", 0, 0),
        ("", 0, 0),
    ],
)
def test_format_strict_and_lenient(text, strict, lenient):
    assert format.score(parse(text), sample()) == strict
    assert format.score(parse(text), sample(), lenient=True) == lenient


# accuracy


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (" The Twenty-One\u00a0_violins_! ", "21 violins"),
        ("Ｎｏ．", "no"),
        ("bass_drum", "bass drum"),
        ("a", "a"),  # nothing but an article stays
        ("twenty", "20"),
        ("thirty five", "35"),
        ("twenty twelve", "20 12"),
        ("Eight.", "8"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("-2", "-2"),
        ("two-3", "2 3"),
        ("don\u2019t", "dont"),
        ("*yes*", "yes"),
        ("\u200byes", "yes"),
        ("Straße", "strasse"),
        ("`no`", "no"),
        # signs that say something, apart or together, in digits or in words
        ("C# minor", "c# minor"),
        ("A#", "a#"),
        ("50%", "50%"),
        ("Fifty %.", "50%"),
        ("4/4", "4/4"),
        ("four / four", "4/4"),
        ("A/C", "a/c"),
        ("4:4", "4:4"),
        ("12:30", "12:30"),
        ("3.5%", "3.5%"),
        ("हिंदी%", "हिंदी%"),
        ("C#4", "c# 4"),
        ("50%the", "50%"),
        # and the same as punctuation
        ("# 1", "1"),
        ("Two: a drum", "2 drum"),
        ("/drum/", "drum"),
        ("% drum:", "drum"),
        ("", ""),
        ("...", ""),
    ],
)
def test_normalise(raw, expected):
    assert accuracy.normalise(raw) == expected
    assert accuracy.normalise(expected) == expected  # idempotent


@pytest.mark.parametrize(
    ("candidate", "gold", "right"),
    [
        ("No.", "no", True),
        ("two", "2", True),
        ("the Piano", "piano", True),
        ("electric_bass", "Electric bass", True),
        # never by substring
        ("no", "piano", False),
        ("piano", "no", False),
        ("one", "saxophone", False),
        ("yes or no", "no", False),
        ("1", "10", False),
        ("no, it is not", "no", True),  # a yes/no question, read as evaluation reads it
        ("not it is", "no", False),
        # nothing is never right, not even where the gold answer is nothing
        ("", "no", False),
        (None, "no", False),
        ("...", "...", False),
        ("", "", False),
        ("the", "", False),
    ],
)
def test_open_answers_are_compared_whole(candidate, gold, right):
    assert accuracy.matches(candidate, gold) is right


OPTIONS = ("drum", "violin", "the harp", "two cellos")


@pytest.mark.parametrize("gold", ["violin", "B"])
@pytest.mark.parametrize(
    ("candidate", "right"),
    [
        ("B", True),
        ("b", True),
        ("(b)", True),
        ("B.", True),
        ("b)", True),
        ("[B]", True),
        ("**B**", True),
        ("Option B", True),
        ("Ｂ", True),
        ("violin", True),
        ("a violin", True),
        ("Violin.", True),
        ("B. violin", True),
        ("(B) Violin", True),
        ("A", False),
        ("drum", False),
        ("E", False),
        ("z", False),
        ("violin drum", False),
        ("A. violin", False),  # letter and text contradict each other
        ("B. drum", False),
        ("AB", False),
        ("B or C", False),
        ("", False),
        ("viola", False),
    ],
)
def test_multiple_choice_takes_letter_or_text(candidate, gold, right):
    assert accuracy.matches(candidate, gold, OPTIONS) is right


@pytest.mark.parametrize(
    "options",
    [("C minor", "C# minor", "A minor"), ("50", "50%"), ("4:4", "4/4"), ("2", "two", "Two"), ("!", "?")],
)
def test_every_option_is_itself_alone(options):
    for i, gold in enumerate(options):
        for j, candidate in enumerate(options):
            assert accuracy.matches(candidate, gold, options) is (i == j)
            assert accuracy.matches(f" {candidate}\n", gold, options) is (i == j)
            assert accuracy.matches("ABC"[j], gold, options) is (i == j)
            assert accuracy.matches(f"{'ABC'[j]}. {candidate}", gold, options) is (i == j)
            if i != j:  # letter and text contradict each other
                assert not accuracy.matches(f"{'ABC'[j]}. {gold}", gold, options)


def test_an_answer_that_fits_several_options_is_none_of_them():
    options = ("2", "two", "three")
    assert not accuracy.matches("Two!", "two", options)
    assert not accuracy.matches("Two!", "2", options)
    assert accuracy.matches("B. Two!", "two", options)  # with its letter it is
    assert not accuracy.matches("B. Two!", "2", options)
    assert accuracy.matches("three!", "three", options)
    assert accuracy.matches("a man", "Man", ("Man", "Woman", "Man"))  # the same option twice is one


def test_a_sharp_is_no_letter_of_an_option():
    options = ("violin", "drum", "harp")
    assert accuracy.matches("C.", "harp", options)
    assert not accuracy.matches("C#", "harp", options)


def test_the_option_with_a_text():
    assert accuracy.text_index("TWO", ("2", "two")) == 1
    assert accuracy.text_index("c minor", ("C minor", "c minor")) == 1
    assert accuracy.text_index("The C minor.", ("C# minor", "C minor")) == 1
    assert accuracy.text_index("B", ("violin", "drum")) is None  # no letters
    for nothing in ("", " ", "...", "\u200b"):
        assert accuracy.text_index(nothing, ("violin", "", "?")) is None


def test_multiple_choice_traps():
    # an option that is called like another one with its letter
    assert accuracy.matches("A. Smith", "A. Smith", ("Smith", "A. Smith"))
    assert not accuracy.matches("A. Smith", "Smith", ("Smith", "A. Smith"))
    assert accuracy.matches("c", "harp", OPTIONS)
    assert accuracy.matches("D", "2 cellos", OPTIONS)
    assert accuracy.matches("A", "a", ("b", "a")) is True  # options that are letters are texts first
    assert accuracy.matches("A. Smith", "A. Smith", ("J. Doe", "A. Smith"))
    assert not accuracy.matches("B", "violin")  # a letter means nothing without options
    assert accuracy.matches(
        "trombone", "trombone", OPTIONS
    )  # gold outside the options: compared as open text


def test_accuracy_of_a_completion():
    assert accuracy.score(steps("No"), sample("no")) == 1.0
    assert accuracy.score(steps("yes"), sample("no")) == 0.0
    assert accuracy.score(parse("no"), sample("no")) == 0.0  # no answer segment
    assert accuracy.score(parse("<answer></answer>"), sample("")) == 0.0


# ARR


@pytest.mark.parametrize(
    ("cosine", "answer", "expected"),
    [
        (0.9, "no", 1.0),
        (0.8, "no", 0.0),  # > omega, not >=
        (0.9, "yes", 0.0),  # right reasoning, wrong answer
        (0.1, "no", 0.0),  # right answer, other reasoning
    ],
)
def test_arr_needs_the_reasoning_and_the_answer(cosine, answer, expected, stub):
    assert arr.score(steps(answer), sample(), stub({(HEARD, REFERENCE): cosine}), omega=0.8) == expected


def test_arr_writes_the_instruction_on_the_reference_side(stub):
    embedder = stub({(HEARD, REFERENCE): 0.9})
    arr.score(steps(), sample(), embedder, 0.8)
    assert embedder.asked == [
        (HEARD, REFERENCE, "Given a reference answer, retrieve semantically similar content")
    ]


def test_arr_is_not_applicable_without_a_reference_and_bad_without_a_think(stub):
    assert arr.score(steps(), sample(reference=None), stub({}), 0.8) is None
    assert arr.score(steps(), sample(reference=""), stub({}), 0.8) is None
    assert arr.score(parse("<answer>no</answer>"), sample(), stub({}), 0.8) == 0.0


# AVC


@pytest.mark.parametrize(
    ("cosine", "answer", "expected"),
    [
        (0.7, "no", 1.7),
        (0.7, "yes", 0.7),
        (-0.2, "no", 1.0),
        (-0.2, "yes", 0.0),
        (1.0, "no", 2.0),
    ],
)
def test_avc_similarity_is_the_papers(cosine, answer, expected, stub):
    embedder = stub({(HEARD, SEEN): cosine})
    assert math.isclose(avc.score(steps(answer), sample(), embedder), expected)
    assert embedder.asked == [
        (HEARD, SEEN, "Given a reference answer, retrieve semantically coherent content")
    ]


@pytest.mark.parametrize(
    ("claimed", "true", "expected"),
    [
        (0.7, 0.6, 0.9),  # claims about the correlation that is there
        (1.0, 0.3, 0.3),  # copied v-think although the sound disagrees
        (1.0, 1.0, 1.0),  # copying pays where the sound agrees with the picture
        (1.0, -0.5, 0.0),  # clipped at 0
    ],
)
def test_avc_calibrated_pays_for_the_correlation_that_is_there(claimed, true, expected, stub):
    embedder = stub({(HEARD, SEEN): claimed, (REFERENCE, SEEN): true})
    assert math.isclose(avc.score(steps("yes"), sample(), embedder, "calibrated"), expected, abs_tol=1e-12)
    assert math.isclose(avc.score(steps("no"), sample(), embedder, "calibrated"), 1 + expected)
    assert {asked[2] for asked in embedder.asked} == {avc.INSTRUCTION}


def test_copying_pays_under_similarity_and_not_under_calibrated(stub):
    embedder = stub({(SEEN, SEEN): 1.0, (REFERENCE, SEEN): 0.4, (HEARD, SEEN): 0.4})
    honest, copied = steps(), steps(heard=SEEN)
    assert avc.score(copied, sample(), embedder) > avc.score(honest, sample(), embedder)
    assert avc.score(copied, sample(), embedder, "calibrated") < avc.score(
        honest, sample(), embedder, "calibrated"
    )


SIGHT = "I see one drum and a harp."


def witnessed(text: str, cosines: dict, stub) -> float | None:
    row = dataclasses.replace(sample(), sight=SIGHT)
    return avc.score(parse(text), row, stub(cosines), "witnessed", omega=0.8)


def test_avc_witnessed_is_calibrated_where_the_v_think_says_what_a_witness_saw(stub):
    """I = 1 - |0.7 - 0.6| = 0.9 for S(v-think, sight) = 0.9 > 0.8; at 0.8 itself, and below, I = 0."""
    cosines = {(HEARD, SEEN): 0.7, (REFERENCE, SEEN): 0.6}
    assert math.isclose(witnessed(build(HEARD, SEEN, "no"), {**cosines, (SEEN, SIGHT): 0.9}, stub), 1.9)
    assert math.isclose(witnessed(build(HEARD, SEEN, "yes"), {**cosines, (SEEN, SIGHT): 0.9}, stub), 0.9)
    assert witnessed(build(HEARD, SEEN, "no"), {**cosines, (SEEN, SIGHT): 0.8}, stub) == 1.0


def test_witnessed_pays_no_v_think_made_from_the_sound(stub):
    """What calibrated pays in full: the reference in the a-think, anything in the v-think."""
    told = "I see a drum."
    cosines = {(REFERENCE, told): 0.9, (told, SIGHT): 0.7, (REFERENCE, SIGHT): 0.5}
    assert witnessed(build(REFERENCE, told, "no"), cosines, stub) == 1.0
    row = dataclasses.replace(sample(), sight=SIGHT)
    assert avc.score(parse(build(REFERENCE, told, "no")), row, stub(cosines), "calibrated") == 2.0


def test_witnessed_pays_no_tag_that_stands_twice(stub):
    cosines = {(HEARD, SEEN): 0.7, (REFERENCE, SEEN): 0.7, (SEEN, SIGHT): 0.9}
    once = build(HEARD, SEEN, "no")
    assert witnessed(once, cosines, stub) == 2.0
    assert witnessed(f"{once} {once}", cosines, stub) == 1.0


def test_witnessed_writes_the_instruction_on_the_witnesss_side(stub):
    embedder = stub({(HEARD, SEEN): 0.7, (REFERENCE, SEEN): 0.6, (SEEN, SIGHT): 0.9})
    avc.score(steps(), dataclasses.replace(sample(), sight=SIGHT), embedder, "witnessed", omega=0.8)
    assert (SEEN, SIGHT, avc.INSTRUCTION) in embedder.asked


def test_witnessed_is_not_applicable_without_one_of_the_two_witnesses(stub):
    for row in (sample(), dataclasses.replace(sample(reference=None), sight=SIGHT)):
        assert avc.score(steps(), row, stub({}), "witnessed", omega=0.8) is None
    with pytest.raises(ValueError, match="omega"):
        avc.score(steps(), dataclasses.replace(sample(), sight=SIGHT), stub({}), "witnessed")


@pytest.mark.parametrize(
    "text",
    [
        "<answer> no </answer>",  # both dropped
        "<a-think> a </a-think> <answer> no </answer>",
        "<v-think> a </v-think> <answer> no </answer>",
        "<a-think> </a-think> <v-think> </v-think> <answer> no </answer>",
        "<a-think> <v-think> a </v-think> </a-think> <answer> no </answer>",  # one inside the other
        "<a-think> a <v-think> a <answer> no </answer>",  # never closed
        "<a-think> a </a-think> <v-think> a </v-think>",  # o3 missing
        "<a-think> a </a-think> <v-think> a </v-think> <answer></answer>",
        "no",
        "",
    ],
)
@pytest.mark.parametrize("mode", avc.MODES)
def test_avc_is_zero_unless_all_three_parse(text, mode, stub):
    row = dataclasses.replace(sample(), sight=SIGHT)
    assert avc.score(parse(text), row, stub({("a", "a"): 1.0}), mode, 0.8) == 0.0


def test_calibrated_is_not_applicable_without_a_reference(stub):
    assert avc.score(steps(), sample(reference=None), stub({(HEARD, SEEN): 0.5}), "calibrated") is None
    assert avc.score(steps(), sample(reference=None), stub({(HEARD, SEEN): 0.5}), "similarity") == 1.5


def test_unknown_avc_mode_is_refused(stub):
    with pytest.raises(ValueError, match="calibrated"):
        avc.score(steps(), sample(), stub({}), "cosine")
