"""What build writes: the same bytes every time, the official formats, splits that share nothing."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rlcomm import steps
from rlcomm.data.sample import Sample, read_jsonl
from rlcomm.evaluation.benchmarks import mcr
from rlcomm.orchestra import scenes
from rlcomm.orchestra.asking import chosen, kind_of
from rlcomm.orchestra.build import build
from rlcomm.orchestra.evidence import CONDITIONS, FAMILIES, MOODS, TASKS
from rlcomm.orchestra.instruments import BY_NAME, INSTRUMENTS
from rlcomm.orchestra.sounds import SOUNDS
from rlcomm.orchestra.splits import BELIEVED, SYNC_AMBIENT, SYNC_MUTED, Gathered, train
from rlcomm.utils.errors import UserError

SIZES = {"sync": 30, "warmup": 10, "train": 40, "conflict": 36, "test": 20}
PLACES = ("left", "middle", "right")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("orchestra") / "world"
    build(out, seed=3, **SIZES, workers=2, progress=False)
    return out


@pytest.fixture(scope="module")
def truth(world: Path) -> dict[str, dict]:
    return json.loads((world / "truth.json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def load(world: Path, name: str) -> list[dict]:
    return json.loads((world / name).read_text())


def clip_of(sample: Sample) -> str:
    return Path(sample.audio or "").stem


# -------------------------------------------------------------------------------- determinism


def test_same_seed_same_bytes_whatever_the_workers(world: Path, tmp_path: Path) -> None:
    build(tmp_path, seed=3, **SIZES, workers=1, progress=False)
    first, again = contents(world), contents(tmp_path)
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


def test_another_seed_gives_other_scenes_and_a_longer_build_begins_alike(world: Path, tmp_path: Path) -> None:
    build(tmp_path / "other", seed=4, sync=8, test=0, progress=False)
    build(tmp_path / "short", seed=3, sync=8, test=0, progress=False)
    first = (world / "sync.jsonl").read_text().splitlines()[:8]
    assert (tmp_path / "short/sync.jsonl").read_text().splitlines() == first
    assert (tmp_path / "other/sync.jsonl").read_text().splitlines() != first


# -------------------------------------------------------------------------------- disjointness


def test_training_and_test_share_no_arrangement(truth: dict[str, dict]) -> None:
    arrangements: dict[bool, set] = {False: set(), True: set()}
    for clip, row in truth.items():
        standing = {place: name for name, place in row["positions"].items()}
        arrangement = tuple(standing.get(place, "") for place in PLACES)
        arrangements[clip.split("-")[0] in ("test", "muted", "modified", "text", "vsc")].add(arrangement)
    assert len(arrangements[True]) > 20
    assert len(arrangements[False]) > 40
    assert not arrangements[True] & arrangements[False]


def test_both_sides_know_every_instrument_alone() -> None:
    for test in (False, True):
        rng = np.random.default_rng(0)
        alone = {
            scene.visible[0]
            for scene in (scenes.draw("x", rng, test=test) for _ in range(400))
            if len(scene.visible) == 1
        }
        assert alone == set(INSTRUMENTS)


# -------------------------------------------------------------------------------- the splits


def test_truth_covers_every_clip_and_agrees_with_the_rows(world: Path, truth: dict[str, dict]) -> None:
    assert {path.stem for path in (world / "clips").iterdir()} == set(truth)
    tests = [f"test/{name}" for name in ("sync", "muted", "control", "modified")]
    for name in ("sync", "audio", "warmup", "train", "conflict", *tests):
        for sample in read_jsonl(world / f"{name}.jsonl"):
            row = truth[clip_of(sample)]
            assert {key: sample.meta[key] for key in ("visible", "audible", "ambient", "muted")} == {
                key: row[key] for key in ("visible", "audible", "ambient", "muted")
            }
            assert sample.meta["split"] == ("test" if name == "test/sync" else name.split("/")[-1])
            assert Path(sample.audio or "").is_file()
            assert set(row["audible"]) == set(row["onsets"]) == set(row["loudness_db"])
            gone = set(row["visible"]) - set(row["audible"])
            if row["ambient"] is None:
                assert gone == ({row["muted"]} if row["muted"] else set())
                assert row["audible"]


def test_sync_asks_about_every_instrument_in_every_scene(world: Path) -> None:
    samples = read_jsonl(world / "sync.jsonl")
    orders = set()
    for sample in samples:
        asked = {turn.question: turn.answer for turn in sample.turns}
        assert len(asked) == len(sample.turns), "a question is asked twice"
        for name in INSTRUMENTS:
            assert asked[f"Is there a {name} sound?"] == ("yes" if name in sample.meta["audible"] else "no")
        types = Counter(turn.type for turn in sample.turns)
        assert types["Open/Hear"] == types["Open/See"] == 1
        assert sum(type.startswith("Text/Heard/") for type in types) == bool(sample.meta["audible"])
        others = {type for type in types if not type.startswith("Text/")}
        others -= {"Audio/Existential", "Open/Hear", "Open/See", "Open/Both"}
        assert 3 <= len(others) <= 4
        orders.add(sample.turns[0].question)
    assert len(orders) > 5, "the order varies"
    kinds = Counter(
        "ambient" if sample.meta["ambient"] else "muted" if sample.meta["muted"] else "same"
        for sample in samples
    )
    assert kinds == {"same": 29, "ambient": 1}
    rows = range(2000)
    assert sum(chosen(i, SYNC_MUTED) for i in rows) == 10
    assert not any(chosen(i, SYNC_MUTED) and chosen(i + 10, SYNC_AMBIENT) for i in rows)


@pytest.mark.parametrize(("muted", "ambient"), [(0.005, 0.03), (0.5, 0.05), (0.5, 0.1), (0.0, 0.1)])
def test_silent_and_ambient_scenes_have_their_exact_shares(muted: float, ambient: float) -> None:
    kinds = Counter(kind_of(index, muted, ambient) for index in range(2000))
    assert kinds["muted"] == 2000 * muted
    assert abs(kinds["ambient"] - 2000 * ambient) <= 1


def test_the_last_stretch_adds_clips_whose_words_name_what_is_silent(world: Path) -> None:
    samples = read_jsonl(world / "settle.jsonl")
    captioned = samples[-1]
    added = Counter(s.meta["split"] for s in samples)
    assert added["sync"] == 30
    assert added["captioned"] == 2  # 6 % of 30
    assert 3 <= added["believed"] <= round(BELIEVED * 30)  # some scenes answer none of the questions
    answers = {turn.question: turn.answer for turn in captioned.turns}
    assert len(answers) == 10
    assert captioned.meta["muted"] not in captioned.meta["audible"]
    assert answers[f"Is there a {captioned.meta['muted']} sound?"] == "yes"
    assert {turn.type.split("/")[0] for turn in captioned.turns} == {"Captioned"}


def test_the_base_is_asked_for_the_level_and_its_last_stretch_for_the_mood(world: Path) -> None:
    """Nothing else of the scenes' own conversations differs."""
    base, last = read_jsonl(world / "base.jsonl"), read_jsonl(world / "settle.jsonl")
    assert base[:30] == read_jsonl(world / "sync.jsonl")
    feels = {"base": base, "settle": last}
    asked = {name: Counter(turn.type for s in rows for turn in s.turns) for name, rows in feels.items()}
    assert asked["base"]["Text/Heard/Level"] > 0
    assert asked["settle"]["Text/Heard/SER"] > 0
    assert not any("SER" in kind for kind in asked["base"])
    assert not any("Level" in kind for kind in asked["settle"])
    for one, other in zip(base[:30], last[:30], strict=True):
        plain = [
            {turn.question: turn.answer for turn in sample.turns if not turn.type.startswith("Text/")}
            for sample in (one, other)
        ]
        assert plain[0] == plain[1]


def test_the_audio_model_gets_the_sound_alone(world: Path) -> None:
    for sample in read_jsonl(world / "audio.jsonl"):
        assert sample.video is None
        assert sample.audio
        assert {turn.type.split("/")[0] for turn in sample.turns} == {"Audio", "Open"}


def test_warmup_targets_are_well_formed_and_true(world: Path) -> None:
    samples = read_jsonl(world / "warmup.jsonl")
    assert sum(sample.meta["muted"] is not None for sample in samples) == 5  # half of ten
    for sample in samples:
        target = sample.turns[0].target
        assert target is not None
        parsed = steps.parse(target)
        assert {parsed.audio.status, parsed.video.status, parsed.answer.status} == {"ok"}
        assert parsed.answer.text == sample.answer
        for name in INSTRUMENTS:
            assert (name in parsed.audio.text) == (name in sample.meta["audible"])
            assert (name in parsed.video.text) == (name in sample.meta["visible"])


def test_training_questions_ask_where_it_matters(tmp_path: Path) -> None:
    builder = Gathered(tmp_path, seed=0)
    rows = train(builder, 1200, 0.5)
    scene_of = {scene.id: scene for scene in builder.scenes}
    existence = [row for row in rows if row["type"] == '["Audio", "Existential"]']
    assert 0.55 < len(existence) / 1200 < 0.65
    asked: dict[bool, Counter] = {False: Counter(), True: Counter()}
    for row in existence:
        scene, (name,) = scene_of[row["video_id"]], json.loads(row["templ_values"])
        kind = "muted" if name == scene.muted else "sounding" if name in scene.audible else "absent"
        asked[scene.muted is not None][kind] += 1
        assert row["anser"] == ("yes" if kind == "sounding" else "no")
    ambient = {row["video_id"]: row["type"] for row in rows if scene_of[row["video_id"]].ambient}
    assert len(ambient) == 60  # 5 %
    assert set(ambient.values()) == {'["Open", "Both"]'}
    odd, even = asked[True], asked[False]
    assert sum(scene.muted is not None for scene in builder.scenes) == 600
    assert 0.28 < odd["muted"] / odd.total() < 0.42
    assert 0.43 < odd["sounding"] / odd.total() < 0.57
    assert 0.4 < even["sounding"] / even.total() < 0.6
    assert even["muted"] == 0


def test_conflict_rows_are_answered_by_the_sound_whatever_the_text_says(world: Path) -> None:
    rows = read_jsonl(world / "conflict.jsonl")
    kinds = Counter((row.meta["task"], row.meta["condition"]) for row in rows)
    assert kinds == Counter(dict.fromkeys(itertools.product(TASKS, CONDITIONS[1:]), 4))
    answers = Counter((row.meta["task"], row.answer) for row in rows)
    assert {answers["SER", mood] for mood in MOODS} == {6}
    assert {answers["VSC", family] for family in FAMILIES} == {3}
    for row in rows:
        text, question = row.question.split("\n")
        assert question == row.meta["without_text"]
        assert row.video is None
        families = {BY_NAME[name].family for name in row.meta["audible"]}
        if row.meta["task"] == "AQA":
            assert row.answer in row.meta["audible"]
        elif row.meta["task"] == "VSC":
            assert {row.answer} == families
        claims = text.removeprefix("Description of the audio: ")
        assert (row.answer in claims) == (row.meta["condition"] == "faithful")
        options = re.split(r", | or ", question[question.index(": ") + 2 : -1])
        named = [name for name in options if re.search(rf"\b{name}\b", claims)]
        assert len(named) == (row.meta["condition"] != "irrelevant")  # adversarial: another option


def test_conflict_rows_are_asked_as_mcr_bench_is(world: Path) -> None:
    """Training in other words than the test's would be another mitigation."""
    asked = {sample.question.split("\n")[0].split(":")[0] for sample in read_jsonl(world / "conflict.jsonl")}
    tested = mcr.read(world / "test/mcr/AQA.json", world / "clips")
    assert asked == {s.question.split(":")[0] for s in tested if s.meta["condition"] != "neutral"}


def test_conflict_rows_change_no_other_file(world: Path, tmp_path: Path) -> None:
    build(tmp_path, seed=3, **{**SIZES, "conflict": 0, "sync": 0}, progress=False)
    here, there = contents(world), contents(tmp_path)
    assert not any(name.startswith(("conflict", "clips/conflict")) for name in there)
    assert [name for name in there if name != "truth.json" and there[name] != here[name]] == []


# -------------------------------------------------------------------------------- official formats


@pytest.mark.parametrize(
    ("name", "samples"), [("music_avqa/train.json", "train"), ("test/music_avqa/test.json", "test/sync")]
)
def test_music_avqa_format(world: Path, name: str, samples: str) -> None:
    rows = load(world, name)
    for row, sample in zip(rows, read_jsonl(world / f"{samples}.jsonl"), strict=True):
        assert list(row) == [
            "video_id",
            "question_id",
            "type",
            "question_content",
            "templ_values",
            "question_deleted",
            "anser",
        ]
        assert "/".join(json.loads(row["type"])) == sample.turns[0].type
        text = row["question_content"]
        for value in json.loads(row["templ_values"]):
            placeholder = text[text.index("<") : text.index(">") + 1]
            assert placeholder in ("<Object>", "<LR>", "<FL>", "<LL>", "<TH>", "<BA>")
            text = text.replace(placeholder, value, 1)
        assert text == sample.question
        assert row["anser"] == sample.answer
        assert (world / "clips" / f"{row['video_id']}.mp4").is_file()


def test_the_sync_test_is_symmetric_and_covers_every_type(world: Path, truth: dict[str, dict]) -> None:
    rows = load(world, "test/music_avqa/test.json")
    assert len(rows) == 20
    assert Counter(row["type"] for row in rows).most_common()[-1][1] == 2  # ten types, two each
    assert all(truth[row["video_id"]]["visible"] == truth[row["video_id"]]["audible"] for row in rows)


def test_muted_and_control_ask_the_same_clips(world: Path, truth: dict[str, dict]) -> None:
    muted, control = load(world, "test/avconfuse/muted.json"), load(world, "test/avconfuse/control.json")
    assert len(muted) == len(control) == 20
    for silent, sounding in zip(muted, control, strict=True):
        row = truth[silent["video_id"]]
        assert list(silent) == ["video_id", "question", "answer", "instruments", "instruments_len"]
        assert silent["video_id"] == sounding["video_id"]
        assert silent["question"] == f"Is there a {row['muted']} sound?"
        assert silent["answer"] == "no"
        assert sounding["question"].split()[3] in row["audible"]
        assert sounding["answer"] == "yes"
        assert row["muted"] in row["visible"]
        assert row["audible"]
        assert silent["instruments"] == ", ".join(row["visible"])
        assert silent["instruments_len"] == {2: "two", 3: "three"}[len(row["visible"])]


def test_modified_has_each_sound_equally(world: Path, truth: dict[str, dict]) -> None:
    rows = load(world, "test/avconfuse/modified.json")
    assert Counter(row["sound_type"] for row in rows) == {sound: 4 for sound in SOUNDS}  # a fifth of twenty
    for row in rows:
        assert list(row) == ["video_id", "filename", "question", "sound_type", "annotation"]
        what = truth[row["video_id"]]
        seen, heard = row["annotation"].split(" Based on the audio, ")
        assert row["sound_type"] == what["ambient"]
        assert row["sound_type"] in heard
        assert seen.startswith("Based on the video, ")
        assert all(name in seen for name in what["visible"])
        assert (world / "clips" / row["filename"]).is_file()


# -------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("wrong", [{"sync": -1}, {"asymmetric": 1.2}, {"workers": 0}, {"seed": -3}])
def test_values_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        build(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_ctrl_c_while_clips_are_rendered_is_one_sentence(tmp_path: Path) -> None:
    """Ctrl-C reaches the workers as well, each of which would print a traceback."""
    words = ["data", "orchestra", "--out", tmp_path / "out", "--test", "0", "--train", "2000"]
    with subprocess.Popen(
        [sys.executable, "-m", "rlcomm", *map(str, words)], stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where tests run behind an &
    ) as process:  # fmt: skip
        while not list(tmp_path.glob("out/clips/*.mp4")):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("rlcomm: interrupted; run the same command again")
    assert not (tmp_path / "out" / "truth.json").exists()


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UserError, match="out"):
        build(tmp_path / "out", test=2, progress=False)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_second_build_leaves_no_rows_of_the_first(tmp_path: Path) -> None:
    build(tmp_path, train=2, test=0, progress=False)
    build(tmp_path, warmup=2, test=0, progress=False)
    assert not (tmp_path / "train.jsonl").exists()
    assert not (tmp_path / "music_avqa/train.json").exists()
    assert len(read_jsonl(tmp_path / "warmup.jsonl")) == 2
