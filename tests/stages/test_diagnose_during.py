"""The modality balance during training: logged by every stage, resumed, with no trace in the weights."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rlcomm.cli import main
from rlcomm.diagnostics import callback
from rlcomm.evaluation.records import read_records
from rlcomm.reports import stages as report
from rlcomm.trainers.metrics_file import read_metrics

LOGGED = {"diagnose/audio_reliance", "diagnose/text_prior", "diagnose/sign_flip_rate", "diagnose/muted_acc"}


@pytest.fixture
def world(clip_rows, tmp_path) -> str:
    """Two muted rows with their control, and a row of MCR-BENCH, over real clips."""
    folder = tmp_path / "world"
    (folder / "clips").mkdir(parents=True)
    for i in range(2):
        (folder / "clips" / f"{i}.mp4").symlink_to(clip_rows[i].video)
    rows = {
        "avconfuse/muted.json": [
            {"video_id": str(i), "question": "Is there a harp sound?", "answer": "no", "instruments": "harp"}
            for i in range(2)
        ],
        "avconfuse/control.json": [
            {"video_id": str(i), "question": "Is there a drum sound?", "answer": "yes", "instruments": "drum"}
            for i in range(2)
        ],
        "mcr/AQA.json": [
            {
                "audio": clip_rows[0].audio, "gt": "violin", "neutral": "Which one plays?",
                "faithful": "A violin plays.", "adversarial": "A harp plays.", "irrelevant": "It is late.",
                "options": ["violin", "harp"], "adversarial_answer": "harp",
            }
        ],
    }  # fmt: skip
    for name, content in rows.items():
        (folder / "test" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "test" / name).write_text(json.dumps(content))
    return str(folder)


def during(world: str, **more) -> dict:
    return {
        "eval_data": world, "diagnose_benchmarks": ["avconfuse_muted", "mcr_aqa"], "diagnose_every": 2,
        "diagnose_subset": 2, "eval_max_new_tokens": 4, "eval_max_rows": 1, **more,
    }  # fmt: skip


@pytest.mark.parametrize("stage", ["sft", "step_rr", "ans_co"])
def test_every_stage_logs_its_balance_and_trains_as_without(stage, recipe, world, tmp_path):
    assert main(["train", recipe(stage, **during(world))]) == 0
    rows = read_records(tmp_path / "run" / callback.FILE)
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert "flips/mcr_aqa/adversarial/no_text/flip" in rows[0]
    metrics = read_metrics(tmp_path / "run" / "metrics.jsonl")
    logged = [row for row in metrics if "diagnose/sign_flip_rate" in row]
    assert [row["step"] for row in logged] == [0, 2, 4]
    assert {key for row in logged for key in row if key.startswith("diagnose/")} >= LOGGED - {
        "diagnose/audio_reliance", "diagnose/text_prior",  # undefined where nothing is right
    }  # fmt: skip
    assert [row["step"] for row in metrics if "loss" in row] == [1, 2, 3, 4]  # no interval was cut short
    curve = report.curve("run", metrics, report.BALANCE)
    assert "sign flips" in [key.words for key in curve.keys]
    drawn = (tmp_path / "run" / callback.PAGE).read_text()
    assert curve.svg in drawn
    if stage != "step_rr":  # the stage that draws at random
        return
    assert main(["train", recipe(stage, "without", eval_data=world, eval_max_rows=1)]) == 0
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("without", "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_keeps_its_rows(recipe, world, tmp_path, interrupt):
    interrupt(3)
    path = recipe("sft", **during(world))
    assert main(["train", path]) == 130
    before = read_records(tmp_path / "run" / callback.FILE)
    assert [row["step"] for row in before] == [0, 2]
    interrupt(-1)
    assert main(["train", path]) == 0
    after = read_records(tmp_path / "run" / callback.FILE)
    assert [row["step"] for row in after] == [0, 2, 4]
    assert after[:2] == before


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"diagnose_every": 0}, "diagnose_every, diagnose_benchmarks and eval_data go together"),
        ({"diagnose_benchmarks": []}, "diagnose_every, diagnose_benchmarks and eval_data go together"),
        ({"diagnose_which": ["flips", "saliency"]}, "diagnose_which has 'saliency', which is no part"),
        ({"diagnose_subset": 0}, "diagnose_subset is 0, which is out of range"),
    ],
)
def test_a_mistake_is_one_sentence(keys, sentence, recipe, world, refused):
    assert sentence in refused("train", recipe("sft", **{**during(world), **keys}))


def test_what_is_undefined_is_left_out():
    """Trap: None in a row that W&B draws, or 0 where nothing was right to begin with."""
    metric = {"value": 0.5, "n": 2, "ci95": [0.0, 1.0]}
    group = dict.fromkeys(("flip", "missing", "margin_joint"), metric)
    found = callback.numbers(
        {
            "balance": {"text_prior": metric, "muted_acc": {**metric, "value": None}},
            "flips": {"groups": {"a/b/no_text": {**group, "margin_reference": {**metric, "value": None}}}},
        }
    )
    assert found == {"text_prior": 0.5} | {
        f"flips/a/b/no_text/{name}": 0.5 for name in ("flip", "missing", "margin_joint")
    }
