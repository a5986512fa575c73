import json

import pytest

from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.utils.errors import UserError


def rows(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_round_trip_keeps_everything(tmp_path):
    clip = str(tmp_path / "clips" / "1.mp4")
    samples = [
        Sample(
            "1",
            (Turn("Which?", "harp", ("harp", "drum"), type="Audio/Comparative"),),
            clip,
            clip,
            meta={"muted": None, "visible": ["harp"]},
        ),
        Sample(
            "2",
            (Turn("Is there a drum?", "no"), Turn("And a harp?", "yes", target="<a-think> x")),
            None,
            clip,
            reference="I hear a harp.",
        ),
        Sample("3", (Turn("?", ""),), video="/elsewhere/picture.png"),
    ]
    write_jsonl(tmp_path / "train.jsonl", samples)
    assert read_jsonl(tmp_path / "train.jsonl") == samples


def test_paths_are_stored_relative_so_that_the_folder_can_move(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    clip = str(old / "clips" / "1.mp4")
    write_jsonl(old / "a.jsonl", [Sample("1", (Turn("?", "no"),), clip, clip)])
    write_jsonl(old / "test" / "b.jsonl", [Sample("1", (Turn("?", "no"),), clip, clip)])
    assert json.loads((old / "a.jsonl").read_text())["video"] == "clips/1.mp4"
    assert json.loads((old / "test" / "b.jsonl").read_text())["video"] == "../clips/1.mp4"
    old.rename(new)
    for name in ("a.jsonl", "test/b.jsonl"):
        assert read_jsonl(new / name)[0].audio == str(new / "clips" / "1.mp4")


def test_flat_and_turns_rows_read_alike(tmp_path):
    path = rows(
        tmp_path / "a.jsonl",
        {"id": 1, "question": "q", "answer": "a", "options": ["a", "b"]},
        "",
        {"id": "2", "turns": [{"question": "q", "answer": "a", "options": ["a", "b"]}]},
    )
    one, two = read_jsonl(path)
    assert one.turns == two.turns
    assert one.id == "1"
    assert (one.question, one.answer, one.options) == ("q", "a", ("a", "b"))


def test_without_leaves_the_other_modality():
    sample = Sample("1", (Turn("?", "no"),), "a.mp4", "a.mp4")
    assert sample.without("audio") == Sample("1", sample.turns, "a.mp4", None)
    assert sample.without("video") == Sample("1", sample.turns, None, "a.mp4")
    with pytest.raises(ValueError, match="smell"):
        sample.without("smell")


def test_all_problems_are_named_at_once_by_row_and_field(tmp_path):
    good = {"id": "1", "question": "q", "answer": "a"}
    path = rows(
        tmp_path / "bad.jsonl",
        good,
        {**good, "id": "2", "anwser": "x"},
        "{not json",
        ["list"],
        {**good},
        {**good, "id": "3", "answer": 7},
        {**good, "id": "4", "options": "A,B"},
        {"id": "5", "turns": [{"question": " ", "answer": "a"}]},
        {**good, "id": "6", "meta": []},
        {"question": "q", "answer": "a"},
        {**good, "id": "7", "audio": ""},
        {**good, "id": "8", "reference": 3},
    )
    with pytest.raises(UserError) as error:
        read_jsonl(path)
    message = str(error.value)
    assert message.startswith(f"{path}: 11 problems")
    for part in [
        "row 2, field 'anwser': is not known (did you mean 'answer'?)",
        "row 3: is not valid JSON",
        "row 4, a row is one JSON object, this is a list",
        "row 5, field 'id': '1' is already the id of row 1",
        "row 6, field 'answer': must be text, this is a number",
        "row 7, field 'options': must be a list",
        "row 8, field 'turns[0].question': is empty",
        "row 9, field 'meta': must be an object",
        "row 10, field 'id': is missing",
        "row 11, field 'audio': is empty",
        "row 12, field 'reference': must be text",
    ]:
        assert part in message


def test_one_problem_is_one_sentence(tmp_path):
    path = rows(tmp_path / "bad.jsonl", {"id": "1", "question": "q"})
    with pytest.raises(UserError) as error:
        read_jsonl(path)
    assert str(error.value) == f"{path}, row 1, field 'answer': is missing; correct it and run again."


@pytest.mark.parametrize(
    ("content", "said"), [(None, "does not exist"), (b"\xff\xfe\x00", "is not UTF-8"), (b"\n", "no rows")]
)
def test_unreadable_files_are_named(tmp_path, content, said):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_jsonl(path)
    assert str(path) in str(error.value)


def test_questions_may_hold_unicode_line_separators(tmp_path):
    # str.splitlines would cut a JSON line at U+2028
    samples = [Sample("1", (Turn("eins\u2028zwei", "ja"),))]
    write_jsonl(tmp_path / "u.jsonl", samples)
    assert read_jsonl(tmp_path / "u.jsonl") == samples
