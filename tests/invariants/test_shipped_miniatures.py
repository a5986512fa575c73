"""The weights that ship with the package keep the quality recorded beside them, on clips rendered anew."""

import dataclasses
import json
from pathlib import Path

import pytest

import rlcomm
from rlcomm.config.reference import ReferenceRecipe
from rlcomm.data.sample import read_jsonl
from rlcomm.evaluation import catalog, conflict, generated
from rlcomm.evaluation.generated import Asking
from rlcomm.evaluation.plan import Plan
from rlcomm.omni.policy import load_policy
from rlcomm.orchestra.build import build
from rlcomm.reference.rows import write_references

ASSETS = Path(rlcomm.__file__).parent / "assets"


def slack(rate: float, items: int) -> float:
    """Three standard errors of a rate over so many items, and two points for rounding elsewhere."""
    return 3 * (max(rate * (1 - rate), 0.01) / items) ** 0.5 + 0.02


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    build(folder, seed=11, train=60, test=100, progress=False)
    return folder


@pytest.mark.parametrize("name", ["nano_omni", "nano_audio"])
def test_weights_are_small_safetensors(name):
    files = sorted(path.name for path in (ASSETS / name).iterdir())
    assert "model.safetensors" in files
    assert not [file for file in files if file.endswith((".bin", ".pt", ".pkl"))]
    assert (ASSETS / name / "model.safetensors").stat().st_size <= 5_000_000


@pytest.mark.slow
def test_the_base_hears_and_yet_trusts_the_picture(world):
    """The phenomenon the method is for."""
    recorded = json.loads((ASSETS / "quality.json").read_text())["nano_omni"]
    asked = Asking(prompt_style="direct", max_new_tokens=16, batch_size=50, progress=False)
    records = generated.collect(load_policy("nano_omni"), world, asked)
    row = generated.summary(records)
    for key in (
        "control_acc",
        "same_audio_muted_acc",
        "same_audio_control_acc",
        "sync_acc",
        "sign_flip_rate",
    ):
        assert row[key] >= recorded[key] - slack(recorded[key], 100), key
    assert abs(row["muted_yes_rate"] - recorded["muted_yes_rate"]) <= slack(recorded["muted_yes_rate"], 100)


@pytest.mark.slow
def test_the_base_hears_and_yet_believes_the_text(world, tmp_path):
    """The conflict that GACL repairs: wrong texts are followed, the sound (or picture) alone is right."""
    recorded = json.loads((ASSETS / "quality.json").read_text())["nano_omni_conflict"]
    plan = Plan(decoders=("gacl",), batch_size=32)
    sets = catalog.open_sets(world, list(recorded), limit=100)
    asked = {catalog.CONFLICT, catalog.ALIGNED}  # what is recorded is about no other condition
    sets = [
        dataclasses.replace(one, samples=[s for s in one.samples if s.meta.get("condition") in asked])
        for one in sets
    ]
    results = conflict.evaluate(load_policy("nano_omni"), sets, plan, tmp_path, progress=False)
    assert results is not None
    for key, rates in recorded.items():
        found = results["decoders"]["greedy"]["benchmarks"][key]
        for name in ("aligned_acc", "evidence_conflict_acc"):
            assert found[name]["value"] >= rates[name] - slack(rates[name], found[name]["n"]), (key, name)
        followed = found["conflict_acc"]
        assert followed["value"] <= rates["conflict_acc"] + slack(rates["conflict_acc"], followed["n"]), key


@pytest.mark.slow
def test_the_reference_names_what_sounds(world, tmp_path):
    recorded = json.loads((ASSETS / "quality.json").read_text())["nano_audio"]
    rows = read_jsonl(world / "train.jsonl")
    recipe = ReferenceRecipe(
        dataset=str(world / "train.jsonl"), model_name_or_path="nano_audio",
        output=str(tmp_path / "out.jsonl"), batch_size=60,
        max_new_tokens=48,
    )  # fmt: skip
    report = write_references(rows, recipe, progress=False)
    assert report["hearing_exact"]["value"] >= recorded["hearing_exact"] - slack(
        recorded["hearing_exact"], 60
    )
