"""Trains recipes with rollouts that are replayed instead of sampled, and notes every log-probability.

    python replay.py RECIPE...      rank r writes <output_dir>/logps.<r>.jsonl

Runs of different rank layouts can only be compared so: what is sampled depends on the layout, greedy groups
have no advantage, and with one update per rollout GRPO's loss is -mean(A), whatever the log-probabilities. A
completion here depends on its row, the step and its place in the group alone; the questions carry the number
of their row ("... in clip 3?"). The rewards are the real ones.
"""

import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rlcomm.cli import main
from rlcomm.omni.encode import completion_ids
from rlcomm.stages import ans_co, run
from rlcomm.trainers import grpo, sft
from rlcomm.utils import processes

GROUP = 4
HEARD = ("a drum", "a violin", "a flute and a harp", "nothing", "a drum, a flute and a violin")


def completion(row: int, step: int, place: int) -> str:
    """Three segments of any length; one right answer and one wrong in each group, and one without its end."""
    rng = random.Random(f"{row} {step} {place}")
    answer = ("yes", "no", rng.choice(("yes", "no")), "no")[place]
    text = f"<a-think> I hear {rng.choice(HEARD)}. </a-think> <v-think> I see {rng.choice(HEARD)}. </v-think>"
    return f"{text} <answer> {answer}" + ("" if place == 3 else " </answer>")


class Clock(run.MetricsFile):
    """Knows the step that is being made, and where the run folder is."""

    step = -1
    folder = Path()

    def __init__(self, path: Path):
        super().__init__(path)
        Clock.step, Clock.folder = -1, Path(path).parent

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        Clock.step = state.global_step


def row_of(tokenizer: Any, prompt: Any) -> int:
    found = re.search(r"in clip (\d+)\?", tokenizer.decode(prompt.ids))
    assert found is not None
    return int(found[1])


def replayed(
    model: Any, processor: Any, prompts: list, num_generations: int = 1, **options: Any
) -> list[list[list[int]]]:
    """In place of `generate_ids`. A group cut over ranks begins at this rank's share of it."""
    step = (
        Clock.step if "seed" not in options else -1
    )  # Ans-CO seeds its rollouts, which come before all steps
    first = processes.rank() * num_generations % GROUP
    return [
        [
            completion_ids(processor.tokenizer, completion(row_of(processor.tokenizer, prompt), step, place))
            for place in range(first, first + num_generations)
        ]
        for prompt in prompts
    ]


def noting(score: Callable[..., Any], tokenizer: Callable[[], Any]) -> Callable[..., Any]:
    """`score`, which writes down what it gives to a loss."""

    def noted(
        model: Any, prompts: list, completions: torch.Tensor, mask: torch.Tensor, *rest: Any, **options: Any
    ) -> Any:
        logps, entropies = score(model, prompts, completions, mask, *rest, **options)
        if torch.is_grad_enabled():
            with (Clock.folder / f"logps.{processes.rank()}.jsonl").open("a") as file:
                for prompt, ids, kept, values in zip(
                    prompts, completions, mask.bool(), logps.detach(), strict=True
                ):
                    row = {"step": Clock.step, "row": row_of(tokenizer(), prompt)}
                    row |= {"ids": ids[kept].tolist(), "logps": values[kept].tolist()}
                    file.write(json.dumps(row) + "\n")
        return logps, entropies

    return noted


def install(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Replaces sampling and scoring in this process; `put` is setattr, or monkeypatch's to have it undone."""
    read: list[Any] = []
    load = run.load_policy

    def loading(*args: Any, **kwargs: Any) -> Any:
        policy = load(*args, **kwargs)
        read[:] = [policy.processor.tokenizer]
        return policy

    put(run, "load_policy", loading)
    put(run, "MetricsFile", Clock)
    for module in (grpo, ans_co):
        put(module, "generate_ids", replayed)
    for trainer in (grpo, sft):
        put(trainer, "score", noting(trainer.score, lambda: read[0]))


if __name__ == "__main__":
    install()
    for recipe in sys.argv[1:]:
        if code := main(["train", recipe]):
            sys.exit(code)
