"""How runs start: accelerate configurations read by accelerate itself, several nodes, a site's own torch."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env

from rlcomm.config.load import load_recipe
from rlcomm.stages.pipeline import audit_command, launcher, stage_commands
from rlcomm.utils.errors import UserError

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
CONFIGS = sorted(path.name for path in LAUNCH.glob("*.yaml"))
SCRIPTS = sorted(
    str(path.relative_to(LAUNCH)) for path in LAUNCH.rglob("*") if path.suffix in (".sh", ".slurm")
)


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(LAUNCH / name))
    assert config.num_machines == 1
    assert config.mixed_precision == "no"  # the recipe's bf16 decides; this would overrule `bf16: false`


@pytest.mark.parametrize(
    ("name", "kind", "processes"),
    [
        ("single_gpu.yaml", DistributedType.NO, 1),
        ("multi_gpu.yaml", DistributedType.MULTI_GPU, 8),
        ("zero2.yaml", DistributedType.DEEPSPEED, 8),
        ("zero3.yaml", DistributedType.DEEPSPEED, 8),
        ("zero3_offload.yaml", DistributedType.DEEPSPEED, 8),
        ("cpu_2.yaml", DistributedType.MULTI_GPU, 2),
    ],
)
def test_it_is_what_it_is_called(name, kind, processes):
    config = load_config_from_file(str(LAUNCH / name))
    assert config.distributed_type == kind
    assert config.num_processes == processes


def test_no_configuration_is_left_out():
    named = {mark.args[1][i][0] for mark in test_it_is_what_it_is_called.pytestmark for i in range(6)}
    assert named == set(CONFIGS)


@pytest.mark.parametrize(
    ("name", "zero", "offload"),
    [("zero2.yaml", "2", "none"), ("zero3.yaml", "3", "none"), ("zero3_offload.yaml", "3", "cpu")],
)
def test_deepspeed_leaves_to_the_recipe_what_the_recipe_says(name, zero, offload):
    parsed = launch_command_parser().parse_args(
        ["--config_file", str(LAUNCH / name), "-m", "rlcomm", "train", "recipe.yaml"]
    )
    arguments, defaults, _ = _validate_launch_command(parsed)
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    _, environment = prepare_deepspeed_cmd_env(arguments)
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == zero
    assert environment["ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE"] == offload
    assert environment["ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"] == offload
    assert environment["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] == "auto"
    assert environment["ACCELERATE_GRADIENT_CLIPPING"] == "auto"
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
    if zero == "3":
        assert environment["ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL"] == "true"
        assert environment["ACCELERATE_DEEPSPEED_ZERO3_INIT"] == "true"


def test_a_pipeline_is_launched_by_a_configuration_or_a_script():
    assert launcher(str(LAUNCH / "zero2.yaml"))[1:4] == [
        "-m", "accelerate.commands.launch", "--config_file",
    ]  # fmt: skip
    script = str(LAUNCH / "srun.sh")
    assert launcher(script) == ["bash", script, "-m", "rlcomm"]


def test_a_pipeline_launches_the_reference_like_a_training_stage():
    """Else a pipeline on eight GPUs has the reference model write all rows on one of them."""
    folder = LAUNCH.parent / "recipes" / "orchestra"
    recipe = load_recipe(folder / "pipeline.yaml", ["--launch", str(LAUNCH / "multi_gpu.yaml")])
    plan = stage_commands(recipe, folder)
    launched = {name for name, command in plan if "accelerate.commands.launch" in command}
    assert launched == {name for name, _ in plan} - {"base", "base_steps"}
    [command] = [command for name, command in plan if name == "reference"]
    assert command[command.index("-m", 3) :][:3] == ["-m", "rlcomm", "reference"]


def test_a_pipeline_audits_the_rewards_of_its_grpo_stages_alone():
    """With the very keys it trains with, or the audit would be of other rewards; and in one plain process."""
    folder = LAUNCH.parent / "recipes" / "orchestra"
    given = ["--launch", str(LAUNCH / "multi_gpu.yaml")]
    recipe = load_recipe(folder / "pipeline.yaml", given)
    recipe.overrides = ["step_rr.avc_mode=similarity"]
    plan = dict(stage_commands(recipe, folder))
    assert [name for name, command in plan.items() if audit_command(command)] == ["step_rr"]
    audit, train = audit_command(plan["step_rr"]), plan["step_rr"]
    assert audit is not None
    assert audit[:4] == [sys.executable, "-m", "rlcomm", "audit"]
    assert audit[4:] == train[train.index("train") + 1 :]
    assert audit[-2:] == ["--avc_mode", "similarity"]
    accuracy = load_recipe(folder / "ablation" / "arm_accuracy.yaml")
    [(_, command)] = stage_commands(accuracy, folder / "ablation")
    assert audit_command(command) is not None


@pytest.mark.parametrize("wrong", ["launch/zero9.yaml", "launch", "launch/train.slurm"])
def test_another_launch_is_refused(wrong):
    with pytest.raises(UserError, match="neither an accelerate configuration"):
        launcher(wrong)


# -- scripts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_read_and_what_it_names_is_there(name):
    script = LAUNCH / name
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text(encoding="utf-8")
    for sourced in re.findall(r'source "\$\(dirname "\$\{BASH_SOURCE\[0\]\}"\)/(\S+)"', text):
        assert (script.parent / sourced).is_file()
    for named in re.findall(r"\b(?:launch|recipes)/[\w/]+\.(?:sh|yaml|txt|slurm)", text):
        assert (LAUNCH.parent / named).is_file(), named


# -- a fresh machine -----------------------------------------------------------------------------------------


WITHOUT_PIP = """#!/bin/sh
# python3 of Debian without python3-venv: the interpreter is linked, then ensurepip is missing
case "$*" in
    "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python; echo "no ensurepip"; exit 1 ;;
    -m*) exit 1 ;;
esac
"""


def test_a_python_without_pip_is_one_sentence_each_time(tmp_path):
    (tmp_path / "launch").mkdir()
    for name in ("pyproject.toml", "launch/constraints.txt", "launch/install.sh"):
        shutil.copy(LAUNCH.parent / name, tmp_path / name)
    python = tmp_path / "python"
    python.write_text(WITHOUT_PIP)
    python.chmod(0o755)
    for _ in range(2):  # the second time the half-made .venv is there
        done = subprocess.run(
            ["bash", "launch/install.sh"], cwd=tmp_path, env={**os.environ, "PYTHON": str(python)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "apt-get install python3-venv" in done.stderr.splitlines()[-1]
        assert not (tmp_path / ".venv" / ".installed").exists()


# -- a site's own torch --------------------------------------------------------------------------------------


def resolve(site: Path, constraints: list[str]) -> subprocess.CompletedProcess:
    """pip's resolver over our dependencies, nothing installed and nothing fetched; `site` holds the torch."""
    listed = site / "constraints.txt"
    listed.write_text("\n".join(constraints))
    needs = [need for need in importlib.metadata.requires("rlcomm") or [] if "extra ==" not in need]
    return subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-c", str(listed), *needs],
        env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_installing_keeps_the_torch_of_the_site(tmp_path):
    for name, version in (("torch", "2.12.1+cu128"), ("torchvision", "0.27.1+cu128")):
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "INSTALLER").write_text("pip\n")
    pinned = (LAUNCH / "constraints.txt").read_text().splitlines()
    without = [line for line in pinned if not line.startswith("torch")]  # README: grep -v '^torch'
    kept = resolve(tmp_path, without)
    assert kept.returncode == 0, kept.stderr[-2000:]
    assert "Would install" not in kept.stdout
    assert "2.12.1+cu128" in kept.stdout
    replaced = resolve(tmp_path, pinned)
    assert replaced.returncode != 0  # the pin asks for another torch
