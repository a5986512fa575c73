"""Hand-written rows in the official formats; the clips are empty files, since only their names are read."""

import json

import pytest

from rlcomm.data.chats import read_warmup
from rlcomm.data.sample import Turn, read_jsonl
from rlcomm.data.sources import import_file, read_avqa, read_music_avqa, read_r1
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


CLIP = "a.mp4"
TEXT = {"type": "text", "text": "How many?"}


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video", "video": CLIP},
        {"type": "video", "path": CLIP},
        {"type": "video", "url": CLIP},
        {"type": "video", "video_url": CLIP},
        {"type": "video", "video": None, "path": CLIP, "text": None},
        {"type": "video", "video": {"path": CLIP, "bytes": None}},
        {"type": "video_url", "video_url": {"url": f"file://{CLIP}"}},
        {"type": "audio", "path": CLIP},
        {"type": "input_audio", "input_audio": {"path": CLIP}},
        {"video": CLIP},
        {"type": "file", "video": CLIP},
    ],
)
def test_a_chat_keeps_its_clip_in_every_common_form(write, videos, part):
    samples, problems = read_warmup(write([{"role": "user", "content": [part, TEXT]}, answer()]), videos)
    if part.get("type") == "file":  # refused, never dropped
        assert samples == []
        assert "has a part that is neither text nor a clip" in problems[0]
        return
    assert problems == []
    assert (samples[0].question, samples[0].video, samples[0].audio) == (
        "How many?",
        *2 * [str(videos / CLIP)],
    )


@pytest.mark.parametrize(
    ("beside", "expected"),
    [
        ({"videos": [{"path": CLIP}]}, (CLIP, CLIP)),
        ({"videos": [{"path": CLIP, "bytes": None}], "images": None, "audios": []}, (CLIP, CLIP)),
        ({"videos": [None, CLIP]}, (CLIP, CLIP)),
        ({"video": {"url": CLIP}}, (CLIP, CLIP)),
        ({"videos": CLIP, "audios": ["b.wav"]}, (CLIP, "b.wav")),
        ({"images": ["c.png"], "audios": [CLIP]}, ("c.png", CLIP)),
        ({"videos": [CLIP, CLIP]}, (CLIP, CLIP)),
        ({"videos": [CLIP, "00000093.mp4"]}, "names 2 clips for one question"),
        ({"video": CLIP, "videos": ["00000093.mp4"]}, "names 2 clips for one question"),
        ({"videos": [CLIP], "images": ["c.png"]}, "names 2 clips for one question"),
        ({"audios": ["b.wav", CLIP]}, "names 2 clips for one question"),
        ({"videos": [None]}, "the question has no clip"),
        ({"video": ""}, "its video names no file"),
        ({"videos": [{"bytes": "x"}]}, "its video names no file"),
        ({"videos": [[CLIP]]}, "its video names no file"),
    ],
)
def test_clips_beside_a_chat(write, videos, beside, expected):
    row = {"messages": [{"role": "user", "content": "<video>How many?"}, answer()], "conversations": None}
    samples, problems = read_warmup(write([{**row, **beside}]), videos)
    if isinstance(expected, str):
        assert samples == []
        assert expected in problems[0]
    else:
        assert problems == []
        assert (samples[0].video, samples[0].audio) == tuple(str(videos / name) for name in expected)


@pytest.mark.parametrize(
    "value", [None, float("nan"), 3, {"a": 1}, [None], [3], [{"type": "text", "text": None}]]
)
def test_a_chat_turn_that_says_nothing_is_refused(write, videos, value):
    rows = [{"messages": [{"role": "user", "content": value}, answer()], "video": CLIP}]
    samples, problems = read_warmup(write(rows), videos)
    assert samples == []
    assert problems
    rows = [
        {
            "messages": [{"role": "user", "content": "How many?"}, {**answer(), "content": value}],
            "video": CLIP,
        }
    ]
    assert read_warmup(write(rows), videos)[0] == []


def test_r1_paths_with_nulls_beside_them(write, videos):
    row = {**R1, "data_type": "image_audio"}
    (sample,), problems = read_r1(
        write([{**row, "path": {"image": "c.png", "video": None, "audio": "b.wav"}}]), videos
    )
    assert (sample.video, sample.audio, problems) == (str(videos / "c.png"), str(videos / "b.wav"), [])
    for path in (
        {"image": None},
        {"image": "c.png", "video": "a.mp4"},
        {"audio": 3.5},
        {"audio": float("nan")},
    ):
        samples, problems = read_r1(write([{**row, "path": path}]), videos)
        assert samples == []
        assert problems


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


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), {"a": 1}, ["a"], True])
def test_what_is_no_text_becomes_no_word(write, videos, value):
    """Null, NaN and objects are refused wherever a text is wanted, never turned into "None" or "nan"."""
    samples, problems = read_music_avqa(write([{**MUSIC, "anser": value}]), videos)
    assert samples == []
    assert problems[0].startswith("row 1, field 'anser': ")
    place = "Is the <Object> playing?"
    rows = [{**MUSIC, "templ_values": [value], "question_content": place}]
    assert read_music_avqa(write(rows), videos)[0] == []
    rows = [{**AVQA, "multi_choice": ["a", value, "c", "d"]}]
    samples, problems = read_avqa(write(rows), videos)
    assert samples == []
    assert "field 'multi_choice': must be a list of texts, its entry 2 is" in problems[0]
    samples, problems = read_r1(write([{**R1, "options": ["A. a drum", value]}]), videos)
    assert samples == []
    assert any("field 'options': must be a list of texts, its entry 2 is" in problem for problem in problems)


def test_numbers_are_read_as_people_write_them(write, videos):
    (sample,), problems = read_music_avqa(write([{**MUSIC, "anser": 2.0, "question_id": 10.0}]), videos)
    assert (sample.answer, sample.id, problems) == ("2", "00000093-10", [])
    (sample,), _ = read_avqa(write([{**AVQA, "multi_choice": [1, 2.0, 2.5, "four"]}]), videos)
    assert (sample.answer, sample.options) == ("2", ("1", "2", "2.5", "four"))
    (sample,), _ = read_avqa(write([{**AVQA, "id": None}]), videos)
    assert sample.id == "-HG3Omg_89c_000030-1"


@pytest.mark.parametrize(
    "options",
    [
        ["A、鼓", "B、竖琴"],
        ["Ａ．鼓", "Ｂ．竖琴"],
        ["（A）鼓", "（B）竖琴"],
        ["【A】鼓", "【B】竖琴"],
        ["A：鼓", "B：竖琴"],
        ["a) 鼓", "b) 竖琴"],
        ["[A] 鼓", "[B] 竖琴"],
    ],
)
@pytest.mark.parametrize("solution", ["B", "（B）", "Ｂ", "B、竖琴", "竖琴", "B."])
def test_r1_options_lettered_as_people_do(write, videos, options, solution):
    row = {**R1, "options": options, "solution": f"<answer>{solution}</answer>"}
    (sample,), problems = read_r1(write([row]), videos)
    assert (sample.options, sample.answer, problems) == (("鼓", "竖琴"), "竖琴", [])


@pytest.mark.parametrize(
    "options", [["A minor", "B minor"], ["A-flat", "B-flat"], ["A. x", "C. y"], ["a) x", "B) y"]]
)
def test_r1_options_that_only_look_lettered_are_left(write, videos, options):
    (sample,), _ = read_r1(write([{**R1, "options": options, "solution": options[1]}]), videos)
    assert list(sample.options) == options


def test_more_options_than_letters_are_refused(write, videos):
    options = [f"sound {number}" for number in range(27)]
    samples, problems = read_r1(write([{**R1, "options": options, "solution": "sound 3"}]), videos)
    assert samples == []
    assert problems == ["row 1: has 27 options, and there are 26 letters"]
