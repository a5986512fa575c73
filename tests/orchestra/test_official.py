"""Orchestra in the benchmarks' official formats: read by their own readers, and true of the clips."""

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.evaluation.benchmarks import alme, avhbench, avqa, cmm, common, custom, mcr, mmar, mmau
from rlcomm.evaluation.benchmarks import omnibench as omni
from rlcomm.evaluation.records import Reading
from rlcomm.orchestra import official
from rlcomm.orchestra.build import build
from rlcomm.orchestra.evidence import FAMILIES, MOODS, mood
from rlcomm.orchestra.instruments import BY_NAME, INSTRUMENTS
from rlcomm.orchestra.questions import NUMBERS
from rlcomm.orchestra.scenes import Scene, draw
from rlcomm.orchestra.sounds import SOUNDS

TEST = 12
READERS = {
    "avqa/val_qa.json": avqa,
    "avhbench/QA.json": avhbench,
    "cmm/all_data_final_reorg.json": cmm,
    "mmau/mmau.json": mmau,
    "mmar/MMAR-meta.jsonl": mmar,
    "alme/stimuli.jsonl": alme,
}
CHOICES = {"avqa/val_qa.json": avqa, "mmau/mmau.json": mmau, "mmar/MMAR-meta.jsonl": mmar}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("official") / "world"
    build(out, seed=5, test=TEST, progress=False)
    return out


@pytest.fixture(scope="module")
def truth(world: Path) -> dict[str, dict]:
    return json.loads((world / "truth.json").read_text())


def of_clip(sample: Sample, truth: dict[str, dict]) -> dict:
    return truth[Path(str(sample.audio or sample.video)).stem]


def named(text: str, names: tuple[str, ...] = INSTRUMENTS + SOUNDS) -> list[str]:
    return [name for name in names if re.search(rf"\b{name}\b", text)]


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    """Test scenes in sync, muted and replaced, as a build of 60 makes them."""
    rng = np.random.default_rng(0)
    kinds = ["symmetric", "muted"] * 60 + ["ambient"] * 60
    return [draw(f"{kind}-{i:05d}", rng, test=True, kind=kind) for i, kind in enumerate(kinds)]


# -- text that contradicts the senses ------------------------------------------------------------------------


@pytest.mark.parametrize("task", list(mcr.NAMES))
def test_mcr_asks_what_sounds(world: Path, truth: dict[str, dict], task: str) -> None:
    samples = mcr.read(world / f"test/mcr/{task}.json", world / "clips")
    assert Counter(s.meta["condition"] for s in samples) == dict.fromkeys(common.CONDITIONS, TEST)
    for sample in samples:
        what = of_clip(sample, truth)
        assert sample.video is None
        assert what["audible"] == what["visible"]
        families = {BY_NAME[name].family for name in what["audible"]}
        moods = {MOODS[BY_NAME[name].lowest < 64] for name in what["audible"]}
        true = {"AQA": what["audible"], "SER": moods, "VSC": families}[task]
        labels = common.candidates(sample)
        assert [label for label in labels if label in true] == [sample.answer]
        assert all(label in sample.meta["without_text"] for label in labels)
        text = sample.question.removesuffix(sample.meta["without_text"])
        claims = {"faithful": [sample.answer], "adversarial": [sample.meta.get("text_answer")]}
        assert named(text, labels) == claims.get(sample.meta["condition"], [])
        if sample.meta["condition"] == "adversarial":
            assert sample.meta["text_answer"] not in true
        else:
            assert "text_answer" not in sample.meta
        assert bool(text) == (sample.meta["condition"] != "neutral")


def test_mcr_answers_are_balanced_and_its_clips_few(world: Path) -> None:
    answers = {
        task: Counter(row["gt"] for row in json.loads((world / f"test/mcr/{task}.json").read_text()))
        for task in mcr.NAMES
    }
    assert answers["SER"] == dict.fromkeys(MOODS, TEST // 2)
    assert answers["VSC"] == dict.fromkeys(FAMILIES, TEST // 4)
    assert len(answers["AQA"]) > 4
    own = [path.stem for path in (world / "clips").iterdir() if path.stem.split("-")[0] in ("text", "vsc")]
    assert TEST <= len(own) <= 1.5 * TEST


def test_alme_contradicts_the_sound(world: Path, truth: dict[str, dict]) -> None:
    samples = alme.read(world / "test/alme/stimuli.jsonl", world / "clips")
    assert len(samples) == 3 * TEST
    for sample in samples:
        heard = of_clip(sample, truth)["audible"]
        assert [option for option in sample.options if option in heard] == [sample.answer]
        if sample.meta["condition"] == "adversarial":
            assert sample.meta["text_answer"] not in heard
            assert f"A {sample.meta['text_answer']} is playing." in sample.question
        if sample.meta["condition"] == "faithful":
            assert f"A {sample.answer} is playing." in sample.question
    assert Counter(s.options.index(s.answer) for s in samples[::3]) == {0: TEST // 2, 1: TEST // 2}


def test_captions_contradict_the_picture(world: Path, truth: dict[str, dict]) -> None:
    samples = custom.read(world / "test/captions/captions.yaml")
    assert Counter(s.meta["condition"] for s in samples) == dict.fromkeys(common.CONDITIONS, TEST)
    assert len({s.meta["pair"] for s in samples}) == TEST
    for sample in samples:
        seen = of_clip(sample, truth)["visible"]
        labels = common.candidates(sample)
        assert sample.audio is None
        assert not sample.options
        assert len(labels) == 4
        assert [label for label in labels if label in seen] == [sample.answer]
        claimed = sample.meta.get("text_answer")
        assert (claimed is not None) == (sample.meta["condition"] == "adversarial")
        assert claimed not in seen
        bare = sample.meta["without_text"]
        assert (bare == sample.question) == (sample.meta["condition"] == "neutral")
        said = {"faithful": sample.answer, "adversarial": claimed}.get(sample.meta["condition"])
        assert (f"A {said} stands there." in sample.question) == bool(said)
        assert custom.score(sample, Reading("", sample.answer, "", ""))["correct"]


# -- yes or no -----------------------------------------------------------------------------------------------


def test_avhbench(world: Path, truth: dict[str, dict]) -> None:
    samples = avhbench.read(world / "test/avhbench/QA.json", world / "clips")
    assert len(samples) == TEST
    assert {s.meta["task"] for s in samples} == set(avhbench.TASKS.values())
    for sample in samples:
        what, (thing, *_) = of_clip(sample, truth), [*named(sample.question), ""]
        there = {
            "audio_driven": thing in what["visible"],
            "video_driven": thing in what["audible"],
            "matching": what["audible"] == what["visible"],
        }
        if sample.meta["task"] in avhbench.JUDGED:
            assert sample.answer == ("yes" if there[sample.meta["task"]] else "no")
        else:
            heard = [what["ambient"]] if what["ambient"] else what["audible"]
            assert sample.answer.startswith("Based on the video")
            assert set(named(sample.answer)) == {*what["visible"], *heard}
        if sample.meta["task"] == "video_driven" and sample.answer == "no":
            assert thing == what["muted"]


def test_cmm(world: Path, truth: dict[str, dict]) -> None:
    samples = cmm.read(world / "test/cmm/all_data_final_reorg.json", world / "clips")
    assert len(samples) == TEST
    assert len({s.meta["groups"]["sub_category"] for s in samples}) == 6
    assert {s.meta["groups"]["category"] for s in samples} == {
        "over-reliance_unimodal_priors",
        "inter-modality_spurious_correlation",
    }
    for sample in samples:
        what, (thing,) = of_clip(sample, truth), named(sample.question)
        hear = "Did you hear" in sample.question
        assert sample.answer == ("yes" if thing in what["audible" if hear else "visible"] else "no")
        assert bool(sample.video) == ("visual" in sample.meta["modality"])
        assert bool(sample.audio) == ("audio" in sample.meta["modality"])
        trap = {"overrely_visual_ignore_audio": "muted", "overrely_audio_ignore_visual": "ambient"}
        if (kind := sample.meta["groups"]["sub_category"]) in trap and sample.answer == "no":
            assert thing == what[trap[kind]]
    for pair in {s.meta["pair"] for s in samples}:
        assert Counter(s.answer for s in samples if s.meta["pair"] == pair) == {"yes": 1, "no": 1}


# -- multiple choice -----------------------------------------------------------------------------------------


def true_options(sample: Sample, what: dict) -> list[str]:
    """The options that the clip makes true, worked out from truth.json alone."""
    question, heard, seen = sample.question, what["audible"], what["visible"]

    def holds(option: str) -> bool:
        words = named(option)
        if question == "Which instrument is shown in the video?":
            return option in seen
        if question == "Which instrument is heard?":
            return option in heard
        if question in ("What is the source of the sound?", "Where does the sound in the video come from?"):
            return words == [what["ambient"]]
        if question == "What is happening in the video?":
            playing, quiet = re.fullmatch(r"The (\w+) plays and the (\w+) is silent\.", option).groups()
            return playing in heard and quiet not in heard
        if question.startswith("How many"):
            return option == NUMBERS[len(heard)]
        if question.startswith("Which one is louder"):
            a, b = named(question)
            return what["loudness_db"][option] - what["loudness_db"][b if option == a else a] > 5
        if question == "Which instrument comes in last?":
            return what["onsets"][option] == max(what["onsets"].values()) >= 0.3
        if question == "How does the music feel?":
            return {option} == {MOODS[BY_NAME[name].lowest < 64] for name in heard}
        if question == "Which instrument is in the picture and not in the sound?":
            return option in seen and option not in heard
        assert question == "What do the picture and the sound hold?", question
        picture, sound = option.split(" in the picture and ")
        return named(picture)[0] in seen and named(sound) == [what["ambient"]]

    return [option for option in sample.options if holds(option)]


@pytest.mark.parametrize("name", list(CHOICES))
def test_one_option_is_true(world: Path, truth: dict[str, dict], name: str) -> None:
    module = CHOICES[name]
    samples = module.read(world / "test" / name, world / "clips")
    assert len(samples) == TEST
    for sample in samples:
        assert true_options(sample, of_clip(sample, truth)) == [sample.answer], sample
        assert module.score(sample, Reading("", sample.answer, "", ""))["correct"]
    if module is avqa:
        assert {s.meta["groups"]["relation"] for s in samples} == {"View", "Sound", "Both"}
        assert Counter(s.options.index(s.answer) for s in samples) == dict.fromkeys(range(4), TEST // 4)
    else:
        assert all(s.video is None for s in samples)


def test_omnibench_needs_picture_and_sound(world: Path, truth: dict[str, dict]) -> None:
    media = world / "test/omnibench/mm_data"
    samples = omni.read(world / "test/omnibench/omnibench.jsonl", media)
    assert len(samples) == TEST
    for sample in samples:
        assert true_options(sample, of_clip(sample, truth)) == [sample.answer], sample
        assert Path(sample.video).parent == media / "image"
        assert Path(sample.video).stem == Path(sample.audio).stem
        assert Path(sample.audio).parent == world / "clips"
    picture = load_clip(samples[0].video, samples[0].audio, MediaSettings()).frames
    film = load_clip(samples[0].audio, samples[0].audio, MediaSettings()).frames
    np.testing.assert_array_equal(picture, film[:1])


# -- balance, size, determinism ------------------------------------------------------------------------------


def places(rows: list[dict], options: str, answer: str) -> Counter:
    """(number of options, place of the gold one) -> rows."""
    found: Counter = Counter()
    for row in rows:
        gold = row[answer] if isinstance(row[answer], int) else row[options].index(row[answer])
        found[len(row[options]), gold] += 1
    return found


def test_every_place_is_equally_often_right(drawn: list[Scene]) -> None:
    rng = np.random.default_rng(1)
    for rows in (
        places(official.avqa(drawn, 48, rng), "multi_choice", "answer"),
        places(official.mmau(drawn, 48, rng), "choices", "answer"),
        places(official.omnibench(drawn, 48, rng), "options", "answer"),
        places([row["question"] for row in official.alme(drawn, 48, rng)], "choices", "correct_answer"),
    ):
        assert set(rows.values()) == {rows.total() // len(rows)}
    mixed = places(official.mmar(drawn, 60, rng), "choices", "answer")
    for number in (2, 4):
        counts = [mixed[number, place] for place in range(number)]
        assert max(counts) - min(counts) <= 0.2 * sum(counts)


def test_a_place_does_not_go_with_the_kind_of_clip(drawn: list[Scene]) -> None:
    rows = official.alme(drawn, 48, np.random.default_rng(1))
    asked = Counter(
        (row["audio_path"].split("-")[0], row["question"]["choices"].index(row["question"]["correct_answer"]))
        for row in rows
    )
    assert asked == dict.fromkeys([("symmetric", 0), ("symmetric", 1), ("muted", 0), ("muted", 1)], 12)


def test_yes_and_no_are_equally_often_right(drawn: list[Scene]) -> None:
    rng = np.random.default_rng(1)
    asked = Counter((row["task"], row["label"]) for row in official.avhbench(drawn, 70, rng))
    judged = [name for name, task in avhbench.TASKS.items() if task in avhbench.JUDGED]
    assert {key: asked[key] for key in asked if key[0] in judged} == {
        (task, label): 10 for task in judged for label in ("Yes", "No")
    }
    found = Counter((row["sub_category"], row["answer"]) for row in official.cmm(drawn, 72, rng))
    assert len(found) == 12
    assert set(found.values()) == {6}


def test_a_longer_file_begins_with_the_shorter_one(drawn: list[Scene]) -> None:
    for rows_of in (
        official.alme,
        official.captions,
        official.avqa,
        official.avhbench,
        official.cmm,
        official.mmau,
        official.mmar,
        official.omnibench,
    ):
        long = rows_of(drawn, 40, np.random.default_rng(2))
        short = rows_of(drawn, 20, np.random.default_rng(2))
        assert short == long[: len(short)]
        assert len(short) in (20, 80)


def test_no_two_rows_ask_the_same(drawn: list[Scene]) -> None:
    for rows_of in (official.avqa, official.mmau, official.mmar, official.omnibench, official.cmm):
        rows = rows_of(drawn, 60, np.random.default_rng(3))
        alike = Counter(
            json.dumps({k: row[k] for k in row if k not in ("id", "index", "video_id")}) for row in rows
        )
        assert max(alike.values()) == 1


def test_an_mcr_row_only_where_the_scene_answers(drawn: list[Scene]) -> None:
    rng = np.random.default_rng(4)
    for scene in drawn:
        families = {BY_NAME[name].family for name in scene.audible}
        assert (official.mcr(scene, "AQA", rng) is None) == (not scene.audible)
        assert (official.mcr(scene, "SER", rng) is None) == (mood(scene) is None)
        assert (official.mcr(scene, "VSC", rng) is None) == (len(families) != 1)


def test_the_mood_that_is_asked_is_the_register(drawn: list[Scene]) -> None:
    """Trap: a mood of loudness, as it once was, agrees with it on every other clip."""
    scenes = {f"{scene.id}.mp4": scene for scene in drawn}
    rows = official.mmar(drawn, 60, np.random.default_rng(5))
    asked = [row for row in rows if row["question"] == "How does the music feel?"]
    assert len(asked) == 12
    for row in asked:
        names = scenes[Path(row["audio_path"]).name].audible
        assert {row["answer"]} == {MOODS[BY_NAME[name].lowest < 64] for name in names}
    assert {row["answer"] for row in asked} == set(MOODS)


def test_the_same_seed_gives_the_same_files_and_the_other_splits_do_not_notice(
    world: Path, tmp_path: Path
) -> None:
    def contents(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    build(tmp_path, seed=5, test=TEST, workers=1, progress=False)
    first, again = contents(world), contents(tmp_path)
    assert first == again
    build(tmp_path, seed=5, test=TEST, benchmarks=False, progress=False)
    bare = contents(tmp_path)
    gone = {name.split("/")[1] for name in first.keys() - bare.keys()}
    assert gone == {"mcr", "alme", "captions", "avqa", "avhbench", "cmm", "mmau", "mmar", "omnibench"}
    changed = {name for name in bare if bare[name] != first[name]}
    assert changed == {"truth.json"}
    truth, all_truth = json.loads(bare["truth.json"]), json.loads(first["truth.json"])
    assert truth.items() <= all_truth.items()
    assert {clip.split("-")[0] for clip in all_truth.keys() - truth.keys()} == {"text", "vsc"}


def test_a_world_too_small_for_replaced_sounds_leaves_their_questions_out(tmp_path: Path) -> None:
    build(tmp_path, seed=5, test=3, progress=False)
    for name, module in READERS.items():
        assert module.read(tmp_path / "test" / name, tmp_path / "clips")
    samples = avhbench.read(tmp_path / "test/avhbench/QA.json", tmp_path / "clips")
    assert {s.meta["task"] for s in samples} == {"video_driven", "captioning"}
