"""Step-RR: GRPO with step-wise rewards against a reference audio model (RL-CoMM, arXiv 2511.10059).

row -> prompt -> G rollouts -> <a-think> <v-think> <answer> -> r_format + r_arr + r_avc -> advantages -> loss
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset

from rlcomm.config.step_rr import StepRRRecipe
from rlcomm.data.sample import Sample, read_jsonl
from rlcomm.data.twins import check_twins, twin_rows
from rlcomm.diagnostics import audit, degenerate
from rlcomm.omni.encode import user_text
from rlcomm.rewards import adapters
from rlcomm.rewards.embed import Embedder
from rlcomm.rewards.omega import default_omega
from rlcomm.stages.needs import usable
from rlcomm.stages.resume import open_run
from rlcomm.stages.run import open_data, open_policy, run
from rlcomm.stages.senses import check_senses
from rlcomm.trainers.grpo import OmniGRPOTrainer, Rollout
from rlcomm.trainers.order import Drawing
from rlcomm.utils import processes
from rlcomm.utils.errors import UserError

logger = logging.getLogger("rlcomm")


def train(recipe: StepRRRecipe, finish: Callable[..., Any] = run) -> None:
    """Runs one GRPO stage to its end, from where its run folder stands.

    Args:
        recipe: of the stage.
        finish: what is done with the trainer (`rlcomm.doctor.peak` measures it).

    Raises:
        UserError: too many rows without a reference although ARR is on, unreadable data, a run folder of
            another recipe.
    """
    started = time.time()
    open_run(recipe)
    check_drawn(recipe)
    policy = open_policy(recipe)
    samples, prompts = open_data(recipe, policy)
    check_senses(recipe, policy.model, samples)
    weights = reward_weights(recipe)
    if processes.is_main():
        warn_without_audit(recipe, weights, samples)
    functions = reward_functions(recipe, weights)
    recipe.reward_weights = [weights[function.__name__] for function in functions]
    rows = [{"prompt": _messages(sample, recipe.prompt_style), "row": i} for i, sample in enumerate(samples)]
    check_enough(recipe, len(rows))
    trainer = OmniGRPOTrainer(
        model=policy.model, args=recipe, reward_funcs=functions, train_dataset=Dataset.from_list(rows),
        processing_class=policy.processor, samples=samples, prompts=prompts, scoring=recipe.scoring,
        observe=exploits, drawing=drawing(recipe, samples), twin_baseline=recipe.twin_baseline,
    )  # fmt: skip
    if processes.is_main():
        rollouts = recipe.generation_batch_size or 0
        groups = rollouts // (recipe.num_generations or 1)
        window = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * recipe.world_size
        updates = max(1, rollouts // window) * recipe.num_iterations
        print(
            f"each generation: {groups} prompts x {recipe.num_generations} completions = "
            f"{rollouts} completions, {updates} optimiser step(s)"
        )
    try:
        finish(trainer, policy, recipe, started, rows=len(rows))
    finally:
        prompts.close()


def check_enough(recipe: StepRRRecipe, rows: int) -> None:
    """TRL drops a generation batch that it cannot fill: too few rows would end the run before its first step.

    Raises:
        UserError: fewer rows than prompts in a generation batch.
    """
    prompts = (recipe.generation_batch_size or 0) // (recipe.num_generations or 1)
    if rows < prompts:
        raise UserError(
            f"{recipe.dataset}: has {rows} row(s), but each generation asks {prompts} different prompts "
            f"(generation batch {recipe.generation_batch_size} / num_generations {recipe.num_generations}); "
            "give more rows or a smaller batch."
        )


def check_drawn(recipe: StepRRRecipe) -> None:
    """Whether the rows allow what the recipe draws of them; reads them alone, no weights and no clip.

    Raises:
        UserError: a twin that is none, or as `drawing`.
    """
    if recipe.counterfactual_share or recipe.even_types:
        rows = read_jsonl(recipe.dataset)
        if recipe.counterfactual_share:
            check_twins(rows, recipe.dataset)
        drawing(recipe, usable(recipe, rows[: recipe.max_rows])[0])


def drawing(recipe: StepRRRecipe, samples: Sequence[Sample]) -> Drawing | None:
    """Which rows a generation asks, where the recipe wants twins or every type of question alike.

    Raises:
        UserError: fewer rows have a twin than are to be asked with it, or all questions are of one type.
    """
    share, twins = recipe.counterfactual_share, twin_rows(samples)
    if share > len(twins) / len(samples):
        raise UserError(
            f"{recipe.dataset}: {len(twins)} of {len(samples)} rows have a twin among them (meta.twin), "
            f"{len(twins) / len(samples):.3f} of all, but counterfactual_share is {share:g}; set it to at "
            "most that, or add rows (`rlcomm data counterfactual`)."
        )
    types = [sample.turns[0].type for sample in samples] if recipe.even_types else None
    if types is not None and len(set(types)) < 2:
        raise UserError(
            f"{recipe.dataset}: even_types is true, but all {len(samples)} rows have the type "
            f"{types[0]!r}; name the types in the rows' field type, or set even_types false."
        )
    return Drawing(twins, share, types) if share or types else None


def _messages(sample: Sample, prompt_style: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": user_text(sample.turns[0], prompt_style)}]


def reward_weights(recipe: Any) -> dict[str, float]:
    """Weight of each reward of a recipe, 1 by default; format is always measured, if need be at weight 0."""
    given = getattr(recipe, "reward_weights", None) or [1.0] * len(recipe.rewards)
    return {"format": 0.0, "accuracy": 0.0, **dict(zip(recipe.rewards, given, strict=True))}


def reward_functions(recipe: Any, weights: dict[str, float]) -> list[Any]:
    """The recipe's rewards as TRL reward functions; the embedder is loaded only where one needs it."""
    needed = adapters.NEED_EMBEDDER & set(weights)
    return adapters.reward_functions(
        weights, format_mode=recipe.format_mode, omega=threshold(recipe), avc_mode=recipe.avc_mode,
        embedder=Embedder(recipe.embedder) if needed else None,
    )  # fmt: skip


def threshold(recipe: Any) -> float:
    """omega as set, else the one that belongs to the embedder."""
    if recipe.omega is not None:
        return recipe.omega
    return default_omega(recipe.embedder)


def decided_by(recipe: Any, weights: dict[str, float], samples: list[Sample]) -> dict[str, Any]:
    """What an audit of this recipe's rewards depends on (`rlcomm.diagnostics.audit`)."""
    return audit.decided_by(
        weights, samples, format_mode=recipe.format_mode, avc_mode=recipe.avc_mode, omega=threshold(recipe),
        embedder=recipe.embedder,
    )  # fmt: skip


def warn_without_audit(recipe: Any, weights: dict[str, float], samples: list[Sample]) -> None:
    """One sentence where these rewards have not been audited on these rows, or were and can be gamed."""
    found = audit.find(recipe.output_dir, audit.fingerprint(decided_by(recipe, weights, samples)))
    if found is None:
        logger.warning(
            "no audit of these rewards on these rows is in %s or beside it, so nobody knows whether a policy "
            "can game them; `rlcomm audit RECIPE` says so within seconds, without a model.",
            recipe.output_dir,
        )
    elif named := [name for name, scores in found["policies"].items() if scores["reaches"]]:
        print(f"audit: paid like honest reasoning: {', '.join(named)}; watch exploits/... in the metrics")


def exploits(rollouts: list[Rollout]) -> dict[str, float]:
    """Metrics of a generation: the share of its completions that are each degenerate policy's."""
    shares = degenerate.shares([r.completion for r in rollouts], [r.sample for r in rollouts])
    return {f"exploits/{name}": share for name, share in shares.items()}
