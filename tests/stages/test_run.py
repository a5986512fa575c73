"""A stage from end to end: interrupted, resumed, on a full disk, with adapters, and every mistake in one
sentence."""

import dataclasses
import gc
import json
import resource
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from accelerate.utils import DistributedType
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file

from rlcomm.cli import main
from rlcomm.config.load import load_recipe
from rlcomm.config.yaml_file import read_yaml
from rlcomm.data.sample import write_jsonl
from rlcomm.omni.policy import load_policy
from rlcomm.omni.prompts import Prompts
from rlcomm.stages import ans_co, run
from rlcomm.stages.resume import open_run
from rlcomm.stages.run import open_policy
from rlcomm.trainers.metrics_file import MetricsFile, read_metrics
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError
from tests.conftest import make_prompt
from tests.stages.conftest import STAGES, STEPS, changed
from tests.trainers.plain import plain


def train(path: str, *overrides: str) -> None:
    assert main(["train", path, *overrides]) == 0


def model(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def whole(folder: Path, tmp_path: Path) -> None:
    """Nothing half-written is left anywhere."""
    left = [p for p in tmp_path.rglob("*") if ".tmp" in p.name or "unfinished" in p.name or ".old" in p.name]
    assert not left


# -- Ctrl-C and going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
def test_an_interrupted_run_goes_on_to_the_same_end(
    stage, recipe, nano_folder, interrupt, monkeypatch, capsys, tmp_path
):
    train(recipe(stage, "whole"))
    path = recipe(stage, "cut", save_steps=2)
    interrupt(3)
    assert main(["train", path]) == 130
    said = capsys.readouterr().err
    assert "interrupted; run the same command again" in said
    assert "Traceback" not in said
    assert not (tmp_path / "cut" / "stage.json").exists()
    assert [row["step"] for row in read_metrics(tmp_path / "cut" / "metrics.jsonl")] == [1, 2, 3]
    monkeypatch.setattr(run, "MetricsFile", MetricsFile)
    train(path)

    logged = {name: read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "cut")}
    assert [row["step"] for row in logged["cut"]] == list(range(1, STEPS + 1))  # no step twice, none missing
    for before, after in zip(logged["whole"], logged["cut"], strict=True):
        assert after["loss"] == pytest.approx(before["loss"], abs=1e-5)
        assert after.get("reward") == pytest.approx(before.get("reward"))
    ended = {name: model(tmp_path / name) for name in ("whole", "cut")}
    base = load_file(nano_folder / "model.safetensors")
    assert max((ended["whole"][k] - base[k]).abs().max() for k in base) > 1e-4
    assert max((ended["whole"][k] - ended["cut"][k]).abs().max() for k in ended["whole"]) < 1e-6
    assert json.loads((tmp_path / "cut" / "stage.json").read_text())["steps"] == STEPS
    whole(tmp_path / "cut", tmp_path)


@pytest.mark.parametrize("stage", ["sft", "ans_co"])
def test_rows_in_the_order_of_clips_are_the_same_after_an_interruption(
    stage, recipe, rows, clip_rows, interrupt, monkeypatch, tmp_path
):
    """Three questions on two clips; three steps are an epoch, and the run is cut in the second."""
    asked = [
        dataclasses.replace(
            clip_rows[i % 2], id=str(i), turns=(dataclasses.replace(clip_rows[i].turns[0], question=f"{i}?"),)
        )
        for i in range(6)
    ]
    write_jsonl(rows, asked)
    settings = {"max_steps": 6, "group_by_clip": True}
    train(recipe(stage, "whole", **settings))
    train(recipe(stage, "plain", max_steps=6))
    path = recipe(stage, "cut", **settings)
    interrupt(4)
    assert main(["train", path]) == 130
    monkeypatch.undo()
    train(path)
    whole, cut, plain = (model(tmp_path / name) for name in ("whole", "cut", "plain"))
    assert all(torch.allclose(whole[name], cut[name], atol=1e-6) for name in whole)
    assert not all(torch.allclose(whole[name], plain[name], atol=1e-6) for name in whole)


def test_interrupted_rollouts_of_ans_co_leave_nothing_and_are_drawn_again(
    recipe, monkeypatch, capsys, tmp_path
):
    path = recipe("ans_co", ansco_target="self", rewards=["format", "accuracy"], max_completion_length=4)

    def ctrl_c(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ans_co, "generate_ids", ctrl_c)
        assert main(["train", path]) == 130
    assert names(tmp_path / "run") == {"recipe.yaml"}
    assert main(["train", path]) == 2  # the untrained miniature never answers in the format
    assert "none of the 6 rows has a well-formed and correct rollout" in capsys.readouterr().err


def test_a_finished_stage_is_not_trained_again(recipe, capsys, tmp_path):
    path = recipe("sft", max_steps=1)
    train(path)
    stamp = (tmp_path / "run" / "stage.json").stat().st_mtime_ns
    train(path, "--logging_steps", "7")
    assert "this stage is finished" in capsys.readouterr().out
    assert (tmp_path / "run" / "stage.json").stat().st_mtime_ns == stamp


def test_a_run_folder_says_what_it_holds(recipe, tmp_path):
    train(recipe("sft", max_steps=2))
    folder = tmp_path / "run"
    assert names(folder) == {
        "recipe.yaml",
        "metrics.jsonl",
        "checkpoint-1",
        "checkpoint-2",
        "model",
        "stage.json",
    }
    assert not list((folder / "model").glob("*.bin"))
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= names(folder / "model")
    facts = json.loads((folder / "stage.json").read_text())
    assert (facts["stage"], facts["steps"]) == ("sft", 2)
    assert facts["peak_rss_mb"] > 0


def test_metrics_of_a_killed_run_lose_the_torn_line_and_the_steps_after_the_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {i}, "loss": 1.0}}\n' for i in (1, 2, 3)) + '{"step": 4, "lo')
    state = type("State", (), {"is_world_process_zero": True, "global_step": 2})
    metrics = MetricsFile(path)
    metrics.on_train_begin(None, state, None)
    assert [row["step"] for row in read_metrics(path)] == [1, 2]
    state.global_step = 3
    metrics.on_log(None, state, None, {"loss": 0.5, "note": "words are left out"})
    metrics.on_log(None, state, None, {"train_runtime": 1.0})
    assert path.read_text().splitlines()[-1] == '{"step": 3, "loss": 0.5}'


# -- a full disk ---------------------------------------------------------------------------------------------


class SmallDisk(MetricsFile):
    """From step 2 on no file can grow beyond 100 kB: writing fails in the very calls that fail on a full
    disk."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 2:
            limit(100_000)


def limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("strategy", ["steps", "no"])
def test_a_full_disk_is_one_sentence_and_costs_no_good_file(strategy, recipe, refused, monkeypatch, tmp_path):
    """While the checkpoint (or, without checkpoints, the model) is written; then there is room again."""
    path = recipe("sft", save_strategy=strategy, max_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(run, "MetricsFile", SmallDisk)
        try:
            message = refused("train", path)
        finally:
            limit(resource.RLIM_INFINITY)
    assert "could not be written" in message
    assert "run the same command again" in message
    folder = tmp_path / "run"
    assert names(folder) == {"recipe.yaml", "metrics.jsonl"} | (
        {"checkpoint-1"} if strategy == "steps" else set()
    )
    whole(folder, tmp_path)
    train(path)
    assert (folder / "stage.json").exists()
    assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize("name", ["recipe.yaml", "stage.json", "model"])
def test_a_rename_that_fails_is_one_sentence(name, recipe, refused, monkeypatch, tmp_path):
    path = recipe("sft", max_steps=1)
    rename = files.os.replace

    def full(source, target):
        if Path(target).name.strip(".").startswith(name):
            raise OSError(28, "No space left on device", str(target))
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        assert f"{name}: " in refused("train", path)
    whole(tmp_path / "run", tmp_path)
    train(path)


def test_a_good_file_survives_a_write_that_fails(tmp_path):
    files.write_text(tmp_path / "a.txt", "good")

    def fail():
        with files.replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "a.txt").read_text() == "good"
    assert names(tmp_path) == {"a.txt"}


# -- mistakes ------------------------------------------------------------------------------------------------


def test_a_run_folder_of_another_recipe_is_refused(recipe, refused, tmp_path):
    train(recipe("sft", max_steps=1))
    message = refused("train", recipe("sft", max_steps=1, learning_rate=5e-3))
    assert "holds a run of another recipe (learning_rate differ)" in message
    assert str(tmp_path / "run") in message
    assert "--output_dir" in message
    assert "stage" in refused("train", recipe("step_rr", max_steps=1))


def test_a_mistake_found_before_the_first_step_does_not_claim_the_folder(recipe, refused, tmp_path):
    refused("train", recipe("sft", dataset=str(tmp_path / "gone.jsonl")))
    assert names(tmp_path / "run") == {"recipe.yaml"}
    train(recipe("sft", max_steps=1))
    assert load_recipe(tmp_path / "run" / "recipe.yaml").max_steps == 1


def test_what_does_not_change_the_result_may_change_between_runs(recipe, interrupt, monkeypatch, tmp_path):
    interrupt(1)
    assert main(["train", recipe("sft", max_steps=2)]) == 130
    monkeypatch.setattr(run, "MetricsFile", MetricsFile)
    train(recipe("sft", max_steps=2, logging_steps=2, save_total_limit=1, eval_batch_size=4))


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_clip_is_named(stage, recipe, refused, rows, clip_rows):
    write_jsonl(rows, [*clip_rows, dataclasses.replace(clip_rows[0], id="z", video="gone.mp4")])
    message = refused("train", recipe(stage))
    assert f"{rows}: 1 clip(s) do not exist" in message
    assert "gone.mp4" in message
    assert "rlcomm data check" in message


def test_an_unreadable_clip_is_named(recipe, refused, rows, clip_rows, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    broken = str(tmp_path / "broken.mp4")
    write_jsonl(rows, [dataclasses.replace(clip_rows[0], video=broken, audio=broken)])
    assert broken in refused("train", recipe("sft"))


WORKERS = dict(dataloader_num_workers=2, dataloader_prefetch_factor=1)


@pytest.mark.parametrize("stage", STAGES)
def test_an_unreadable_clip_is_named_in_the_same_sentence_by_a_worker(
    stage, recipe, refused, rows, clip_rows, monkeypatch, tmp_path
):
    """torch's DataLoader wraps what its workers raise in a traceback of many lines."""
    # A loader that failed waits so many seconds for each of its workers, which have no work to end.
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    (tmp_path / "broken.mp4").write_bytes(b"no film")
    broken = str(tmp_path / "broken.mp4")
    write_jsonl(rows, [dataclasses.replace(row, video=broken, audio=broken) for row in clip_rows])
    message = refused("train", recipe(stage, "alone"))
    assert message.startswith(f"{broken}: ")
    assert refused("train", recipe(stage, "workers", **WORKERS)) == message
    gc.collect()  # now, and not in the time of another test


@pytest.mark.parametrize("stage", STAGES)
def test_workers_that_decode_ahead_change_nothing(stage, recipe, tmp_path):
    train(recipe(stage, "alone"))
    train(recipe(stage, "workers", **WORKERS))
    for key, value in model(tmp_path / "alone").items():
        assert torch.equal(value, model(tmp_path / "workers")[key])


def test_ans_co_announces_the_clips_of_the_next_rollouts(recipe, clip_rows, monkeypatch, tmp_path):
    seen: list[tuple[str, list[str]]] = []
    expect = Prompts.expect

    def announced(self, samples):
        samples = list(samples)
        seen.append(("announced", [sample.id for sample in samples]))
        expect(self, samples)

    def sampled(recipe, policy, rows, prompts, functions, seed):
        seen.append(("sampled", [sample.id for sample in rows]))
        assert all(len(prompts(sample)) for sample in rows)
        return [(sample.id, sample.turns[0].target) for sample in rows]

    monkeypatch.setattr(Prompts, "expect", announced)
    monkeypatch.setattr(ans_co, "best_rollouts", sampled)
    monkeypatch.setattr(ans_co, "reward_functions", lambda *_: [])
    train(recipe("ans_co", ansco_target="self", rollout_batch_size=2, max_steps=1, **WORKERS))
    assert seen == [
        ("announced", ["0", "1", "2", "3"]), ("sampled", ["0", "1"]), ("announced", ["2", "3", "4", "5"]),
        ("sampled", ["2", "3"]), ("announced", ["4", "5"]), ("sampled", ["4", "5"]),
    ]  # fmt: skip


def test_a_row_without_a_target_is_named(recipe, refused, rows, clip_rows):
    write_jsonl(rows, [*clip_rows[:3], changed(clip_rows[3], target=None)])
    message = refused("train", recipe("sft"))
    assert f"{rows}, row 4, field target: " in message
    assert "rlcomm reference RECIPE --for warmup" in message


def test_a_row_without_a_reference_is_named(recipe, refused, rows, clip_rows):
    write_jsonl(rows, [clip_rows[0], dataclasses.replace(clip_rows[1], reference=None), *clip_rows[2:]])
    for keys in (dict(rewards=["format", "arr"]), dict(rewards=["format", "avc"], avc_mode="calibrated")):
        message = refused("train", recipe("step_rr", **keys))
        assert f"{rows}, row 2, field reference: " in message
    train(recipe("step_rr", "without", rewards=["format", "accuracy"], max_steps=1))


def test_a_row_without_a_sight_is_named(recipe, refused, rows, clip_rows):
    seen = [dataclasses.replace(sample, sight="I see a drum.") for sample in clip_rows]
    write_jsonl(rows, [*seen[:2], clip_rows[2], *seen[3:]])
    message = refused("train", recipe("step_rr", rewards=["format", "avc"], avc_mode="witnessed"))
    assert f"{rows}, row 3, field sight: " in message
    assert "--sight true" in message


def test_a_grpo_run_warns_without_an_audit_and_counts_exploits(recipe, tmp_path, caplog):
    path = recipe("step_rr", max_steps=1, rewards=["format", "accuracy"])
    train(path)
    assert caplog.text.count("no audit of these rewards") == 1
    [row] = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert row["exploits/v_into_a"] == 0.0  # noise is no exploit


def test_an_audit_before_the_first_step_makes_no_run_of_the_folder(recipe, tmp_path, caplog):
    """Else a recipe that is mended after its audit would be refused as another run's."""
    path = recipe("step_rr", max_steps=1, rewards=["format", "accuracy"])
    loaded = load_recipe(path)
    (tmp_path / "run").mkdir()
    files.write_json(tmp_path / "run" / "audit.json", {"fingerprint": "stale"})
    open_run(loaded)
    loaded.given["learning_rate"] = 0.5
    open_run(loaded)
    assert read_yaml(tmp_path / "run" / "recipe.yaml")["learning_rate"] == 0.5


def test_a_grpo_run_says_what_a_generation_is(recipe, capsys):
    train(recipe("step_rr", max_steps=1, rewards=["format", "accuracy"], steps_per_generation=2))
    said = capsys.readouterr().out
    assert "each generation: 4 prompts x 2 completions = 8 completions, 2 optimiser step(s)" in said


def test_training_shows_a_bar(recipe, capfd):
    train(recipe("sft", max_steps=2, disable_tqdm=False))
    assert "2/2" in capfd.readouterr().err


def test_an_evaluation_does_not_replace_a_stages_own(recipe, refused, tmp_path):
    train(recipe("sft", max_steps=1))
    before = (tmp_path / "run" / "stage.json").read_bytes()
    path = tmp_path / "eval.yaml"
    path.write_text(f"stage: eval\neval_data: {tmp_path}\noutput_dir: {tmp_path / 'run'}\n")
    assert "is the run folder of a sft stage" in refused("eval", str(path))
    assert (tmp_path / "run" / "stage.json").read_bytes() == before


def test_fewer_rows_than_a_generation_asks(recipe, refused, rows, clip_rows):
    write_jsonl(rows, clip_rows[:1])
    message = refused("train", recipe("step_rr"))
    assert "has 1 row(s), but each generation asks 2 different prompts" in message


def test_an_empty_or_missing_dataset(recipe, refused, rows, tmp_path):
    rows.write_text("")
    assert str(rows) in refused("train", recipe("sft"))
    assert "gone.jsonl" in refused("train", recipe("sft", dataset=str(tmp_path / "gone.jsonl")))


def test_a_missing_model_and_a_model_of_another_kind(recipe, refused, tmp_path):
    assert "where no folder is" in refused("train", recipe("sft", model_name_or_path=str(tmp_path / "gone")))
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    message = refused("train", recipe("sft", model_name_or_path=str(tmp_path / "bert")))
    assert "'bert' model without the senses" in message


def test_a_file_in_place_of_the_run_folder(recipe, refused, tmp_path):
    (tmp_path / "run").write_text("in the way")
    assert "could not be written" in refused("train", recipe("sft"))


def test_deepspeed_that_accelerate_would_leave_out_is_refused():
    """With use_cpu a run under launch/zero2.yaml would be plain DDP, and nothing would say so."""
    recipe = SimpleNamespace(
        n_gpu=0, deepspeed_plugin=object(),
        distributed_state=SimpleNamespace(distributed_type=DistributedType.MULTI_CPU),
    )  # fmt: skip
    with pytest.raises(UserError, match="leave DeepSpeed out unsaid; set ddp_backend gloo"):
        open_policy(recipe)


# -- adapters ------------------------------------------------------------------------------------------------


def trained_names(policy) -> list[str]:
    return [name for name, p in policy.model.named_parameters() if p.requires_grad]


def test_a_lora_recipe_trains_and_saves_adapters_of_the_decoder_alone(
    recipe, nano_folder, monkeypatch, tmp_path
):
    prompt = make_prompt(load_policy(str(nano_folder)), 3)
    seen = {}
    save = run.save_model

    def spy(trainer, processor, path):
        trainer.model.eval()
        seen["logps"] = plain(type("P", (), {"model": trainer.model}), prompt, [5, 300, 17])[0].detach()
        seen["trained"] = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
        save(trainer, processor, path)

    monkeypatch.setattr(run, "save_model", spy)
    train(recipe("sft", use_peft=True, lora_r=4, lora_alpha=8, max_steps=2, learning_rate=0.05))
    assert seen["trained"]
    assert all("lora_" in name and "language_model.layers" in name for name in seen["trained"])

    folder = tmp_path / "run" / "model"
    assert "adapter_model.safetensors" in names(folder)
    assert "model.safetensors" not in names(folder)
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        assert all("language_model.layers" in key and "lora_" in key for key in weights.keys())  # noqa: SIM118

    back = load_policy(str(folder))
    assert isinstance(back.model, PeftModel)
    assert torch.allclose(plain(back, prompt, [5, 300, 17])[0], seen["logps"], atol=1e-6)
    base = plain(load_policy(str(nano_folder)), prompt, [5, 300, 17])[0]
    assert (base - seen["logps"]).abs().max() > 1e-3


def test_the_next_stage_goes_on_with_the_adapters_or_merges_them(recipe, tmp_path):
    train(recipe("sft", use_peft=True, lora_r=4, max_steps=1, learning_rate=0.05))
    adapters = str(tmp_path / "run" / "model")
    prompt = make_prompt(load_policy(adapters), 3)
    expected = plain(load_policy(adapters), prompt, [5, 300, 17])[0]
    for use_peft in (True, False):
        policy = open_policy(
            load_recipe(recipe("step_rr", "next", model_name_or_path=adapters, use_peft=use_peft))
        )
        assert all(("lora_" in name) == use_peft for name in trained_names(policy))
        assert not any("audio_tower" in name or "visual" in name for name in trained_names(policy))
        assert torch.allclose(plain(policy, prompt, [5, 300, 17])[0], expected, atol=1e-5)
    train(recipe("step_rr", "next", model_name_or_path=adapters, use_peft=True, max_steps=1))
    assert "adapter_model.safetensors" in names(tmp_path / "next" / "model")


def test_adapters_that_go_on_training_keep_their_rank(recipe, refused, tmp_path):
    """Another rank in the next stage's recipe would be ignored silently."""
    train(recipe("sft", use_peft=True, lora_r=4, lora_alpha=8, max_steps=1))
    adapters = dict(model_name_or_path=str(tmp_path / "run" / "model"), use_peft=True)
    message = refused("train", recipe("step_rr", "next", lora_r=8, **adapters))
    assert "lora_r is 8" in message
    assert "adapters with 4" in message
    assert "lora_alpha is 32" in refused("train", recipe("step_rr", "next", lora_alpha=32, **adapters))
    open_policy(load_recipe(recipe("step_rr", "next", lora_r=4, lora_alpha=8, **adapters)))


def test_one_process_among_several_gpus_trains_on_the_first_and_says_so(recipe, monkeypatch, capsys):
    """transformers would wrap the model in nn.DataParallel, which TRL refuses with a traceback."""
    loaded = load_recipe(recipe("sft"))
    loaded._n_gpu = 8  # as transformers finds them
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(run, "load_policy", Mock(side_effect=InterruptedError))
    processes._say_which.cache_clear()
    with pytest.raises(InterruptedError):
        open_policy(loaded)
    assert (loaded.n_gpu, loaded.train_batch_size) == (1, loaded.per_device_train_batch_size)
    assert processes.device() == torch.device("cuda", 0)
    assert capsys.readouterr().err.count("8 GPUs are visible; this process uses the first") == 1
    processes._say_which.cache_clear()


def test_adapters_of_a_bfloat16_model_are_float32(recipe):
    """The LoRA recipes rest on it: in bfloat16 an update of 1e-5 would be rounded away without DeepSpeed."""
    policy = open_policy(load_recipe(recipe("sft", use_peft=True, dtype="bfloat16")))
    kinds = {p.requires_grad: p.dtype for p in policy.model.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_a_stage_cut_off_in_its_evaluation_is_not_trained_again(
    tmp_path, monkeypatch, clip_rows, nano_folder
):
    import json

    from rlcomm.cli import main
    from rlcomm.data.sample import write_jsonl
    from rlcomm.stages import run as stage_run

    write_jsonl(tmp_path / "rows.jsonl", clip_rows)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"stage: warmup\nmodel_name_or_path: {nano_folder}\ndataset: {tmp_path / 'rows.jsonl'}\n"
        f"output_dir: {tmp_path / 'run'}\nmax_steps: 2\nper_device_train_batch_size: 2\nbf16: false\n"
        f"gradient_checkpointing: false\nlogging_steps: 1\nsave_strategy: 'no'\neval_data: {tmp_path}\n"
    )

    def cut_off(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(stage_run, "evaluate_run", cut_off)
    assert main(["train", str(recipe)]) == 130
    weights = tmp_path / "run" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    monkeypatch.setattr(stage_run, "evaluate_run", lambda *arguments, **options: {})
    assert main(["train", str(recipe)]) == 0
    assert weights.stat().st_mtime_ns == before
    assert json.loads((tmp_path / "run" / "stage.json").read_text())["steps"] == 2
