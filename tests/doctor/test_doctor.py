"""`rlcomm doctor`: what it says is what the stages do, and what is wrong is said in one sentence."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from peft import LoraConfig

from rlcomm.cli import main
from rlcomm.config.load import load_recipe
from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import write_jsonl
from rlcomm.doctor import examine as doctor
from rlcomm.doctor import machine
from rlcomm.omni.encode import conversation_pieces, encode
from rlcomm.stages.run import open_policy
from rlcomm.trainers.sft import targets
from tests.real_shapes import save_config

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.fixture
def recipe(clip_rows, nano_folder, tmp_path):
    """Writes a small SFT recipe on the six clips."""
    write_jsonl(tmp_path / "rows.jsonl", clip_rows)

    def write(**keys) -> str:
        values = dict(
            stage="sft", model_name_or_path=str(nano_folder), dataset=str(tmp_path / "rows.jsonl"),
            output_dir=str(tmp_path / "run"), bf16=False, report_to="none", gradient_checkpointing=False,
        )  # fmt: skip
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({**values, **keys}))
        return str(path)

    return write


@pytest.fixture
def told(capsys):
    """Runs the doctor; returns its exit code, what it printed and its sentence on stderr."""

    def command(*argv: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["doctor", *argv])
        said = capsys.readouterr()
        sentences = [line for line in said.err.splitlines() if line.startswith("rlcomm: ")]
        assert len(sentences) == (code == 2)
        assert "Traceback" not in said.err
        return code, said.out, "".join(sentences)

    return command


# -- the machine ---------------------------------------------------------------------------------------------


def test_the_machine_is_described_and_no_key_is_shown(told, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "d0n0tpr1nt" * 4)
    monkeypatch.setenv("HF_TOKEN", "hf_d0n0tpr1nt")
    code, out, _ = told("--json", str(tmp_path / "found.json"))
    assert code == 0
    assert "wandb key: yes" in out
    assert "Hugging Face token: yes" in out
    assert "d0n0tpr1nt" not in out + (tmp_path / "found.json").read_text()
    found = json.loads((tmp_path / "found.json").read_text())["environment"]
    assert found["disks"]["."]["free_gb"] > 0
    assert found["ram_gb"] > found["ram_free_gb"] > 0


def test_another_version_than_the_tested_one_is_named(told, monkeypatch):
    installed = {"trl": "1.15.0", "torch": "2.13.0+cu128"}

    def version(name: str) -> str:
        if name == "deepspeed":
            raise machine.importlib.metadata.PackageNotFoundError(name)
        return installed.get(name, "1")

    monkeypatch.setattr(machine.importlib.metadata, "version", version)
    lines = {line.split()[0]: line for line in told()[1].splitlines() if line.startswith("  ")}
    assert "tested with 1.16.0" in lines["trl"]
    assert "missing" in lines["deepspeed"]
    assert "tested with" not in lines["torch"]  # the CUDA build of the tested version is the tested version


def test_a_key_needs_a_recipe_and_numbers_are_above_0(told, recipe):
    assert "without a recipe" in told("--lora_r=8")[2]
    assert "--rows is 0" in told(recipe(), "--rows", "0")[2]


# -- a recipe that is fine -----------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [{}, {"use_peft": True, "lora_r": 4}, {"freeze_encoders": False}])
def test_what_trains_and_how_long_a_prompt_is_are_those_of_the_stage(keys, told, recipe, tmp_path, clip_rows):
    path = recipe(**keys)
    code, out, _ = told(path, "--json", str(tmp_path / "found.json"))
    assert code == 0
    assert "no problem found" in out
    found = json.loads((tmp_path / "found.json").read_text())["recipe"]
    policy = open_policy(load_recipe(path, ["--use_cpu", "true"]))
    trained = sum(p.numel() for p in policy.model.parameters() if p.requires_grad)
    chosen = found["model"][found["model"]["trains"]]
    assert chosen["trained"] == trained
    assert chosen["parameters"] == sum(p.numel() for p in policy.model.parameters())
    prompts = [encode(policy, s, load_clip(s.video, s.audio, MediaSettings())) for s in clip_rows[:4]]
    behind = [len(conversation_pieces(policy, s, "steps", targets(s))[0]) for s in clip_rows[:4]]
    longest = max(range(4), key=lambda i: len(prompts[i]) + behind[i])
    assert (found["prompt"]["tokens"], found["prompt"]["completion"]) == (
        len(prompts[longest]),
        behind[longest],
    )
    assert not (tmp_path / "run").exists()


def test_adapters_are_sized_with_their_base(told, recipe, nano_folder, tmp_path):
    """A later LoRA stage starts from a folder of adapters, which has no config.json of its own."""
    LoraConfig(r=4, base_model_name_or_path=str(nano_folder)).save_pretrained(tmp_path / "model")
    keys = dict(use_peft=True, lora_r=4)
    plain = told(recipe(**keys))[1].splitlines()
    code, out, _ = told(recipe(model_name_or_path=str(tmp_path / "model"), **keys))
    assert code == 0
    same = [line for line in plain[plain.index("") :] if not line.startswith("model ")]
    assert [
        line for line in out.splitlines() if line in same
    ] == same  # the prompt too: its processor is there


def test_more_memory_takes_more_rows_and_all_four_ways_are_shown(told, recipe, tmp_path):
    found = {}
    for room in ("0.05", "0.1"):
        out = told(recipe(), "--memory_gb", room, "--json", str(tmp_path / "found.json"))[1]
        found[room] = json.loads((tmp_path / "found.json").read_text())["recipe"]["memory"]
    for name in ("single", "ZeRO-2", "ZeRO-3", "LoRA"):
        assert name in out
        (few,), (many,) = found["0.05"][name]["largest_batch"], found["0.1"][name]["largest_batch"]
        assert 0 < few < many


def test_a_recipe_for_a_gpu_is_not_measured_without_one(told, recipe, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, out, _ = told(recipe(bf16=True), "--measure")
    assert code == 0
    assert "not measured: no GPU is here" in out


# -- what is wrong -------------------------------------------------------------------------------------------


def test_everything_wrong_is_listed_and_one_sentence_ends_it(told, recipe, clip_rows, tmp_path):
    path = recipe(eval_data="nowhere", model_name_or_path="./nowhere/model")
    lost = dataclasses.replace(clip_rows[1], video="gone.mp4", audio="gone.mp4")
    write_jsonl(tmp_path / "rows.jsonl", [clip_rows[0], lost])
    code, out, sentence = told(path)
    assert code == 2
    problems = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 3
    assert "row 2" in problems[0]
    assert "gone.mp4" in problems[0]
    assert "./nowhere/model" in problems[1]
    assert "--model_name_or_path" in problems[1]
    assert "eval_data is 'nowhere'" in problems[2]
    assert "3 problem(s), listed above" in sentence


def test_a_hub_id_out_of_reach_is_one_line_and_nothing_is_invented(told, recipe):
    code, out, _ = told(recipe(model_name_or_path="Qwen/Qwen2.5-Omni-3B"))
    assert code == 2
    (problem,) = [line for line in out.splitlines() if line.startswith("problem: ")]
    assert "'Qwen/Qwen2.5-Omni-3B', whose config.json cannot be reached" in problem
    assert "GB" not in out.split("recipe.yaml")[1]


@pytest.mark.parametrize(("stage", "field"), [("sft", "target"), ("step_rr", "reference")])
def test_a_row_without_what_the_stage_needs_is_a_problem(stage, field, told, recipe, clip_rows, tmp_path):
    keys = dict(per_device_train_batch_size=8, num_generations=4) if stage == "step_rr" else {}
    path = recipe(stage=stage, **keys)
    bare = dataclasses.replace(clip_rows[3], reference=None) if field == "reference" else dataclasses.replace(
        clip_rows[3], turns=(dataclasses.replace(clip_rows[3].turns[0], target=None),)
    )  # fmt: skip
    write_jsonl(tmp_path / "rows.jsonl", [*clip_rows[:3], bare])
    code, out, _ = told(path)
    assert code == 2
    assert f"row 4, field {field}: is missing" in out


def test_a_recipe_that_trains_no_policy_is_refused(told):
    code, _, sentence = told(str(ROOT / "recipes/orchestra/eval.yaml"))
    assert code == 2
    assert "is a recipe of stage eval" in sentence


# -- the real recipes, offline -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    return {size: save_config(size, folder) for size in ("3b", "7b")}


TRAINING = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "recipes").glob("qwen*/*.yaml")
    if yaml.safe_load(path.read_text())["stage"] in doctor.TRAINING
)


@pytest.mark.parametrize(
    "path",
    [
        path if path.endswith(("7b_lora/step_rr.yaml", "3b_lora/warmup.yaml"))
        else pytest.param(path, marks=pytest.mark.slow)
        for path in TRAINING
    ],
)  # fmt: skip
def test_a_real_recipe_is_sized_from_a_config_alone(path, told, real_configs, tmp_path, monkeypatch):
    """No weights, no processor, no rows, no GPU: its problems are those, and every number is there."""
    monkeypatch.chdir(tmp_path)
    config = real_configs["7b" if "7b" in path else "3b"]
    code, _, _ = told(
        str(ROOT / path), "--model_name_or_path", str(config), "--memory_gb", "80", "--json", "found.json"
    )
    assert code == 2
    found = json.loads((tmp_path / "found.json").read_text())["recipe"]
    rows = yaml.safe_load((ROOT / path).read_text())["dataset"]
    assert any(rows in problem for problem in found["problems"])
    assert found["prompt"]["video_tokens"] == 16 * 120
    assert found["prompt"]["audio_tokens"] == 60 * 25
    adapters = {"3b": 59.9e6, "7b": 80.7e6}["7b" if "7b" in path else "3b"]
    assert found["model"]["lora"]["trained"] == pytest.approx(
        adapters * found["model"]["lora_r"] / 32, rel=1e-2
    )
    chosen = found["memory"]["LoRA" if "lora" in path else "ZeRO-2"]
    assert chosen["peak"] < 80e9  # "one 80 GB GPU", "8 x 80 GB": what their headers promise
    assert chosen["largest_batch"][0] >= found["memory"]["batch"]
