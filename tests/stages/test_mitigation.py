"""MCR-BENCH's mitigations as launch/studies/mitigation.sh runs them: SFT on conflict rows, side by side."""

import json
import re
from pathlib import Path

import pytest

from rlcomm.cli import main
from rlcomm.data.sample import read_jsonl
from rlcomm.orchestra.build import build

TRAIN, EVAL = "recipes/orchestra/mitigation/conflict_sft.yaml", "recipes/orchestra/mitigation/eval.yaml"
MEASURED = ("--benchmarks", "mcr_aqa", "--eval_max_rows", "2", "--disable_tqdm", "true")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("mitigation")
    build(out, seed=5, conflict=18, test=2, progress=False)
    return out


def test_base_interventions_and_sft_stand_side_by_side(world, tmp_path, capsys):
    base, sft, own = (str(tmp_path / name) for name in ("base", "sft", "sft_eval"))
    rows = str(world / "conflict.jsonl")
    plain = ("--use_cpu", "true", "--disable_tqdm", "true", "--report_to", "none")
    assert main(["train", TRAIN, "--dataset", rows, "--max_steps", "2", *plain, "--output_dir", sft]) == 0
    assert (tmp_path / "sft" / "model" / "adapter_model.safetensors").is_file()
    data = ("--eval_data", str(world), *MEASURED)
    assert main(["eval", EVAL, *data, "--model_name_or_path", f"{sft}/model", "--decoders", "greedy,gacl",
                 "--output_dir", own]) == 0  # fmt: skip
    beside = ("--beside", f"conflict_sft={own}")
    assert main(["eval", EVAL, *data, *beside, "--output_dir", base]) == 0
    results = json.loads((tmp_path / "base" / "results.json").read_text())
    assert list(results["decoders"]) == [
        "greedy", "gacl", "audio_priority", "ignore_text", "bias_awareness", "chain_of_thought",
        "conflict_sft",
    ]  # fmt: skip
    assert results["decoders"]["conflict_sft"]["settings"]["model"] == f"{sft}/model"
    page = (tmp_path / "base" / "report.html").read_text()
    assert re.search(r"conflict_sft: gain [-\d.]+, ECE", page)
    capsys.readouterr()
    assert main(["show", base]) == 0
    assert "\nconflict_sft " in capsys.readouterr().out


def test_a_mistake_is_found_before_a_model_is_loaded(world, tmp_path, refused):
    said = refused("eval", EVAL, "--eval_data", str(world), *MEASURED, "--model_name_or_path", "nowhere",
                   "--beside", "sft=nowhere", "--output_dir", str(tmp_path))  # fmt: skip
    assert said.startswith("beside has sft=nowhere, which holds no finished evaluation")
    said = refused("eval", EVAL, "--eval_data", str(world), "--beside", "nowhere")
    assert "beside has 'nowhere', which is not name=path" in said
    assert "no benchmarks are named" in refused("eval", "recipes/orchestra/eval.yaml", "--beside", "a=b")


def test_training_and_test_clips_are_others(world):
    """Trap: a model that has heard the very clips it is tested on."""
    trained = {Path(sample.audio or "").name for sample in read_jsonl(world / "conflict.jsonl")}
    tested = {row["audio"] for path in (world / "test/mcr").iterdir() for row in json.loads(path.read_text())}
    assert trained
    assert tested
    assert not trained & tested


def test_the_script_runs_these_recipes():
    said = Path("launch/studies/mitigation.sh").read_text()
    assert TRAIN in said
    assert EVAL in said
    for recipe in re.findall(r"recipes/\S+\.yaml", said):
        assert Path(recipe).is_file()
