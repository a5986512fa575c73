"""`rlcomm keys`: what it says of a key is what a recipe does with it, and recipes/KEYS.md says the same."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from rlcomm.cli import main
from rlcomm.config import keys
from rlcomm.config.stages import STAGES

PAGE = Path(__file__).resolve().parents[2] / "recipes" / "KEYS.md"


def split(page: str) -> tuple[str, str, str]:
    """The libraries' versions, what is ours, what is theirs."""
    versions = re.search(r"\((trl \S+, transformers \S+)\)", page)
    assert versions is not None
    ours, _, theirs = page.partition("\n## trl.")
    return versions[1], ours.replace(versions[1], ""), theirs


def test_the_page_is_what_the_command_writes():
    written, made = split(PAGE.read_text(encoding="utf-8")), split(keys.markdown())
    assert written[1] == made[1], "run `rlcomm keys --markdown > recipes/KEYS.md`"
    if written[0] == made[0]:  # of other versions their keys and their words may be others
        assert written[2] == made[2], "run `rlcomm keys --markdown > recipes/KEYS.md`"


@pytest.mark.parametrize("stage", STAGES)
def test_every_key_of_a_stage_is_listed_once_with_its_default(stage):
    listed = [key for group in keys.groups(stage) for key in group.keys]
    fields = {field.name: field for field in dataclasses.fields(STAGES[stage]) if field.init}
    assert sorted(key.name for key in listed) == sorted(fields)
    for key in listed:
        field = fields[key.name]
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        assert yaml.safe_load(key.default) == getattr(default, "value", default)
        assert key.meaning
        assert key.allowed


@pytest.mark.parametrize(
    ("stage", "name", "allowed"),
    [
        ("step_rr", "learning_rate", "number, at least 0"),
        ("step_rr", "rewards", "list of format, arr, avc, accuracy, consistency"),
        ("step_rr", "reward_weights", "list of numbers, or null"),
        ("step_rr", "omega", "number, between -1 and 1, or null"),
        ("step_rr", "use_vllm", "false only"),
        ("sft", "max_length", "null only"),
        ("sft", "hub_strategy", "one of end, every_save, checkpoint, all_checkpoints"),
        ("sft", "lr_scheduler_kwargs", "mapping, or null"),
        ("sft", "use_peft", "true or false"),
        ("ans_co", "num_generations", "whole number, at least 1"),
        ("eval", "media_max_frames", "whole number, at least 2 and even"),
        ("reference", "media_audio_seconds", "number, above 0, or null"),
        ("pipeline", "stages", "list of text"),
    ],
)
def test_what_a_key_may_be_is_said_in_words(stage, name, allowed):
    (key,) = [key for group in keys.groups(stage) for key in group.keys if key.name == name]
    assert key.allowed == allowed


def test_a_stages_own_keys_come_before_those_it_shares_and_those_of_libraries():
    own, *_, last = keys.groups("step_rr")
    assert own.declared is STAGES["step_rr"]
    assert last.title == "transformers.TrainingArguments"
    libraries = [group.library for group in keys.groups()]
    assert libraries == sorted(libraries, key=["", "trl", "transformers"].index)


def test_the_command_lists_a_stage_and_refuses_what_is_none(capsys):
    assert main(["keys", "diagnose"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^distractor +auto +one of auto, text, video, +what patching and probes", said, re.M)
    assert "learning_rate" not in said
    assert main(["keys", "step_r"]) == 2
    assert "stage is 'step_r', which is no stage; set it to one of ans_co" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["keys", "sft", "--markdown"])
