"""Step-RR with counterfactual twins: an interrupted run goes on with the same pairs, and every mistake is one
sentence, said before any weights are read."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from rlcomm.cli import main
from rlcomm.config.load import load_recipe
from rlcomm.config.step_rr import StepRRRecipe
from rlcomm.data.sample import write_jsonl
from rlcomm.rewards import adapters
from rlcomm.stages import run, step_rr
from rlcomm.trainers.metrics_file import MetricsFile, read_metrics
from rlcomm.utils.errors import UserError
from tests.stages.conftest import changed, format_

STEPS = 6
SETTINGS = dict(
    max_steps=STEPS, per_device_train_batch_size=4, num_generations=2, counterfactual_share=0.5,
    twin_baseline=True, even_types=True, rewards=["format", "consistency"],
)  # fmt: skip


@pytest.fixture
def twinned(rows, clip_rows):
    """Rows 0 and 1, 2 and 3 are twins: the second shows the first one's clip and plays its own."""
    found = []
    for i, row in enumerate(clip_rows):
        row = changed(row, type="exist" if i < 4 else "count")
        shown = clip_rows[i & 2].video if i < 4 else row.video
        found.append(dataclasses.replace(row, video=shown, meta={"twin": str(i ^ 1)} if i < 4 else {}))
    write_jsonl(rows, found)
    return found


def noise(recipe, weights):
    """The noise of an untrained model told apart, beside what twins earn: nothing, since nobody answers."""
    return [format_, *adapters.reward_functions({"consistency": 1.0})]


def test_an_interrupted_run_asks_the_same_pairs(recipe, twinned, interrupt, monkeypatch, tmp_path):
    """Three generations are an epoch, half a pair each on average; the run is cut in the second."""
    monkeypatch.setattr(step_rr, "reward_functions", noise)
    assert main(["train", recipe("step_rr", "whole", **SETTINGS)]) == 0
    path = recipe("step_rr", "cut", save_steps=2, **SETTINGS)
    interrupt(5)
    assert main(["train", path]) == 130
    monkeypatch.setattr(run, "MetricsFile", MetricsFile)
    assert main(["train", path]) == 0
    logged = {name: read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")}
    assert [row["twins/share"] for row in logged["whole"]] == [0.0, 1.0, 0.0] * 2
    for name in ("twins/share", "reward", "rewards/consistency/mean"):
        assert [row.get(name) for row in logged["cut"]] == [row.get(name) for row in logged["whole"]]
    assert logged["whole"][1]["rewards/consistency/mean"] == 0.0
    assert logged["whole"][0].get("rewards/consistency/mean") is None  # no twins were asked
    ended = [load_file(tmp_path / name / "model" / "model.safetensors") for name in logged]
    assert all(torch.allclose(ended[0][key], ended[1][key], atol=1e-6) for key in ended[0])


def refused(recipe, capsys, monkeypatch, **keys) -> str:
    """What `rlcomm train` says in one sentence, before it opens the policy."""
    monkeypatch.setattr(step_rr, "open_policy", lambda recipe: pytest.fail("weights were loaded"))
    assert main(["train", recipe("step_rr", **{**SETTINGS, **keys})]) == 2
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("twin", "said"),
    [
        ("4", "is the row's own id"),
        ("9", "the file has no row of that id"),
        ("0", "the twin of that row is '1'"),
    ],
    ids=["itself", "missing", "one_sided"],
)
def test_a_twin_that_is_none_is_refused(twin, said, recipe, rows, clip_rows, twinned, capsys, monkeypatch):
    """One row of a file whose pairs are sound."""
    wrong = dataclasses.replace(twinned[4], meta={"twin": twin})
    write_jsonl(rows, [*twinned[:4], wrong, twinned[5]])
    found = refused(recipe, capsys, monkeypatch)
    assert f"{rows}, row 5, field meta.twin" in found
    assert said in found


def test_more_pairs_than_the_rows_hold_are_refused(recipe, rows, twinned, clip_rows, capsys, monkeypatch):
    said = refused(recipe, capsys, monkeypatch, counterfactual_share=0.9)
    assert "4 of 6 rows have a twin among them (meta.twin), 0.667 of all" in said
    said = refused(recipe, capsys, monkeypatch, max_rows=5, counterfactual_share=0.9)  # cuts no pair
    assert "4 of 5 rows have a twin among them" in said
    write_jsonl(rows, clip_rows)
    assert "0 of 6 rows have a twin among them" in refused(recipe, capsys, monkeypatch)


def test_types_cannot_be_even_where_there_is_one(recipe, rows, clip_rows, capsys, monkeypatch):
    said = refused(
        recipe, capsys, monkeypatch, counterfactual_share=0, twin_baseline=False, rewards=["format"]
    )
    assert "even_types is true, but all 6 rows have the type ''" in said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (dict(counterfactual_share=0.0), "rewards has consistency, which compares a row with its twin, but "
         "counterfactual_share is 0"),
        (dict(counterfactual_share=0.0, rewards=["format"]), "twin_baseline is true, but"),
        (dict(multi_objective_aggregation="normalize_then_sum"), "which has a baseline for each reward"),
        (dict(per_device_train_batch_size=2), "a generation asks 1 prompt"),
        (dict(per_device_train_batch_size=6, counterfactual_share=1.0), "set it to at most 0.667"),
        (dict(counterfactual_share=1.5), "counterfactual_share"),
    ],
)  # fmt: skip
def test_keys_that_cannot_work_together_are_refused(keys, said, recipe, twinned, capsys, monkeypatch):
    assert said in refused(recipe, capsys, monkeypatch, **keys)


def test_ans_co_has_no_twins(recipe):
    path = recipe("ans_co", rewards=["format", "consistency"])
    with pytest.raises(UserError, match="counterfactual_share is no key of this stage"):
        load_recipe(path)


def test_a_generation_of_three_prompts_holds_a_pair(recipe, twinned):
    path = recipe("step_rr", **{**SETTINGS, "per_device_train_batch_size": 6, "counterfactual_share": 0.66})
    assert isinstance(load_recipe(path), StepRRRecipe)
