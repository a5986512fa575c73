"""Records of real items, and what they are summed up to, against hand values."""

import dataclasses
import json

import pytest

from rlcomm.diagnostics import patching
from rlcomm.diagnostics.items import Pairs, items_of
from tests.conftest import make_clip


def record(joint, reference, answer, key="a", task="mcr_aqa", source=None, distractor="text", **more):
    """A record with two layers whose only group moves the margin to `answer` (by layer)."""
    patched = {c: {"answer": answer, "question": [joint, joint]} for c in ("residual", "attention", "mlp")}
    return {
        "key": key, "id": key, "task": task, "condition": "adversarial", "distractor": distractor,
        "source": source or key, "margins": {"joint": joint, "reference": reference},
        "rules": {"answer": "tokens", "question": "tokens"}, "patched": patched, **more,
    }  # fmt: skip


def test_recovery_by_hand():
    assert patching.recovery(0.5, -1.0, 2.0) == pytest.approx(0.5)
    assert patching.recovery(-2.0, -1.0, 1.0) == pytest.approx(-0.5)
    assert patching.recovery(1.0, 2.0, 0.0) == pytest.approx(0.5)  # a helpful distractor, taken away
    assert patching.recovery(5.0, 1.0, 1.0 + 0.9 * patching.MIN_GAP) is None


def test_items_count_as_far_as_their_branches_differ():
    """Trap: a plain mean of quotients is drowned by an item whose branches hardly differ."""
    records = [
        record(-2.0, 2.0, [0.0, 2.0], "a"),  # gap 4, recovered 0.5
        record(0.0, 0.2, [-1.0, 0.2], "b"),  # gap 0.2, recovered -5
        record(1.0, -1.0, [1.0, -1.0], "c"),  # gap -2, recovered 0
    ]
    found = patching.summary(records)["text"]
    cell = found["recovery"]["residual"]["answer"]["0"]
    assert cell["value"] == pytest.approx((4 * 0.5 - 0.2 * 5) / 6.2)
    assert cell["n"] == 3
    assert found["recovery"]["mlp"]["answer"]["1"]["value"] == pytest.approx(1.0)
    assert found["recovery_flips"]["residual"]["answer"]["0"]["value"] == pytest.approx(0.5)
    assert found["recovery"]["residual"]["question"]["0"]["value"] == 0.0
    assert found["groups"]["answer"]["value"] == pytest.approx(cell["value"])  # all layers but the last
    assert found["flips"]["value"] == pytest.approx(1 / 3)


def test_items_without_a_gap_count_in_the_shares_alone():
    records = [record(-2.0, 2.0, [0.0, 2.0], "a"), {**record(1.0, 1.05, [0, 0], "b"), "patched": None}]
    found = patching.summary(records)["text"]
    assert found["patched"]["value"] == 0.5
    assert found["recovery"]["residual"]["answer"]["1"]["n"] == 1
    assert found["rules"]["answer"]["tokens"]["n"] == 2
    only = patching.summary(records[1:])["text"]
    assert only["patched"]["value"] == 0.0
    assert only["spearman"] == {"value": None, "n": 0, "ci95": None}
    assert patching.section({"text": only}, records[1:]) == [[]]


def test_the_correlation_is_that_of_displacements():
    """By layer 0 alone: patching moves by 1, 2, 3, the branch by 2, 6, 4; the last layer is given away."""
    records = [
        record(-1.0, 1.0, [0.0, 1.0], "a"),
        record(-1.0, 5.0, [1.0, 5.0], "b"),
        record(-1.0, 3.0, [2.0, 3.0], "c"),
    ]
    found = patching.summary(records)["text"]
    assert found["spearman"]["value"] == pytest.approx(0.5)
    assert found["spearman_layers"]["1"]["value"] == pytest.approx(1.0)


def test_what_was_left_out_and_tasks_are_told_apart():
    records = [
        record(-1.0, 1.0, [0.0, 1.0], "a"),
        record(-1.0, 1.0, [1.0, 1.0], "b", task="mcr_ser"),
        record(-1.0, 1.0, [-1.0, 1.0], "c", task="avhbench", distractor="video"),
    ]
    found = patching.summary(records)
    assert {name: part["groups"]["answer"]["value"] for name, part in found.items()} == {
        "text": pytest.approx(0.75), "video": pytest.approx(0.0),
    }  # fmt: skip
    tasks = found["text"]["tasks"]
    assert {task: part["groups"]["answer"]["value"] for task, part in tasks.items()} == {
        "mcr_aqa": pytest.approx(0.5), "mcr_ser": pytest.approx(1.0),
    }  # fmt: skip
    (drawn,) = patching.section(found, records)
    assert len(drawn) == 2 * 4
    assert drawn[0].caption == "Residual stream, text left out: recovery of 2 sign flips"
    assert not any("nan" in one.svg.lower() for one in drawn)
    assert ">0.75</text>" in drawn[0].svg
    assert ">1.00</text>" in drawn[0].svg
    assert "answer position, layer 0: 0.750 (" in drawn[0].svg


@pytest.fixture
def asked(clip_rows):
    """Two clips under two conditions, each with its text to be left out and its picture."""
    samples = []
    for row in clip_rows[:2]:
        for condition, text in (("adversarial", "A drum plays.\n"), ("faithful", "A violin plays.\n")):
            question = "Is there a violin sound?"
            meta = {
                "without_text": question, "condition": condition, "video_id": row.id,
                "text_answer": "no" if condition == "adversarial" else "yes",
            }  # fmt: skip
            turn = dataclasses.replace(
                row.turns[0], question=text + question, answer="yes", options=("no", "yes")
            )
            samples.append(dataclasses.replace(row, id=f"{row.id}-{condition}", turns=(turn,), meta=meta))
    return items_of("mcr_aqa", samples, "all")


def test_items_in_conflict_are_patched(policy, asked, monkeypatch):
    monkeypatch.setattr(patching, "MIN_GAP", 1e-3)  # of random weights
    records = json.loads(json.dumps(patching.measure(policy, asked, batch_size=4)))
    assert [r["key"] for r in records] == [item.key for item in asked]
    for item, found in zip(asked, records, strict=True):
        assert (found["margins"] is not None) == (item.condition == "adversarial")
        if item.condition != "adversarial":
            continue
        margins = found["margins"]
        gap = margins["reference"] - margins["joint"]
        assert (found["patched"] is not None) == (abs(gap) >= patching.MIN_GAP)
        assert found["rules"]["answer"] == "tokens"
        assert found["rules"][item.distractor] == "absent"
        if found["patched"] is not None:
            assert found["patched"]["residual"]["answer"][-1] == pytest.approx(margins["reference"], abs=1e-4)
    assert {r["distractor"] for r in records} == {"text", "video", "audio"}
    assert any(r["patched"] for r in records)
    (drawn,) = patching.section(patching.summary(records), records)
    assert len(drawn) % 4 == 0


def test_records_rest_on_their_item_alone(policy, asked):
    """An interrupted run goes on from its records: alone, in other company, in other batches, the same."""
    part = asked[:2]
    whole = patching.measure(policy, asked, Pairs(policy), batch_size=4)[:2]
    alone = [patching.measure(policy, [item], Pairs(policy), batch_size=4)[0] for item in part]
    assert whole == alone


def test_a_model_in_training_is_given_back_in_training(policy, asked):
    policy.model.train()
    patching.measure(policy, asked[:1])
    assert policy.model.training


def test_the_sound_matters(policy, asked, monkeypatch):
    """Trap: a diagnosis that never hears the clip has the same numbers for every clip."""
    before = patching.measure(policy, asked[:1])[0]
    pairs = Pairs(policy)
    other = dataclasses.replace(pairs.clip(asked[0].joint), audio=make_clip(9).audio)
    monkeypatch.setattr(pairs, "clip", lambda sample: other)
    after = patching.measure(policy, asked[:1], pairs)[0]
    assert before["margins"] != after["margins"]
