"""Hand-written rows in the official formats; the clips are empty files, since only their names are read."""

import json

import pytest

from rlcomm.data.sample import Turn, read_jsonl
from rlcomm.data.sources import import_file, read_avqa, read_music_avqa, read_r1, read_warmup
from rlcomm.utils.errors import UserError


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("00000093.mp4", "00000238.webm", "-HG3Omg_89c_000030.mp4", "a.mp4", "b.wav", "c.png"):
        (folder / name).touch()
    return folder


@pytest.fixture
def write(tmp_path):
    def write(rows, lines=False):
        path = tmp_path / "rows.json"
        path.write_text("\n".join(map(json.dumps, rows)) if lines else json.dumps(rows))
        return path

    return write


MUSIC = {
    "video_id": "00000093",
    "question_id": 10,
    "type": '["Audio-Visual", "Existential"]',
    "question_content": "Is the <Object> in the video always playing?",
    "templ_values": '["violin"]',
    "question_deleted": 0,
    "anser": "yes",
}


def test_music_avqa_row(write, videos):
    samples, problems = read_music_avqa(write([MUSIC]), videos)
    assert problems == []
    assert len(samples) == 1
    assert samples[0].turns == (
        Turn("Is the violin in the video always playing?", "yes", type="Audio-Visual/Existential"),
    )
    assert samples[0].video == samples[0].audio == str(videos / "00000093.mp4")


def test_music_avqa_placeholders_are_filled_in_order(write, videos):
    rows = [
        {
            **MUSIC,
            "question_id": 1,
            "templ_values": '["flute", "louder", "violin"]',
            "question_content": "Is the <Object> on the <LR> of the <Object> louder?",
        },
        {
            **MUSIC,
            "question_id": 2,
            "templ_values": "['left', 'first']",
            "video_id": "00000238",
            "question_content": "Does the <LRer> instrument sound <FL>, <FL>?",
        },
        {**MUSIC, "question_id": 3, "templ_values": "[]", "question_content": "How many instruments sound?"},
    ]
    samples, problems = read_music_avqa(write(rows), videos)
    assert [sample.question for sample in samples] == [
        "Is the flute on the louder of the violin louder?",
        "How many instruments sound?",
    ]
    assert problems == ["row 2, field 'templ_values': has 2 values for 3 placeholders (<LRer> <FL> <FL>)"]


def test_music_avqa_deleted_questions_are_left_out(write, videos):
    rows = [{**MUSIC, "question_deleted": 1}, {**MUSIC, "question_deleted": "1"}, MUSIC]
    samples, problems = read_music_avqa(write(rows), videos)
    assert len(samples) == 1
    assert problems == []


def test_music_avqa_wrong_rows_are_named_together(write, videos):
    rows = [
        {**MUSIC, "video_id": "99999999"},
        {key: MUSIC[key] for key in MUSIC if key != "anser"},
        {**MUSIC, "type": "Audio"},
        "text",
        MUSIC,
        MUSIC,
        {**MUSIC, "question_id": 11, "question_content": ""},
    ]
    samples, problems = read_music_avqa(write(rows), videos)
    assert len(samples) == 1
    for part in [
        "row 1, field 'video_id': there is no file 99999999.mp4",
        "row 2, field 'anser': is missing",
        "row 3, field 'type': must be a list",
        "row 4: must be an object",
        "row 6: has the id '00000093-10' of row 5 again",
        "row 7, field 'question_content': is empty",
    ]:
        assert any(problem.startswith(part) for problem in problems), part
    assert len(problems) == 6


AVQA = {
    "id": 183,
    "video_name": "-HG3Omg_89c_000030",
    "video_id": 341,
    "question_text": "What happened in the video?",
    "multi_choice": ["motorboat", "Yacht consignment", "Sailboat set sail", "Consignment car"],
    "answer": 1,
    "question_relation": "View",
    "question_type": "Happening",
}


def test_avqa_row(write, videos):
    samples, problems = read_avqa(write([AVQA], lines=True), videos)
    assert problems == []
    assert samples[0].turns == (
        Turn(
            "What happened in the video?",
            "Yacht consignment",
            tuple(AVQA["multi_choice"]),
            type="View/Happening",
        ),
    )
    assert samples[0].id == "183"
    assert samples[0].audio == str(videos / "-HG3Omg_89c_000030.mp4")


@pytest.mark.parametrize("answer", [4, -1, "1", None, True])
def test_avqa_answer_must_be_the_index_of_a_choice(write, videos, answer):
    samples, problems = read_avqa(write([{**AVQA, "answer": answer}]), videos)
    assert samples == []
    assert problems[0].startswith("row 1, field 'answer': must be the index of one of the 4 choices")


R1 = {
    "problem_id": 7,
    "problem": "<video>\nWhich instrument is heard?",
    "data_type": "video_audio",
    "problem_type": "multiple choice",
    "options": ["A. a drum", "B. a B. flat horn", "C. piano"],
    "solution": "<answer>B</answer>",
    "path": "./a.mp4",
}


def test_r1_row(write, videos):
    samples, problems = read_r1(write([R1]), videos)
    assert problems == []
    assert samples[0].turns == (
        Turn(
            "Which instrument is heard?",
            "a B. flat horn",
            ("a drum", "a B. flat horn", "piano"),
            type="multiple choice",
        ),
    )
    assert samples[0].video == samples[0].audio == str(videos / "a.mp4")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"data_type": "video"}, ("a.mp4", None)),
        ({"data_type": "video", "use_audio": True}, ("a.mp4", "a.mp4")),
        ({"data_type": "audio", "path": "b.wav"}, (None, "b.wav")),
        ({"data_type": "image", "path": "c.png"}, ("c.png", None)),
        ({"path": {"image": "c.png", "audio": "b.wav"}}, ("c.png", "b.wav")),
    ],
)
def test_r1_media(write, videos, change, expected):
    samples, problems = read_r1(write([{**R1, **change}]), videos)
    assert problems == []
    assert (samples[0].video, samples[0].audio) == tuple(name and str(videos / name) for name in expected)


def test_an_import_says_how_many_clips_will_not_be_heard(write, videos, tmp_path):
    """Trap: sound that is lost without a word; a plain "video" of the R1 family is seen only."""
    kinds = ({}, {"data_type": "video"}, {"data_type": "audio", "path": "b.wav"})
    rows = [{**R1, "problem_id": number, **kind} for number, kind in enumerate(kinds)]
    told = import_file("r1", write(rows), videos, tmp_path / "out.jsonl")
    assert told.unheard == 1
    assert str(told).endswith(
        "3 samples written, 1 of them seen only: their clips are not heard (of R1 files, where neither "
        "data_type names audio nor use_audio is true)."
    )
    heard = import_file("r1", write([R1]), videos, tmp_path / "heard.jsonl")
    assert str(heard).endswith("1 sample written.")


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("<answer>C</answer>", "piano"),
        ("(C)", "piano"),
        ("<answer> Piano </answer>", "piano"),
        ("<answer>C. piano</answer>", "piano"),
        ("<answer>D</answer>", None),
        ("<answer>A,B</answer>", None),
        ("<answer>pian</answer>", None),
        ("<answer></answer>", None),
    ],
)
def test_r1_solution_is_a_letter_or_a_text_and_never_a_part_of_one(write, videos, solution, answer):
    samples, problems = read_r1(write([{**R1, "solution": solution}]), videos)
    assert [sample.answer for sample in samples] == ([answer] if answer else [])
    assert bool(problems) is (answer is None)
    assert all("field 'solution'" in problem for problem in problems)


def test_r1_open_question_and_wrong_rows(write, videos):
    open_row = {**R1, "options": [], "solution": "<answer>3</answer>", "problem_type": "numerical"}
    wrong = [
        {**R1, "problem_id": 8, "path": "x.mp4"},
        {**R1, "problem_id": 9, "path": {"smell": "x"}},
        {**R1, "problem_id": 10, "solution": "<answer>A</answer><answer>B</answer>"},
    ]
    samples, problems = read_r1(write([open_row, *wrong]), videos)
    assert samples[0].turns == (Turn("Which instrument is heard?", "3", type="numerical"),)
    assert len(samples) == 1
    assert [problem.split(":")[0] for problem in problems] == [
        "row 2, field 'path'",
        "row 3, field 'path'",
        "row 4, field 'solution'",
    ]


def question(text="How many instruments are sounding in the video?", clip="./00000093.mp4"):
    return {"role": "user", "content": [{"type": "audio", "audio_url": clip}, {"type": "text", "text": text}]}


def answer(
    text="<a-think> Two are heard. </a-think> <v-think> Two women play. </v-think>\n<answer> two </answer>",
):
    return {"role": "assistant", "content": text}


TARGET = "<a-think> Two are heard. </a-think> <v-think> Two women play. </v-think> <answer> two </answer>"


def test_released_warmup_file_is_one_flat_list_of_turns(write, videos):
    # rows 3 and 6: an unpaired answer, an unpaired question; rows 7-8: a completion without its v-think
    rows = [
        question(),
        answer(),
        answer(),
        question("Other?"),
        answer(),
        question("Lost?"),
        question("Last?"),
        answer("<a-think> x </a-think> <answer> y </answer>"),
    ]
    samples, problems = read_warmup(write(rows), videos)
    assert [sample.question for sample in samples] == [
        "How many instruments are sounding in the video?",
        "Other?",
    ]
    assert samples[0].turns[0] == Turn(samples[0].question, "two", target=TARGET)
    assert [(sample.id, sample.meta["row"]) for sample in samples] == [("warmup-1", 2), ("warmup-2", 5)]
    assert samples[0].video == samples[0].audio == str(videos / "00000093.mp4")  # an .mp4 is seen and heard
    assert problems == [
        "row 3, field 'role': an answer without a question before it",
        "row 6, field 'role': a question without an answer after it",
        "row 8, field 'content': the completion's <v-think> is missing",
    ]


def test_warmup_conversations(write, videos):
    rows = [
        {
            "conversations": [
                {"from": "human", "value": "<video>\nHow many?"},
                {"from": "gpt", "value": answer()["content"]},
            ],
            "video": "a.mp4",
        },
        {
            "messages": [{"role": "user", "content": "How many?"}, answer()],
            "images": ["c.png"],
            "audios": ["b.wav"],
        },
        [question(), answer()],
        {"messages": "x"},
        {"messages": [{"role": "user", "content": "?"}, answer()]},
    ]
    samples, problems = read_warmup(write(rows, lines=True), videos)
    assert [(sample.video, sample.audio) for sample in samples] == [
        (str(videos / "a.mp4"), str(videos / "a.mp4")),
        (str(videos / "c.png"), str(videos / "b.wav")),
        (str(videos / "00000093.mp4"), str(videos / "00000093.mp4")),
    ]
    assert samples[0].turns[0] == Turn("How many?", "two", target=TARGET)
    assert problems == [
        "row 4: is neither a chat turn nor holds a list of them under 'messages' or 'conversations'",
        "row 5, field 'content': the question has no clip",
    ]


def test_import_writes_good_rows_and_reports_the_rest(write, videos, tmp_path):
    rows = [MUSIC, {**MUSIC, "question_id": 11}, {**MUSIC, "video_id": "nowhere"}]
    report = import_file("music_avqa", write(rows), videos, tmp_path / "out.jsonl", limit=1)
    assert [sample.id for sample in read_jsonl(tmp_path / "out.jsonl")] == ["00000093-10"]
    assert report.written == 1
    assert "row 3, field 'video_id'" in str(report)
    assert json.loads((tmp_path / "out.jsonl").read_text())["video"] == "videos/00000093.mp4"


def test_import_errors_name_what_to_do(write, videos, tmp_path):
    good, out = write([MUSIC]), tmp_path / "out.jsonl"
    for arguments, said in [
        (("musicavqa", good, videos, out), "one of music_avqa, avqa, r1, warmup"),
        (("music_avqa", good, tmp_path / "none", out), "is not a folder"),
        (("avqa", good, videos, out), "field 'video_name': is missing"),
        (("music_avqa", tmp_path / "no.json", videos, out), "does not exist"),
        (("music_avqa", good, videos, out, 0), "limit"),
    ]:
        with pytest.raises(UserError, match=said):
            import_file(*arguments)
    (tmp_path / "rows.json").write_text("[{")
    with pytest.raises(UserError, match="is not valid JSON"):
        import_file("music_avqa", tmp_path / "rows.json", videos, out)
    assert not out.exists()
