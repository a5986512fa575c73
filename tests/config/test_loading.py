"""How values come into a recipe: files as people save them, nulls, and what an optimiser makes of them."""

import pytest

from rlcomm.config.load import load_recipe, resolved, save_recipe, take_nulls
from rlcomm.config.yaml_file import read_yaml
from rlcomm.utils.errors import UserError
from tests.config.test_recipe import refused, written

# -- the file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (
            "stage: sft\nrun_name: 鼓声\n".encode("gbk"),
            r"is not UTF-8 \(byte 0xb9 at 21\), .*; save it as UTF-8",
        ),
        ("stage: sft\n".encode("utf-16"), r"is not UTF-8 \(byte 0xff at 0\)"),
        (b"seed: 1\nstage: sft\nseed: 2\n", r"seed is set twice, in lines 1 and 3; keep one"),
        (b"lr_scheduler_kwargs: {a: 1, a: 2}\n", "a is set twice, in lines 1 and 1"),
        (b"a: &x [1, 2]\nb: *x\n", "an alias in line 2; write its value out"),
        (b"seed: " + b"9" * 5000, "not valid YAML .*integer string conversion"),
        (b"seed: 2020-13-45", "not valid YAML .*month"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b"? [a]\n: 1\n", "not valid YAML"),
        (b"a: \x01\n", "not valid YAML"),
        (b"a: b: c\n", r"not valid YAML \(mapping values are not allowed here in line 1\)"),
    ],
)
def test_a_file_that_cannot_be_a_recipe_is_one_sentence(tmp_path, content, why):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=why) as error:
        read_yaml(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_with_a_byte_order_mark_and_an_alias_of_a_word_is_read(tmp_path):
    (tmp_path / "r.yaml").write_bytes("\ufeffa: &x 1\nb: *x\nc: 鼓\n".encode())
    assert read_yaml(tmp_path / "r.yaml") == {"a": 1, "b": 1, "c": "鼓"}


# -- null ----------------------------------------------------------------------------------------------------


def test_null_unsets_a_key_to_its_default_or_to_null_where_that_is_a_value(tmp_path):
    path = written(
        tmp_path, "sft", eval_data="d", lora_r=8, eval_benchmarks=["mcr"], eval_every=2, max_rows=3
    )
    given = ["--lora_r", "null", "--eval_data=null", "--eval_benchmarks", "null", "--eval-every", "null"]
    recipe = load_recipe(path, [*given, "--media_audio_seconds", "null", "--max_rows", "null"])
    assert (recipe.lora_r, recipe.eval_data, recipe.eval_benchmarks, recipe.eval_every) == (16, None, [], 0)
    assert (recipe.media_audio_seconds, recipe.max_rows) == (None, None)
    assert not {"lora_r", "eval_every", "eval_benchmarks"} & resolved(recipe).keys()
    save_recipe(recipe, tmp_path / "saved.yaml")
    assert load_recipe(tmp_path / "saved.yaml") == recipe


def test_null_in_a_file_is_the_default_of_a_key_that_is_never_null(tmp_path):
    recipe = load_recipe(written(tmp_path, "step_rr", learning_rate=None, rewards=None, omega=None))
    assert (recipe.learning_rate, recipe.rewards, recipe.omega) == (1e-6, ["format", "arr", "avc"], None)
    path = written(tmp_path, "step_rr", num_generations=None)  # TRL's type says that it could be null
    assert load_recipe(path).num_generations == 8
    assert "learning_rate" not in resolved(recipe)


def test_of_two_overrides_of_a_key_the_last_counts_null_or_not():
    assert take_nulls(["--a", "1", "--b", "2", "--a", "null"]) == (["--b", "2"], ["a"])
    assert take_nulls(["--a", "null", "--a", "1", "2"]) == (["--a", "1", "2"], [])
    assert take_nulls(["--a=null", "--b", "x", "null", "--c"]) == (["--b", "x", "null", "--c"], ["a"])
    assert take_nulls([]) == ([], [])


# -- types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "keys", "said"),
    [
        ("step_rr", {"reward_weights": [1, "a", 1]}, "reward_weights has 'a', which is no number"),
        (
            "step_rr",
            {"reward_weights": [1, float("nan"), 1]},
            "reward_weights is [1.0, nan, 1.0], and nan is no",
        ),
        ("step_rr", {"reward_weights": [True, 1, 1]}, "reward_weights has 'True', which is no number"),
        ("sft", {"report_to": [["none"]]}, "report_to has ['none'], where a list of plain values is wanted"),
        ("sft", {"lr_scheduler_kwargs": [1]}, "lr_scheduler_kwargs is [1], where one value is wanted"),
        ("sft", {"run_name": {"a"}}, "run_name is {'a'}, where one value is wanted"),
        ("sft", {"output_dir": "a\0b"}, "output_dir is 'a\\x00b', which no file can hold as text"),
        ("eval", {"eval_data": "\ud800"}, "eval_data is '\\ud800', which no file can hold as text"),
        (
            "step_rr",
            {"scale_rewards": "std"},
            "scale_rewards is 'std', which is unknown; use one of group, batch",
        ),
        (
            "step_rr",
            {"use_transformers_paged": True},
            "use_transformers_paged is True, which cannot work here",
        ),
    ],
)
def test_a_value_of_another_kind_is_refused_before_anything_is_read(tmp_path, stage, keys, said):
    assert refused(tmp_path, stage, **keys).startswith(said)


def test_a_long_value_does_not_fill_the_screen(tmp_path):
    assert len(refused(tmp_path, "sft", dtype="x" * 10_000)) < 400


def test_a_date_is_the_word_that_was_written(tmp_path):
    (tmp_path / "r.yaml").write_text("stage: sft\ndataset: x\nbf16: false\nrun_name: 2026-11-30\n")
    assert load_recipe(tmp_path / "r.yaml").run_name == "2026-11-30"


# -- optimiser and schedule ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"adam_beta2": 2}, "adam_beta2 is 2.0, which is out of range; it must be at least 0 and below 1."),
        ({"adam_epsilon": 0}, "adam_epsilon is 0.0, which is out of range; it must be above 0."),
        (
            {"learning_rate": float("inf")},
            "learning_rate is inf, which is out of range; it must be at least 0 and",
        ),
        (
            {"weight_decay": float("nan")},
            "weight_decay is nan, which is out of range; it must be at least 0 and",
        ),
        ({"warmup_steps": -1}, "warmup_steps is -1.0, which is out of range"),
        ({"optim_args": "fast"}, "optim_args is 'fast', where 'fast' is no name=value"),
        ({"optim_args": "eps=nan"}, "optim_args is 'eps=nan', and nan is no finite number"),
        ({"optim_args": "eps=1e-6"}, "optim is 'adamw_torch_fused' with optim_args 'eps=1e-6'"),
        (
            {"optim": "sgd", "optim_args": "momentum=0.9,speed=1"},
            "optim is 'sgd' with optim_args 'momentum=0.9,spe",
        ),
        ({"optim": "sgd", "optim_args": "momentum=-1"}, "optim is 'sgd' with optim_args 'momentum=-1'"),
        ({"optim": "rmsprop", "optim_args": "alpha=2"}, "optim is 'rmsprop' with optim_args 'alpha=2'"),
        ({"lr_scheduler_kwargs": {"speed": 1}}, "lr_scheduler_type is 'linear' with lr_scheduler_kwargs"),
        (
            {"lr_scheduler_kwargs": '{"num_cycles": NaN}'},
            "lr_scheduler_kwargs is {'num_cycles': nan}, and nan",
        ),
        ({"lr_scheduler_kwargs": "{broken"}, "Expecting property name"),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"power": -3}},
            "lr_scheduler_type is 'polynomial' with lr_scheduler_kwargs {'power': -3}, which cannot be made",
        ),
    ],
)
def test_an_optimiser_or_a_schedule_that_cannot_be_made_is_found_before_the_model_is_read(
    tmp_path, keys, said
):
    assert refused(tmp_path, "sft", **keys).startswith(said)


@pytest.mark.parametrize(
    "keys",
    [
        {"optim": "sgd", "optim_args": "momentum=0.0"},
        {"optim": "sgd", "optim_args": "momentum=0.9, nesterov=true"},
        {"optim": "rmsprop", "optim_args": "centered=no,eps=1e-6"},
        {"optim": "adafactor"},
        {"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 2}},
        {
            "lr_scheduler_type": "warmup_stable_decay",
            "lr_scheduler_kwargs": {"num_decay_steps": 9},
            "max_steps": 50,
        },
    ],
)
def test_those_that_can_are_taken(tmp_path, keys):
    recipe = load_recipe(written(tmp_path, "sft", **keys))
    assert recipe.optim_args == keys.get("optim_args")
