"""What W&B and TensorBoard get of a run: offline runs are read back from the files that would be synced."""

# ruff: noqa: F811 (fixtures of the stages' tests, by name)

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import wandb
import yaml
from PIL import Image
from wandb.proto import wandb_internal_pb2

from rlcomm.cli import main
from rlcomm.config.load import load_recipe
from rlcomm.config.pipeline import PipelineRecipe
from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.stages import pipeline, run
from rlcomm.trainers.grpo import Rollout
from rlcomm.trainers.metrics_file import MetricsFile, read_metrics
from rlcomm.trainers.watch import Looks, Wandb, named, picked
from rlcomm.utils.errors import UserError
from tests.conftest import make_sample
from tests.stages.conftest import interrupt, recipe, refused, rows  # noqa: F401

STEP = "train/global_step"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """W&B writes below tmp_path alone and asks nobody; no setting of the machine reaches it."""
    for name in ("PROJECT", "RUN_ID", "RUN_GROUP", "LOG_MODEL", "DIR", "ENTITY", "API_KEY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "home" / name))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    yield
    wandb.finish()
    wandb.teardown()


def records(file: Path) -> list:
    """The records of a .wandb file: a LevelDB log behind a header of 7 bytes."""
    data, at, whole, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:  # no room for another header in this block
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            found.append(record)
            whole = b""
    return found


def runs(folder: Path) -> list[list]:
    """The records of each offline run below a run folder, oldest first."""
    wandb.teardown()  # W&B's own process writes the last of them after `finish` has returned
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime_ns)
    return [records(file) for file in files]


def values(items) -> dict:
    """{name: value} of the items of a history, configuration or summary record; what is nested, nested."""
    told: dict = {}
    for item in items:
        *above, name = item.nested_key or [item.key]
        place = told
        for part in above:
            place = place.setdefault(part, {})
        place[name] = json.loads(item.value_json)
    return told


def history(found: list) -> list[dict]:
    return [values(record.history.item) for record in found if record.HasField("history")]


def merged(found: list, kind: str) -> dict:
    """All updates of the configuration or the summary, one over the other."""
    told: dict = {}
    for record in found:
        if record.HasField("run") and kind == "config":
            told |= values(record.run.config.update)
        if record.HasField(kind):
            told |= values(getattr(record, kind).update)
    return told


def artifacts(found: list) -> list:
    return [
        record.request.log_artifact.artifact if record.HasField("request") else record.artifact
        for record in found
        if record.HasField("artifact")
        or (record.HasField("request") and record.request.HasField("log_artifact"))
    ]


def contents(artifact) -> dict[str, Path]:
    """Path in the artifact -> the file that would be uploaded."""
    return {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}


def train(path: str, *overrides: str) -> None:
    assert main(["train", path, *overrides]) == 0


def test_a_step_rr_run_can_be_read_heard_and_seen(offline, recipe, clip_rows, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_RUN_GROUP", "night")
    train(
        recipe(
            "step_rr",
            report_to="wandb",
            project="ours",
            run_name="first",
            rollouts_every=2,
            rollouts_shown=3,
            log_completions=True,
            num_completions_to_print=0,
        )
    )
    folder = tmp_path / "run"
    (found,) = runs(folder)

    (begun,) = [record.run for record in found if record.HasField("run")][:1]
    assert (begun.project, begun.display_name, begun.run_group) == ("ours", "first", "night")
    assert begun.job_type == "step_rr"
    assert begun.run_id == json.loads((folder / "wandb.json").read_text())["id"]
    told = merged(found, "config")
    assert told["rewards"] == ["format"]
    assert (told["learning_rate"], told["num_generations"], told["stage"]) == (1e-3, 2, "step_rr")

    # every logging step once, under the names and with the values of metrics.jsonl
    sent = history(found)
    logged = [row for row in sent if "rewards/format/mean" in row]
    kept = read_metrics(folder / "metrics.jsonl")
    assert [row[STEP] for row in logged] == [1, 2, 3, 4] == [row["step"] for row in kept]
    for ours, theirs in zip(logged, kept, strict=True):
        assert {k: v for k, v in ours.items() if k[0] != "_" and k != STEP} == named(
            {k: v for k, v in theirs.items() if k != "step"}
        )
    assert {"train/loss", "train/reward", "steps/format_ok", "time/rollout"} <= logged[0].keys()
    hidden = {r.metric.name for r in found if r.HasField("metric") and r.metric.options.hidden}
    assert "train/num_tokens" in hidden
    assert not hidden & {"train/loss", "train/reward", "rewards/format/mean", "steps/format_ok"}

    # TRL's own table (the latest step alone, no sound) is gone; its files are not
    assert not any("completions" in row for row in sent)
    assert not any(key.startswith("profiling/") for row in sent for key in row)
    assert len(list((folder / "completions").glob("*.parquet"))) == 4

    tables = [row for row in sent if "rollouts" in row]
    assert [row[STEP] for row in tables] == [1, 2, 4]
    assert [row["rollouts"]["_type"] for row in tables] == ["incremental-table-file"] * 3
    assert [row["rollouts"]["increment_num"] for row in tables] == [0, 1, 2]
    looked = [artifact for artifact in artifacts(found) if artifact.type == "wandb-run-incremental-table"]
    assert len(looked) == 3
    for artifact, step in zip(looked, (1, 2, 4), strict=True):
        files = contents(artifact)
        (name,) = [name for name in files if name.endswith(".table.json")]
        table = json.loads(files[name].read_text())
        shown = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
        assert 1 <= len(shown) <= 3
        assert {row["step"] for row in shown} == {step}
        for row in shown:
            (sample,) = [s for s in clip_rows if s.answer == row["gold"] and heard(files, row, s)]
            assert row["prompt"].startswith(sample.question)
            assert row["reference"] == "I hear a drum."
            assert isinstance(row["format"], (int, float))
            assert isinstance(row["advantage"], (int, float))
            assert isinstance(row["completion"], str)
            assert {"a-think", "v-think", "answer"} <= row.keys()
            clip = load_clip(sample.video, sample.audio, MediaSettings())
            picture = np.asarray(Image.open(files[row["frames"]["path"]]), float)
            assert picture.shape == (56, 2 * 84, 3)
            expected = np.concatenate(list(clip.frames), axis=1).astype(float)
            assert np.corrcoef(picture.ravel(), expected.ravel())[0, 1] > 0.5  # noise survives no .jpg whole


def heard(files: dict[str, Path], row: dict, sample) -> bool:
    """Whether a row of the table plays the sound of this sample, at 16 kHz and in mono."""
    sound, rate = soundfile.read(files[row["audio"]["path"]], dtype="float32")
    expected = load_clip(None, sample.audio, MediaSettings()).audio
    assert rate == 16_000
    assert sound.ndim == 1
    return sound.shape == expected.shape and float(np.abs(sound - expected).max()) < 1e-3


def test_a_resumed_stage_goes_on_in_the_same_run_and_tells_no_step_twice(
    offline,
    recipe,
    interrupt,
    monkeypatch,
    tmp_path,
):
    """Cut off after step 3, whose checkpoint is that of step 2: step 3 is trained twice and told once."""
    path = recipe("step_rr", report_to="wandb", save_steps=2, rollouts_every=3)
    interrupt(3)
    assert main(["train", path]) == 130
    wandb.finish(exit_code=130)  # the end of that process
    monkeypatch.setattr(run, "MetricsFile", MetricsFile)
    train(path)

    first, second = runs(tmp_path / "run")
    begun = [next(r.run for r in found if r.HasField("run")) for found in (first, second)]
    assert begun[0].run_id == begun[1].run_id
    sent = history(first) + history(second)
    assert [row[STEP] for row in sent if "train/loss" in row] == [1, 2, 3, 4]
    assert [row[STEP] for row in history(second) if "train/loss" in row] == [4]
    assert [row[STEP] for row in sent if "rollouts" in row] == [1, 3]
    assert [row["step"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [1, 2, 3, 4]


def test_the_last_evaluation_and_the_model_are_kept_with_the_run(offline, recipe, monkeypatch, tmp_path):
    """WANDB_LOG_MODEL is transformers' variable; what it keeps is our model/, without a pickle."""
    monkeypatch.setenv("WANDB_LOG_MODEL", "checkpoint")
    monkeypatch.setattr(run, "evaluate_run", lambda *a, **k: {"muted_acc": 0.25, "n": {"muted_acc": 4}})
    train(recipe("sft", report_to="wandb", max_steps=2, save_steps=2, eval_data=str(tmp_path)))
    (found,) = runs(tmp_path / "run")
    told = merged(found, "summary")
    assert told["eval/muted_acc"] == 0.25
    assert "eval/n" not in told
    assert told["train/train_loss"] > 0
    models = [artifact for artifact in artifacts(found) if artifact.type == "model"]
    kept = {(set(artifact.aliases) - {"latest"}).pop(): artifact for artifact in models}
    assert set(kept) == {"checkpoint-2", "final_model"}
    names = set(contents(kept["final_model"]))
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} <= names
    assert not any(name.endswith((".bin", ".pt", ".pth")) for name in names)
    assert "trainer_state.json" in contents(kept["checkpoint-2"])


def test_nothing_is_reported_where_nothing_is_said(offline, recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(wandb, "init", lambda **kwargs: pytest.fail("W&B was started"))
    path = recipe("step_rr", max_steps=1)
    values = yaml.safe_load(Path(path).read_text())
    del values["report_to"]
    Path(path).write_text(yaml.safe_dump(values))
    train(path)
    assert not {"wandb", "wandb.json", "tensorboard", "runs"} & {p.name for p in (tmp_path / "run").iterdir()}


def test_whoever_is_not_logged_in_is_told_so(offline, recipe, refused, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    said = refused("train", recipe("sft", report_to="wandb"))
    assert said.startswith("report_to is wandb, which refuses (")
    assert "`wandb login`" in said


def init_of(recipe_path: str, monkeypatch, *overrides: str) -> dict:
    """The keywords with which a recipe begins its W&B run."""
    asked = {}

    def init(**kwargs):
        asked.update(kwargs)
        raise wandb.Error("far enough")

    monkeypatch.setattr(wandb, "init", init)
    loaded = load_recipe(recipe_path, list(overrides))
    callback = Wandb(loaded, Looks(None, loaded))
    with pytest.raises(UserError, match="far enough"):
        callback.setup(loaded, SimpleNamespace(is_world_process_zero=True), None)
    return asked


def test_the_recipe_names_the_project_before_the_environment(offline, recipe, monkeypatch):
    path = recipe("sft", report_to="wandb")
    assert init_of(path, monkeypatch)["project"] == "rlcomm"
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert init_of(path, monkeypatch)["project"] == "theirs"
    asked = init_of(path, monkeypatch, "--project", "ours", "--run_name", "n")
    assert (asked["project"], asked["name"], asked["resume"]) == ("ours", "n", "allow")


def test_only_the_main_process_speaks(offline, recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(wandb, "init", lambda **kwargs: pytest.fail("W&B was started"))
    loaded = load_recipe(recipe("sft", report_to="wandb"))
    callback = Wandb(loaded, Looks(None, loaded))
    state = SimpleNamespace(is_world_process_zero=False, is_hyper_param_search=False, global_step=1)
    callback.on_train_begin(loaded, state, None)
    callback.on_log(loaded, state, None, logs={"loss": 1.0})
    callback.on_step_end(loaded, state, None)
    callback.on_save(loaded, state, None)
    callback.finish(SimpleNamespace(state=state), tmp_path, {"muted_acc": 1.0})
    assert not (tmp_path / "run").exists()


def test_stages_of_a_pipeline_are_one_group_unless_somebody_names_another(offline, monkeypatch, tmp_path):
    (tmp_path / "warmup.yaml").write_text("stage: warmup\n")
    groups = []

    def stage(command, environment):
        groups.append(environment["WANDB_RUN_GROUP"])
        return 1

    monkeypatch.setattr(pipeline, "run_process", stage)
    planned = PipelineRecipe(output_dir=str(tmp_path / "out"), stages=["warmup.yaml"])
    planned.given = {"stages": ["warmup.yaml"]}  # type: ignore[attr-defined]
    for group in (None, "mine"):
        if group:
            monkeypatch.setenv("WANDB_RUN_GROUP", group)
        with pytest.raises(UserError, match="stage warmup ended with code 1"):
            pipeline.run_pipeline(planned, tmp_path)
    assert groups == [str(tmp_path / "out"), "mine"]


def rollout(name: str, advantage: float) -> Rollout:
    return Rollout(make_sample(name), "?", f"{name}{advantage}", {"format": 1.0}, advantage)


def test_the_best_and_the_worst_of_each_prompt_are_shown_and_a_flat_group_once():
    told = [rollout("a", 0.1), rollout("a", 0.9), rollout("a", -1.0), rollout("b", 0.0), rollout("b", 0.0)]
    told += [rollout("c", -1.0), rollout("c", 1.0)]
    assert [r.completion for r in picked(told, 4)] == ["a0.9", "a-1.0", "b0.0", "c1.0"]
    assert len(picked(told, 99)) == 5


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [("report_to", "wanbd", "wanbd.*none, wandb or tensorboard"), ("rollouts_shown", 0, "at least 1")],
)
def test_a_mistake_in_the_recipe_is_found_before_anything_starts(recipe, key, value, why):
    with pytest.raises(UserError, match=why):
        load_recipe(recipe("step_rr", **{key: value}))


def test_a_missing_tensorboard_is_named(recipe, monkeypatch):
    monkeypatch.setattr("rlcomm.config.watch.is_tensorboard_available", lambda: False)
    with pytest.raises(UserError, match="pip install tensorboard"):
        load_recipe(recipe("step_rr", report_to="tensorboard"))


def test_tensorboard_gets_the_same_and_no_step_twice(recipe, interrupt, monkeypatch, tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is an optional extra"
    )
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    path = recipe("step_rr", report_to="tensorboard", save_steps=2, rollouts_every=3)
    interrupt(3)
    assert main(["train", path]) == 130
    monkeypatch.setattr(run, "MetricsFile", MetricsFile)
    train(path)
    read = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"), {"scalars": 0, "audio": 0})
    read.Reload()
    kept = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for tag in ("rewards/format/mean", "steps/format_ok"):
        events = read.Scalars(tag)
        assert [event.step for event in events] == [1, 2, 3, 4]
        assert [event.value for event in events] == pytest.approx([row[tag] for row in kept])
    assert "train/loss" in read.Tags()["scalars"]
    assert [event.step for event in read.Audio("rollouts/0")] == [1, 3]
    assert read.Audio("rollouts/0")[0].sample_rate == 16_000
    assert [event.step for event in read.Images("rollouts/0")][-1] == 3
    text = read.Tensors("rollouts/0/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| advantage |" in text
    assert "| reference | I hear a drum. |" in text
