"""Probes on planted signals, on noise and on leaking clips; and on a real thinker's states."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sklearn import model_selection

from rlcomm.diagnostics import probes
from rlcomm.diagnostics.items import Pairs, items_of
from rlcomm.omni.encode import merge_media
from rlcomm.omni.score import candidate_scores

WIDTH = 12


def records(states, wrong, sources, task="mcr_aqa", confidence=None):
    """Records as `measure` gives them, of states (N, layers, H)."""
    return [
        {
            "key": str(i), "id": str(i), "task": task, "source": sources[i], "correct": True,
            "condition": probes.CLASSES[int(wrong[i])], "hidden": probes.pack(states[i]),
            "confidence": 0.5 if confidence is None else float(confidence[i]), "scores": [0.0, -1.0],
        }
        for i in range(len(wrong))
    ]  # fmt: skip


def pairs_of_clips(clips, seed=0):
    """Each clip once with each class: (N,) classes, clips, noise (N, 2, WIDTH)."""
    rng = np.random.default_rng(seed)
    wrong = np.tile([False, True], clips)
    sources = [f"clip{i // 2}" for i in range(2 * clips)]
    return wrong, sources, rng.standard_normal((2 * clips, 2, WIDTH))


def test_a_planted_direction_is_found_where_it_is(monkeypatch):
    monkeypatch.setattr(probes, "TREES", 30)
    wrong, sources, states = pairs_of_clips(60)
    states[:, 1, 3] += 3.0 * wrong  # in layer 1 alone
    found = probes.summary(records(states, wrong, sources))["all"]
    for probe in probes.PROBES:
        assert found[probe]["1"]["acc"]["value"] > 0.85
        assert found[probe]["1"]["auc"]["value"] > 0.9
        assert found[probe]["1"]["auc"]["ci95"][0] > 0.8
        assert 0.3 < found[probe]["0"]["acc"]["value"] < 0.65
        control = found[f"{probe}_shuffled"]["1"]
        assert 0.3 < control["acc"]["value"] < 0.65
        assert found[probe]["1"]["acc"]["value"] > control["acc"]["ci95"][1]
    assert found["linear"]["1"]["acc"]["n"] == 120
    assert found["adversarial"]["value"] == 0.5


def test_what_is_not_linear_is_found_by_the_forest_alone(monkeypatch):
    monkeypatch.setattr(probes, "TREES", 60)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((240, 3))
    y = (x[:, 0] * x[:, 1]) > 0
    clips = [str(i) for i in range(240)]
    assert probes.judged("forest", x, y, clips)["acc"]["value"] > 0.8
    assert probes.judged("linear", x, y, clips)["acc"]["value"] < 0.65


def test_a_clip_is_never_on_both_sides(monkeypatch):
    """Trap: with plain folds a probe learns the clips by heart and looks as if it saw the conflict."""
    rng = np.random.default_rng(3)
    clips = np.repeat(np.arange(30), 6)
    own = rng.standard_normal((30, 40)) * 5
    x = own[clips] + 0.1 * rng.standard_normal((180, 40))
    y = rng.permutation(np.arange(30) % 2 == 0)[clips]  # every item of a clip has the clip's class
    groups = [str(clip) for clip in clips]
    grouped = {probe: probes.judged(probe, x, y, groups)["acc"]["value"] for probe in probes.PROBES}

    class Leaking(model_selection.KFold):
        def __init__(self, folds):
            super().__init__(folds, shuffle=True, random_state=0)

        def split(self, x, y=None, groups=None):
            return super().split(x, y)

    monkeypatch.setattr(model_selection, "GroupKFold", Leaking)
    for probe, value in grouped.items():
        assert value < 0.75, probe
        assert probes.judged(probe, x, y, groups)["acc"]["value"] > 0.95, probe


def test_the_shuffled_control_knows_the_tasks_too(monkeypatch):
    """Trap: tasks with other shares of conflict can be told apart; shuffled over all, the control cannot."""
    monkeypatch.setattr(probes, "PROBES", ("linear",))
    rng = np.random.default_rng(0)
    wrong = np.concatenate([rng.permutation(np.arange(60) < 54), rng.permutation(np.arange(60) < 6)])
    states = rng.standard_normal((120, 1, WIDTH))
    states[:60, 0, 0] += 6.0  # the task, and nothing of the conflict
    some = records(states, wrong, [str(i) for i in range(120)])
    for number, record in enumerate(some):
        record["task"] = "mcr_aqa" if number < 60 else "mcr_ser"
    found = probes.summary(some)
    assert found["all"]["linear"]["0"]["acc"]["value"] > 0.8
    assert found["all"]["linear_shuffled"]["0"]["acc"]["value"] > 0.8
    assert found["mcr_aqa"]["linear"]["0"]["auc"]["value"] < 0.7


def test_confidence_stands_beside_the_probes(monkeypatch):
    monkeypatch.setattr(probes, "PROBES", ("linear",))
    wrong, sources, states = pairs_of_clips(40)
    rng = np.random.default_rng(1)
    confidence = np.where(wrong, 0.6, 0.9) + 0.02 * rng.standard_normal(80)
    found = probes.summary(records(states, wrong, sources, confidence=confidence))["all"]
    assert found["doubt"]["auc"]["value"] > 0.95
    assert found["confidence"]["faithful"]["value"] == pytest.approx(0.9, abs=0.02)
    assert found["confidence"]["adversarial"]["value"] == pytest.approx(0.6, abs=0.02)


def test_a_sample_is_probed_once_whatever_was_left_out(monkeypatch):
    monkeypatch.setattr(probes, "PROBES", ("linear",))
    wrong, sources, states = pairs_of_clips(10)
    some = records(states, wrong, sources)
    found = probes.summary([{**record, "key": f"{record['key']}/{i}"} for record in some for i in range(3)])
    assert found["all"]["adversarial"]["n"] == 20
    assert found == probes.summary(some)


@pytest.mark.parametrize("kept", ["one clip", "one condition", "none"])
def test_what_cannot_be_probed_has_no_value(kept):
    wrong, sources, states = pairs_of_clips(4)
    some = records(states, wrong, sources)
    if kept == "one clip":
        some = some[:2]
    elif kept == "one condition":
        some = some[::2]
    else:
        some = []
    found = probes.summary(some)
    assert json.loads(json.dumps(found)) == found
    if some:
        assert found["all"]["linear"]["0"]["acc"] == {"value": None, "n": len(some), "ci95": None}
    else:
        assert found == {}
    assert probes.section(found, some) == [[]]


def test_the_section_shows_both_measures(monkeypatch):
    monkeypatch.setattr(probes, "TREES", 3)
    wrong, sources, states = pairs_of_clips(6)
    some = records(states, wrong, sources)
    (drawn,) = probes.section(probes.summary(some), some)
    assert [one.caption.partition(": ")[2] for one in drawn] == [
        "accuracy, out of fold", "area under the curve, out of fold",
    ]  # fmt: skip
    for one in drawn:
        words = [key.words for key in one.keys]
        assert "Linear probe, labels shuffled" in words
        assert "The model's confidence alone" in words
        assert "Random forest, layer 0: " in one.svg


def test_arrays_survive_json():
    values = np.arange(6, dtype=np.float32).reshape(2, 3) / 7
    assert np.array_equal(probes.unpack(json.loads(json.dumps(probes.pack(values)))), values)


@pytest.fixture
def asked(clip_rows):
    samples = []
    for row, condition in zip(clip_rows[:4], ("adversarial", "faithful", "neutral", "faithful"), strict=True):
        turn = dataclasses.replace(
            row.turns[0], question="A drum plays.\nIs there a violin sound?", options=("no", "yes")
        )
        meta = {"without_text": "Is there a violin sound?", "condition": condition, "video_id": row.id}
        samples.append(dataclasses.replace(row, turns=(turn,), meta=meta))
    return items_of("mcr_aqa", samples)


def test_states_and_scores_are_those_of_a_plain_forward(policy, asked):
    """Trap: rows of different lengths; a place too far right is a label's or padding."""
    found = json.loads(json.dumps(probes.measure(policy, asked, batch_size=3)))
    pairs = Pairs(policy)
    assert found[2]["hidden"] is None
    assert found[2]["condition"] == "neutral"
    for item, record in zip(asked, found, strict=True):
        if record["hidden"] is None:
            continue
        prompt = pairs(item)[0]
        with torch.no_grad():
            states = policy.model(
                input_ids=prompt.ids[None], attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                position_ids=prompt.positions[:, None], output_hidden_states=True,
                **merge_media([prompt], torch.device("cpu"), torch.float32),
            ).hidden_states  # fmt: skip
        hidden = torch.tensor(probes.unpack(record["hidden"]).copy())
        for layer in range(len(hidden) - 1):  # the last one of theirs is behind the final norm
            assert torch.allclose(hidden[layer], states[layer + 1][0, -1], atol=1e-4), layer
        (scores,) = candidate_scores(policy.model, policy.processor, [prompt], [list(item.labels)])
        assert record["scores"] == pytest.approx(scores, abs=1e-4)
        assert record["confidence"] == pytest.approx(torch.tensor(scores).softmax(0).max().item(), abs=1e-4)
        assert record["correct"] == (scores.index(max(scores)) == item.gold)
