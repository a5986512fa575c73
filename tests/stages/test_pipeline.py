"""The end-to-end path at reduced size: real clips, real processes, the shipped miniatures."""

import json
import subprocess
import sys

import pytest

STAGES = ["base", "base_steps", "warmup", "step_rr", "ans_co"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "rlcomm", *map(str, arguments)], capture_output=True, text=True, timeout=850
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp("quickstart") / "run"
    result = run("quickstart", "--tiny", "--output_dir", out)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return out, result


def test_the_quickstart_ends_with_the_table_and_the_reports_path(tiny):
    out, result = tiny
    lines = result.stdout.strip().splitlines()
    assert lines[-1] == str(out / "report.html")
    assert any(line.startswith("Ans-CO") for line in lines[-8:])
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["stages"]) == STAGES
    row = summary["stages"]["ans_co"]
    for key in ("muted_acc", "muted_unparsed", "muted_yes_rate", "control_acc", "sync_acc",
                "same_audio_muted_acc", "same_audio_control_acc", "sign_flip_rate", "format_rate",
                "hearing_exact", "seconds"):  # fmt: skip
        assert key in row
    assert row["n"]["muted_acc"] == 10
    assert summary["seconds_method"] > 0
    assert summary["peak_rss_mb"] > 100
    assert {"torch", "trl", "transformers"} <= summary["versions"].keys()
    assert summary["reference"]["reference_hearing_exact"] is not None
    results = json.loads((out / "results.json").read_text())
    assert set(results["decoders"]["greedy"]["benchmarks"]) == {
        "avconfuse_muted",
        "avconfuse_modified",
        "music_avqa",
    }
    page = (out / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") == 5
    assert "http://" not in page
    assert "https://" not in page


def test_every_stage_leaves_a_run_folder(tiny):
    out, _ = tiny
    for stage in ("warmup", "step_rr", "ans_co"):
        names = {path.name for path in (out / stage).iterdir()}
        assert {
            "recipe.yaml",
            "metrics.jsonl",
            "model",
            "results.json",
            "records.jsonl",
            "stage.json",
        } <= names
        assert (out / stage / "model" / "model.safetensors").exists()
        assert not list((out / stage / "model").glob("*.bin"))


def test_a_pipeline_cut_off_goes_on_after_the_last_finished_stage(tiny):
    out, _ = tiny
    before = (out / "warmup" / "model" / "model.safetensors").stat().st_mtime_ns
    for name in ("stage.json", "results.json"):
        (out / "ans_co" / name).unlink()
    (out / "summary.json").unlink()
    result = run("quickstart", "--tiny", "--output_dir", out)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "warmup: finished before" in result.stdout
    assert "ans_co: finished before" not in result.stdout
    assert (out / "warmup" / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert (out / "summary.json").exists()


def test_another_recipe_in_the_same_folder_is_refused(tiny):
    out, _ = tiny
    result = run("quickstart", "--tiny", "--output_dir", out, "--seed", "5")
    assert result.returncode == 2
    assert "another recipe" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_from_scratch_trains_both_miniatures_first(tmp_path):
    out = tmp_path / "run"
    result = run("quickstart", "--tiny", "--from_scratch", "--output_dir", out)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    summary = json.loads((out / "summary.json").read_text())
    assert {"render", "base", "audio"} <= summary["seconds_before"].keys()
    assert summary["seconds_total"] > summary["seconds_method"]
    for stage in ("base", "audio"):
        assert (out / f"scratch_{stage}" / "model" / "model.safetensors").exists()
