"""Sign flips: quadrants and shares by hand, scores of the plain reference, and before against after."""

import dataclasses

import pytest

from rlcomm.diagnostics import compare, flips
from rlcomm.diagnostics.items import Pairs, items_of
from rlcomm.evaluation import answers
from rlcomm.evaluation.margins import quadrant
from rlcomm.omni.score import candidate_scores
from tests.diagnostics.conftest import MEDIA


def record(key, joint, reference, condition="adversarial", task="mcr_aqa", source=None, usual=True):
    return {
        "key": key, "id": key, "task": task, "condition": condition, "distractor": "text", "usual": usual,
        "source": source or key, "labels": ["a", "b"], "gold": 0, "claimed": 1,
        "scores": {"joint": [joint, 0.0], "reference": [reference, 0.0]},
        "margins": {"joint": joint, "reference": reference}, "quadrant": quadrant(joint, reference),
    }  # fmt: skip


RECORDS = [
    record("1", -1.0, 2.0),
    record("2", -2.0, -1.0),
    record("3", 1.0, 3.0),
    record("4", -0.5, 0.5),
    record("5", 2.0, 2.0, condition="faithful"),
    record("6", -1.0, 1.0, task="avconfuse_muted"),
    record("7", 1.0, -1.0, task="avconfuse_muted"),
    record("8", -1.0, 1.0, task="avconfuse_muted", usual=False),
]


def test_the_summary_by_hand():
    found = flips.summary(RECORDS)
    group = found["groups"]["mcr_aqa/adversarial/no_text"]
    assert {name: group[name]["value"] for name in flips.QUADRANTS} == {
        "right": 0.25, "flip": 0.5, "missing": 0.25, "other": 0.0,
    }  # fmt: skip
    assert group["acc_joint"]["value"] == 0.25
    assert group["acc_reference"]["value"] == 0.75
    assert group["margin_joint"]["value"] == pytest.approx((-1 - 2 + 1 - 0.5) / 4)
    assert group["margin_shift"]["value"] == pytest.approx((3 + 1 + 2 + 1) / 4)
    assert group["flip"]["n"] == 4
    assert group["flip"]["ci95"][0] < 0.5 < group["flip"]["ci95"][1]
    # the mean over tasks, of items in conflict, the usual distractor left out: (1/2 + 1/2) / 2
    assert found["macro"]["flip"] == {**found["macro"]["flip"], "value": 0.5, "n": 6}


def test_a_lead_over_the_claim_is_no_right_answer():
    """Trap: a third label beats both the gold one and the claimed one; accuracy counts all labels."""
    scores = {"joint": [-2.0, -3.0, -1.0], "reference": [-0.5, -3.0, -1.0]}
    group = flips.summary([{**record("1", 1.0, 2.5), "scores": scores}])["groups"][
        "mcr_aqa/adversarial/no_text"
    ]
    assert group["right"]["value"] == 1.0
    assert (group["acc_joint"]["value"], group["acc_reference"]["value"]) == (0.0, 1.0)


def test_every_benchmark_weighs_the_same_in_the_macro_rate():
    rows = [record(str(i), -1.0, 1.0) for i in range(9)] + [record("x", 1.0, 1.0, task="alme")]
    assert flips.summary(rows)["macro"]["flip"]["value"] == 0.5


def test_items_of_one_clip_are_drawn_together():
    """Trap: forty questions about two clips are not forty draws."""
    rows = [record(f"{i}", *((-1.0, 1.0) if i < 20 else (1.0, 1.0))) for i in range(40)]
    apart = flips.summary(rows)["groups"]["mcr_aqa/adversarial/no_text"]["flip"]
    together = flips.summary([{**row, "source": "ab"[i // 20]} for i, row in enumerate(rows)])
    low, high = together["groups"]["mcr_aqa/adversarial/no_text"]["flip"]["ci95"]
    assert high - low > apart["ci95"][1] - apart["ci95"][0]


def test_scores_are_those_of_the_plain_reference(policy, sets):
    """Trap: questions that share a forward could read each other's words or media."""
    items = [one for each in sets for one in items_of(each.key, each.samples, "all")]
    pairs = Pairs(policy, MEDIA)
    for item, found in zip(items, flips.measure(policy, items, pairs=pairs, batch_size=3), strict=True):
        assert found["key"] == item.key
        prompts = list(pairs(item))
        plain = candidate_scores(policy.model, policy.processor, prompts, [list(item.labels)] * 2)
        for name, row in zip(("joint", "reference"), plain, strict=True):
            assert found["scores"][name] == pytest.approx(row, abs=2e-5)
        raw = {"candidates": list(item.labels), "scores": found["scores"]}
        same = answers.margin(
            answers.Item(item.joint, raw, dev=False), "joint"
        )  # as conflict evaluation has it
        assert found["margins"]["joint"] == pytest.approx(same)


def test_swapped_media_give_other_margins(policy, sets):
    """The swap test: a clip's items asked over another clip must not keep their margins."""
    items = [one for one in items_of("mcr_aqa", sets[1].samples) if one.source == "c1"]
    other = next(one for one in items_of("mcr_aqa", sets[1].samples) if one.source == "c2")
    swapped = [
        dataclasses.replace(
            one,
            joint=dataclasses.replace(one.joint, audio=other.joint.audio),
            reference=dataclasses.replace(one.reference, audio=other.joint.audio),
        )
        for one in items
    ]
    own, strange = (flips.measure(policy, some, pairs=Pairs(policy, MEDIA)) for some in (items, swapped))
    for one, two in zip(own, strange, strict=True):
        assert one["margins"]["joint"] != two["margins"]["joint"]
        assert one["margins"]["reference"] != two["margins"]["reference"]


def run(name, records):
    return compare.Run(name, {"model": name, "balance": {}}, records)


def test_before_and_after_by_hand():
    before = run("base", [*RECORDS, record("9", 1.0, 1.0)])
    after = run("tuned", [record("1", 1.0, 2.0), record("2", -2.0, 1.0), record("3", 1.0, 3.0), RECORDS[4]])
    both = compare.pairs(before, after)
    assert [old["key"] for old, _ in both] == ["1", "2", "3"]  # in conflict, and in both
    moved = compare.transitions(both)
    assert moved["flip"] == {"right": 1, "flip": 0, "missing": 0, "other": 0}
    assert moved["missing"] == {"right": 0, "flip": 1, "missing": 0, "other": 0}
    change = compare.change(both)
    assert change["flip"]["value"] == 0.0  # one repaired, one new
    assert change["margin_joint"]["value"] == pytest.approx(2 / 3)
    text = compare.format_table([before, after])
    assert "base -> tuned: 3 items in conflict" in text
    _, (drawn,), items = compare.section([before, after])
    assert drawn.caption == "The same 3 items in conflict"
    # 1 alone moved; the margins of both runs stand beside each item
    assert [row[0].text for row in items.rows] == ["1", "2", "3"]
    assert [(cell.text, cell.hint) for cell in items.rows[0][1:]] == [
        ("-1.00, 2.00", "sign flip: repairable"), ("1.00, 2.00", "right either way"),
    ]  # fmt: skip
