"""Reliance by hand, and which questions are asked under which conditions."""

import pytest

from rlcomm.diagnostics import balance, flips, reliance
from rlcomm.diagnostics.items import Pairs
from rlcomm.evaluation.reliance import FRAGMENT_RUNS
from tests.diagnostics.conftest import MEDIA

RIGHT, WRONG = [-1.0, -2.0], [-2.0, -1.0]


def record(key, full, none, fragments=None, task="mmau", condition="", text=WRONG, **more):
    scores = {"full": full, "no_audio": none, "no_media": text, **more}
    if fragments is not None:
        scores |= dict(zip(reliance.fragments("audio"), fragments, strict=True))
    return {
        "key": key, "id": key, "task": task, "condition": condition, "source": key, "labels": ["a", "b"],
        "gold": 0, "scores": scores,
    }  # fmt: skip


RECORDS = [
    record("ts", RIGHT, RIGHT, text=RIGHT),
    record("fs", RIGHT, WRONG, [WRONG] * 13 + [RIGHT]),
    record("xs", RIGHT, WRONG, [WRONG] * 14),
    record("ah", WRONG, RIGHT),
    record("un", WRONG, WRONG),
]


def test_reliance_by_hand():
    found = reliance.summary(RECORDS)
    audio = found["audio"]["mmau"]
    assert audio["r_tp"]["value"] == pytest.approx((2 / 5) / (3 / 5))
    assert audio["lost"] == {**audio["lost"], "value": pytest.approx(2 / 3), "n": 3}
    assert {name: audio[name]["value"] for name in ("ts", "fs", "xs", "ah", "un")} == dict.fromkeys(
        ("ts", "fs", "xs", "ah", "un"), pytest.approx(1 / 5)
    )
    assert audio["whole_needed"]["value"] == 0.5
    lucky = 1 - 0.5**14
    assert audio["fragment_suffices"]["value"] == pytest.approx((1 - 2 * lucky) / (2 - 2 * lucky))
    assert found["groups"]["mmau"]["acc_full"]["value"] == pytest.approx(3 / 5)
    assert found["groups"]["mmau"]["changed_no_audio"]["value"] == pytest.approx(3 / 5)
    assert found["groups"]["mmau"]["r_tp_text"]["value"] == pytest.approx(1 / 3)
    assert found["video"] == {}  # nothing was to be seen


def test_a_task_with_conditions_is_given_by_condition_too():
    rows = [
        record("1", RIGHT, RIGHT, condition="adversarial"),
        record("2", WRONG, WRONG, condition="faithful"),
    ]
    groups = reliance.summary(rows)["groups"]
    assert list(groups) == ["all", "mmau", "mmau/adversarial", "mmau/faithful"]
    assert groups["mmau/adversarial"]["acc_full"]["value"] == 1.0


def test_all_shows_no_condition_that_only_some_have():
    """Trap: accuracy without the picture over clips beside accuracy in full over clips and songs."""
    rows = [record("1", RIGHT, RIGHT, no_video=WRONG), record("2", WRONG, WRONG, task="mmar")]
    found = reliance.summary(rows)
    assert "acc_no_video" not in found["groups"]["all"]
    assert found["groups"]["mmau"]["acc_no_video"]["n"] == 1
    assert list(found["video"]) == ["all", "mmau"]


def test_the_balance_by_hand():
    muted = dict(task="avconfuse_muted", condition="adversarial", no_video=RIGHT)
    rows = [record("m1", RIGHT, WRONG, [WRONG] * 14, **muted), record("m2", WRONG, RIGHT, **muted)]
    flipped = {
        "key": "f", "id": "f", "task": "mcr_aqa", "condition": "adversarial", "distractor": "text",
        "usual": True, "source": "f", "labels": ["a", "b"], "gold": 0, "claimed": 1,
        "scores": {"joint": WRONG, "reference": RIGHT}, "margins": {"joint": -1.0, "reference": 1.0},
        "quadrant": "flip",
    }  # fmt: skip
    records = {"flips": [flipped], "reliance": [*RECORDS, *rows]}
    summaries = {"flips": flips.summary([flipped]), "reliance": reliance.summary(records["reliance"])}
    found = {name: metric["value"] for name, metric in balance.of(records, summaries).items()}
    assert found == {
        "audio_reliance": pytest.approx(3 / 4),
        "visual_reliance": 0.0,
        "text_prior": pytest.approx(1 / 4),
        "sign_flip_rate": 1.0,
        "muted_acc": 0.5,
    }
    assert set(balance.of({"flips": [flipped]}, {"flips": summaries["flips"]})) == {"sign_flip_rate"}


def test_questions_stand_alone(sets):
    """Trap: with a text beside it, a question is about the text, and its accuracy without sound too."""
    found = reliance.questions_of("mcr_aqa", sets[1].samples)
    assert [one.condition for one in found] == ["neutral", "neutral"]
    assert [one.donor.meta["video_id"] for one in found] == ["c2", "c1"]
    assert len(reliance.questions_of("avconfuse_muted", sets[0].samples)) == 4


def test_fragments_are_run_where_the_sense_is_needed(policy, sets, monkeypatch):
    """Trap: 28 runs of every question cost an hour where 9 do."""
    questions = reliance.questions_of("avconfuse_muted", sets[0].samples)
    needed = questions[1].key
    monkeypatch.setattr(reliance, "needs", lambda record, sense: sense == "audio" and record["key"] == needed)
    for record_ in reliance.measure(policy, questions, pairs=Pairs(policy, MEDIA)):
        runs = [name for name in record_["scores"] if "of" in name.split("_")[-1]]
        assert len(runs) == (len(FRAGMENT_RUNS) if record_["key"] == needed else 0)
        assert set(reliance.WHOLE) <= set(record_["scores"])


def test_what_is_not_there_is_not_asked_for(policy, sets):
    questions = reliance.questions_of("mcr_aqa", sets[1].samples)
    found = reliance.measure(policy, questions, pairs=Pairs(policy, MEDIA))
    assert all(not any("video" in name for name in record["scores"]) for record in found)


def test_questions_of_a_block_do_not_change_each_other(policy, sets):
    questions = reliance.questions_of("avconfuse_muted", sets[0].samples)
    together = reliance.measure(policy, questions, pairs=Pairs(policy, MEDIA), batch_size=16)
    alone = [
        row
        for one in questions
        for row in reliance.measure(policy, [one], pairs=Pairs(policy, MEDIA), batch_size=2)
    ]
    for one, two in zip(together, alone, strict=True):
        for name in reliance.WHOLE:
            assert one["scores"][name] == pytest.approx(two["scores"][name], abs=2e-5)
