"""The page and the text table of decoders under conflict."""

import copy
import json
import re
from itertools import pairwise

import pytest

from rlcomm.cli import main
from rlcomm.decoding.decoders import READS
from rlcomm.evaluation.repair import frontier_area
from rlcomm.reports import conflict as report
from rlcomm.reports import conflict_charts as charts
from rlcomm.reports.charts import Key
from rlcomm.reports.tables import DASH
from tests.reports.test_report import Page, circles, titles


def metric(value, n=20, half=0.1):
    return {"value": value, "n": n, "ci95": None if value is None else [value - half, value + half]}


def repaired(conflict, aligned, gain, drop, area, ece=None):
    return {
        "acc": metric(conflict),
        "conflict_acc": metric(conflict),
        "aligned_acc": metric(aligned),
        "conflict_gain": metric(gain),
        "faithful_drop": metric(drop),
        "nauc_5": metric(area),
        "nauc_10": metric(area),
        **({} if ece is None else {"ece": metric(ece)}),
    }


def found(benchmarks, chosen, grid):
    plan = {"dev_share": 0.3, "budget_points": 5.0, "prompt_style": "direct"}
    return {"settings": plan, "benchmarks": benchmarks, "chosen": chosen, "grid": grid}


def chosen(settings, tried):
    return {"settings": settings, "feasible": int(settings is not None), "tried": tried, "n_dev": 8}


def point(gain, drop, **settings):
    return {"settings": settings, "conflict_gain": gain, "faithful_drop": drop}


GACL_GRID = [point(0.2, 0.0, lam=0.5, tau=0.5), point(0.5, 0.03, lam=1.0, tau=0.5), point(0.6, 0.4, lam=2.0)]
GACL_AREA = frontier_area([0.2, 0.5, 0.6], [0.0, 0.03, 0.4], 5)


@pytest.fixture
def results():
    """Two conflict benchmarks and one without; AAD is infeasible on the first."""
    plain = {"acc": metric(0.75, 40), "acc_count": metric(None, 0), "mean_confidence": metric(0.5, 40)}
    tuned = {"lam": 1.0, "tau": 0.5, "alpha_max": 1.0, "score_norm": "log_softmax"}
    greedy = {**repaired(0.1, 0.9, 0.0, 0.0, 0.0, 0.3), "sign_flip_rate": metric(0.64)}
    infeasible = {"nauc_5": metric(0.05), "nauc_10": metric(0.06)}
    aad_grid = [point(0.05, 0.02, a=0.25, b=None), point(0.1, 0.9, a=2.0, b=None)]
    keys = ("avconfuse_muted", "birds <b>")
    decoders = {
        "greedy": found(
            {keys[0]: greedy, keys[1]: {**greedy, "conflict_acc": metric(0.3)}, "music_avqa": plain},
            {**dict.fromkeys(keys, chosen({}, 1)), "music_avqa": chosen({}, 1)},
            {**{key: [point(0.0, 0.0)] for key in keys}, "music_avqa": []},
        ),
        "gacl": found(
            {
                keys[0]: {**repaired(0.6, 0.87, 0.5, 0.03, GACL_AREA, 0.05), "mrs": metric(1.25)},
                keys[1]: repaired(0.8, 0.9, 0.5, 0.0, 0.4, 0.15),
                "music_avqa": {**plain, "acc": metric(0.8, 40)},
            },
            {**dict.fromkeys(keys, chosen(tuned, 3)), "music_avqa": chosen(tuned, 1)},
            {**dict.fromkeys(keys, GACL_GRID), "music_avqa": []},
        ),
        "aad": found(
            {keys[0]: infeasible, keys[1]: repaired(0.4, 0.9, 0.1, 0.0, 0.1), "music_avqa": plain},
            {
                keys[0]: chosen(None, 2),
                keys[1]: chosen({"a": 0.25, "b": None}, 2),
                "music_avqa": chosen({}, 1),
            },
            {**dict.fromkeys(keys, aad_grid), "music_avqa": []},
        ),
    }
    return {"model": "a <model>", "decoders": decoders}


def record(number, condition, joint, evidence, right, key="avconfuse_muted", split="test", **more):
    answers = {
        "greedy": {"correct": right[0], "confidence": 0.9, "gate": None},
        "gacl": {"correct": right[1], "confidence": 0.8, "gate": right[0] != right[1]},
    }
    return {
        "set": key,
        "benchmark": key,
        "id": f"{number} <i>",
        "split": split,
        "condition": condition,
        "margins": {"joint": joint, "evidence": evidence},
        "decoders": answers,
        **more,
    }


RECORDS = [
    record(0, "adversarial", -1.0, 2.0, (False, True)),  # a sign flip
    record(1, "adversarial", -1.0, 2.0, (False, True)),
    record(2, "adversarial", -1.0, -2.0, (False, False)),  # nothing there to repair it with
    record(3, "adversarial", 1.0, 2.0, (True, True)),
    record(4, "adversarial", None, 2.0, (False, True)),
    record(5, "faithful", 1.0, 1.0, (True, True)),
    record(6, "faithful", 1.0, 1.0, (True, False)),
    record(7, "adversarial", -9.0, 9.0, (False, False), split="dev"),
    record(8, None, None, None, (True, None), key="music_avqa"),
]


def write(tmp_path, results, records=RECORDS):
    report.write_report(tmp_path / "report.html", results, records)
    text = (tmp_path / "report.html").read_text()
    return text, Page(text).tags


def test_every_decoder_has_a_name_and_a_colour_of_its_own():
    assert list(charts.TITLES) == list(READS)
    assert len({charts.colour(name) for name in charts.TITLES}) == len(charts.TITLES) == 12
    assert re.fullmatch(r"c\d+", charts.colour("mine"))
    assert charts.title("mine") == "mine"


def test_the_text_table(results):
    text = report.format_table(results)
    assert max(map(len, text.splitlines())) <= 110
    first, second, macro, others = text.split("\n\n")
    assert first.splitlines()[0] == "avconfuse_muted"
    rows = {line.split()[0]: line.split()[1:] for line in first.splitlines()[4:]}
    assert rows["greedy"] == ["10.0", "90.0", "0.0", "0.0", "0.0", "0.0", "64.0", "30.0", "1", "-"]
    area = f"{100 * GACL_AREA:.1f}"
    assert rows["gacl"] == ["60.0", "87.0", "50.0", "3.0", area, area, "-", "5.0", "3", "lam=1", "tau=0.5"]
    assert rows["aad"] == ["-", "-", "-", "-", "5.0", "6.0", "-", "-", "2", "infeasible"]
    assert second.splitlines()[0] == "birds <b>"
    assert macro.splitlines()[0] == "all, macro mean of 2 benchmarks"
    rows = {line.split()[0]: line.split()[1:] for line in macro.splitlines()[4:]}
    assert rows["greedy"][:3] == ["20.0", "90.0", "0.0"]
    assert rows["gacl"][:2] == ["70.0", "88.5"]
    assert rows["gacl"][7:] == ["10.0", "3", "-"]
    assert rows["aad"][:5] == ["-", "-", "-", "-", "7.5"]
    assert rows["aad"][8:] == ["2", "infeasible", "on", "1", "of", "2"]
    assert [line.split() for line in others.splitlines()[:2]] == [["music_avqa"], ["decoder", "acc"]]
    assert [line.split() for line in others.splitlines()[3:]] == [
        ["greedy", "75.0"], ["gacl", "80.0"], ["aad", "75.0"],
    ]  # fmt: skip


def test_many_benchmarks_still_fit(results):
    for one in results["decoders"].values():
        one["benchmarks"].update({f"benchmark_{i:02d}": {"acc": metric(1.0)} for i in range(20)})
        one["benchmarks"]["modified"] = {"a_acc": metric(2.5), "v_acc": metric(None)}
        one["chosen"]["birds <b>"]["settings"] = {
            "lam": 1.25,
            "tau": 0.5,
            "score_norm": "zscore",
            "more": "x" * 40,
        }
    lines = report.format_table(results).splitlines()
    assert max(map(len, lines)) <= 110
    assert "lam=1.25 tau=0.5" in "\n".join(lines)
    assert sum(line.count("benchmark_") for line in lines) == 20
    assert [line.split()[-2:] for line in lines if line.startswith("gacl")][-1] == ["2.50", "-"]


def test_means_over_mcr_stand_beside_the_mean_over_all(results):
    def of(keys):
        decoders = {
            name: {
                part: {key: one[part]["birds <b>"] for key in keys}
                for part in ("benchmarks", "chosen", "grid")
            }
            for name, one in results["decoders"].items()
        }
        text = report.format_table({"model": "", "decoders": decoders})
        return [line for line in text.splitlines() if "mean" in line]

    mcr = ["mcr_aqa", "mcr_ser", "mcr_vsc"]
    assert of(mcr) == ["mcr, macro mean of 3 benchmarks"]
    assert of([*mcr, "x"]) == ["mcr, macro mean of 3 benchmarks", "all, macro mean of 4 benchmarks"]
    assert of([*mcr[:2], "x"]) == ["all, macro mean of 3 benchmarks"]
    assert of(["x"]) == []


def test_means_with_intervals_are_taken_from_the_results(tmp_path, results):
    stored = {"conflict_acc": metric(0.7, half=0.05), "nauc_5": metric(0.35, half=0.05)}
    results["decoders"]["gacl"]["macro"] = {"all": stored}
    text, _ = write(tmp_path, results)
    assert '70.0<span class="ci">65.0\N{EN DASH}75.0</span>' in text
    assert '35.0<span class="ci">30.0\N{EN DASH}40.0</span>' in text
    assert '<td class="best">10.0</td>' in text  # ECE, which has none there


def test_nothing_but_plain_benchmarks(tmp_path, results):
    for one in results["decoders"].values():
        for key in ("avconfuse_muted", "birds <b>"):
            for part in ("benchmarks", "chosen", "grid"):
                del one[part][key]
    assert report.format_table(results).split()[:3] == ["music_avqa", "decoder", "acc"]
    text, tags = write(tmp_path, results, [RECORDS[-1]])
    assert "Other benchmarks" in text
    assert "Decoders under conflict" not in text
    assert len([tag for tag, _ in tags if tag == "svg"]) == 1  # the reliability diagram
    assert report.format_table({"model": "", "decoders": {}}) == ""


def test_the_page_loads_nothing_from_elsewhere_and_escapes(tmp_path, results):
    text, tags = write(tmp_path, results)
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert "url(" not in text
    assert not {tag for tag, _ in tags} & {"script", "link", "iframe", "img"}
    assert all(attributes.keys().isdisjoint(("src", "href", "onclick")) for _, attributes in tags)
    pictures = [attributes for tag, attributes in tags if tag == "svg"]
    # two frontiers, one of conditions, two of reliability, two of calibration, one quadrant plot
    assert len(pictures) == 8
    assert all(picture["role"] == "img" and picture["aria-label"] for picture in pictures)
    assert "birds <b>" not in text
    assert "birds &lt;b&gt;" in text
    assert "model a &lt;model&gt;" in text


def test_the_page_tabulates_decoders(tmp_path, results):
    text, _ = write(tmp_path, results)
    assert '<td class="best">60.0<span class="ci">50.0\N{EN DASH}70.0</span></td>' in text
    row = re.search(r">AAD</th>(.*?)</tr>", text).group(1)
    dash = "<td>\N{EN DASH}</td>"
    assert row.startswith(4 * dash + '<td>5.0<span class="ci">')
    assert row.endswith(dash + '<td>2</td><td class="set none">infeasible</td>')
    assert "sign flips 64.0 % (54.0\N{EN DASH}74.0)" in text
    assert "20 in conflict and 20 aligned test items; settings chosen on 8 dev items" in text
    assert "infeasible on 1 of 2" in text
    assert "macro mean of 2 benchmarks" in text
    assert "<td>1.25<span" in text  # MRS is a ratio, not a rate
    assert "30&nbsp;% of the clips" in text
    assert "+50.0 points" in text
    assert "33.3" in text
    trained = re.search(r"<b>Published</b>, for orientation[^<]+RL-CoMM.*", text).group()
    trained = trained.replace("\N{NO-BREAK SPACE}", "&nbsp;")
    assert "54.95&nbsp;% to 79.46&nbsp;%" in trained  # of the benchmarks that were run, and of no other
    assert "8.22&nbsp;% to 27.40&nbsp;%" in trained
    assert "AVHBench" not in trained


def test_the_frontier_is_a_step_line():
    gains, drops = [0.2, 0.5, 0.6, 0.1], [-0.01, 0.03, 0.4, 0.05]
    steps = charts.frontier_steps(gains, drops, 10.0)
    assert steps == [(0, 20), (3, 20), (3, 50), (10, 50)]
    assert charts.frontier_steps([0.5], [0.5], 10.0) == [
        (0, 0),
        (10, 0),
    ]  # nothing within reach: joint decoding
    assert charts.frontier_steps([-0.1], [0.0], 10.0) == [(0, -10), (10, -10)]
    width = sum((b[0] - a[0]) * a[1] for a, b in pairwise(steps) if b[0] <= 5) + 2 * 50
    assert width / 5 == pytest.approx(100 * frontier_area(gains, drops, 5))


def test_frontiers_are_drawn_to_scale(results):
    drawn = charts.frontiers(results, "avconfuse_muted")
    edge, low, high = -0.6, 0.0, 60.0  # 2 % of 30 points left of 0; drops of 40 and 90 lie beyond 30

    def at(drop, gain):
        x = 46 + (drop - edge) / (30 - edge) * (560 - 46 - 12)
        y = 360 - 48 - (gain - low) / (high - low) * (360 - 30 - 48)
        return " ".join(f"{place:.1f}".removesuffix(".0") for place in (x, y))

    line = re.search(
        r'<g class="line"><path d="([^"]+)" style="fill:none;stroke:var\(--c1\)', drawn.svg
    ).group(1)
    assert line == "M " + " L ".join([at(0, 20), at(3, 20), at(3, 50), at(30, 50)])
    assert len(circles(drawn)) == 6
    assert len(circles(drawn, "dot c0 far")) + len(circles(drawn, "dot far c1")) == 1
    assert len(circles(drawn, "dot far c2")) == 1
    assert Key("hollow, on the edge: 2 settings beyond it") in drawn.keys
    assert "GACL lam=1 tau=0.5: gain 50.0, drop 3.0" in titles(drawn)
    dot = circles(drawn, "dot c1")[1]
    assert (float(dot["cx"]), float(dot["cy"])) == tuple(map(float, at(3, 50).split()))
    budget = re.search(r'<g class="budget"><path d="M ([\d.]+)', drawn.svg).group(1)
    assert budget == at(5, 0).split()[0]


def test_accuracy_by_condition(results):
    test = [row for row in RECORDS if row["split"] == "test"]
    assert charts.accuracy_by_condition(test) == {
        "faithful": {"greedy": (1.0, 2), "gacl": (0.5, 2)},
        "adversarial": {"greedy": (0.2, 5), "gacl": (0.8, 5)},
    }
    drawn = charts.conditions(results, "avconfuse_muted", test)
    assert ">muted</text>" in drawn.svg
    assert ">control</text>" in drawn.svg
    assert Key("AAD: infeasible") in drawn.keys
    assert titles(drawn) == [
        "Joint (greedy), faithful: 100.0 % of 2", "GACL, faithful: 50.0 % of 2",
        "Joint (greedy), adversarial: 20.0 % of 5", "GACL, adversarial: 80.0 % of 5",
    ]  # fmt: skip
    assert drawn.svg.count('<g class="box">') == 4
    assert charts.conditions(results, "music_avqa", [RECORDS[-1]]) is None


def test_the_reliability_diagram_states_its_error(results):
    test = [row for row in RECORDS if row["split"] == "test" and row["set"] == "avconfuse_muted"]
    drawn = charts.reliability(results, "", test)
    assert Key("Joint (greedy)", "47.1", "c0") in drawn.keys  # sure 0.9, right 3 of 7
    assert Key("GACL", "8.6", "c1") in drawn.keys  # sure 0.8, right 5 of 7
    assert len(circles(drawn)) == 2
    unsure = {"greedy": {"correct": True, "confidence": None}, "gacl": {"correct": None, "confidence": 0.5}}
    assert charts.reliability(results, "", [{**test[0], "decoders": unsure}]) is None


def test_what_is_won_stands_over_the_calibration_error(results):
    drawn = charts.calibration(results, "avconfuse_muted")
    # AAD is infeasible here, and has no ECE elsewhere
    assert titles(drawn) == ["Joint (greedy): gain 0.0, ECE 30.0 %", "GACL: gain 50.0, ECE 5.0 %"]
    assert len(circles(drawn)) == 2
    assert charts.calibration(results, "music_avqa") is None


def test_quadrants_name_what_can_be_repaired():
    drawn = charts.quadrant_plot("", [row for row in RECORDS if row["split"] == "test"])
    words = [words for _, words in re.findall(r'<g class="(over[^"]*)"><text[^>]*>([^<]+)<', drawn.svg)]
    assert list(zip(words[::2], words[1::2], strict=True)) == [
        ("sign flip: repairable", "50.0 %"), ("right either way", "25.0 %"),
        ("missing evidence", "25.0 %"), ("reversed, or a tie", "0.0 %"),
    ]  # fmt: skip
    assert len(circles(drawn)) == 4
    assert len(circles(drawn, "dot c1")) == 2
    assert Key("1 items have no margins") in drawn.keys
    assert charts.quadrant_plot("", [{**RECORDS[0], "margins": {}}]) is None
    assert charts.quadrant_plot("", [{**RECORDS[0], "margins": {"joint": None, "evidence": None}}]) is None
    silent = [{**RECORDS[0], "decoders": {}}]
    assert "no gate is marked" in charts.quadrant_plot("", silent).keys[0].words


def test_a_large_set_stays_small(tmp_path, results):
    rows = [record(i, "adversarial", i / 1000 - 3, 1.0, (False, True)) for i in range(6000)]
    text, _ = write(tmp_path, results, rows)
    assert len(circles(charts.quadrant_plot("", rows), "dot c1")) == charts.MOST_DOTS
    assert "1500 of 6000 items drawn" in text
    assert len(text) < 300_000
    assert charts.thinned(range(10), 5) == [0, 2, 4, 6, 8]
    assert charts.thinned(range(3), 5) == range(3)


def test_several_runs_are_shown_by_their_means(results):
    other = copy.deepcopy(results)
    for name, value in (("greedy", 0.3), ("gacl", 0.8)):
        other["decoders"][name]["benchmarks"]["avconfuse_muted"]["conflict_acc"] = metric(value)
    text = report.format_runs({"a": results, "b": other})
    table = text.split("\n\n**")[0].splitlines()
    assert table[0] == "**avconfuse_muted**, mean of a, b"
    rows = {
        cells[0]: cells for cells in ([c.strip() for c in row.strip("|").split("|")] for row in table[2:])
    }
    heads = rows["decoder"]
    # 10 and 30: mean 20, s = 14.142, t = 12.706: half width 12.706 * 14.142 / sqrt(2) = 127.1
    greedy = rows[charts.title("greedy")]
    assert greedy[heads.index("Conflict accuracy")] == "20.0 [-107.1, 147.1]"
    assert greedy[heads.index("Aligned accuracy")] == "90.0"
    assert rows[charts.title("gacl")][heads.index("settings tried")] == "3"
    aad = rows[charts.title("aad")]
    assert aad[heads.index("infeasible")] == "2 of 2"
    assert aad[heads.index(charts.NAUC_5)] == "5.0"
    assert aad[heads.index("Conflict accuracy")] == DASH


def partly(results):
    """A third benchmark with conflict, and VCD, which does not apply to the first one."""
    for one in results["decoders"].values():
        for part in ("benchmarks", "chosen", "grid"):
            one[part]["more"] = one[part]["birds <b>"]
    vcd = copy.deepcopy(results["decoders"]["gacl"])
    vcd["benchmarks"]["avconfuse_muted"] = {"applies": metric(0.0)}
    vcd["chosen"]["avconfuse_muted"] = {
        "settings": None, "feasible": None, "tried": 1, "n_dev": 0, "applies": False,
    }  # fmt: skip
    vcd["grid"]["avconfuse_muted"] = []
    results["decoders"]["vcd"] = vcd
    return results


def cells_of(table):
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
    return {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows if len(row) > 1}


def test_a_decoder_that_does_not_apply_to_a_benchmark_is_not_called_infeasible(results):
    results = partly(results)
    tables = ("\n" + report.format_runs({"a": results, "b": copy.deepcopy(results)})).split("\n**")[1:]
    titles = [table.split("**")[0] for table in tables]
    assert titles == [
        "avconfuse_muted", "birds <b>", "more", "all, macro mean of 3 benchmarks",
        "where VCD applies, macro mean of 2 of 3 benchmarks: birds <b>, more",
    ]  # fmt: skip
    first, _, _, whole, part = map(cells_of, tables)
    assert first["VCD"]["infeasible"] == "does not apply"
    assert whole["VCD"]["infeasible"] == "does not apply to 1 of 3 benchmarks"
    assert whole["VCD"]["Conflict accuracy"] == whole["VCD"][charts.NAUC_5] == DASH
    assert whole["AAD"]["infeasible"] == "2 of 2"
    # the same two benchmarks for every decoder: 80 and 80, 30 and 30
    assert part["VCD"]["Conflict accuracy"] == part["GACL"]["Conflict accuracy"] == "80.0"
    assert part["VCD"]["infeasible"] == part["AAD"]["infeasible"] == ""
    assert part[charts.title("greedy")]["Conflict accuracy"] == "30.0"


def test_a_part_mean_is_named_and_takes_its_intervals_from_the_results(results, tmp_path):
    results = partly(results)
    results["decoders"]["vcd"]["macro"] = {"birds <b>+more": {"conflict_acc": metric(0.7, half=0.05)}}
    text = report.format_table(results)
    assert [line.split(None, 10)[-1] for line in text.splitlines() if line.startswith("vcd")][3] == (
        "applies to 2 of 3"
    )
    assert max(map(len, text.splitlines())) <= 110
    shown, _ = write(tmp_path, results)
    assert '70.0<span class="ci">65.0\N{EN DASH}75.0</span>' in shown
    assert "all, macro mean of 3 benchmarks" in shown[: shown.index("<section")]  # the tiles are of all


def test_show_tells_conflict_evaluations_from_pipelines(results, tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    assert main(["show", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.strip() == report.format_table(results).strip()
    assert main(["show", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "mean of" in capsys.readouterr().out
    (tmp_path / "c").mkdir()
    assert main(["show", str(tmp_path / "c")]) == 2
