"""Runs that are killed (SIGKILL: nothing can be tidied up) and started again by the same command.

They must end with the weights (1e-6) and the metrics (times left out) of a run that nobody touched.
"""

import json
import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from rlcomm.data.sample import write_jsonl
from rlcomm.trainers.checkpoints import last_checkpoint
from rlcomm.trainers.metrics_file import read_metrics
from tests.distributed.forked import Death, start
from tests.distributed.launching import configured, launch
from tests.stages.conftest import COMMON, STAGES
from tests.trainers.test_watch import STEP, history, offline, runs  # noqa: F401

pytestmark = pytest.mark.distributed

STEPS = 6
EVENTS = ("on_step_begin", "on_pre_optimizer_step", "on_step_end", "on_log", "on_save")
TIMES = re.compile(r"^(time/|step_time$)|_per_second$")


@pytest.fixture(scope="module")
def prepared(clip_rows, nano_folder, tmp_path_factory) -> Callable[..., Path]:
    """Writes the recipe of a run, which is its folder with `.yaml` behind it."""
    folder = tmp_path_factory.mktemp("survival")
    write_jsonl(folder / "rows.jsonl", clip_rows)

    def write(stage: str, name: str, **keys) -> Path:
        values = {
            "stage": stage, "model_name_or_path": str(nano_folder), "dataset": str(folder / "rows.jsonl"),
            **COMMON, **STAGES[stage], "max_steps": STEPS, "save_steps": 2,
            "output_dir": str(folder / name), **keys,
        }  # fmt: skip
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="module")
def whole(prepared) -> Callable[..., Path]:
    """The folder of a run that nobody touched, trained once."""
    done: dict[str, Path] = {}

    def train(stage: str, world: int = 1, **keys) -> Path:
        name = f"whole.{stage}.{world}." + ".".join(map(str, keys.values()))
        if name not in done:
            recipe = prepared(stage, name, **keys)
            finish(recipe, world)
            done[name] = recipe.with_suffix("")
        return done[name]

    return train


def finish(recipe: Path, world: int = 1) -> None:
    started = start(recipe, recipe.with_suffix(".log"), world)
    assert started.wait() == [0] * world, started.said()


def dies(recipe: Path, death: Death, world: int = 1) -> None:
    started = start(recipe, recipe.with_suffix(".log"), world, death)
    assert -9 in started.wait(), started.said()  # the launcher ends the others
    assert not (recipe.with_suffix("") / "stage.json").exists()


def told(run: Path) -> list[dict]:
    return [
        {key: value for key, value in row.items() if not TIMES.search(key)}
        for row in read_metrics(run / "metrics.jsonl")
    ]


def same_end(run: Path, untouched: Path, steps: int = STEPS) -> None:
    """Same metrics, no step twice and none missing; same weights; nothing unfinished is left."""
    assert [row["step"] for row in told(run)] == list(range(1, steps + 1))
    for ours, theirs in zip(told(run), told(untouched), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-8, nan_ok=True)
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (run, untouched))
    assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) < 1e-6
    assert (run / "stage.json").exists()
    assert not [path for path in run.iterdir() if "unfinished" in path.name]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_goes_on_to_the_same_end(stage, world, prepared, whole, nano_folder):
    rng = random.Random(f"{stage} {world}")
    every = (
        1 + world
    )  # resumes at the start of a later epoch of step_rr, and within one of ans_co on two ranks
    death = Death(rng.choice(EVENTS), step=rng.randint(every + 1, STEPS - 1))
    if death.event == "on_save":
        death.step = every
    recipe = prepared(stage, f"killed.{stage}.{world}", save_steps=every)
    dies(recipe, death, world)
    finish(recipe, world)
    same_end(recipe.with_suffix(""), whole(stage, world))
    before, after = (
        load_file(folder / "model.safetensors") for folder in (nano_folder, recipe.with_suffix("") / "model")
    )
    assert max(float((before[key] - after[key]).abs().max()) for key in before) > 1e-4  # it has learned


# rlcomm that may die (SIGKILL) before step 3 of a rank, and whose rewards tell noise apart
DYING = """
import os, sys
import rlcomm.utils.torchvision_ops
from tests.distributed.forked import Death, format_, main, step_rr
step_rr.reward_functions = lambda recipe, weights: [format_]
if sys.argv[1] == os.environ["RANK"]:
    Death("on_step_begin", step=3).prepare()
for recipe in sys.argv[2:]:
    if code := main(["train", recipe]):
        sys.exit(code)
"""


@pytest.mark.parametrize("config", ["zero2.yaml", "zero3.yaml"])
def test_a_killed_run_goes_on_to_the_same_end_under_deepspeed(config, prepared, monkeypatch, tmp_path):
    """Each stage is killed on one rank in step 4 and goes on from the checkpoint of step 2, whose weights and
    optimiser the engine itself has saved, a share of each rank."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    (tmp_path / "dying.py").write_text(DYING)
    start = configured(config, tmp_path)
    keys = dict(use_cpu=False, ddp_backend="gloo")

    def train(rank: str, *recipes: Path) -> int:
        done = launch(start, [rank, *recipes], program=[tmp_path / "dying.py"])
        assert done.returncode == 0 or rank != "none", done.stdout[-2000:] + done.stderr[-4000:]
        return done.returncode

    recipes = {
        name: [prepared(stage, f"{name}.{stage}.{config}", **keys) for stage in STAGES]
        for name in ("untouched", "cut")
    }
    train("none", *recipes["untouched"])
    for number, recipe in enumerate(recipes["cut"]):
        assert train(str(number % 2), recipe) != 0
        run = recipe.with_suffix("")
        assert last_checkpoint(run) == str(run / "checkpoint-2")
        assert not (run / "stage.json").exists()
    train("none", *recipes["cut"])
    for ours, theirs in zip(recipes["cut"], recipes["untouched"], strict=True):
        same_end(ours.with_suffix(""), theirs.with_suffix(""))


@pytest.mark.parametrize(
    ("death", "world"),
    [
        (Death("write", place="checkpoint-4", file="model.safetensors"), 1),
        (Death("write", place="checkpoint-4", file="optimizer.pt"), 1),
        (Death("write", place="checkpoint-4", file="optimizer.pt"), 2),
        (Death("write", place="checkpoint-4", file="rng_state_1.pth"), 2),
        (Death("rename", place="checkpoint-4"), 1),
        (Death("write", place=".model.unfinished", file="model.safetensors"), 1),
    ],
    ids=["weights", "optimiser", "optimiser-2", "other-rank-2", "rename", "model"],
)
def test_a_run_killed_while_it_writes_goes_on_from_the_checkpoint_before(
    death, world, prepared, whole, request
):
    recipe = prepared("sft", f"writing.{request.node.callspec.id}")
    run = recipe.with_suffix("")
    dies(recipe, death, world)
    assert any("unfinished" in path.name for path in run.iterdir())  # it was cut off half through
    assert not (run / "model").exists()
    assert last_checkpoint(run) == str(run / f"checkpoint-{2 if '4' in death.place else STEPS}")
    finish(recipe, world)
    same_end(run, whole("sft", world))


def test_twenty_kills_lose_nothing(prepared, whole):
    """At random moments, from the start of Python's main to the writing of a checkpoint."""
    steps = 120  # more than a fast machine makes between the kills
    keys = dict(max_steps=steps, save_steps=1, save_total_limit=2)
    rng = random.Random(0)
    recipe = prepared("step_rr", "often", **keys)
    run = recipe.with_suffix("")
    reached = []
    for number in range(20):
        before = last_checkpoint(run)
        started = start(recipe, recipe.with_suffix(".log"))
        patience = time.monotonic() + 120
        if number % 5:  # the others at any moment of the start
            while last_checkpoint(run) == before and started.alive() and time.monotonic() < patience:
                time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5 if number % 5 else 1.5))
        assert started.alive(), started.said()  # so that it is killed
        started.kill()
        assert not (run / "stage.json").exists()
        reached.append(int((last_checkpoint(run) or "-0").rsplit("-", 1)[1]))
    assert reached == sorted(reached)
    assert 10 <= reached[-1] < steps
    finish(recipe)
    same_end(run, whole("step_rr", **keys), steps=steps)


@pytest.mark.parametrize(
    ("stage", "world", "event"),
    [
        *((stage, world, "on_step_begin") for stage in STAGES for world in (1, 2)),
        ("step_rr", 1, "on_step_end"),  # between the rollouts of step 3 and its metrics
    ],
)
def test_a_killed_run_goes_on_in_the_same_wandb_run(stage, world, event, prepared, offline):  # noqa: F811
    keys = dict(report_to="wandb", **(dict(rollouts_every=3) if stage == "step_rr" else {}))
    recipe = prepared(stage, f"watched.{stage}.{world}.{event}", **keys)
    run = recipe.with_suffix("")
    dies(recipe, Death(event, step=3), world)  # its checkpoint is that of step 2
    sent = json.loads((run / "wandb.json").read_text())
    last = sent["step"] if "train/loss" in sent["told"] else sent["step"] - 1
    # of two ranks the other may have died, and the launcher ended this one, before it told step 3
    assert last == (2 if event == "on_step_end" else 3) or (world, last) == (2, 2)
    finish(recipe, world)
    first, second = runs(run)  # of the main process alone
    assert [path.name.rsplit("-", 1)[1] for path in (run / "wandb").glob("offline-run-*")] == [sent["id"]] * 2
    assert {record.run.run_id for record in second if record.HasField("run")} == {sent["id"]}
    told_again = [row for row in history(second) if "train/loss" in row]
    assert [row[STEP] for row in told_again] == list(range(last + 1, STEPS + 1))
    assert [row["step"] for row in told(run)] == list(range(1, STEPS + 1))
    losses = {row["step"]: row["loss"] for row in told(run)}
    assert [row["train/loss"] for row in told_again] == [losses[row[STEP]] for row in told_again]
    # What a killed W&B had not written is lost there (it writes every 15 seconds; metrics.jsonl has it); what
    # it had is told once.
    assert {row[STEP] for row in history(first) if "train/loss" in row} <= set(range(1, last + 1))
    if stage == "step_rr" and world == 1:
        assert [row[STEP] for row in history(second) if "rollouts" in row] == [6]
