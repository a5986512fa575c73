"""Texts beside a question: what each of them claims, and that the base only ever reads true ones."""

import dataclasses
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rlcomm.data.sample import read_jsonl
from rlcomm.orchestra import evidence
from rlcomm.orchestra.build import build
from rlcomm.orchestra.instruments import BY_NAME
from rlcomm.orchestra.scenes import Scene, draw


def scene(**loudness: float) -> Scene:
    """A scene in which these instruments stand and sound at these levels (dB)."""
    names = tuple(sorted(loudness))
    places = (*names, "", "")[:3]
    return Scene("s", places, names, None, None, dict.fromkeys(names, 0.0), loudness, 1, False)


def test_mood_is_the_register_of_all_that_sounds() -> None:
    assert evidence.mood(scene(harp=0.0)) == "bright"
    assert evidence.mood(scene(guitar=0.0)) == "dark"
    assert evidence.mood(scene(cello=0.0, drum=4.0)) == "dark"
    assert evidence.mood(scene(harp=0.0, drum=4.0)) is None
    silent = dataclasses.replace(scene(harp=0.0), audible=(), ambient="rain")
    assert evidence.mood(silent) is None


def test_level_is_that_of_all_that_sounds() -> None:
    assert evidence.level(scene(harp=3.0)) == "fierce"
    assert evidence.level(scene(harp=-3.0)) == "gentle"
    assert evidence.level(scene(harp=1.9)) is None
    # mean power of 0 and +4 dB: 10 log10((1 + 10^0.4) / 2) = 2.44 dB
    assert evidence.level(scene(harp=0.0, drum=4.0)) == "fierce"
    # of -4 and +4 dB: 10 log10((10^-0.4 + 10^0.4) / 2) = 1.62 dB
    assert evidence.level(scene(harp=-4.0, drum=4.0)) is None


def test_every_way_of_making_sound_has_both_moods() -> None:
    found = {(BY_NAME[name].family, evidence.mood(scene(**{name: 0.0}))) for name in BY_NAME}
    assert found == {(family, mood) for family in evidence.FAMILIES for mood in evidence.MOODS}


def test_the_way_the_sound_is_made_is_asked_where_it_is_one() -> None:
    rng = np.random.default_rng(0)
    one = evidence.evidence(scene(harp=0.0, guitar=0.0), "VSC", rng)
    assert one is not None
    assert one.answer == "plucked"
    assert evidence.evidence(scene(harp=0.0, drum=0.0), "VSC", rng) is None


@pytest.mark.parametrize("task", evidence.TASKS)
def test_faithful_text_names_the_answer_and_adversarial_text_another_option(task: str) -> None:
    rng = np.random.default_rng(1)
    asked = 0
    for index in range(60):
        drawn = draw(f"s{index}", rng, test=False)
        one = evidence.evidence(drawn, task, rng)
        if one is None:
            continue
        asked += 1
        assert {one.answer, one.wrong} <= set(one.options)
        assert one.answer != one.wrong
        words = {name: set(re.findall(r"\w+", text)) for name, text in one.texts.items()}
        for condition, named in (("faithful", {one.answer}), ("adversarial", {one.wrong})):
            assert words[condition] & set(one.options) == named
        assert not words["irrelevant"] & set(one.options)
        assert all(option in one.question for option in one.options)
        assert one.asked("neutral") == one.question
        assert one.asked("adversarial").endswith(f"\n{one.question}")
        if task == "AQA":
            assert one.answer in drawn.audible
            assert not set(one.options) & set(drawn.audible) - {one.answer}
    assert asked > 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("reading")
    build(folder, seed=5, sync=100, test=0, progress=False)
    return folder


@pytest.fixture(scope="module")
def reading(world: Path) -> list:
    rows = read_jsonl(world / "base.jsonl")
    assert len(rows) > 100
    return rows[100:]


def test_the_base_never_reads_a_wrong_text(reading: list) -> None:
    """Every text beside a question of the base names the answer or nothing that could be one."""
    seen: Counter = Counter()
    for sample in reading:
        for turn in sample.turns:
            if "\n" not in turn.question or turn.type == "Text/Read/Existential":
                continue
            text, question = turn.question.split("\n")
            options = set(re.findall(r"\w+", question.split(": ")[1])) - {"or"}
            named = set(re.findall(r"\w+", text)) & options
            assert named in ({turn.answer}, set())
            seen["right" if named else "aside"] += 1
    assert seen["right"] > 5 * seen["aside"] > 0


def test_wrong_texts_of_the_last_stretch_are_believed(world: Path) -> None:
    rows = [s for s in read_jsonl(world / "settle.jsonl") if s.meta["split"] == "believed"]
    assert len(rows) >= 5
    for sample in rows:
        assert (sample.audio is None) != (sample.video is None)
        for turn in sample.turns:
            text, _ = turn.question.split("\n")
            assert turn.answer in re.findall(r"\w+", text)
            if turn.type == "Text/Heard/AQA":
                assert turn.answer not in sample.meta["audible"]
            elif turn.type == "Text/Seen/picture":
                assert turn.answer not in sample.meta["visible"]


def test_what_is_read_alone_has_no_media_and_is_told_by_its_text(reading: list) -> None:
    alone = [s for s in reading if s.turns[0].type.startswith("Text/Read")]
    assert alone
    for sample in alone:
        assert sample.video is None
        assert sample.audio is None
        first = sample.turns[0]
        if first.type == "Text/Read/Existential":
            text = first.question.split("\n")[0]
            for turn in sample.turns:
                name = re.search(r"Is there a (\w+) sound", turn.question)
                assert name is not None
                assert (turn.answer == "yes") == (name[1] in re.findall(r"\w+", text))


def test_what_is_asked_beside_a_sense_is_true_of_it(reading: list) -> None:
    kinds = Counter(s.turns[0].type.split("/")[1] for s in reading)
    assert kinds["Heard"] > 0 < kinds["Seen"]
    for sample in reading:
        kind = sample.turns[0].type.split("/")[1]
        assert (sample.audio is not None, sample.video is not None) == (kind == "Heard", kind == "Seen")
        for turn in sample.turns:
            if turn.type == "Text/Heard/AQA":
                assert turn.answer in sample.meta["audible"]
            elif turn.type == "Text/Heard/VSC":
                assert {BY_NAME[name].family for name in sample.meta["audible"]} == {turn.answer}
            elif turn.type == "Text/Seen/picture":
                assert turn.answer in sample.meta["visible"]
