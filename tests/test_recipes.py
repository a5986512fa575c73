"""Every shipped recipe loads, says what it is, and is called as its own header and the READMEs call it."""

import importlib.util
import re
import shlex
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import yaml

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip
from transformers import TrainingArguments

from rlcomm import cli, steps
from rlcomm.cli import train
from rlcomm.config.load import load_recipe
from rlcomm.config.stages import STAGES
from rlcomm.config.step_rr import check_groups
from rlcomm.config.yaml_file import read_yaml
from rlcomm.data import media
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import Sample, Turn
from rlcomm.omni.encode import encode
from rlcomm.orchestra import nano
from rlcomm.rewards import adapters
from rlcomm.stages.pipeline import stage_commands
from rlcomm.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
RECIPES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "recipes").rglob("*.yaml"))
STAGE = {path: read_yaml(ROOT / path).get("stage") for path in RECIPES}
REAL = [path for path in RECIPES if path.startswith("recipes/qwen") and STAGE[path] != "pipeline"]
READMES = [
    "README.md",
    "launch/README.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "recipes").rglob("*.md")),
]
TRAINING = ("sft", "warmup", "step_rr", "grpo", "ans_co")
HEADER = ("What", "Hardware", "Before", "Run", "Override")
FOLDERS = {"qwen2_5_omni_3b": 8, "qwen2_5_omni_3b_lora": 1, "qwen2_5_omni_7b_lora": 1}  # GPUs written for
OURS = ("recipes/", "launch/", "rlcomm/", "tests/")  # what a README names below these is in the repository


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


# ------------------------------------------------------------------------------------------------- the checks


def header(path: str) -> dict[str, str]:
    """{"What": ..., ...}: the comment lines at the top; a line without a name goes on from the one before."""
    found: dict[str, str] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        named = re.match(r"# (\w+): +(.*)", line)
        if named:
            found[named[1]] = named[2]
        else:
            last = list(found)[-1]
            found[last] += " " + line.lstrip("# ")
    return found


def rlcomm_words(command: str) -> list[str]:
    """What follows `rlcomm` in a command, be it called plainly or through `accelerate launch ... -m
    rlcomm`."""
    words = shlex.split(command)
    assert words[0] in ("rlcomm", "accelerate"), command
    if words[0] == "accelerate":
        assert words[1] == "launch", command
        config = words[words.index("--config_file") + 1]
        assert Path(config).is_file(), f"{command}: {config} does not exist"
        assert words[words.index("-m") + 1] == "rlcomm", command
        return words[words.index("-m") + 2 :]
    return words[1:]


def check(words: list[str]) -> None:
    """Takes a command as far as `rlcomm` takes it before it does anything: parsed, recipe loaded and
    checked."""
    try:
        arguments, rest = cli.build_parser().parse_known_args(words)
    except SystemExit:
        pytest.fail(f"rlcomm {shlex.join(words)}: the command line does not parse")
    if not getattr(arguments, "overridable", False):
        assert not rest, f"rlcomm {shlex.join(words)}: {rest} are unknown"
        return
    file = arguments.recipe
    stage = read_yaml(file)["stage"]
    expected = {name: (name,) for name in ("reference", "eval", "diagnose", "pipeline")}
    fitting = expected.get(arguments.command, tuple(STAGES.keys() - expected.keys()))
    assert stage in fitting, f"rlcomm {shlex.join(words)}: {file} is a {stage} recipe"
    if issubclass(STAGES[stage], TrainingArguments) and not torch.cuda.is_available():
        rest = [*rest, "--use_cpu", "true"]  # else transformers refuses bf16 where there is no GPU
    if stage == "reference":
        rest = ["--purpose" if word == "--for" else word for word in rest]
    dotted, plain = train.split_dotted(rest) if stage == "pipeline" else ([], rest)
    recipe = load_recipe(file, plain)
    if stage == "pipeline":
        recipe.overrides = [*recipe.overrides, *dotted]
        assert recipe.launch is None or Path(recipe.launch).is_file()
        plan = stage_commands(recipe, Path(file).parent)
        names = {read_yaml(command[command.index("rlcomm") + 2])["stage"] for _, command in plan}
        assert {item.split(".")[0] for item in recipe.overrides} <= names, "an override of a stage not in it"
        for _, command in plan:
            check(command[command.index("rlcomm") + 1 :])


def bash_commands(path: str) -> list[str]:
    """The commands of the ```bash blocks of a README, continued lines joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", Path(path).read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.split(" #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


# ------------------------------------------------------------------------------------------------- recipes


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_says_what_it_is_and_how_to_run_it(path):
    said = header(path)
    assert tuple(said) == HEADER
    assert all(said.values())
    for name in ("Run", "Override"):
        words = rlcomm_words(said[name])
        assert words[1] == path
        check(words)
    assert len(rlcomm_words(said["Override"])) >= 4, "the override overrides nothing"


@pytest.mark.parametrize("path", [path for path in RECIPES if path.startswith("recipes/qwen")])
def test_a_recipe_of_a_real_model_says_that_no_gpu_has_run_it(path):
    """Where one has, its log and the device's name stand in the README in place of these words."""
    assert "Not yet run on a GPU." in header(path)["Hardware"]
    assert "Not yet run on a GPU" in (Path(path).parent / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_says_nothing_twice(path):
    keys = [key.value for key, _ in yaml.compose(Path(path).read_text(encoding="utf-8")).value]  # type: ignore[union-attr]
    assert len(keys) == len(set(keys))  # YAML itself would silently take the last


@pytest.mark.parametrize("path", REAL)
def test_a_recipe_of_a_real_model_leaves_nothing_about_its_media_open(path):
    values = read_yaml(path)
    for key in ("media_fps", "media_max_frames", "media_max_pixels", "media_audio_seconds"):
        assert key in values
    if STAGE[path] in TRAINING:  # an undecoded clip must not keep a GPU waiting
        assert values["dataloader_num_workers"] >= 1
        assert values["dataloader_prefetch_factor"] >= 1


@pytest.mark.parametrize("path", [path for path in REAL if STAGE[path] in TRAINING])
def test_media_of_a_folder_are_the_same_in_every_stage(path):
    """A policy that trains on 32 frames and is evaluated on 16 is another policy."""
    keys = ("media_fps", "media_max_frames", "media_max_pixels", "media_audio_seconds")
    values, evaluated = read_yaml(path), read_yaml(Path(path).parent / "eval.yaml")
    assert [values[key] for key in keys] == [evaluated[key] for key in keys]


def stated_gpus(path: str) -> list[int]:
    """The numbers of 80 GB GPUs that a header says its recipe runs on."""
    said = header(path)["Hardware"]
    if found := re.match(r"(\d+) x 80 GB", said):
        return [int(found[1])]
    assert said.startswith("one 80 GB GPU; on 2, 4 or 8 of them (multi_gpu.yaml) divide"), said
    return [1, 2, 4, 8]


@pytest.mark.parametrize("path", [path for path in REAL if STAGE[path] in TRAINING])
def test_batches_of_a_real_recipe_divide_on_the_stated_gpus(path, monkeypatch):
    """Whole groups on whole ranks, one update per rollout, and the same step on every stated number."""
    values = read_yaml(path)
    gpus = stated_gpus(path)
    folder = Path(path).parent.name
    assert gpus[0] == FOLDERS[folder]
    per_device, accumulated = values["per_device_train_batch_size"], values["gradient_accumulation_steps"]
    rows = set()
    for processes in gpus:
        assert accumulated % (processes // gpus[0]) == 0, f"{processes} GPUs cannot share {accumulated}"
        accumulation = accumulated // (processes // gpus[0])
        rows.add(per_device * processes * accumulation)
        if STAGE[path] not in ("step_rr", "grpo"):
            continue
        group = values["num_generations"]
        assert per_device % group == 0, "a group would lie on two ranks"
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        recipe = types.SimpleNamespace(
            **{"steps_per_generation": None, "generation_batch_size": None, **values}
        )
        recipe.gradient_accumulation_steps = accumulation
        check_groups(recipe)
        # TRL samples for one whole accumulation where nothing else is set: one update per rollout
        assert values["num_iterations"] == 1
        assert not {"steps_per_generation", "generation_batch_size"} & values.keys()
    assert len(rows) == 1
    unit = values.get("num_generations", 1) if STAGE[path] in ("step_rr", "grpo") else 1
    assert rows.pop() // unit == (32 if STAGE[path] == "sft" else 8)  # rows or prompts a step


@pytest.mark.parametrize("path", [path for path in REAL if STAGE[path] in TRAINING])
def test_a_generation_fits_into_the_memory_for_prompts(path):
    """Else clips would be encoded again within one generation: about 43 MB a clip of these settings."""
    values = read_yaml(path)
    if STAGE[path] in ("step_rr", "grpo"):
        prompts = values["per_device_train_batch_size"] * values["gradient_accumulation_steps"]
        prompts //= values["num_generations"]
        assert prompts * 43 <= values["prompt_memory_mb"]
        assert prompts <= values["dataloader_num_workers"] * values["dataloader_prefetch_factor"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_of_a_real_model_is_whole(folder):
    here = Path("recipes") / folder
    for stage in ("reference", "warmup", "step_rr", "ans_co", "pipeline", "eval"):
        assert read_yaml(here / f"{stage}.yaml")["stage"] == stage
    assert (here / "README.md").is_file()
    base = read_yaml(here / "warmup.yaml")["model_name_or_path"]
    assert read_yaml(here / "eval.yaml")["model_name_or_path"] == base
    assert read_yaml(here / "pipeline.yaml")["model_name_or_path"] == base
    assert read_yaml(here / "reference.yaml")["policy_model"] == base
    before = "warmup"
    for stage in ("step_rr", "ans_co"):  # each starts from what the one before writes
        values = read_yaml(here / f"{stage}.yaml")
        assert values["model_name_or_path"] == read_yaml(here / f"{before}.yaml")["output_dir"] + "/model"
        assert values["dataset"] == read_yaml(here / "reference.yaml")["output"]
        before = stage


@pytest.mark.parametrize("folder", ["qwen2_5_omni_3b_lora", "qwen2_5_omni_7b_lora"])
def test_adapters_go_through_the_stages_as_they_began(folder):
    """Another rank, or none, in a later stage would be refused or would merge them into all weights."""
    keys = ("use_peft", "lora_r", "lora_alpha", "lora_dropout", "dtype", "freeze_encoders")
    first, *later = (read_yaml(f"recipes/{folder}/{stage}.yaml") for stage in ("warmup", "step_rr", "ans_co"))
    assert first["use_peft"] is True
    for values in later:
        assert [values[key] for key in keys] == [first[key] for key in keys]


def test_a_lora_recipe_differs_from_the_papers_only_where_its_readme_says():
    full = read_yaml("recipes/qwen2_5_omni_3b/step_rr.yaml")
    for folder in ("qwen2_5_omni_3b_lora", "qwen2_5_omni_7b_lora"):
        lora = read_yaml(f"recipes/{folder}/step_rr.yaml")
        own = {"model_name_or_path", "dataset", "output_dir", "use_peft", "lora_r", "lora_alpha",
               "lora_dropout", "ddp_find_unused_parameters", "gradient_accumulation_steps", "learning_rate",
               "dataloader_num_workers"}  # fmt: skip
        assert {k: v for k, v in lora.items() if k not in own} == {
            k: v for k, v in full.items() if k not in own
        }
        said = Path(f"recipes/{folder}/README.md").read_text(encoding="utf-8")
        for rate in {read_yaml(f"recipes/{folder}/{s}.yaml")["learning_rate"] for s in ("warmup", "step_rr")}:
            assert f"{rate:.0e}".replace("e-0", "e-") in said


@pytest.mark.parametrize(("height", "width", "a_pair"), [(360, 640, 120), (360, 480, 130)])
def test_a_clip_has_as_many_tokens_as_the_readmes_say(tokenizer, height, width, a_pair):
    """Real settings, real processor (its window of 300 s shortened to the clip's 60 s)."""
    values = read_yaml("recipes/qwen2_5_omni_7b_lora/step_rr.yaml")
    settings = MediaSettings(
        fps=values["media_fps"], max_frames=values["media_max_frames"],
        max_pixels=values["media_max_pixels"], audio_seconds=values["media_audio_seconds"],
    )  # fmt: skip
    shown = media.frame_size(width, height, settings)
    frames = np.zeros((settings.max_frames, shown[1], shown[0], 3), np.uint8)
    clip = Clip(frames, settings.max_frames / 60, np.zeros(60 * 16_000, np.float32))
    policy = types.SimpleNamespace(
        processor=nano.omni_processor(tokenizer, audio_seconds=60),
        config=nano.nano_omni(tokenizer, seed=0).config,
    )
    sample = Sample("1", (Turn("Is there a violin sound?", "yes"),), "x.mp4", "x.mp4")
    prompt = encode(policy, sample, clip)
    seen, heard = (
        int((prompt.ids == tokenizer.convert_tokens_to_ids(token)).sum())
        for token in ("<|VIDEO|>", "<|AUDIO|>")
    )
    assert (seen, heard) == (16 * a_pair, 60 * 25)
    for folder in FOLDERS:
        said = Path(f"recipes/{folder}/README.md").read_text(encoding="utf-8")
        assert "120 to 130 tokens" in said
        assert "1,920 to 2,080" in said
    megabytes = prompt.media["pixel_values_videos"].nbytes / 1e6
    assert megabytes + 60 * 100 * 128 * 4 / 1e6 < 43  # and 128 mel bins where the miniature has 32


def test_the_real_recipes_keep_to_the_published_settings():
    grpo = read_yaml("recipes/qwen2_5_omni_3b/step_rr.yaml")
    published = {
        "num_generations": 6, "temperature": 0.9, "max_completion_length": 256, "learning_rate": 1e-6,
        "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 0.03, "max_grad_norm": 0.3, "bf16": True,
        "beta": 0.0, "avc_mode": "similarity", "format_mode": "strict", "omega": 0.8,
        "embedder": "Qwen/Qwen3-Embedding-0.6B", "rewards": ["format", "arr", "avc"],
    }  # fmt: skip
    assert {key: grpo[key] for key in published} == published
    baseline = read_yaml("recipes/qwen2_5_omni_3b/grpo_accuracy.yaml")
    own = {"stage", "dataset", "rewards", "reward_weights", "avc_mode", "embedder", "omega", "output_dir"}
    assert {k: v for k, v in baseline.items() if k not in own} == {
        k: v for k, v in grpo.items() if k not in own
    }
    assert baseline["rewards"] == ["format", "accuracy"]


def test_warm_up_below_one_is_a_share_of_the_steps():
    recipe = load_recipe("recipes/qwen2_5_omni_3b/step_rr.yaml", ["--use_cpu", "true"])
    assert recipe.get_warmup_steps(125) == 4  # 0.03 of them, rounded up


def test_every_folder_of_recipes_stands_in_the_index():
    index = Path("recipes/README.md").read_text(encoding="utf-8")
    for folder in sorted({str(Path(path).parent) for path in RECIPES}):
        assert folder.removeprefix("recipes/") + "/" in index


# ------------------------------------------------------------------------------------------------- READMEs


@pytest.mark.parametrize("path", READMES)
def test_commands_of_a_readme_work(path):
    for command in bash_commands(path):
        for word in shlex.split(command):
            if word.startswith(OURS):
                assert Path(word).exists(), f"{path}: `{command}` names {word}, which does not exist"
        if command.startswith(("rlcomm ", "accelerate ")):
            check(rlcomm_words(command))


def test_the_shell_commands_of_the_main_readme_work_as_they_stand(tmp_path):
    """On a machine that has the official annotations and nothing else."""
    (tmp_path / "data/music_avqa/json").mkdir(parents=True)
    (tmp_path / "data/music_avqa/json/avqa-test.json").write_text("[]")
    plain = [c for c in bash_commands("README.md") if c.startswith(("mkdir", "cp "))]
    assert plain
    for command in plain:
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True)
    assert (tmp_path / "data/music_avqa/test/music_avqa/test.json").is_file()


def test_the_main_readme_shows_each_stage():
    shown = {
        tuple(rlcomm_words(c)[:2])
        for c in bash_commands("README.md")
        if c.startswith(("rlcomm", "accelerate"))
    }
    for world in ("orchestra", "qwen2_5_omni_3b"):
        for command, stage in (
            ("train", "warmup"), ("reference", "reference"), ("train", "step_rr"), ("train", "ans_co"),
            ("eval", "eval"),
        ):  # fmt: skip
            assert (command, f"recipes/{world}/{stage}.yaml") in shown


@pytest.mark.parametrize("path", READMES)
def test_links_of_a_readme_lead_somewhere(path):
    text = Path(path).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (Path(path).parent / target).exists(), f"{path}: links to {target}, which does not exist"


@pytest.mark.parametrize("path", [*READMES, *RECIPES])
def test_nothing_shipped_points_outside_the_repository(path):
    assert "shared/" not in Path(path).read_text(encoding="utf-8")


def test_the_result_table_has_its_place():
    text = Path("README.md").read_text(encoding="utf-8")
    assert text.count("<!-- results:start -->") == text.count("<!-- results:end -->") == 1
    assert text.index("<!-- results:start -->") < text.index("<!-- results:end -->")


@pytest.mark.parametrize(
    ("recipe", "key", "value"),
    [
        *(
            ("step_rr", key, value)
            for key, value in (
                ("use_vllm", "true"), ("use_transformers_continuous_batching", "true"),
                ("use_liger_kernel", "true"), ("beta", "0.04"), ("min_p", "0.1"),
                ("repetition_penalty", "1.1"), ("generation_kwargs", '{"a": 1}'),
            )
        ), ("warmup", "packing", "true"), ("warmup", "padding_free", "true"), ("ans_co", "use_liger_kernel",
        "true"),
    ],
)  # fmt: skip
def test_what_the_readme_calls_refused_is_refused(recipe, key, value):
    assert f"`{key}" in Path("README.md").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=key):
        load_recipe(f"recipes/orchestra/{recipe}.yaml", [f"--{key}", value])


def test_the_reward_of_the_readme_can_be_added_as_it_says(monkeypatch):
    text = Path("README.md").read_text(encoding="utf-8")
    code = next(
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.S)
        if "rlcomm/rewards/brevity.py" in block
    )
    diff = next(block for block in re.findall(r"```diff\n(.*?)```", text, re.S) if "brevity" in block)
    written = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    added = [line for line in diff.splitlines() if line.startswith("+")]
    assert len(written) + len(added) <= 10

    source, lines = Path(adapters.__file__).read_text(encoding="utf-8"), diff.splitlines()
    removed = "".join(line[1:] + "\n" for line in lines if line.startswith("-"))
    for number, line in enumerate(lines):
        if line.startswith("+"):  # replaces the line before it, or follows it where that one stays
            before = lines[number - 1]
            assert source.count(before[1:] + "\n") == 1, f"{before[1:]!r} is not a line of adapters.py"
            kept = before[1:] + "\n" if before.startswith(" ") else ""
            source = source.replace(before[1:] + "\n", kept + line[1:] + "\n")
    assert removed

    brevity = types.ModuleType("rlcomm.rewards.brevity")
    exec(code, brevity.__dict__)
    monkeypatch.setitem(sys.modules, "rlcomm.rewards.brevity", brevity)
    monkeypatch.setattr("rlcomm.rewards.brevity", brevity, raising=False)
    patched = importlib.util.module_from_spec(
        importlib.util.spec_from_loader("patched_adapters", loader=None)
    )  # type: ignore[arg-type]
    exec(source, patched.__dict__)
    (function,) = patched.reward_functions({"brevity": 1.0})
    short, long = steps.build("a drum", "a drum", "yes"), steps.build("a drum " * 30, "a drum", "yes")
    sample = Sample("1", (Turn("Is a drum heard?", "yes"),))
    assert function(prompts=None, completions=[short, long, "yes"], sample=[sample] * 3) == [1.0, 0.0, None]
