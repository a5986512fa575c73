"""Another model beside the decoders of one, by hand: gained and lost against the base's joint answer."""

import json
import re

import pytest

from rlcomm.evaluation import beside, tuning
from rlcomm.evaluation.conflict import Plan
from rlcomm.reports import conflict as conflict_report
from rlcomm.utils import files
from rlcomm.utils.errors import UserError
from tests.evaluation.test_tuning import values, world

# What SFT changed of `test_tuning.ROWS`: a and b withstand the text now, b no longer believes the right one
TUNED = {"a-adversarial": [-0.5, -2.0], "b-adversarial": [-0.5, -2.0], "b-faithful": [-2.0, -0.5]}


def evaluated(out, model, changed=(), more=(), **options):
    """An evaluation of one set, and of copies of it under other names; only the first is changed."""
    one, raw = world()
    for record in raw:
        if record["id"] in changed:
            record["scores"]["joint"] = changed[record["id"]]
    sets = [one]
    for key in more:
        _, again = world()
        sets.append(type(one)(key, one.samples, one.score, one.count))
        raw += [{**record, "set": key} for record in again]
    results, records = tuning.count(raw, sets, Plan(decoders=("gacl",), **options), model)
    files.write_json(out / "results.json", results)
    files.write_jsonl(out / "records.jsonl", records)
    return sets, results, records


def merged(tmp_path, more=()):
    evaluated(tmp_path / "tuned", "runs/tuned", TUNED, more)
    sets, results, records = evaluated(tmp_path / "base", "runs/base", (), more)
    others = beside.load([f"conflict_sft={tmp_path / 'tuned'}"], sets, 0.0)
    return results, *beside.add(results, records, others)


def test_gain_and_loss_are_against_the_bases_joint_answer(tmp_path):
    results, found, records = merged(tmp_path)
    assert list(found["decoders"]) == ["greedy", "gacl", "conflict_sft"]
    tuned = found["decoders"]["conflict_sft"]
    got = values(tuned["benchmarks"]["toy"])
    # beside adversarial text a, b, d are right where d was; beside faithful text b is wrong where none was
    assert (got["conflict_acc"], got["conflict_gain"]) == (0.75, 0.5)
    assert (got["aligned_acc"], got["faithful_drop"]) == (0.75, 0.25)
    assert tuned["benchmarks"]["toy"]["conflict_gain"]["ci95"][0] <= 0.5
    assert tuned["grid"]["toy"] == [{"settings": {}, "conflict_gain": 0.5, "faithful_drop": 0.25}]
    assert got["nauc_5"] == 0.0  # a drop of 25 points is in no budget of 5
    # its own flips: c alone has M_J < 0, and its evidence is wrong as well
    assert got["sign_flip_rate"] == 0.0
    assert results["decoders"]["greedy"]["benchmarks"]["toy"]["sign_flip_rate"]["value"] == 0.5
    own = json.loads((tmp_path / "tuned" / "results.json").read_text())["decoders"]["greedy"]
    assert tuned["benchmarks"]["toy"]["ece"] == own["benchmarks"]["toy"]["ece"]
    assert tuned["settings"]["model"] == "runs/tuned"
    answers = {r["id"]: {name: a["answer"] for name, a in r["decoders"].items()} for r in records}
    assert answers["b-faithful"] == {"greedy": "drum", "gacl": "drum", "conflict_sft": "harp"}


def test_what_was_there_stays_as_it_was(tmp_path):
    """Trap: lines and answers of the base that change because another model stands beside it."""
    results, found, _ = merged(tmp_path)
    del found["decoders"]["conflict_sft"]
    assert found == results
    sets, again, records = evaluated(tmp_path / "base", "runs/base")
    assert beside.add(again, records, []) == (again, records)
    assert "conflict_sft" not in (tmp_path / "base" / "results.json").read_text()
    assert beside.load([], sets, 0.0) == []


def test_benchmarks_weigh_the_same_in_the_mean(tmp_path):
    _, found, _ = merged(tmp_path, more=("second",))
    got = values(found["decoders"]["conflict_sft"]["macro"]["all"])
    assert (got["conflict_gain"], got["faithful_drop"]) == (0.25, 0.125)  # nothing changed in the second
    assert found["decoders"]["conflict_sft"]["macro"].keys() == found["decoders"]["greedy"]["macro"].keys()


def test_the_trade_off_is_tabled_and_drawn(tmp_path):
    _, found, records = merged(tmp_path)
    line = next(r for r in conflict_report.format_table(found).splitlines() if r.startswith("conflict_sft"))
    assert line.split()[1:5] == ["75.0", "75.0", "50.0", "25.0"]
    conflict_report.write_report(tmp_path / "report.html", found, records)
    page = (tmp_path / "report.html").read_text()
    ece = 100 * found["decoders"]["conflict_sft"]["benchmarks"]["toy"]["ece"]["value"]
    for words in (
        "conflict_sft: gain 50.0, drop 25.0",  # the frontier's dot
        f"conflict_sft: gain 50.0, ECE {ece:.1f} %",
        "conflict_sft is runs/tuned",
        "conflict_sft: sign flips 0.0 %",
        "Conflict accuracy, conflict_sft",  # the headline
    ):
        assert words in page
    assert f"conflict_sft <b>{ece:.1f}</b>" in page
    keys = {key.words: key.value for key in conflict_report.charts.reliability(found, "", records).keys}
    assert keys["conflict_sft"] == f"{ece:.1f}"
    several = re.sub(" +", " ", conflict_report.format_runs({"0": found, "1": found}))
    assert "| ECE |" in several
    assert "| conflict_sft | 1 | 75.0 | 75.0 | 50.0 | 25.0 |" in several


def test_a_model_is_drawn_where_there_are_many_decoders(tmp_path):
    _, found, records = merged(tmp_path)
    for name in ("aad", "acd", "icd"):
        found["decoders"][name] = found["decoders"]["gacl"]
        for record in records:
            record["decoders"][name] = record["decoders"]["gacl"]
    words = [key.words for key in conflict_report.charts.reliability(found, "", records).keys]
    assert "conflict_sft" in words
    assert "AAD" not in words


@pytest.mark.parametrize(
    ("given", "share", "sentence"),
    [
        ("gacl={}/tuned", 0.0, "whose name is a decoder's name; give this model a name of its own"),
        ("tuned={}/nowhere", 0.0, "holds no finished evaluation on conflict benchmarks"),
        ("tuned={}/plain", 0.0, "holds no finished evaluation on conflict benchmarks"),
        ("tuned={}/tuned", 0.3, "where dev_share was 0 and here it is 0.3"),
        ("tuned={}/fewer", 0.0, "did not ask item d-neutral of toy in these words; evaluate it on the same"),
        ("tuned={}/reworded", 0.0, "did not ask item a-neutral of toy in these words"),
    ],
)
def test_another_evaluation_is_refused(given, share, sentence, tmp_path):
    sets, results, records = evaluated(tmp_path / "tuned", "runs/tuned", TUNED)
    for name, some in (
        ("fewer", [r for r in records if r["video_id"] != "d"]),
        ("reworded", [{**r, "question": "Which one?"} for r in records]),
    ):
        files.write_json(tmp_path / name / "results.json", results)
        files.write_jsonl(tmp_path / name / "records.jsonl", some)
    files.write_json(tmp_path / "plain" / "results.json", {"model": "m", "decoders": {"greedy": {}}})
    files.write_jsonl(tmp_path / "plain" / "records.jsonl", [])
    with pytest.raises(UserError, match=sentence):
        beside.load([given.format(tmp_path)], sets, share)


def test_a_name_stands_once(tmp_path):
    sets, _, _ = evaluated(tmp_path, "m")
    with pytest.raises(UserError, match="whose name is there twice"):
        beside.load([f"a={tmp_path}", f"a={tmp_path}"], sets, 0.0)
