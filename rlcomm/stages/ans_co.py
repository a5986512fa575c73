"""Ans-CO: the policy learns its own best rollouts with confidence on the answer (RL-CoMM, arXiv 2511.10059).

row -> G rollouts -> well-formed and correct, highest reward -> chosen completion -> -log p + lambda H(answer)
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Dataset
from tqdm.auto import tqdm

from rlcomm import steps
from rlcomm.config.ans_co import AnsCORecipe
from rlcomm.data.sample import Sample
from rlcomm.omni.encode import completion_ids
from rlcomm.omni.policy import Policy
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.rollout import generate_ids
from rlcomm.rewards import accuracy
from rlcomm.rewards import format as format_reward
from rlcomm.stages.resume import open_run
from rlcomm.stages.run import open_data, open_policy, run
from rlcomm.stages.senses import check_senses
from rlcomm.stages.step_rr import reward_functions, reward_weights
from rlcomm.trainers.ans_co import AnsCOCollator, AnsCOTrainer
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError
from rlcomm.utils.zero3 import gathered


def train(recipe: AnsCORecipe, finish: Callable[..., Any] = run) -> None:
    """Runs the stage to its end: samples the targets (once; kept in the run folder), then trains on them.

    Args:
        recipe: of the stage.
        finish: what is done with the trainer (`rlcomm.doctor.peak` measures it).

    Raises:
        UserError: no row has a usable rollout, too many rows without a reference, a run folder of another
            recipe.
    """
    started = time.time()
    open_run(recipe)
    policy = open_policy(recipe)
    samples, prompts = open_data(recipe, policy)
    check_senses(recipe, policy.model, samples)
    texts, skipped = targets(recipe, policy, samples, prompts)
    tokenizer = policy.processor.tokenizer
    chosen = [
        (sample, completion_ids(tokenizer, texts[sample.id])) for sample in samples if sample.id in texts
    ]
    if processes.is_main():
        print(f"Ans-CO: {len(chosen)} rows with a usable rollout, {skipped} skipped")
    if not chosen:
        raise UserError(
            f"{recipe.dataset}: none of the {len(samples)} rows has a well-formed and correct rollout to "
            "learn from; train warm-up and Step-RR first, or set ansco_target gold."
        )
    trainer = AnsCOTrainer(
        model=policy.model, args=recipe,
        train_dataset=Dataset.from_list([{"row": i} for i in range(len(chosen))]),
        processing_class=policy.processor, data_collator=AnsCOCollator(chosen, prompts),
        ansco_lambda=recipe.ansco_lambda, ansco_threshold=recipe.ansco_threshold,
        ansco_uncertainty=recipe.ansco_uncertainty,
    )  # fmt: skip
    if recipe.group_by_clip:
        trainer.clips = [(sample.video, sample.audio) for sample, _ in chosen]
    finish(trainer, policy, recipe, started, rows=len(samples), skipped=skipped)


def targets(
    recipe: AnsCORecipe, policy: Policy, samples: Sequence[Sample], prompts: Prompts
) -> tuple[dict[str, str], int]:
    """The completion each row learns, by row id, and how many rows have none.

    `self`: the best rollout among the well-formed and correct ones. `gold_answer`: the best well-formed
    rollout with the gold answer in its answer segment. `gold`: the row's own `target`. Kept in targets.json,
    so a resumed run trains on the same ones.
    """
    kept = f"{recipe.output_dir}/targets.json"
    if (found := _read(kept)) is not None:
        return found, len(samples) - len(found)
    state = PartialState()
    if recipe.ansco_target == "gold":
        texts = {s.id: s.turns[0].target for s in samples if s.turns[0].target}
    else:
        policy.model.to(state.device).eval()
        functions = reward_functions(recipe, reward_weights(recipe))
        mine = range(state.process_index, len(samples), state.num_processes)
        pairs: list[tuple[str, str]] = []
        batches = tqdm(
            range(0, len(mine), recipe.rollout_batch_size),
            desc="Ans-CO rollouts",
            disable=not processes.is_main(),
        )
        with gathered(policy.model):
            for start in batches:
                prompts.expect(samples[i] for i in mine[start : start + 2 * recipe.rollout_batch_size])
                rows = [samples[i] for i in mine[start : start + recipe.rollout_batch_size]]
                # each batch has its own stream, so that the number of processes alone decides what is drawn
                seed = (recipe.seed * 1_000_003 + state.process_index * 10_007 + start) % 2**31
                pairs += best_rollouts(recipe, policy, rows, prompts, functions, seed)
        prompts.close()  # in training the DataLoader's workers do the same
        texts = dict(gather_object(pairs))
        policy.model.train()
    if processes.is_main():
        files.write_json(kept, texts)
    return texts, len(samples) - len(texts)


def best_rollouts(
    recipe: AnsCORecipe,
    policy: Policy,
    rows: Sequence[Sample],
    prompts: Prompts,
    functions: Sequence[Any],
    seed: int,
) -> list[tuple[str, str]]:
    """(row id, chosen completion) for the rows of a batch that have a usable rollout."""
    groups = generate_ids(
        policy.model, policy.processor, [prompts(sample) for sample in rows],
        num_generations=recipe.num_generations, max_new_tokens=recipe.max_completion_length,
        temperature=recipe.temperature, top_p=recipe.top_p, seed=seed,
    )  # fmt: skip
    texts = [policy.processor.tokenizer.batch_decode(group, skip_special_tokens=True) for group in groups]
    flat = [text for group in texts for text in group]
    columns = [sample for sample in rows for _ in range(recipe.num_generations)]
    weights = reward_weights(recipe)
    totals = torch.zeros(len(flat))
    for function in functions:
        values = function(prompts=None, completions=flat, sample=columns)
        totals += weights[function.__name__] * torch.tensor([0.0 if v is None else v for v in values])
    chosen = []
    for i, sample in enumerate(rows):
        usable = []
        for j in range(i * recipe.num_generations, (i + 1) * recipe.num_generations):
            parsed = steps.parse(flat[j])
            right = accuracy.score(parsed, sample) == 1.0
            if format_reward.score(parsed, sample) == 1.0 and (right or recipe.ansco_target == "gold_answer"):
                usable.append(j)
        if usable:
            best = steps.parse(flat[max(usable, key=lambda j: float(totals[j]))])
            answer = sample.answer if recipe.ansco_target == "gold_answer" else best.answer.text
            chosen.append((sample.id, steps.build(best.audio.text, best.video.text, answer)))
    return chosen


def _read(path: str) -> dict[str, str] | None:
    return json.loads(Path(path).read_text(encoding="utf-8")) if Path(path).exists() else None
