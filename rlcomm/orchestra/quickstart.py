"""The quickstart: renders Orchestra, takes or trains the miniatures, runs recipes/orchestra/pipeline.yaml.

render -> [base, audio from scratch] -> pipeline (warm-up -> reference -> Step-RR -> Ans-CO -> report)
"""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from rlcomm.config.load import load_recipe
from rlcomm.orchestra import asymmetric
from rlcomm.orchestra.build import build
from rlcomm.stages.pipeline import clocked, finished, run_pipeline, spent
from rlcomm.utils.child import run_process
from rlcomm.utils.errors import UserError
from rlcomm.utils.shipped import shipped

SIZES = {"warmup": 100, "train": 1000, "test": 300}
SYNC_ROWS = 4000
# glibc gives freed memory back to the system at once, so that every step on the CPU takes, and zeroes, the
# same pages anew: 8 % of the base's time.
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(4 * 2**30),
}
# `--tiny` shows that every part runs; its numbers mean nothing.
TINY_SIZES = {"warmup": 16, "train": 16, "test": 10}
# Two steps of warm-up leave no usable rollout, so Ans-CO learns the warm-up's own targets.
TINY = [
    "warmup.max_steps=2",
    "step_rr.max_steps=2",
    "ans_co.max_steps=1",
    "ans_co.ansco_target=gold",
    "ans_co.rewards=format accuracy",
]


def quickstart(out: Path, seed: int, from_scratch: bool, tiny: bool) -> dict[str, Any]:
    """Runs everything that is not finished yet below `out`; returns the summary.

    Raises:
        UserError: a stage failed.
    """
    recipes = shipped("recipes/orchestra")
    for name, value in KEEP_MEMORY.items():
        os.environ.setdefault(name, value)  # of the stages' processes
    data, works = out / "data", ["render"]
    sizes: dict[str, Any] = {
        **(TINY_SIZES if tiny else SIZES),
        "sync": (40 if tiny else SYNC_ROWS) if from_scratch else 0,
    }
    overrides = ["--output_dir", str(out), "--data", str(data), "--seed", str(seed)]
    recipe = load_recipe(recipes / "pipeline.yaml", overrides)
    if not (data / "truth.json").exists():
        with clocked(out, "render", anew=not data.exists()):
            # one world for all seeds: seeds differ in training, not in the test
            build(data, seed=0, asymmetric=recipe.asymmetric, benchmarks=False, **sizes)
    if from_scratch:
        models: dict[str, str] = {}
        for stage, rows in (("base", "base"), ("settle", "settle"), ("audio", "sync")):
            folder = out / f"scratch_{stage}"
            works.append(folder.name)
            if not finished(folder):
                command = [str(recipes / f"{stage}.yaml"), "--output_dir", str(folder)]
                command += ["--dataset", str(data / f"{rows}.jsonl"), "--seed", str(seed)]
                command += ["--model_name_or_path", models["base"]] if stage == "settle" else []
                command += ["--max_steps", "2"] if tiny else []
                with clocked(out, folder.name, anew=not folder.exists()):
                    code = _train(command)
                if code != 0:
                    raise UserError(
                        f"{stage} could not be trained (its message stands above); mend that and run again."
                    )
            models[stage] = str(folder / "model")
        if tiny:  # two steps teach nothing to go on with
            models = {"settle": "nano_omni", "audio": "nano_audio"}
        recipe = load_recipe(
            recipes / "pipeline.yaml", [*overrides, "--model_name_or_path", models["settle"]]
        )
        recipe.overrides = [*recipe.overrides, f"reference.model_name_or_path={shlex.quote(models['audio'])}"]
    if tiny:
        taught = shlex.quote(str(data / "warmup.jsonl"))
        recipe.overrides = [*recipe.overrides, *TINY, f"ans_co.dataset={taught}"]
    recipe.given["overrides"] = recipe.overrides
    seconds = {name.removeprefix("scratch_"): spent(out).get(name, {}).get("seconds", 0.0) for name in works}
    return run_pipeline(recipe, recipes, seconds, **asymmetric.facts(recipe))


def _train(command: list[str]) -> int:
    """The exit code of `rlcomm train`; on CPU two processes share every batch: the miniatures' matrices are
    too small for threads."""
    words, environment = [sys.executable, "-m", "rlcomm", "train", *command], dict(os.environ)
    if not torch.cuda.is_available() and (os.cpu_count() or 1) > 1:
        size = int(load_recipe(command[0]).per_device_train_batch_size)
        launcher = ["-m", "accelerate.commands.launch", "--config_file", str(shipped("launch/cpu_2.yaml"))]
        words[1:2] = [*launcher, "-m"]
        words += ["--per_device_train_batch_size", str(size // 2), "--ddp_find_unused_parameters", "true"]
        environment |= {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    return run_process(words, environment)
