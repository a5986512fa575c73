"""Reading the official files; wrong rows are reported together."""

import dataclasses
import json

import pytest

from rlcomm import steps
from rlcomm.data.sample import Sample, Turn
from rlcomm.data.vocabulary import Vocabulary
from rlcomm.evaluation.benchmarks import avconfuse, common, music_avqa
from rlcomm.evaluation.records import Reading
from rlcomm.rewards import accuracy
from rlcomm.utils.errors import UserError
from tests.evaluation import fake_world as world


def write(path, rows):
    path.write_text(json.dumps(rows))
    return path


def test_the_official_muted_rows(tmp_path):
    (tmp_path / "000001.mp4").write_bytes(b"x")
    question = (
        "This is a video of audio corruption where some instrument sound is muted. Please answer:\n "
        "Is thera a "
        "acoustic_guitar sound? \nYour answer can only be 'yes' or 'no'"
    )
    path = write(
        tmp_path / "m1.json",
        [
            {
                "video_id": "000001",
                "question": question,
                "answer": "no",
                "instruments": "violin, acoustic_guitar",
                "instruments_len": "two",
            }
        ],
    )
    (sample,) = avconfuse.read_muted(path, tmp_path)
    assert (sample.id, sample.question, sample.answer) == ("m1-1", question, "no")
    assert sample.video == sample.audio == str(tmp_path / "000001.mp4")
    assert sample.meta == {"video_id": "000001", "instruments": ["violin", "acoustic_guitar"]}


def test_the_official_modified_rows(tmp_path):
    (tmp_path / "combined_000004_thunderstorm.mp4").write_bytes(b"x")
    path = write(
        tmp_path / "m2.json",
        [
            {
                "video_id": "000004",
                "filename": "combined_000004_thunderstorm.mp4",
                "question": "Describe what you see.",
                "sound_type": "thunderstorm",
                "annotation": "Based on the video, the person on the left is using a saxophone, "
                "the other an electric guitar. "
                "Based on the audio,there is a sound of thunder. There is only the sound of thunder, with no "
                "other sounds such as rain or wind.",
            }
        ],
    )
    (sample,) = avconfuse.read_modified(path, tmp_path)
    assert sample.audio == str(tmp_path / "combined_000004_thunderstorm.mp4")
    assert sample.meta["video_id"] == "000004"  # the clip whose picture it is, not the file of this sound
    assert sample.meta["visible"] == ["guitar", "saxophone"]
    text = "Based on the video... a sax and a guitar.\nBased on the audio... thunderclaps and a sax."
    scored = avconfuse.score_modified(sample, Reading(text, text, text, text), "direct", Vocabulary.of())
    assert (scored["a_acc"], scored["v_acc"]) == (2.5, 5.0)
    assert scored["correct"] is None


@pytest.mark.parametrize("name", [None, "", "combined_000004_rain.mp4", 3.5])
def test_a_modified_clip_is_never_replaced_by_the_one_it_was_made_of(tmp_path, name):
    (tmp_path / "000004.mp4").write_bytes(b"x")
    row = {
        "video_id": "000004",
        "question": "Describe.",
        "sound_type": "rain",
        "annotation": "Based on the audio, rain.",
    }
    path = write(tmp_path / "m.json", [{**row, "filename": name} if name is not None else row])
    with pytest.raises(UserError, match="field 'filename'"):
        avconfuse.read_modified(path, tmp_path)


@pytest.mark.parametrize(
    "answer",
    [
        "no", "No.", "No, it is silent.", "**No**", r"\boxed{no}", "The answer is no.",
        "There is no violin sound.", "没有", "No idea.", "no one knows", "yes or no",
        "There is no drum sound.", "yes", "piano", "", None,
    ],
)  # fmt: skip
@pytest.mark.parametrize("gold", ["yes", "no"])
def test_what_is_rewarded_is_what_is_measured(answer, gold):
    """One function judges: the reward, AV-ConfuseBench, MUSIC-AVQA and every benchmark of labels agree."""
    sample = Sample("1", (Turn("Is there a violin sound?", gold, type="Audio/Existential"),))
    labelled = dataclasses.replace(sample, meta={"candidates": ["yes", "no"]})
    reading = Reading(answer or "", answer, "", "")
    rewarded = accuracy.score(steps.parse(f"<answer>{answer or ''}</answer>"), sample) == 1.0
    scored = [
        avconfuse.score_muted(sample, reading), music_avqa.score(sample, reading),
        common.score(labelled, reading),
    ]  # fmt: skip
    assert [one["correct"] for one in scored] == [rewarded] * 3
    assert len({one["parsed"] for one in scored}) == 1


def test_all_wrong_rows_are_named_together(tmp_path):
    path = write(
        tmp_path / "muted.json",
        [
            {"video_id": "a", "question": "Is there a harp sound?", "answer": "maybe"},
            {"question": "?", "answer": "no"},
        ],
    )
    with pytest.raises(UserError) as error:
        avconfuse.read_muted(path, tmp_path)
    for part in (
        "muted.json",
        "row 1, field 'answer'",
        "row 1, field 'video_id': there is no file a.mp4",
        "row 2, field 'video_id'",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", "no json"])
def test_a_file_of_another_shape_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json"):
        avconfuse.read_muted(tmp_path / "x.json", tmp_path)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("No", "no"),
        ("yes.", "yes"),
        ("'no'", "no"),
        ("No, it is silent", "no"),
        ("Yes it is", "yes"),
        ("piano", None),
        ("none", None),
        ("not sure", None),
        ("nope", None),
        ("yes or no", None),
        ("", None),
        (None, None),
    ],
)
def test_yes_no(answer, expected):
    for gold in ("yes", "no"):
        sample = Sample("1", (Turn("Is there a violin sound?", gold),))
        scored = avconfuse.score_muted(sample, Reading(answer or "", answer, "", ""))
        assert scored == {"class": expected, "parsed": expected is not None, "correct": expected == gold}


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ('["Audio-Visual", "Existential"]', "audio_visual_exist"),
        ("Audio/Comparative", "audio_comp"),
        (["Visual", "Location"], "visual_localis"),
        ("", None),
        (None, None),
        ("Open/Hear", None),
    ],
)
def test_type_keys(value, key):
    assert music_avqa.type_key(value) == key


def test_answers_are_matched_whole():
    sample = Sample("1", (Turn("How many?", "one", type="Audio/Counting"),))
    for answer, right in (("1", True), ("One.", True), ("saxophone", False), (None, False)):
        scored = music_avqa.score(sample, Reading(answer or "", answer, "", ""))
        assert (scored["correct"], scored["parsed"]) == (right, answer is not None)


def test_music_avqa_is_grouped_as_the_papers_do():
    asked = [
        ("audio_count", True), ("audio_comp", False), ("visual_count", True), ("visual_localis", True),
        ("audio_visual_count", False), ("audio_visual_temp", False), ("audio_visual_exist", True),
        (None, True),
    ]  # fmt: skip
    records = [
        {"benchmark": "music_avqa", "view": "joint", "id": str(i), "video_id": f"c{i}", "type": kind,
         "parsed": True, "correct": correct}
        for i, (kind, correct) in enumerate(asked)
    ]  # fmt: skip
    found = music_avqa.score_metrics(records)
    by_hand = {
        "acc": (5 / 8, 8), "acc_audio": (1 / 2, 2), "acc_visual": (1.0, 2), "acc_audio_visual": (1 / 3, 3),
        "acc_count": (2 / 3, 3), "acc_visual_count": (1.0, 1),
    }  # fmt: skip
    for name, (value, n) in by_hand.items():
        assert (found[name]["value"], found[name]["n"]) == (pytest.approx(value, abs=1e-12), n), name
    low, high = found["acc_audio_visual"]["ci95"]
    assert low <= 1 / 3 <= high


def test_metrics_without_a_control_leave_it_missing(tmp_path):
    record = {
        "benchmark": "avconfuse_muted",
        "view": "joint",
        "id": "1",
        "video_id": "c1",
        "class": "no",
        "parsed": True,
        "correct": True,
    }
    found = avconfuse.muted_metrics([record])
    assert found["acc"]["value"] == 1.0
    assert "control_acc" not in found
    assert "same_audio_acc" not in found


def test_the_hand_made_world_reads(tmp_path):
    folder = world.build(tmp_path)
    samples = avconfuse.read_muted(folder / "test/avconfuse/muted.json", folder / "clips")
    assert [s.meta["video_id"] for s in samples] == ["c1", "c2"]
