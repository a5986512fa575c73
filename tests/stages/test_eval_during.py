"""Benchmarks during training: logged, the best model kept, a fall of the aligned accuracy ends the run."""

import contextlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState

from rlcomm.cli import main
from rlcomm.config.load import load_recipe
from rlcomm.data.sample import Sample
from rlcomm.evaluation import callback, catalog, scored, tuning
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import read_records
from rlcomm.omni.policy import Policy, load_policy, own_temperature
from rlcomm.omni.score import candidate_scores
from rlcomm.trainers.metrics_file import read_metrics
from tests.conftest import make_prompt
from tests.stages.conftest import on_two_processes

ALIGNED, ACC = "mcr_aqa/aligned_acc", "mcr_aqa/acc"


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
def test_every_stage_logs_its_benchmarks_and_trains_as_without(stage, recipe, world, tmp_path):
    assert main(["train", recipe(stage, **during(world))]) == 0
    rows = read_records(tmp_path / "run" / "eval_during.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4]
    logged = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "eval/mcr_aqa/acc" in row]
    assert [row["step"] for row in logged] == [0, 2, 4]
    for name in ("eval/mcr_aqa/aligned_acc", "eval/mcr_aqa/gacl/conflict_gain"):
        assert all(name in row for row in logged), name
    trained = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in trained] == [1, 2, 3, 4]  # no interval was cut short
    if stage != "step_rr":  # the stage that draws at random
        return
    assert main(["train", recipe(stage, "without")]) == 0
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("without", "run"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def counted(numbers: float | dict[str, float | None]) -> dict:
    """The results in which greedy decoding has these values, by "benchmark/metric"; a number alone is the
    aligned accuracy of mcr_aqa."""
    benchmarks: dict[str, dict] = {}
    for name, value in (numbers if isinstance(numbers, dict) else {ALIGNED: numbers}).items():
        key, metric = name.rsplit("/", 1)
        benchmarks.setdefault(key, {})[metric] = {"value": value, "n": 1, "ci95": None}
    return {"decoders": {"greedy": {"benchmarks": benchmarks}}}


def fixed(monkeypatch, numbers: list) -> None:
    """Every evaluation finds the next of these (see `counted`), whatever the model."""
    found = iter(numbers)
    monkeypatch.setattr(callback, "count", lambda *args: (counted(next(found)), []))
    monkeypatch.setattr(scored, "_score_batch", lambda *args: [])


def test_the_best_model_is_kept_also_over_an_interruption(recipe, world, tmp_path, monkeypatch, interrupt):
    fixed(monkeypatch, [0.1, 0.9, 0.5])
    interrupt(3)
    path = recipe("sft", **during(world, eval_metric=ALIGNED))
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
    assert main(["train", recipe("sft", **during(world, eval_budget=5.0))]) == 0
    assert json.loads((tmp_path / "run" / "stage.json").read_text())["steps"] == steps
    assert ("the aligned accuracy fell from 90.0 to 84.0 %" in caplog.text) == (steps == 2)


@pytest.mark.parametrize("last", [0.5, 0.9])
def test_a_run_goes_on_with_another_metric(last, recipe, world, tmp_path, monkeypatch, interrupt):
    fixed(monkeypatch, [0.1, 0.2, {ALIGNED: 0.3, ACC: last}])
    interrupt(3)
    assert main(["train", recipe("sft", **during(world, eval_metric=ALIGNED))]) == 130
    before = load_file(tmp_path / "run" / "best" / "model.safetensors")
    interrupt(-1)
    assert main(["train", recipe("sft", **during(world, eval_metric=ACC))]) == 0
    best, model = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("best", "model"))
    assert any(not torch.equal(before[name], best[name]) for name in best)
    assert all(torch.equal(model[name], best[name]) for name in best)


@pytest.mark.parametrize(("now", "steps"), [(0.86, 6), (0.84, 4)])
def test_a_fall_is_that_of_the_benchmarks_known_before(
    now, steps, recipe, world, tmp_path, monkeypatch, interrupt, caplog
):
    more = {ALIGNED: now, "cmm/aligned_acc": 0.1}
    fixed(monkeypatch, [0.9, 0.9, more, more])
    interrupt(3)
    keys = during(world, eval_budget=5.0, max_steps=6)
    assert main(["train", recipe("sft", **keys)]) == 130
    interrupt(-1)
    assert main(["train", recipe("sft", **keys)]) == 0
    assert json.loads((tmp_path / "run" / "stage.json").read_text())["steps"] == steps
    assert ("fell from 90.0 to 84.0 %" in caplog.text) == (steps == 4)


def test_benchmarks_that_all_came_later_have_a_budget_too():
    rows = [
        {"step": 0, ALIGNED: 0.9},
        {"step": 2, "cmm/aligned_acc": 0.8},
        {"step": 4, "cmm/aligned_acc": 0.5},
    ]
    assert callback.aligned(rows, rows[-1]) == (0.8, 0.5)
    assert callback.aligned(rows[:1], rows[1]) == (0.0, 0.0)


def test_an_undefined_metric_is_not_better(recipe, world, tmp_path, monkeypatch):
    fixed(monkeypatch, [{ACC: None}, {ACC: 0.5}, {ACC: None}])
    assert main(["train", recipe("sft", **during(world, eval_metric=ACC))]) == 0
    rows = read_records(tmp_path / "run" / "eval_during.jsonl")
    assert rows == [{"step": 0}, {"step": 2, ACC: 0.5}, {"step": 4}]
    best, last = (load_file(tmp_path / "run" / name / "model.safetensors") for name in ("best", "model"))
    assert any(not torch.equal(best[name], last[name]) for name in best)  # of step 2


def test_a_metric_that_later_evaluations_lack_is_not_better(recipe, world, tmp_path, monkeypatch, interrupt):
    fixed(monkeypatch, [{ACC: 0.5}, {ACC: 0.6}, {ALIGNED: 0.9}])
    path = recipe("sft", **during(world, eval_metric=ACC))
    interrupt(3)
    assert main(["train", path]) == 130
    interrupt(-1)
    assert main(["train", path]) == 0
    assert read_records(tmp_path / "run" / "eval_during.jsonl")[-1] == {"step": 4, ALIGNED: 0.9}


def test_a_decoder_that_cannot_do_anything_yet_may_be_the_metric(recipe, world, tmp_path, monkeypatch):
    metric = "mcr_aqa/gacl/acc"
    fixed(monkeypatch, [{"mcr_aqa/gacl/applies": 0.0}, {metric: 0.5}, {metric: 0.4}])
    assert main(["train", recipe("sft", **during(world, eval_metric=metric))]) == 0
    assert (tmp_path / "run" / "best").exists()


def test_a_budget_without_aligned_items_is_refused_before_the_first_step(recipe, world, tmp_path, refused):
    [clip, _] = json.loads((Path(world) / "test" / "mcr" / "AQA.json").read_text())
    row = {"question": "Which one plays?", "answer": "violin", "options": ["violin", "harp"]}
    (tmp_path / "birds.jsonl").write_text(json.dumps({**row, "audio": clip["audio"]}))
    (tmp_path / "birds.yaml").write_text("name: birds\nfile: birds.jsonl\n")
    keys = during(world, eval_benchmarks=[str(tmp_path / "birds.yaml")], eval_budget=3.0)
    said = refused("train", recipe("sft", **keys))
    assert said.startswith("eval_budget is 3.0, but none of the eval_benchmarks (birds) has aligned items")
    assert not (tmp_path / "run" / "model").exists()


def test_an_unknown_metric_is_refused_before_the_first_step(recipe, world, tmp_path, refused):
    keys = during(world, eval_metric="mcr_aqa/best", prompt_style="direct")
    said = refused("train", recipe("sft", **keys))
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


# -- several processes ---------------------------------------------------------------------------------------


def test_every_process_decides_by_the_numbers_of_the_first(world, monkeypatch, tmp_path):
    """This is the second of two processes, whose own numbers would neither be better nor stop the run."""
    fixed(monkeypatch, [0.9, 0.9])
    sent = iter([[{"step": 0, ALIGNED: 0.5}], {ALIGNED: 0.6}, {ALIGNED: 0.1}])
    monkeypatch.setattr(callback.processes, "tell", lambda value: next(sent))
    monkeypatch.setattr(callback, "own_temperature", lambda model: contextlib.nullcontext())
    monkeypatch.setattr(callback.Trainer, "log", lambda *args: None)
    (tmp_path / "eval_during.jsonl").write_text("torn")  # the first process reads it
    saved: list = []
    policy = Policy(torch.nn.Linear(1, 1), None, "")
    sets = catalog.open_sets(world, ["mcr_aqa"])
    asked = callback.ConflictCallback(policy, sets, Plan(), tmp_path, 1, ALIGNED, 5.0, saved.append)
    state = TrainerState(is_world_process_zero=False, max_steps=9)
    control = TrainerControl()
    asked.on_train_begin(None, state, control)
    for step, stop in ((1, False), (2, True)):
        state.global_step = step
        asked.on_step_end(None, state, control)
        assert (len(saved), control.should_training_stop) == (1, stop)
    assert (tmp_path / "eval_during.jsonl").read_text() == "torn"


# rlcomm whose second process has no run folder of its own to read, and finds that all models got worse
APART = """
import os, sys
from rlcomm.cli import main
from rlcomm.evaluation import callback
if os.environ["RANK"] == "1":
    real, calls = callback.named, []
    def named(results):
        calls.append(1)
        return {name: -len(calls) for name in real(results)}
    callback.named = named
    callback.read_records = lambda path: []
sys.exit(main(sys.argv[1:]))
"""


UNUSED = ("--ddp_find_unused_parameters", "true")


@pytest.mark.distributed
def test_two_processes_give_the_numbers_of_one(recipe, world, policy, tmp_path):
    path = recipe("sft", **during(world, eval_metric=ACC, prompt_style="direct"))
    on_two_processes("train", path, *UNUSED)
    [file] = (tmp_path / "run").rglob("eval_during*")
    rows = read_records(file)
    assert [row["step"] for row in rows] == [0, 2, 4]
    plan = Plan(decoders=("gacl",), max_new_tokens=4, media=load_recipe(path).media())
    sets = catalog.open_sets(world, ["mcr_aqa"])
    results, _ = tuning.count(scored.collect(policy, sets, plan, progress=False), sets, plan, "")
    alone = {name: value for name, value in callback.named(results).items() if value is not None}
    assert rows[0] == {"step": 0, **{name: pytest.approx(value, abs=1e-5) for name, value in alone.items()}}


@pytest.mark.distributed
def test_two_processes_that_find_different_numbers_stay_in_step(recipe, world, tmp_path):
    (tmp_path / "apart.py").write_text(APART)
    path = recipe("sft", **during(world, eval_metric=ALIGNED, eval_budget=50.0, prompt_style="direct"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "eval_during.jsonl").write_text(json.dumps({"step": 0, ALIGNED: -1.0}) + "\n")
    on_two_processes("train", path, *UNUSED, program=tmp_path / "apart.py")
    rows = read_records(tmp_path / "run" / "eval_during.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 4]
    assert all(row[ALIGNED] >= 0 for row in rows[1:])
    assert (tmp_path / "run" / "best" / "model.safetensors").exists()
    assert json.loads((tmp_path / "run" / "stage.json").read_text())["steps"] == 4
