"""The accelerate configurations: read by accelerate itself, and saying nothing that a recipe says."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_deepspeed_cmd_env

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
CONFIGS = sorted(path.name for path in LAUNCH.glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_accelerate_reads_it(name):
    config = load_config_from_file(str(LAUNCH / name))
    assert config.num_machines == 1
    assert config.mixed_precision == "no"  # the recipe's bf16 decides; this would overrule `bf16: false`


@pytest.mark.parametrize(
    ("name", "kind"),
    [("multi_gpu.yaml", DistributedType.MULTI_GPU), ("zero2.yaml", DistributedType.DEEPSPEED)],
)
def test_it_is_what_it_is_called(name, kind):
    config = load_config_from_file(str(LAUNCH / name))
    assert config.distributed_type == kind
    assert config.num_processes == 8


def test_zero2_leaves_to_the_recipe_what_the_recipe_says():
    parsed = launch_command_parser().parse_args(
        ["--config_file", str(LAUNCH / "zero2.yaml"), "-m", "rlcomm", "train", "recipe.yaml"]
    )
    arguments, defaults, _ = _validate_launch_command(parsed)
    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
    _, environment = prepare_deepspeed_cmd_env(arguments)
    assert environment["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"
    assert environment["ACCELERATE_GRADIENT_ACCUMULATION_STEPS"] == "auto"
    assert environment["ACCELERATE_GRADIENT_CLIPPING"] == "auto"
    assert environment["ACCELERATE_MIXED_PRECISION"] == "no"
