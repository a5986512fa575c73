import json

import numpy as np
import pytest

from rlcomm.data.check import check
from rlcomm.data.media import MediaSettings
from rlcomm.data.write_media import write_audio, write_clip
from rlcomm.utils.errors import UserError

RATE = 16_000


@pytest.fixture
def folder(tmp_path):
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    write_clip(tmp_path / "good.mp4", frames, 2, noise)
    write_clip(tmp_path / "mute.mp4", frames, 2, None)
    write_clip(tmp_path / "silent.mp4", frames, 2, np.zeros(RATE, np.float32))
    write_audio(tmp_path / "sound.wav", noise, RATE)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:-900])
    return tmp_path


def write(folder, *rows):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def row(id, clip="good.mp4", **fields):
    return {"id": id, "video": clip, "audio": clip, "question": "?", "answer": "no"} | fields


def test_good_file_has_no_findings(folder):
    path = write(
        folder, row("1"), row("2", options=["yes", "no"]), row("3", audio="sound.wav"), row("4", video=None)
    )
    assert check(path, progress=False) == []


def test_every_finding_of_every_row_at_once(folder):
    path = write(
        folder,
        row("1"),
        row("1", "mute.mp4"),
        row("3", "gone.mp4"),
        row("4", "empty.mp4"),
        row("5", "cut.mp4"),
        row("6", "sound.wav"),
        row("7", "silent.mp4"),
        row("8", answer=" "),
        row("9", answer="maybe", options=["yes", "no"]),
        row("10", options=["no"]),
        row("11", options=["no", "No "]),
        "{",
        row("13", video=None, audio=None),
        row("14", target="<a-think> x </a-think> <answer> no </answer>"),
        row("15", audio="gone.wav"),
        row("16", colour=1),
    )
    findings = check(path, progress=False)
    expected = [
        "row 2, field 'id': '1' is already the id of row 1",
        "row 2, field 'audio': {}/mute.mp4: has no audio track",
        "row 3, field 'video': {}/gone.mp4: does not exist",
        "row 4, field 'video': {}/empty.mp4: is empty (zero bytes)",
        "row 5, field 'video': {}/cut.mp4: is cut off",
        "row 6, field 'video': {}/sound.wav: has no picture",
        "note: row 7, field 'audio': {}/silent.mp4: is silent from start to end",
        "row 8, field 'answer': is empty",
        "row 9, field 'answer': 'maybe' is none of the options ['yes', 'no']",
        "row 10, field 'options': has one entry",
        "row 11, field 'options': names the same option twice",
        "row 12: is not valid JSON",
        "row 13, fields 'video' and 'audio': both are missing",
        "row 14, field 'target': its <v-think> is missing",
        "row 15, field 'audio': {}/gone.wav: does not exist",
        "row 16, field 'colour': is not known",
    ]
    assert len(findings) == len(expected)
    for finding, start in zip(findings, expected, strict=True):
        assert finding.startswith(start.format(folder)), (finding, start)


def test_sound_is_read_to_its_end_and_its_length_noted(folder):
    path = write(folder, row("1"), row("2", video=None))
    notes = check(path, MediaSettings(audio_seconds=0.5), progress=False)
    assert notes == [
        "note: the sound of 2 of 2 rows is longer than audio_seconds (0.5); the policy hears its first 0.5 s"
    ]


def test_missing_track_is_no_problem_where_silence_was_chosen(folder):
    findings = check(
        write(folder, row("1", "mute.mp4")), MediaSettings(missing_audio="silence"), progress=False
    )
    assert len(findings) == 1
    assert findings[0].startswith("note: row 1, field 'audio'")


def test_missing_and_empty_files(folder):
    with pytest.raises(UserError, match="does not exist"):
        check(folder / "none.jsonl", progress=False)
    assert check(write(folder), progress=False) == ["the file has no rows"]
