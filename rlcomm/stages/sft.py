"""SFT: the base (dense conversations), the warm-up (about 100 rows with the full format), conflict SFT.

rows + targets -> (modality dropout) -> prompt + conversation -> -log p of the assistant's tokens
"""

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset

from rlcomm.config.sft import SFTRecipe
from rlcomm.data.sample import Sample
from rlcomm.stages.resume import open_run
from rlcomm.stages.run import open_data, open_policy, run
from rlcomm.stages.senses import check_senses
from rlcomm.trainers.clips import by_clip
from rlcomm.trainers.sft import ConversationCollator, OmniSFTTrainer

# Question types that one sense alone can answer, by the names of MUSIC-AVQA and Orchestra; the key is what is
# left out.
_ANSWERABLE = {
    "video": ("Audio/", "Open/Hear", "Text/Heard", "Text/Read"),
    "audio": ("Visual/", "Open/See", "Text/Seen"),
}
# What a silent video is also asked where the recipe lets the policy guess sound from sight.
_GUESSED = ("Audio/Existential",)


def train(recipe: SFTRecipe, finish: Callable[..., Any] = run) -> None:
    """Runs one SFT stage to its end, from where its run folder stands.

    Args:
        recipe: of the stage.
        finish: what is done with the trainer (`rlcomm.doctor.peak` measures it).

    Raises:
        UserError: too many rows without a target under the step prompt, unreadable data, a run folder of
            another recipe.
    """
    started = time.time()
    open_run(recipe)
    policy = open_policy(recipe)
    samples, prompts = open_data(recipe, policy)
    steps = recipe.max_steps if recipe.max_steps > 0 else None
    window = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * recipe.world_size
    if steps is None:
        steps = max(1, round(recipe.num_train_epochs * len(samples) / window))
    samples, rows = schedule(samples, steps, window, recipe)
    check_senses(recipe, policy.model, [samples[row["row"]] for row in rows])
    # The schedule is the whole run in order, drawn by seed, so a resumed run sees the same rows.
    recipe.train_sampling_strategy, recipe.max_steps, recipe.num_train_epochs = "sequential", steps, 1
    trainer = OmniSFTTrainer(
        model=policy.model, args=recipe, train_dataset=Dataset.from_list(rows),
        processing_class=policy.processor, data_collator=ConversationCollator(samples, prompts),
    )  # fmt: skip
    finish(trainer, policy, recipe, started, rows=len(rows))


def schedule(
    samples: Sequence[Sample], steps: int, window: int, recipe: SFTRecipe
) -> tuple[list[Sample], list[dict[str, int]]]:
    """Which sample each optimiser step sees, and with which sense left out.

    Returns:
        Samples and their one-sense versions, and `steps * window` rows `{"row": index into them}`.
    """
    rng = random.Random(recipe.seed)
    variants = {"": list(range(len(samples)))}
    pool = list(samples)
    for lost in ("video", "audio"):
        guess = recipe.modality_dropout_guess and lost == "audio"
        one_sense = [s for s in (without(sample, lost, guess) for sample in samples) if s is not None]
        variants[lost] = list(range(len(pool), len(pool) + len(one_sense)))
        pool += one_sense
    rows: list[dict[str, int]] = []
    order: dict[str, list[int]] = {key: [] for key in variants}
    clips, size = [(s.video, s.audio) for s in samples], recipe.per_device_train_batch_size
    for number in range(steps * window):
        lost = ""
        if number >= recipe.modality_dropout_start * steps * window:
            draw = rng.random()
            if draw < recipe.modality_dropout_video:
                lost = "video"
            elif draw < recipe.modality_dropout_video + recipe.modality_dropout_audio:
                lost = "audio"
        if not variants[lost]:
            lost = ""
        if not order[lost] and recipe.group_by_clip:  # no sense is left out then
            order[lost] = by_clip(clips, size, rng, room=-number % size)[::-1]
        elif not order[lost]:
            order[lost] = rng.sample(variants[lost], len(variants[lost]))
        rows.append({"row": order[lost].pop()})
    return pool, rows


def without(sample: Sample, lost: str, guess: bool = False) -> Sample | None:
    """The sample with one sense left out and only the questions that the other can answer; None if there are
    none.

    Args:
        sample: with both senses.
        lost: `audio` or `video`.
        guess: a silent video is still asked what sounds, with the answer its own track gives.
    """
    kept = _ANSWERABLE[lost] + (_GUESSED if guess else ())
    turns = tuple(turn for turn in sample.turns if turn.type.startswith(kept))
    return dataclasses.replace(sample.without(lost), turns=turns) if turns else None
