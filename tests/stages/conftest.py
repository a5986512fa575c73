"""Small runs of every stage: a recipe file, six real clips, the random miniature."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rlcomm.cli import main
from rlcomm.data.sample import Sample, write_jsonl
from rlcomm.stages import run, step_rr
from rlcomm.trainers.metrics_file import MetricsFile
from tests import forking

STEPS = 4
COMMON = dict(
    max_steps=STEPS, bf16=False, gradient_checkpointing=False, use_cpu=True, report_to="none",
    disable_tqdm=True, logging_steps=1, save_steps=1, learning_rate=1e-3, lr_scheduler_type="constant",
)  # fmt: skip
STAGES = {
    "sft": dict(per_device_train_batch_size=2),
    "step_rr": dict(
        per_device_train_batch_size=4, num_generations=2, max_completion_length=6, rewards=["format"]
    ),
    "ans_co": dict(per_device_train_batch_size=2, ansco_target="gold", ansco_uncertainty="nats"),
}


@pytest.fixture
def rows(clip_rows, tmp_path) -> Path:
    """The six clips as a file of samples."""
    write_jsonl(tmp_path / "rows.jsonl", clip_rows)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def recipe(rows, nano_folder, tmp_path, monkeypatch) -> Callable[..., str]:
    """Writes the recipe of a stage; its run folder is tmp_path/<name>."""
    monkeypatch.setattr(step_rr, "reward_functions", lambda recipe, weights: [format_])

    def write(stage: str, name: str = "run", **keys) -> str:
        values = {
            "stage": stage, "model_name_or_path": str(nano_folder), "dataset": str(rows), **COMMON,
            **STAGES[stage], "output_dir": str(tmp_path / name), **keys,
        }  # fmt: skip
        path = tmp_path / f"{stage}.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


def format_(completions, **columns):
    """Tells the noise of an untrained model apart, so that there is something to learn."""
    return [float(sum(map(ord, c[0]["content"])) % 7) for c in completions]


format_.__name__ = "format"


@pytest.fixture
def interrupt(monkeypatch) -> Callable[[int], None]:
    """Ctrl-C when so many steps are done and saved."""

    def at(step: int) -> None:
        class Interrupting(MetricsFile):
            def on_step_begin(self, args, state, control, **kwargs):
                if state.global_step == step:
                    raise KeyboardInterrupt

        monkeypatch.setattr(run, "MetricsFile", Interrupting)

    return at


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    """Runs a command that must fail by the user's mistake; returns its one sentence."""

    def command(*argv: str) -> str:
        capsys.readouterr()
        assert main(list(argv)) == 2
        said = capsys.readouterr().err
        assert "Traceback" not in said
        sentences = [line for line in said.splitlines() if line.startswith("rlcomm: ")]
        assert len(sentences) == 1
        assert said.splitlines()[-1] == sentences[0]
        return sentences[0].removeprefix("rlcomm: ")

    return command


def changed(sample: Sample, **turn) -> Sample:
    """The sample with fields of its first question replaced."""
    return dataclasses.replace(sample, turns=(dataclasses.replace(sample.turns[0], **turn),))


def on_two_processes(*words: str, program: Path | None = None) -> None:
    """Runs a command, or a script with these words, on two CPU processes; all have ended when it returns."""
    done = forking.command(words, ranks=2, program=program)
    assert done.returncode == 0, done.stderr[-3000:]
