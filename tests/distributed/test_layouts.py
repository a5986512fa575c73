"""One rank or two, accumulated or at once, under DDP or DeepSpeed: the same rows give the same training.

Ten optimiser steps of every stage, four rows (or completions) a step, replayed (`replay.py`). Compared are
every log-probability that reached a loss (absolute), the gradient norms of metrics.jsonl (relative) and the
final weights (their difference relative to the way that training moved them, both in norm). Where rollouts
are scored, one rank alone does so in the plain form, `rows`, and all others in one that shares prompts.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from peft import get_peft_model
from safetensors.torch import load_file

from rlcomm.cli import main
from rlcomm.data.sample import write_jsonl
from rlcomm.omni.policy import load_policy, lora_config
from rlcomm.trainers.metrics_file import read_metrics
from tests.distributed import replay
from tests.distributed.launching import configured, launch
from tests.stages.conftest import changed

pytestmark = pytest.mark.distributed

STEPS = 10
ROWS = 8  # whole batches: accelerate fills the last one of an epoch with rows from its beginning on two ranks
TOLERANCE = 1e-4
EXACT = 1e-5  # of log-probabilities, before steps have been taken
COMMON = dict(
    max_steps=STEPS, bf16=False, gradient_checkpointing=False, report_to="none", disable_tqdm=True,
    logging_steps=1, save_strategy="no", learning_rate=1e-3, lr_scheduler_type="constant",
    # Adam's own epsilon would turn the rounding noise of a weight without a gradient into whole steps.
    optim="adamw_torch", adam_epsilon=1e-5,
)  # fmt: skip
ROLLOUTS = dict(num_generations=replay.GROUP, max_completion_length=128, rewards=["format", "accuracy"])
# All that scoring has to work with at once, beside several prompts a batch and groups cut between the ranks.
EVERYTHING = dict(
    ROLLOUTS, num_iterations=2, gradient_checkpointing=True, use_peft=True, lora_r=4, lora_alpha=8
)
STAGES = {
    "sft": {},
    "step_rr": ROLLOUTS,
    "everything": EVERYTHING,
    "everything_eager": dict(EVERYTHING, attn_implementation="eager"),
    # Two prompts a step, in every other one twins; on two ranks each has one of them.
    "twins": dict(
        ROLLOUTS,
        rewards=["format", "accuracy", "consistency"],
        counterfactual_share=0.5,
        twin_baseline=True,
        even_types=True,
    ),
    "ans_co": dict(ROLLOUTS, ansco_target="self", ansco_threshold=99.0),
}
# Rows of one sense among others. With towers that train, a rank leaves one of them out that the other uses.
MIXED = {
    "mixed": dict(ddp_find_unused_parameters=False),
    "mixed_towers": dict(freeze_encoders=False, ddp_find_unused_parameters=True),
}
LAYOUTS = {"one": (4, 1), "accumulated": (1, 4), "swapped": (4, 1), "ranks": (2, 1)}
PROMPTS = 3  # in a step of "everything": on two ranks each has a group and half of another


@pytest.fixture(scope="module")
def prepared(clip_rows, nano_folder, tmp_path_factory) -> Callable[..., Path]:
    """Writes the recipe of a stage in a layout."""
    folder = tmp_path_factory.mktemp("layouts")
    rows = [
        dataclasses.replace(
            changed(
                clip_rows[i % len(clip_rows)], question=f"Is there a violin sound in clip {i}?",
                # of very different lengths: a mean over the tokens of a rank is not that of all tokens
                target=replay.completion(i, 0, 0) + " Yes!" * 3 * i,
            ),
            id=str(i),
        )
        for i in range(ROWS)
    ]  # fmt: skip
    # Twins ask one question, so it is an option that names the row (`replay.row_of`).
    twins = [
        dataclasses.replace(
            changed(
                row, question="Is there a violin sound?", options=("yes", "no", f"in clip {i}?"),
                type="exist" if i < 4 else "count",
            ),
            video=rows[i & ~1].video, meta={"twin": str(i ^ 1)},
        )
        for i, row in enumerate(rows)
    ]  # fmt: skip
    write_jsonl(folder / "twins.jsonl", twins)
    changed_sound = dataclasses.replace(twins[0], audio=str(folder / "tone.wav"))
    write_jsonl(folder / "twins_swapped.jsonl", [changed_sound, *twins[1:]])
    write_jsonl(folder / "rows.jsonl", rows)
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)  # the clips are noise
    soundfile.write(folder / "tone.wav", tone, 16_000)
    write_jsonl(
        folder / "swapped.jsonl", [dataclasses.replace(rows[0], audio=str(folder / "tone.wav")), *rows[1:]]
    )
    write_jsonl(
        folder / "mixed.jsonl",
        [row.without(("audio", "video")[i % 2]) if i < 3 else row for i, row in enumerate(rows)],
    )
    adapters = get_peft_model(load_policy(str(nano_folder)).model, lora_config(r=4, alpha=8))
    for name, parameter in adapters.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapters.save_pretrained(folder / "adapters")

    def write(stage: str, layout: str, **keys) -> Path:
        mixed = stage in MIXED
        file = "mixed" if mixed else "swapped" if layout == "swapped" else "rows"
        batch, accumulated = LAYOUTS.get(layout, LAYOUTS["ranks"])
        everything = stage.startswith("everything")
        twins = stage == "twins"
        if twins:
            file = "twins_swapped" if layout == "swapped" else "twins"
        if everything or twins or stage == "step_rr":
            keys["scoring"] = "rows" if layout == "one" else "grouped"
        values = {
            "stage": "sft" if mixed else "step_rr" if everything or twins else stage,
            "model_name_or_path": str(folder / "adapters" if everything else nano_folder), **COMMON,
            **(MIXED[stage] if mixed else STAGES[stage]),
            "dataset": str(folder / f"{file}.jsonl"), "output_dir": str(folder / layout / stage),
            "per_device_train_batch_size": batch * (PROMPTS if everything else 2 if twins else 1),
            "gradient_accumulation_steps": accumulated, "use_cpu": True, **keys,
        }  # fmt: skip
        path = folder / f"{stage}.{layout}.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="module")
def alone(prepared) -> Callable[[str, str], Path]:
    """The run of a stage in this process, trained once."""
    done: dict[Path, Path] = {}

    def train(stage: str, layout: str) -> Path:
        path = prepared(stage, layout)
        if path not in done:
            with pytest.MonkeyPatch.context() as patch:
                replay.install(patch.setattr)
                assert main(["train", str(path)]) == 0
            done[path] = Path(yaml.safe_load(path.read_text())["output_dir"])
        return done[path]

    return train


@pytest.fixture(scope="module")
def ranks(prepared, tmp_path_factory) -> Callable[[str], Path]:
    """The folder of the same runs on two ranks, one after the other in one launch of a configuration."""
    done: dict[str, Path] = {}

    def train(config: str) -> Path:
        if config not in done:
            if config == "cpu_2.yaml":
                start, keys, stages = Path(config), {}, [*STAGES, *MIXED]
            else:
                start = configured(config, tmp_path_factory.mktemp("configured"))
                keys, stages = dict(use_cpu=False, ddp_backend="gloo"), [*STAGES]
                if config == "zero2.yaml":
                    stages.append("mixed")  # what ZeRO-3 refuses, and is told to do here
            recipes = [prepared(stage, config, **keys) for stage in stages]
            ended = launch(start, recipes, program=[replay.__file__])
            assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
            done[config] = recipes[0].parent / config
        return done[config]

    return train


def logps(run: Path) -> dict[tuple, torch.Tensor]:
    """(step, row, completion) -> log-probabilities, over all ranks."""
    found = {}
    for file in run.glob("logps.*.jsonl"):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            found[row["step"], row["row"], tuple(row["ids"])] = torch.tensor(row["logps"])
    return found


def weights(model: Path) -> dict[str, torch.Tensor]:
    """All of them, or those of the adapters."""
    files = [model / name for name in ("adapter_model.safetensors", "model.safetensors")]
    found = load_file(next(file for file in files if file.exists()))
    found.pop("lm_head.weight", None)  # tied to the embedding; under ZeRO-2 it is saved beside it
    return {name: found[name].double() for name in sorted(found)}


def apart(one: Path, other: Path, steps: int = STEPS) -> float:
    """Largest difference of a log-probability in so many first steps."""
    ours, theirs = logps(one), logps(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[key] - theirs[key]).abs().max()) for key in ours if key[0] < steps)


def differences(one: Path, other: Path) -> dict[str, float]:
    """How far apart two runs are; each is to be at most TOLERANCE where they agree."""
    base = yaml.safe_load((one / "recipe.yaml").read_text())["model_name_or_path"]
    norms = [[row["grad_norm"] for row in read_metrics(run / "metrics.jsonl")] for run in (one, other)]
    assert len(norms[0]) == len(norms[1]) == STEPS
    assert min(map(min, norms)) > 0
    models = [weights(path) for path in (Path(base), one / "model", other / "model")]
    assert models[0].keys() == models[1].keys() == models[2].keys()
    before, a, b = (torch.cat([value.flatten() for value in model.values()]) for model in models)
    moved = (a - before).norm()
    assert moved > 100 * TOLERANCE  # there is something to compare
    return {
        "logps": apart(one, other),
        "grad_norm": max(abs(x - y) / x for x, y in zip(*norms, strict=True)),
        "weights": float((a - b).norm() / moved),
    }


@pytest.mark.parametrize("stage", STAGES)
def test_accumulated_steps_are_those_of_whole_batches(stage, alone):
    found = differences(alone(stage, "one"), alone(stage, "accumulated"))
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize(
    ("config", "stage"),
    [
        *(("cpu_2.yaml", stage) for stage in (*STAGES, *MIXED)),
        *((config, stage) for config in ("zero2.yaml", "zero3.yaml") for stage in STAGES),
        ("zero2.yaml", "mixed"),
    ],
)
def test_two_ranks_train_as_one(config, stage, alone, ranks):
    """Groups of four completions are cut in two here: advantages need the rewards of both ranks."""
    found = differences(alone(stage, "one"), ranks(config) / stage)
    assert max(found.values()) < TOLERANCE, found
    assert apart(alone(stage, "one"), ranks(config) / stage, steps=1) < EXACT


@pytest.mark.parametrize("stage", STAGES)
def test_another_sound_in_one_clip_is_told_apart(stage, alone):
    """The comparison itself: it must notice what a path that loses the sound would do."""
    found = differences(alone(stage, "one"), alone(stage, "swapped"))
    assert min(found.values()) > 3 * TOLERANCE, found


def test_rollouts_are_worth_comparing(alone):
    """Every group has an advantage, and every row of Ans-CO a target with an entropy term."""
    rows = read_metrics(alone("step_rr", "one") / "metrics.jsonl")
    assert min(row["reward_std"] for row in rows) > 0
    assert len({row["completions/mean_length"] for row in rows}) > 1
    rows = read_metrics(alone("twins", "one") / "metrics.jsonl")
    assert {row["twins/share"] for row in rows} == {0.0, 1.0}
    assert max(row.get("rewards/consistency/mean") or 0 for row in rows) > 0
    rows = read_metrics(alone("ans_co", "one") / "metrics.jsonl")
    assert all(math.isclose(row["ansco/lambda"], 0.5) for row in rows)
    targets = json.loads((alone("ans_co", "one") / "targets.json").read_text())
    assert len(targets) == ROWS
