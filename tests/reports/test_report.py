"""The page and the text table."""

import base64
import html
import html.parser
import io
import re

import av
import numpy as np
import pytest

from rlcomm.data.write_media import write_clip
from rlcomm.reports import stages as report
from rlcomm.reports.tables import mean_interval
from rlcomm.utils.errors import UserError


class Page(html.parser.HTMLParser):
    """Every tag with its attributes, and that tags are closed in order."""

    void = frozenset({"meta", "br", "line", "polyline", "img"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def circles(drawing, kind=None):
    """The dots of a chart; `kind`: of that class alone."""
    tags = Page(drawing.svg).tags
    found, group = [], None
    for tag, attributes in tags:
        group = attributes.get("class") if tag == "g" else group
        if tag == "circle" and kind in (None, group):
            found.append(attributes)
    return found


def titles(drawing):
    """What shows when one points at the marks of a chart."""
    return [html.unescape(words) for words in re.findall(r"<title>([^<]+)</title>", drawing.svg)]


def row(muted, **more):
    return {"muted_acc": muted, "control_acc": 1.0, "ci95": {"muted_acc": [muted - 0.1, muted + 0.1]}, **more}


SUMMARY = {
    "stages": {
        "ans_co": row(0.55, format_rate=1.0, muted_unparsed=0.0, modified_a_acc=3.25),
        "base": row(0.2, format_rate=None, muted_unparsed=0.1, modified_a_acc=0.5),
    },
    "seconds_method": 541.0,
    "versions": {"torch": "2.13.0"},
}


def record(benchmark, id, correct, **more):
    return {
        "benchmark": benchmark,
        "id": id,
        "video_id": id,
        "video": f"{id}.mp4",
        "view": "joint",
        "question": f"Is there a <harp> in {id}?",
        "gold": "no",
        "prompt_style": "steps",
        "completion": "x",
        "answer": "no" if correct else None,
        "hearing": "a drum",
        "seeing": "a harp",
        "correct": correct,
        "a_acc": None,
        "v_acc": None,
        "truth": {"visible": ["harp", "drum"], "audible": ["drum"], "ambient": "rain"},
        **more,
    }


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "a.mp4"
    frames = np.full((4, 32, 48, 3), 200, np.uint8)
    write_clip(str(path), frames, 4.0, np.zeros(16000, np.float32))
    return {**report.pick_clips({"base": [record("avconfuse_muted", "a", False)]})[0], "video": str(path)}


def write(tmp_path, **options):
    report.write_report(tmp_path / "report.html", SUMMARY, **options)
    text = (tmp_path / "report.html").read_text()
    return text, Page(text).tags


def test_the_page_loads_nothing_from_elsewhere(tmp_path, clip):
    curve = [{"step": i, "rewards/arr/mean": i / 10, "reward": float(i)} for i in range(5)]
    text, tags = write(tmp_path, curves={"step_rr": curve}, clips=[clip])
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert not [tag for tag, _ in tags if tag in ("script", "link", "iframe")]
    for _, attributes in tags:
        for name in ("src", "href", "poster"):
            assert attributes.get(name, "data:").startswith("data:")


def test_the_clip_in_the_page_plays(tmp_path, clip):
    _, tags = write(tmp_path, clips=[clip])
    (video,) = [attributes for tag, attributes in tags if tag == "video"]
    assert {"controls", "loop"} <= set(video)
    assert "muted" not in video  # it is to be heard
    data = base64.b64decode(video["src"].removeprefix("data:video/mp4;base64,"))
    with av.open(io.BytesIO(data)) as container:
        assert {stream.codec_context.name for stream in container.streams} == {"h264", "aac"}
        assert sum(1 for _ in container.decode(video=0)) == 4
    poster = base64.b64decode(video["poster"].removeprefix("data:image/png;base64,"))
    with av.open(io.BytesIO(poster)) as picture:
        frame = next(picture.decode(video=0))
        assert (frame.width, frame.height) == (48, 32)


def test_stages_stand_in_the_order_of_the_method_and_the_best_is_marked(tmp_path):
    text, _ = write(tmp_path)
    assert text.index("Base (direct)") < text.index(">Ans-CO<")
    assert '<td class="best">55.0<span class="ci">45.0\N{EN DASH}65.0</span></td>' in text
    assert '<td class="best">0.0</td>' in text  # unparsed: less is better
    assert '<td class="best">100.0</td>' not in text  # control: no stage is better than another
    assert '<td class="best">3.25</td>' in text  # 0-5, not percent
    assert "+35.0 points" in text
    assert "9 min 1 s" in text


def test_what_models_say_is_escaped(tmp_path, clip):
    clip["said"]["base"]["hearing"] = "<img src=x onerror=alert(1)>"
    text, tags = write(tmp_path, clips=[clip])
    assert "img" not in [tag for tag, _ in tags]
    assert "Is there a &lt;harp&gt; in a?" in text


def test_unparsed_is_shown_as_such(tmp_path, clip):
    text, _ = write(tmp_path, clips=[clip])
    assert "<em>unparsed</em>" in text
    assert "wrong" in text


def test_curves_are_drawn_to_scale(tmp_path):
    rows = [
        {"step": 0, "reward": 0.0},
        {"step": 10, "reward": 1.0},
        {"loss": 1.0},
        {"step": 5, "reward": float("nan")},
    ]
    text, _ = write(tmp_path, curves={"step_rr": rows, "warmup": [{"step": 1, "loss": 2.0}]})
    (raw,) = re.findall(r'<g class="raw"><path d="([^"]+)" style="[^"]*stroke:var\(--c4\)', text)
    assert raw == "M 46 230 L 548 14"  # bottom left and top right of the plot
    assert text.count("<svg") == 1  # nothing to draw for the warm-up


def test_the_reference_is_shown_beside_arr(tmp_path):
    curves = {"step_rr": [{"step": i, "rewards/arr/mean": 0.1 * i} for i in range(5)]}
    summary = {"stages": {}, "reference": {"reference_hearing_exact": 0.954}}
    report.write_report(tmp_path / "r.html", summary, curves=curves)
    page = (tmp_path / "r.html").read_text()
    assert "The reference that ARR compares with names exactly what sounds in 95.4% of the rows." in page
    report.write_report(tmp_path / "r.html", {"stages": {}}, curves=curves)
    assert "The reference that ARR compares with" not in (tmp_path / "r.html").read_text()


def test_a_missing_clip_is_one_sentence(tmp_path, clip):
    with pytest.raises(UserError, match=r"gone\.mp4: cannot be put into the report"):
        write(tmp_path, clips=[{**clip, "video": str(tmp_path / "gone.mp4")}])
    assert not (tmp_path / "report.html").exists()


def test_types_are_tabulated_by_stage(tmp_path):
    def results(value):
        metric = {"value": value, "n": 12, "ci95": [0, 1]}
        found = {"acc": metric, "acc_count": metric, "acc_audio_visual_count": metric}
        return {"decoders": {"greedy": {"benchmarks": {"music_avqa": found}}}}

    text, _ = write(tmp_path, results={"ans_co": results(0.75), "base": results(0.5), "broken": {}})
    assert (
        'Audio-visual counting <span class="n">n = 12</span></th><td>50.0</td><td class="best">75.0</td>'
        in text
    )


def test_the_text_table_fits_and_says_what_is_missing():
    lines = report.format_table(SUMMARY).splitlines()
    assert max(map(len, lines)) <= 120
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split()[:4] == ["Base", "(direct)", "10.0-30.0", "20.0"]
    assert lines[4].split()[:3] == ["Ans-CO", "45.0-65.0", "55.0"]
    assert lines[3].split()[-2:] == ["0.50", "-"]


def test_the_widest_values_still_stand_apart():
    full = {c.name: 1.0 if c.scale == 100 else 5.0 for c in report.COLUMNS}
    table = report.format_table({"stages": {"base_steps": {**full, "ci95": {"muted_acc": [1.0, 1.0]}}}})
    assert (
        table.splitlines()[-1].split() == ["Base", "(steps)", "100.0-100.0"] + ["100.0"] * 12 + ["5.00"] * 2
    )


def test_picked_clips_tell_the_story_and_its_failures():
    def stage(right):
        names = ["m1", "m2", "m3", "m4"]
        return [
            *(record("avconfuse_muted", n, n in right) for n in names),
            *(record("avconfuse_control", f"c{i}", True) for i in (1, 2)),
            record("avconfuse_modified", "w1", None, a_acc=5.0, v_acc=2.5),
            record("avconfuse_muted", "m9", True, view="audio_only"),
        ]

    clips = report.pick_clips({"base": stage(["m1"]), "ans_co": stage(["m1", "m2", "m4"])})
    assert [c["question"].split()[-1] for c in clips] == ["m2?", "m3?", "w1?", "c1?", "m4?"]
    assert clips[0]["said"]["base"]["correct"] is False
    assert clips[0]["said"]["ans_co"]["correct"] is True
    assert clips[0]["sounding"] == ["drum", "rain"]
    assert len(report.pick_clips({"base": stage([])[:2]})) == 2  # never more than there are
    assert report.pick_clips({}) == []


def test_read_curve(tmp_path):
    assert report.read_curve(tmp_path / "none.jsonl") == []
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step"')
    with pytest.raises(UserError, match=r"m\.jsonl, row 2"):
        report.read_curve(tmp_path / "m.jsonl")


def test_seeds_are_shown_as_a_mean_with_students_interval():
    mean, (low, high) = mean_interval([1.0, 2.0, 3.0])
    assert (mean, round(low, 3), round(high, 3)) == (2.0, -0.484, 4.484)  # t(2) = 4.303, s = 1
    runs = {
        seed: {"stages": {"base": {"muted_acc": 0.4}, "warmup": {"muted_acc": value, "control_acc": None}}}
        for seed, value in zip("012", (0.1, 0.2, 0.3), strict=True)
    }
    lines = report.format_seeds(runs).splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][:4] == ["Base (direct)", "all", "40.0", "-"]
    assert [row[1:3] for row in rows[1:4]] == [["0", "10.0"], ["1", "20.0"], ["2", "30.0"]]
    assert rows[4][:4] == ["Warm-up", "mean", "20.0 [-4.8, 44.8]", "-"]
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("judges", "said", "unsaid"),
    [
        (["keywords"], "a deterministic keyword judge", "judge model ("),
        (["some/judge, prompt 1"], "scored by a judge model (some/judge, prompt 1).", "keyword judge"),
        (["keywords", "<b>"], "(&lt;b&gt;). Stages without it: a deterministic keyword judge", "(<b>)"),
    ],
)
def test_the_page_says_who_judged_the_modified_clips(judges, said, unsaid, tmp_path):
    results = {
        f"stage {number}": {"decoders": {"greedy": {"settings": {"judge": judge}, "benchmarks": {}}}}
        for number, judge in enumerate(judges)
    }
    report.write_report(tmp_path / "report.html", SUMMARY, results)
    text = (tmp_path / "report.html").read_text()
    assert said in text
    assert unsaid not in text
