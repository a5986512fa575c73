"""Every arm of the counterfactual study: its commands are such as rlcomm takes, its intervals are honest."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from rlcomm.config.load import load_recipe
from rlcomm.config.step_rr import StepRRRecipe

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("study", ROOT / "launch/studies/counterfactual.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_of_every_arm_is_taken(study, tmp_path, monkeypatch):
    """Recipes load with the keys given; where rlcomm lacks a command, the arm waits and says for what."""
    monkeypatch.setattr(study, "has", lambda *words: None)
    some = study.Study(tmp_path, tiny=True)
    some.facts = lambda arm, seed: {"steps": 10, "seconds_training": 5.0}
    checked = set()
    twins = {"counterfactual_share", "twin_baseline"} <= {f.name for f in dataclasses.fields(StepRRRecipe)}
    for name, (_, arm) in study.ARMS.items():
        if "twins" in name and not twins:  # the study itself says that this arm waits
            continue
        steps = arm(some, 0)
        assert steps[-1].done.name == "results.json", name  # ends measured
        for step in steps:
            if step.done in checked or step.done.name in ("pool.jsonl", "never"):
                continue
            checked.add(step.done)
            verb, *words = map(str, step.words())
            if verb != "data":
                words = ["--purpose" if word == "--for" else word for word in words]
                recipe = load_recipe(words[0], words[1:])
                assert str(getattr(recipe, "output", None) or recipe.output_dir).startswith(str(tmp_path))
    assert len(checked) > 60


def test_an_arm_that_lacks_something_waits_and_says_so(study, tmp_path, monkeypatch):
    def lacks(*words):
        raise study.Waits("rlcomm data counterfactual")

    monkeypatch.setattr(study, "has", lacks)
    monkeypatch.setattr(study.Study, "world", lambda self, seed, asymmetric=0.0: [])
    said = study.Study(tmp_path, tiny=True).arm("warm100_cf", 0)
    assert said == "warm100_cf: waits for rlcomm data counterfactual"


def test_what_has_its_result_is_skipped(study, tmp_path):
    (tmp_path / "there").touch()
    study.Study(tmp_path, tiny=True).run(study.Step(tmp_path / "there", lambda: pytest.fail("ran")))


def test_intervals_hold_the_mean_and_stay_between_nothing_and_all(study):
    mean, low, high = study.interval([(0.97, 0.01), (0.99, 0.01), (0.5, 0.05)])
    assert mean == pytest.approx(0.82)
    assert 0.4 < low < mean < high <= 1
    assert study.interval([(1.0, 0.0), (1.0, 0.0)]) == (1.0, 1.0, 1.0)
    wide, narrow = study.interval([(0.5, 0.05)] * 2), study.interval([(0.5, 0.01)] * 2)
    assert wide[2] - wide[1] > 3 * (narrow[2] - narrow[1])  # clips count, not seeds alone


def test_the_table_reads_what_runs_left(study, tmp_path):
    folder = tmp_path / "runs" / "base" / "0"
    folder.mkdir(parents=True)
    figures = {"avconfuse_muted": {"acc": {"value": 0.153, "n": 300, "ci95": [0.11, 0.2]}},
               "avconfuse_modified": {"a_acc": {"value": 2.65, "n": 300, "ci95": [2.6, 2.7]}}}  # fmt: skip
    written = {"decoders": {"greedy": {"benchmarks": figures}}}
    (folder / "results.json").write_text(json.dumps(written))
    (folder / "stage.json").write_text(json.dumps({"stage": "eval", "seconds": 3.0}))  # nothing was trained
    lines = study.table(study.Study(tmp_path, tiny=False), [0, 1]).splitlines()
    assert lines[2].startswith("| base (direct) | 1 | 15.3 [")
    assert "| 2.65 [2.6" in lines[2]
    assert len(lines) == 3
