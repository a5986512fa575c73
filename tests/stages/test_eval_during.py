"""Benchmarks during training: logged, the best model kept, a fall of the aligned accuracy ends the run."""

import json

import pytest
import torch
from safetensors.torch import load_file

from rlcomm.cli import main
from rlcomm.data.sample import Sample
from rlcomm.evaluation import callback, conflict
from rlcomm.evaluation.runner import read_records
from rlcomm.omni.policy import load_policy, own_temperature
from rlcomm.omni.score import candidate_scores
from rlcomm.stages.run import read_metrics
from tests.conftest import make_prompt


@pytest.fixture
def world(clip_rows: list[Sample], tmp_path) -> str:
    """A data folder with two rows of MCR-BENCH over real clips, and nothing else."""
    rows = [
        {
            "audio": clip_rows[i].audio,
            "gt": "violin",
            "neutral": "Which one plays?",
            "faithful": "A violin plays.",
            "adversarial": "A harp plays.",
            "irrelevant": "It is late.",
            "options": ["violin", "harp"],
            "adversarial_answer": "harp",
        }
        for i in range(2)
    ]
    (tmp_path / "world" / "test" / "mcr").mkdir(parents=True)
    (tmp_path / "world" / "clips").mkdir()
    (tmp_path / "world" / "test" / "mcr" / "AQA.json").write_text(json.dumps(rows))
    return str(tmp_path / "world")


def during(world: str, **more) -> dict:
    return {
        "eval_data": world, "eval_benchmarks": ["mcr_aqa"], "eval_decoders": ["gacl"], "eval_every": 2,
        "eval_max_new_tokens": 4, **more,
    }  # fmt: skip


@pytest.mark.parametrize("stage", ["sft", "step_rr", "ans_co"])
def test_every_stage_logs_its_benchmarks(stage, recipe, world, tmp_path):
    assert main(["train", recipe(stage, **during(world))]) == 0
    rows = read_records(tmp_path / "run" / "eval_during.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4]
    logged = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "eval/mcr_aqa/acc" in row]
    assert [row["step"] for row in logged] == [0, 2, 4]
    for name in ("eval/mcr_aqa/aligned_acc", "eval/mcr_aqa/gacl/conflict_gain"):
        assert all(name in row for row in logged), name
    trained = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in trained] == [1, 2, 3, 4]  # no interval was cut short


def test_an_evaluation_changes_nothing_about_the_training(recipe, world, tmp_path):
    assert main(["train", recipe("step_rr", "without")]) == 0
    assert main(["train", recipe("step_rr", "with", **during(world))]) == 0
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("without", "with"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def fixed(monkeypatch, numbers: list[float]) -> None:
    """Every evaluation finds the next of these accuracies, whatever the model."""
    found = iter(numbers)

    def count(*args):
        value = {"value": next(found), "n": 1, "ci95": None}
        return {"decoders": {"greedy": {"benchmarks": {"mcr_aqa": {"aligned_acc": value}}}}}, []

    monkeypatch.setattr(callback, "count", count)
    monkeypatch.setattr(conflict, "_score_batch", lambda *args: [])


def test_the_best_model_is_kept_also_over_an_interruption(recipe, world, tmp_path, monkeypatch, interrupt):
    fixed(monkeypatch, [0.1, 0.9, 0.5])
    interrupt(3)
    path = recipe("sft", **during(world, eval_metric="mcr_aqa/aligned_acc"))
    assert main(["train", path]) == 130
    best = load_file(tmp_path / "run" / "best" / "model.safetensors")
    interrupt(-1)
    assert main(["train", path]) == 0
    assert [r["step"] for r in read_records(tmp_path / "run" / "eval_during.jsonl")] == [0, 2, 4]
    again = load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert all(torch.equal(best[name], again[name]) for name in best)  # 0.5 is not better than 0.9
    last = load_file(tmp_path / "run" / "model" / "model.safetensors")
    assert any(not torch.equal(best[name], last[name]) for name in best)
    load_policy(str(tmp_path / "run" / "best"))


@pytest.mark.parametrize(("fallen", "steps"), [(0.85, 4), (0.84, 2)])
def test_a_fall_beyond_the_budget_ends_the_run(fallen, steps, recipe, world, tmp_path, monkeypatch, caplog):
    fixed(monkeypatch, [0.9, fallen, 0.9])
    assert main(["train", recipe("sft", **during(world, eval_budget=5.5))]) == 0
    assert json.loads((tmp_path / "run" / "stage.json").read_text())["steps"] == steps
    assert ("the aligned accuracy fell from 90.0 to 84.0 %" in caplog.text) == (steps == 2)


def test_an_unknown_metric_is_refused_before_the_first_step(recipe, world, tmp_path, refused):
    said = refused("train", recipe("sft", **during(world, eval_metric="mcr_aqa/best")))
    assert said.startswith("eval_metric is 'mcr_aqa/best', which this evaluation does not give; use one of")
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"eval_every": 2}, "eval_every, eval_benchmarks and eval_data go together"),
        ({"eval_benchmarks": ["mcr"]}, "eval_every, eval_benchmarks and eval_data go together"),
        ({"eval_budget": 3.0}, "eval_metric and eval_budget need an evaluation during training"),
    ],
)
def test_half_a_request_is_refused(keys, words, recipe, refused):
    assert words in refused("train", recipe("sft", **keys))


def test_scores_are_taken_at_temperature_one_whatever_the_trainer_set(policy):
    from trl.trainer.utils import add_fused_lm_head

    prompt = make_prompt(policy, 0)
    plain = candidate_scores(policy.model, policy.processor, [prompt], [["yes", "no"]])
    add_fused_lm_head(policy.model, temperature=3.0, outputs=("log_probs", "entropy"))
    hot = candidate_scores(policy.model, policy.processor, [prompt], [["yes", "no"]])
    with own_temperature(policy.model):
        inside = candidate_scores(policy.model, policy.processor, [prompt], [["yes", "no"]])
    after = candidate_scores(policy.model, policy.processor, [prompt], [["yes", "no"]])
    assert inside == plain
    assert after == hot
    assert hot != plain
