"""What every page keeps: the same bytes for the same records, hostile text as text, nothing loaded, small."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from rlcomm.reports import conflict, diagnosis, stages
from rlcomm.reports import diagnosis_charts as charts
from rlcomm.reports.charts import Chart, Key, ticks
from rlcomm.reports.tables import Column, by_name
from tests.reports.test_conflict_report import RECORDS, results  # noqa: F401 (a fixture)
from tests.reports.test_report import SUMMARY, Page, circles, clip, titles  # noqa: F401 (a fixture)

HOSTILE = "</title></style><script>alert(1)</script>\u2028\ud800\x0b$x^2$ {{ 7 * 7 }} &amp; \"'"
CURVE = [{"step": i, "rewards/arr/mean": i / 10, "diagnose/text_prior": i / 9} for i in range(5)]


def metric(value, n=3):
    return {"value": value, "n": n, "ci95": [value - 0.1, value + 0.1]}


def write_stages(path, clip, text=""):  # noqa: F811
    clip = {**clip, "question": f"What? {text}", "gold": text, "visible": [text or "harp"], "kind": text}
    clip["said"] = {f"mine{text}": {**clip["said"]["base"], "hearing": text, "completion": text}}
    summary = {**SUMMARY, "stages": {**SUMMARY["stages"], f"mine{text}": SUMMARY["stages"]["base"]}}
    stages.write_report(path, summary, curves={f"step_rr{text}": CURVE}, clips=[clip])


def write_conflict(path, results, text=""):  # noqa: F811
    name = f"mine{text}"
    found = {**results, "model": text, "decoders": {**results["decoders"], name: results["decoders"]["gacl"]}}
    records = [
        {**row, "set": row["set"] + text, "decoders": {name: row["decoders"]["gacl"]}} for row in RECORDS
    ]
    conflict.write_report(path, found, records, title=f"title {text}")


def write_diagnosis(path, text=""):
    group = {"flip": metric(0.5), "right": metric(0.5)}
    parts = {
        "flips": [
            [charts.stacked(f"caption {text}", {f"mine{text}": {"flip": 0.5, "right": 0.5}},
                            {"flip": (text or "flip", "c5"), "right": ("right", "c4")})],
            by_name(text or "group", {f"mine{text}": group}, [Column("flip", ("", ""), "Flips")]),
        ],
        "probes": [],
    }  # fmt: skip
    found = {
        "model": text, "items": {"flips": 3, "probes": 0}, "balance": {"muted_acc": metric(0.5)},
        "settings": {"distractor": text, "seed": 0},
    }  # fmt: skip
    diagnosis.write_report(path, found, parts)


@pytest.fixture
def writers(clip, results):  # noqa: F811
    """Every page, told a text that it shows wherever a file's text may stand."""
    return {
        "stages": lambda path, text="": write_stages(path, clip, text),
        "balance": lambda path, text="": stages.write_balance(path, CURVE, f"mine{text}"),
        "conflict": lambda path, text="": write_conflict(path, results, text),
        "diagnosis": lambda path, text="": write_diagnosis(path, text),
    }


PAGES = ("stages", "balance", "conflict", "diagnosis")


@pytest.mark.parametrize("name", PAGES)
def test_the_same_records_give_the_same_bytes(name, writers, tmp_path):
    for path in ("a.html", "b.html"):
        writers[name](tmp_path / path)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("name", PAGES)
def test_hostile_text_stays_text(name, writers, tmp_path):
    """Trap: a question that ends the page's style and begins a script, in a table, a legend or a chart."""
    writers[name](tmp_path / "plain.html", "w" * len(HOSTILE))
    writers[name](tmp_path / "page.html", HOSTILE)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")  # a lone surrogate would be no UTF-8
    tags = Page(text).tags
    assert [tag for tag, _ in tags] == [tag for tag, _ in Page((tmp_path / "plain.html").read_text()).tags]
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 1
    assert "{{ 7 * 7 }}" in text
    assert "$x^2$" in text
    for _, attributes in tags:
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("src", "href", "poster", "xlink:href"):
            assert attributes.get(key, "data:").startswith("data:")
    for loaded in ("http:", "https:", "@import", "url("):
        assert loaded not in text


@pytest.mark.parametrize("name", PAGES)
def test_a_page_without_its_clips_is_small(name, writers, tmp_path):
    writers[name](tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    clips = sum(len(a.get("src", "")) + len(a.get("poster", "")) for _, a in Page(text).tags)
    assert len(text) - clips < 100_000


def test_a_long_training_still_fits():
    rows = [{"step": i, **{keys[0]: (i % 97) / 97 for _, keys in stages.CURVES}} for i in range(2000)]
    assert len(stages.curve("", rows).svg) < 600_000


def test_nothing_is_drawn_before_it_is_asked_for():
    """Trap: matplotlib takes a second to import, and every command imports the tables."""
    script = (
        "import sys\nimport rlcomm.reports.conflict, rlcomm.reports.stages, rlcomm.reports.diagnosis\n"
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_matplotlib_is_called_in_one_place():
    package = Path(stages.__file__).parents[1]
    users = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            users |= {path.name for name in names if name.split(".")[0] == "matplotlib"}
    assert users == {"charts.py"}


# ---------------------------------------------------------------- charts


def test_a_chart_places_its_marks_by_its_axes():
    chart = Chart((0, 5), (0, 50), ("across", "up <b>"), (0, 10), (0, 100), 200, 60, 20, 30)
    chart.line([(0, 0), (10, 100)], "c3")
    chart.dots([(5, 50)], "c1", [4], ["half & half"])
    chart.box((0, 0), (5, 100), "c2", "left half", 0.5)
    chart.text((10, 0), "end", "right", shift=(-3, 7))
    drawn = chart.drawing("caption", [Key("half", "0.5", "c2"), Key("a remark")], "x: steps")
    tags = Page(drawn.svg).tags
    label = "caption; up <b>; across; half 0.5; a remark; x: steps"
    assert tags[0] == ("svg", {"viewbox": "0 0 560 200", "role": "img", "aria-label": label})
    paths = [attributes["d"] for tag, attributes in tags if tag == "path"]
    assert "M 60 170 L 548 20" in paths  # 60 + 488 wide, 150 high
    assert "M 60 170 L 304 170 L 304 20 L 60 20 z" in paths
    assert circles(drawn, "dot c1") == [{"cx": "304.0", "cy": "95.0", "r": "4.0"}]
    assert titles(drawn) == ["half & half", "left half"]
    words = {a.get("x"): a for tag, a in tags if tag == "text"}
    assert words["545"]["y"] == "163"
    assert {f"var(--c{i})" for i in (2, 3)} <= {part for path in drawn.svg.split('"') for part in
                                                path.replace(";", ":").split(":")}  # fmt: skip
    assert "#" not in drawn.svg  # every colour is the page's to choose, light or dark


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [(0, 100, 5, [0, 20, 40, 60, 80, 100]), (-0.3, 0.7, 5, [-0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8]),
     (0, 0.1, 5, [0, 0.02, 0.04, 0.06, 0.08, 0.1])],
)  # fmt: skip
def test_ticks_are_round_and_cover_the_range(low, high, count, expected):
    assert ticks(low, high, count) == expected
