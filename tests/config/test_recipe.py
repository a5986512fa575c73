"""Recipes: every mistake is one clear sentence that names the file and the key, and says what would work."""

import re

import pytest
import yaml
from transformers.utils import logging

from rlcomm.config.load import load_recipe, resolved, save_recipe
from rlcomm.config.stages import STAGES
from rlcomm.utils.errors import UserError

BASE = {
    "step_rr": dict(dataset="x.jsonl", per_device_train_batch_size=8, num_generations=4, bf16=False),
    "sft": dict(dataset="x.jsonl", bf16=False),
    "ans_co": dict(dataset="x.jsonl", bf16=False),
    "audio": dict(dataset="x.jsonl", max_steps=3),
    "reference": dict(dataset="x.jsonl", output="y.jsonl"),
    "eval": dict(eval_data="d"),
    "pipeline": dict(stages=["a.yaml"]),
}


def written(tmp_path, stage: str, **keys) -> str:
    path = tmp_path / "recipe.yaml"
    values = {"stage": stage, "output_dir": str(tmp_path / "run"), **BASE[stage], **keys}
    if stage == "reference":
        values.pop("output_dir")
    path.write_text(yaml.safe_dump(values))
    return str(path)


def refused(tmp_path, stage: str, *overrides: str, **keys) -> str:
    """The one sentence with which a recipe is refused."""
    path = written(tmp_path, stage, **keys)
    with pytest.raises(UserError) as error:
        load_recipe(path, list(overrides))
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    where = "the command line" if message.startswith("the command line") else path
    assert message.startswith(f"{where}: ")
    return message.removeprefix(f"{where}: ")


@pytest.mark.parametrize("stage", BASE)
def test_the_smallest_recipe_of_every_stage_loads(tmp_path, stage):
    assert isinstance(load_recipe(written(tmp_path, stage)), STAGES[stage])


# -- keys ----------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path):
    assert "did you mean 'temperature'?" in refused(tmp_path, "step_rr", temprature=1.0)
    assert "did you mean 'ansco_lambda'?" in refused(tmp_path, "ans_co", ansco_lamda=1.0)
    assert "did you mean 'learning_rate'?" in refused(tmp_path, "sft", "--learning_rat", "1")
    assert "'zzz' is no key of a sft recipe" in refused(tmp_path, "sft", zzz=1)


def test_the_reference_of_an_endpoint(tmp_path):
    endpoint = dict(reference_backend="endpoint", model_name_or_path="audio-1")
    recipe = load_recipe(written(tmp_path, "reference", **endpoint), ["--concurrency", "3", "--timeout", "9"])
    assert (recipe.concurrency, recipe.timeout, recipe.retries, recipe.audio_window) == (3, 9.0, 4, None)
    for key, value in (("concurrency", 0), ("timeout", 0), ("retries", -1), ("audio_window", 0.5)):
        said = refused(tmp_path, "reference", **endpoint, **{key: value})
        assert said.startswith(f"{key} is {value}")
        assert "out of range" in said
    assert "'vllm', which is unknown; use one of transformers, endpoint" in refused(
        tmp_path, "reference", reference_backend="vllm"
    )
    assert "give its name there" in refused(tmp_path, "reference", reference_backend="endpoint")
    said = refused(tmp_path, "reference", **endpoint, model_revision="main")
    assert "which an endpoint cannot be told" in said


def test_the_reference_hears_all_of_a_clip_unless_told_otherwise(tmp_path):
    assert load_recipe(written(tmp_path, "reference")).media().audio_seconds is None
    assert load_recipe(written(tmp_path, "reference", media_audio_seconds=40)).media().audio_seconds == 40


def test_a_key_of_another_stage_is_no_key_of_this_one(tmp_path):
    assert "'ansco_lambda' is no key of a step_rr recipe" in refused(tmp_path, "step_rr", ansco_lambda=0.5)


def test_a_training_recipe_shows_a_bar_though_transformers_log_is_quiet(tmp_path, monkeypatch):
    """transformers hides its bars where its log is quiet, and `rlcomm` keeps it quiet."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        for stage in ("sft", "step_rr", "ans_co", "audio"):
            assert load_recipe(written(tmp_path, stage)).disable_tqdm is False
            assert load_recipe(written(tmp_path, stage, disable_tqdm=True)).disable_tqdm is True
    finally:
        logging.set_verbosity(level)


def test_the_stage_may_be_given_with_an_equals_sign(tmp_path):
    path = written(tmp_path, "sft")
    assert isinstance(load_recipe(path, ["--stage=ans_co"]), STAGES["ans_co"])
    assert "stage is 'ans', which is no stage" in refused(tmp_path, "sft", "--stage=ans")


def test_an_unknown_stage_names_the_known_ones(tmp_path):
    message = refused(tmp_path, "sft", "--stage", "step_r")
    assert all(name in message for name in STAGES)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: [1", "not valid YAML"),
        ("- a\n- b", "a recipe is a flat mapping"),
        ("", "a recipe is a flat mapping"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path, text, why):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(UserError, match=why):
        load_recipe(tmp_path / "r.yaml")
    with pytest.raises(UserError, match=r"missing\.yaml: cannot be read \(No such file"):
        load_recipe(tmp_path / "missing.yaml")


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "key", "value", "why"),
    [
        ("step_rr", "num_generations", 0, "at least 1"),
        ("step_rr", "num_generations", 1, "use 2 or more"),
        ("step_rr", "per_device_train_batch_size", 0, "at least 1"),
        ("step_rr", "gradient_accumulation_steps", 0, "at least 1"),
        ("step_rr", "steps_per_generation", 0, "at least 1"),
        ("step_rr", "num_iterations", 0, "at least 1"),
        ("step_rr", "temperature", 0, "at least 1e-06"),
        ("step_rr", "temperature", -0.5, "at least 1e-06"),
        ("step_rr", "top_p", 1.5, "between 1e-06 and 1"),
        ("step_rr", "max_completion_length", 0, "at least 1"),
        ("step_rr", "omega", 1.2, "between -1 and 1"),
        ("step_rr", "learning_rate", -1.0, "at least 0"),
        ("step_rr", "temperature", float("nan"), "at least 1e-06"),
        ("step_rr", "lora_r", 0, "at least 1"),
        ("step_rr", "dataloader_num_workers", -1, "at least 0"),
        ("step_rr", "cache_encoders_mb", -1, "at least 0"),
        ("sft", "dataloader_prefetch_factor", 0, "at least 1"),
        ("step_rr", "lora_dropout", 1.0, "between 0 and 0.99"),
        ("step_rr", "max_rows", 0, "at least 1"),
        ("step_rr", "save_steps", 0, "at least 1e-06"),
        ("step_rr", "seed", -1, "at least 0"),
        ("step_rr", "media_fps", 0, "above 0"),
        ("step_rr", "media_max_frames", 3, "even"),
        ("sft", "modality_dropout_video", 1.5, "between 0 and 1"),
        ("ans_co", "ansco_lambda", -0.1, "at least 0"),
        ("ans_co", "ansco_threshold", -0.1, "at least 0"),
        ("ans_co", "temperature", 0, "at least 1e-06"),
        ("ans_co", "rollout_batch_size", 0, "at least 1"),
        ("reference", "batch_size", 0, "at least 1"),
        ("reference", "top_p", 0, "between 1e-06 and 1"),
        ("reference", "media_fps", -1, "above 0"),
        ("eval", "eval_batch_size", 0, "at least 1"),
        ("eval", "media_fps", 0, "above 0"),
    ],
)
def test_a_value_out_of_range_names_the_key_the_value_and_the_range(tmp_path, stage, key, value, why):
    message = refused(tmp_path, stage, **{key: value})
    assert message.startswith(key)
    assert f"{value:g}" in message
    assert why in message


def test_towers_that_train_are_not_kept(tmp_path):
    message = refused(tmp_path, "step_rr", cache_encoders_mb=512, freeze_encoders=False)
    assert message.startswith("cache_encoders_mb is 512, but freeze_encoders is false")
    assert load_recipe(written(tmp_path, "step_rr", freeze_encoders=False)).cache_encoders_mb == 0


def test_a_scoring_that_the_attention_cannot_do_is_found_before_the_model_is_read(tmp_path):
    flash = "flash_attention_2"
    message = refused(tmp_path, "step_rr", scoring="grouped", attn_implementation=flash)
    assert message.startswith(f"scoring is 'grouped', but attn_implementation is '{flash}'")
    for scoring, attention in (("auto", flash), ("rows", flash), ("grouped", "eager"), ("grouped", "sdpa")):
        load_recipe(written(tmp_path, "step_rr", scoring=scoring, attn_implementation=attention))


def test_the_form_of_scoring_that_is_gone_is_named(tmp_path):
    message = refused(tmp_path, "step_rr", scoring="packed")
    assert message.startswith("scoring is 'packed', a form that is gone")
    assert message.endswith("leave scoring at auto.")


@pytest.mark.parametrize(
    ("stage", "key", "known"),
    [
        ("step_rr", "scoring", "grouped"),
        ("step_rr", "loss_type", "dr_grpo"),
        ("step_rr", "avc_mode", "calibrated"),
        ("step_rr", "format_mode", "lenient"),
        ("step_rr", "prompt_style", "direct"),
        ("step_rr", "dtype", "bfloat16"),
        ("step_rr", "attn_implementation", "eager"),
        ("ans_co", "ansco_uncertainty", "1-pmax"),
        ("ans_co", "ansco_target", "gold_answer"),
        ("reference", "purpose", "rl"),
        ("eval", "prompt_style", "steps"),
    ],
)
def test_an_unknown_choice_names_the_known_ones(tmp_path, stage, key, known):
    message = refused(tmp_path, stage, **{key: "zzz"})
    assert message.startswith(f"{key} is 'zzz'")
    assert known in message
    assert getattr(load_recipe(written(tmp_path, stage, **{key: known})), key) == known


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("learning_rate", "abc", "no number"),
        ("learning_rate", [1.0], "one number is wanted"),
        ("learning_rate", True, "no number"),
        ("max_steps", 2.5, "no whole number"),
        ("max_steps", "ten", "no whole number"),
        ("num_generations", 4.5, "no whole number"),
        ("bf16", "perhaps", "true/false"),
        ("lr_scheduler_type", "zzz", "cosine"),
    ],
)
def test_a_value_of_the_wrong_type(tmp_path, key, value, why):
    assert why in refused(tmp_path, "step_rr", **{key: value})
    if not isinstance(value, list):
        assert why in refused(tmp_path, "step_rr", f"--{key}", str(value))


def test_numbers_as_yaml_1_1_reads_them(tmp_path):
    """`1e-4` without a point is a string to YAML."""
    (tmp_path / "r.yaml").write_text("stage: sft\ndataset: x\nbf16: false\nlearning_rate: 1e-4\n")
    assert load_recipe(tmp_path / "r.yaml").learning_rate == 1e-4


def test_rewards_and_their_weights(tmp_path):
    assert "'fromat'" in refused(tmp_path, "step_rr", rewards=["fromat"])
    assert "rewards is empty" in refused(tmp_path, "step_rr", rewards=[])
    assert "1 values for 3 rewards" in refused(tmp_path, "step_rr", reward_weights=[1.0])
    assert load_recipe(written(tmp_path, "step_rr", rewards="format")).rewards == ["format"]


def test_two_dropouts_of_more_than_every_row(tmp_path):
    message = refused(tmp_path, "sft", modality_dropout_video=0.7, modality_dropout_audio=0.5)
    assert "together above 1" in message


def test_another_order_beside_that_of_clips(tmp_path):
    assert load_recipe(written(tmp_path, "sft", group_by_clip=True)).group_by_clip
    assert "takes a sense from single rows" in refused(
        tmp_path, "sft", group_by_clip=True, modality_dropout_audio=0.1
    )
    for stage in ("sft", "ans_co"):
        message = refused(tmp_path, stage, group_by_clip=True, train_sampling_strategy="sequential")
        assert "train_sampling_strategy is 'sequential'" in message


@pytest.mark.parametrize(
    ("stage", "key", "value"),
    [
        ("step_rr", "use_vllm", True),
        ("step_rr", "use_transformers_continuous_batching", True),
        ("step_rr", "use_liger_kernel", True),
        ("step_rr", "router_aux_loss_coef", 0.001),
        ("sft", "router_aux_loss_coef", 0.001),
        ("step_rr", "ds3_gather_for_generation", False),
        ("step_rr", "beta", 0.04),
        ("step_rr", "eval_strategy", "steps"),
        ("sft", "packing", True),
        ("sft", "use_liger_kernel", True),
        ("sft", "assistant_only_loss", True),
        ("sft", "loss_type", "dft"),
        ("ans_co", "packing", True),
    ],
)
def test_what_would_go_around_the_media_is_refused_with_a_reason(tmp_path, stage, key, value):
    message = refused(tmp_path, stage, **{key: value})
    assert message.startswith(key)
    assert "leave it out" in message


@pytest.mark.parametrize("key", ["rollout_func", "tools", "environment_factory"])
def test_what_a_recipe_cannot_even_say(tmp_path, key):
    assert f"{key!r} is no key" in refused(tmp_path, "step_rr", **{key: "x"})


# -- groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "group", "accumulation", "generation"),
    [
        (8, 3, 1, None),
        (8, 16, 1, None),
        (5, 4, 3, None),
        (1, 6, 1, None),
        (7, 5, 1, None),
        (8, 4, 1, 12),
        (6, 4, 1, 18),
    ],
)
def test_an_impossible_batch_names_the_nearest_that_work_and_they_do(
    tmp_path, batch, group, accumulation, generation
):
    keys = dict(
        per_device_train_batch_size=batch, num_generations=group, gradient_accumulation_steps=accumulation,
        generation_batch_size=generation,
    )  # fmt: skip
    message = refused(tmp_path, "step_rr", **keys)
    offered = re.findall(
        r"(num_generations|per_device_train_batch_size) (\d+)(?: or (\d+))?", message.split("use ")[1]
    )
    if generation:
        values = re.search(r"use (\d+)(?: or (\d+))?\.", message)
        assert values is not None
        offered = [("generation_batch_size", values[1], values[2] or "")]
    assert offered
    for key, *values in offered:
        for value in filter(None, values):
            load_recipe(written(tmp_path, "step_rr", **{**keys, key: int(value)}))


def test_processes_count_in_the_generation_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert "4 x 3 process(es) x 1" in refused(
        tmp_path, "step_rr", per_device_train_batch_size=4, num_generations=8
    )


# -- the command line, and back ------------------------------------------------------------------------------


def test_the_command_line_overrides_the_file(tmp_path):
    path = written(tmp_path, "step_rr", learning_rate=1e-3, use_peft=False)
    recipe = load_recipe(
        path,
        ["--learning-rate", "2e-3", "--temperature=0.5", "--use_peft", "--rewards", "format", "accuracy"],
    )
    assert (recipe.learning_rate, recipe.temperature, recipe.use_peft) == (2e-3, 0.5, True)
    assert recipe.rewards == ["format", "accuracy"]


def test_a_word_that_is_no_key(tmp_path):
    assert "'temperature' stands where a key must" in refused(tmp_path, "step_rr", "temperature", "1")
    assert "expected one argument" in refused(tmp_path, "step_rr", "--temperature")


@pytest.mark.parametrize("stage", BASE)
def test_a_saved_recipe_is_the_same_recipe(tmp_path, stage):
    given = ["--seed", "3"] if stage == "audio" else ["--model_name_or_path", "m"]
    recipe = load_recipe(written(tmp_path, stage), given)
    save_recipe(recipe, tmp_path / "saved.yaml")
    again = load_recipe(tmp_path / "saved.yaml")
    assert resolved(again) == resolved(recipe)
    assert again == recipe


@pytest.mark.parametrize(
    ("stage", "key", "value", "said"),
    [
        ("sft", "dataset", ["a"], "dataset is ['a'], where one value is wanted"),
        ("sft", "output_dir", {"a": 1}, "output_dir is {'a': 1}, where one value is wanted"),
        ("eval", "judge_model", ["a"], "judge_model is ['a'], where one value is wanted"),
        ("pipeline", "data", ["a"], "data is ['a'], where one value is wanted"),
        ("sft", "max_rows", [1], "max_rows is [1], where one number is wanted"),
        ("pipeline", "stages", [["a.yaml"]], "stages has ['a.yaml'], where a list of plain values is wanted"),
        ("eval", "benchmarks", {"mcr": 1}, "benchmarks has {'mcr': 1}, where a list of plain values"),
    ],
)
def test_a_list_where_one_value_is_wanted_and_the_other_way_round(tmp_path, stage, key, value, said):
    message = refused(tmp_path, stage, **{key: value})
    assert message == f"{message.partition(';')[0]}; correct the value and run again."
    assert message.startswith(said)


def test_keys_that_may_hold_lists_and_mappings_still_do(tmp_path):
    schedule = {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}}
    keys = {**schedule, "report_to": ["none"], "label_names": None}
    recipe = load_recipe(written(tmp_path, "sft", **keys))
    assert (recipe.lr_scheduler_kwargs, recipe.report_to) == ({"num_cycles": 2}, [])
    assert load_recipe(written(tmp_path, "pipeline", stages=[7])).stages == ["7"]  # a file's name


def test_a_pipelines_override_names_stage_and_key(tmp_path):
    assert "is not stage.key=value" in refused(tmp_path, "pipeline", overrides=["max_steps=1"])
    assert "stages is empty" in refused(tmp_path, "pipeline", stages=[])


def test_lists_of_benchmarks_and_decoders_may_be_given_with_commas(tmp_path):
    given = ["--benchmarks", "mcr,avconfuse_muted", "alme", "--decoders", "greedy,gacl"]
    recipe = load_recipe(written(tmp_path, "eval"), given)
    assert recipe.benchmarks == ["mcr", "avconfuse_muted", "alme"]
    assert recipe.decoders == ["greedy", "gacl"]


def test_decoders_need_benchmarks_and_places_need_names(tmp_path):
    assert "no benchmarks are named" in refused(tmp_path, "eval", decoders=["gacl"])
    assert "not name=path" in refused(tmp_path, "eval", benchmark_files=["/data/mmau.json"])
    assert "candidate_score is 'max'" in refused(tmp_path, "eval", candidate_score="max")
    assert "budget_points" in refused(tmp_path, "eval", budget_points=-1)


def test_what_is_seen_is_asked_of_a_model_that_is_named(tmp_path):
    for keys in ({"purpose": "warmup"}, {"sight": True}):
        assert "policy_model is not set, so nobody says what is seen" in refused(
            tmp_path, "reference", **keys
        )
        load_recipe(written(tmp_path, "reference", policy_model="nano_omni", **keys))
