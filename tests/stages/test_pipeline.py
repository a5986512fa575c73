"""The end-to-end path at reduced size: real clips, real (forked) processes, the shipped miniatures."""

import json
from pathlib import Path

import pytest
import yaml

from rlcomm.cli import main
from rlcomm.stages import pipeline
from rlcomm.stages.pipeline import clocked, spent
from tests import forking

STAGES = ["base", "base_steps", "warmup", "step_rr", "ans_co"]


def run(*arguments):
    return forking.command(arguments, seconds=850)


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
    assert lines[-2] == "One instrument is muted in 50% of the training scenes."
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["stages"]) == STAGES
    row = summary["stages"]["ans_co"]
    for key in ("muted_acc", "muted_unparsed", "muted_yes_rate", "control_acc", "sync_acc",
                "same_audio_muted_acc", "same_audio_control_acc", "sign_flip_rate", "format_rate",
                "hearing_exact", "seconds"):  # fmt: skip
        assert key in row
    assert row["n"]["muted_acc"] == 10
    assert summary["asymmetric"] == 0.5
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


# -- the driver alone ----------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """A pipeline of two stages, whose processes only leave what a finished stage leaves."""
    keys = {"dataset": "rows.jsonl", "bf16": False, "max_steps": 3}
    for stage in ("warmup", "ans_co"):
        (tmp_path / f"{stage}.yaml").write_text(yaml.safe_dump({"stage": stage, **keys}))
    stages = ["warmup.yaml", "ans_co.yaml"]
    values = {"stage": "pipeline", "output_dir": str(tmp_path / "run"), "stages": stages}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(values))
    ran = []

    def process(command, environment):
        words = command[command.index("rlcomm") + 2 :]
        folder = Path(words[words.index("--output_dir") + 1])
        ran.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        given = dict(zip((word[2:] for word in words[1::2]), words[2::2], strict=True))
        made = {**yaml.safe_load(Path(words[0]).read_text()), **given}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(made))
        (folder / "stage.json").write_text("{}")
        return 0

    monkeypatch.setattr(pipeline, "run_process", process)
    return tmp_path / "pipeline.yaml", ran


def test_mistakes_about_any_stage_are_found_before_the_first_one_starts(chain, capsys, tmp_path):
    path, ran = chain
    for words, said in (
        (["--ansco.max_steps", "3"], "no stage is called 'ansco'; did you mean 'ans_co'?"),
        (["--ans_co.max_step", "3"], "'max_step' is no key of a ans_co recipe; did you mean 'max_steps'?"),
    ):
        assert main(["pipeline", str(path), *words]) == 2
        assert said in capsys.readouterr().err
    assert not ran
    assert not (tmp_path / "run").exists()


def test_an_override_of_a_stage_that_is_not_there_is_said_and_does_no_harm(chain, capsys):
    path, ran = chain
    words = ["--step_rr.max_steps", "3", "--warmup.max_steps", "2", "--eval.dev_share", "0.5"]
    assert main(["pipeline", str(path), *words]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert said == [
        "warning: no such stage in this pipeline, without effect: step_rr.max_steps, eval.dev_share"
    ]
    assert ran == ["warmup", "ans_co"]


def test_nothing_is_said_where_every_override_has_its_stage(chain, capsys, tmp_path):
    path, _ = chain
    (tmp_path / "eval.yaml").write_text("stage: eval\n")
    words = ["--evaluate_base", "eval.yaml", "--eval.dev_share", "0.5", "--ans_co.max_steps", "2"]
    assert main(["pipeline", str(path), *words]) == 0
    assert "warning" not in capsys.readouterr().out


def test_a_finished_stage_of_a_recipe_that_was_changed_since_is_refused(chain, capsys, tmp_path):
    path, ran = chain
    words = ["pipeline", str(path), "--warmup.max_steps", "2"]
    assert main(words) == 0
    assert ran == ["warmup", "ans_co"]
    warmup = tmp_path / "warmup.yaml"
    free = {**yaml.safe_load(warmup.read_text()), "logging_steps": 7, "max_steps": 9}  # free, overridden
    warmup.write_text(yaml.safe_dump(free))
    assert main(words) == 0
    warmup.write_text(yaml.safe_dump({**free, "learning_rate": 0.5}))
    capsys.readouterr()
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / 'run' / 'warmup'}: is finished, but by another recipe" in said
    assert "(learning_rate differ)" in said
    assert ran == ["warmup", "ans_co"]


def test_the_time_of_an_interrupted_attempt_counts(tmp_path, monkeypatch):
    now = iter([100.0, 130.0, 500.0, 504.0, 600.0, 601.0])
    monkeypatch.setattr(pipeline.time, "time", lambda: next(now))
    with pytest.raises(KeyboardInterrupt), clocked(tmp_path, "warmup", anew=True):
        raise KeyboardInterrupt
    with clocked(tmp_path, "warmup", anew=False):
        pass
    assert spent(tmp_path)["warmup"]["seconds"] == 34.0
    with clocked(tmp_path, "warmup", anew=True):  # its folder was removed: it is trained again from nothing
        pass
    assert spent(tmp_path)["warmup"]["seconds"] == 1.0


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
