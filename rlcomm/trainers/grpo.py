"""GRPO on clips: TRL's GRPOTrainer, with the sound in the rollout and in the loss.

TRL's own trainer gives audio to the sampler but not to the log-probabilities, silently. Here a batch carries
a Python list of encoded prompts (one per completion, the same object within a group), which survives TRL's
split, and both the sampler and the scorer read their inputs from it. The split keeps groups together, so
that a micro-batch reads each of its prompts once. Everything else (groups, advantages, clipping, logging) is
TRL's.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer.utils import split_tensor_dict

from rlcomm.data.sample import Sample
from rlcomm.omni.encode import EncodedPrompt
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.score import score
from rlcomm.rewards.adapters import completion_text
from rlcomm.trainers.checkpoints import AtomicCheckpoints
from rlcomm.trainers.order import Drawing, OrderOfEpoch
from rlcomm.trainers.routers import without_router_loss
from rlcomm.trainers.times import StepTimes
from rlcomm.trainers.twins import advantages, twin_groups

logger = logging.getLogger("rlcomm")

# Learning nothing, silently, is how most runs of this kind end: after so many steps of it we speak up.
PATIENCE = 20
LOW_FORMAT = 0.05
MANY_FLAT_GROUPS = 0.9


@dataclass
class Rollout:
    """One completion of the latest generation and what it earned.

    Attributes:
        sample: the row it answers.
        prompt: the user's words.
        completion: its text.
        rewards: by name, before their weights; None: not applicable.
        advantage: A_i.
    """

    sample: Sample
    prompt: str
    completion: str
    rewards: dict[str, float | None]
    advantage: float


def group_order(prompts: Sequence[int], size: int) -> list[int]:
    """Rows of a generation in the order of training: groups shuffled, each in one piece.

    Split into equal parts, a part of k groups' size holds k groups, and a part of a k-th of a group's holds
    one prompt.

    Args:
        prompts: per row what tells its prompt, rows of a group side by side.
        size: completions of a whole group; groups that other processes share come last, so that they do not
            move the cuts between the whole ones.
    """
    runs: list[list[int]] = []
    for row, prompt in enumerate(prompts):
        if row == 0 or prompt != prompts[row - 1] or len(runs[-1]) == size:
            runs.append([])
        runs[-1].append(row)
    shuffled = [runs[i] for i in torch.randperm(len(runs)).tolist()]
    return [row for run in sorted(shuffled, key=lambda run: len(run) != size) for row in run]


def reordered(batch: dict[str, Any], order: list[int]) -> dict[str, Any]:
    """Every list and every tensor with a dimension in this order of its rows; what has no rows stays."""
    return {
        key: [value[row] for row in order]
        if isinstance(value, list)
        else value[order]
        if isinstance(value, torch.Tensor) and value.ndim
        else value
        for key, value in batch.items()
    }


class OmniGRPOTrainer(StepTimes, AtomicCheckpoints, GRPOTrainer):
    """GRPO whose rollouts and log-probabilities see the clip.

    Dataset rows hold `prompt` (chat messages, for logging) and `row` (index into `samples`); reward functions
    get the Sample itself as the column `sample`. With advantages A_i of a group of G completions, one update
    per rollout and loss_type "grpo", the loss is

        L = -(1/B) sum_i (1/T_i) sum_t  min(rho_it A_i, clip(rho_it, 1-eps, 1+eps) A_i),  rho = pi / pi_old

    The rows of a generation batch are fetched while the batch before is at work (accelerate's loader is one
    ahead), and are then announced to `prompts`, whose workers prepare them in that time.

    Args:
        samples: the rows.
        prompts: makes the encoded prompt of a sample, once.
        scoring: `auto`, `grouped` or `rows` (see `rlcomm.omni.score`).
        observe: the latest generation to further metrics; called on the main process alone.
        drawing: which rows a generation asks, twins among them; None: as TRL shuffles them.
        twin_baseline: one baseline over the 2G completions of a pair of twins.
        *args, **kwargs: TRL's.
    """

    parts = ("prompts", "rollout", "rewards", "other", "score")
    model: Any
    args: Any
    data_collator: Any
    reward_funcs: Any
    max_completion_length: int
    num_generations: Any
    _buffered_inputs: Any
    _signature_columns: Any
    _logs: Any

    def __init__(
        self,
        *args: Any,
        samples: Sequence[Sample],
        prompts: Prompts,
        scoring: str = "auto",
        observe: Callable[[list["Rollout"]], dict[str, float]] | None = None,
        drawing: Drawing | None = None,
        twin_baseline: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        without_router_loss(self)
        self.samples, self.prompts, self.scoring, self.observe = samples, prompts, scoring, observe
        self.drawing, self.twin_baseline = drawing, twin_baseline
        # Fetching rows, which are numbers, needs no worker; in one, nothing could be announced to `prompts`.
        self.args.dataloader_num_workers, self.args.dataloader_prefetch_factor = 0, None
        self.args.dataloader_persistent_workers = False
        self.data_collator = self._announce
        self._announced: list[int] = []
        self._encoded: list[EncodedPrompt] = []  # of the rows at work, one per completion
        self._asked: list[Sample] = []  # those rows
        self._pairs: list[tuple[int, int]] = []  # groups of twins among all ranks' in the latest generation
        self._earned = torch.empty(0)  # (completions of all ranks, rewards) of it
        self._silent = {"format": 0, "flat": 0}

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = ["prompt", "row"]

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> OrderOfEpoch:
        return OrderOfEpoch(super()._get_train_sampler(*args, **kwargs), self, self.drawing)

    def _announce(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The collator: leaves the rows as they are."""
        numbers = [row["row"] for row in rows]
        if numbers != self._announced:  # TRL fetches a generation batch anew for each of its steps
            self._announced = numbers
            self.prompts.expect(self.samples[number] for number in dict.fromkeys(numbers))
        return rows

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        for row in inputs:
            row["sample"] = self.samples[row["row"]]
        with self.spent("prompts"):
            self._encoded = [self.prompts(row["sample"]) for row in inputs]
        self._asked = [row["sample"] for row in inputs]
        self._log_completion_extra("row", [row["row"] for row in inputs])  # gathered with the completions
        with self.spent("other"):
            output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        metrics = self._metrics[mode]
        if mode == "train" and self.drawing is not None and self.drawing.share:
            groups = len(self._earned) // self.num_generations
            metrics["twins/share"].append(2 * len(self._pairs) / groups)
            if self.twin_baseline:
                output["advantages"] = self._over_pairs(metrics)
        if "rewards/format/mean" in metrics:
            metrics["steps/format_ok"].append(metrics["rewards/format/mean"][-1])
        if self.observe is not None and self.accelerator.is_main_process:  # which alone logs
            for name, value in self.observe(self.rollouts()).items():
                metrics[name].append(value)
        if mode == "train" and self.accelerator.is_main_process:
            self._warn_if_silent(metrics)
        output["encoded"] = self._encoded
        return output

    def _generate(self, prompts: list) -> tuple:
        """As TRL's; the rewards may then begin, beside what else is done before they are asked for: TRL
        scores the rollouts there, where more than one update is made of them."""
        found = super()._generate(prompts)
        for function in self.reward_funcs:
            if hasattr(function, "begin"):
                function.begin(found[3], self._asked)
                break  # our functions read a batch together
        return found

    def _calculate_rewards(self, inputs: list, prompts: list, completions: list, *args: Any) -> torch.Tensor:
        with self.spent("rewards"):
            if self.model.training and self.drawing is not None and self.drawing.share:
                self._meet_twins(self.drawing.twins, inputs, completions)
            self._earned = super()._calculate_rewards(inputs, prompts, completions, *args)
        return self._earned

    def _meet_twins(self, twins: Mapping[int, int], inputs: list[dict], completions: list) -> None:
        """The column `twin` for the rewards: the twin's row and its completions, wherever they were sampled;
        None for a row that was asked without it."""
        size = self.num_generations
        rows, texts = gather_object([row["row"] for row in inputs]), gather_object(completions)
        self._pairs = twin_groups(rows, size, twins)
        other = {a: b for pair in self._pairs for a, b in (pair, pair[::-1])}
        first = self.accelerator.process_index * len(inputs)
        for place, row in enumerate(inputs, first):
            group = other.get(place // size)
            row["twin"] = group if group is None else (
                self.samples[rows[group * size]], texts[group * size : (group + 1) * size]
            )  # fmt: skip

    def _over_pairs(self, metrics: dict[str, list[float]]) -> torch.Tensor:
        """This rank's advantages with one baseline over each pair, in place of TRL's; those are over each
        group, and so are its logs."""
        weighted = (self._earned * self.reward_weights.to(self._earned.device)).nansum(dim=1)
        weighted[self._earned.isnan().all(dim=1)] = torch.nan
        found, flat = advantages(weighted, self._pairs, self.num_generations, self.scale_rewards)
        metrics["frac_reward_zero_std"][-1] = flat
        self._logs["advantages"].extend(found.tolist())  # holds one generation: TRL's fall out
        here = len(self._asked)
        return found[self.accelerator.process_index * here : (self.accelerator.process_index + 1) * here]

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict]:
        return [prompt.ids.tolist() for prompt in self._encoded], None, {}

    def _generate_single_turn(
        self,
        prompt_ids: Any,
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[list[list[int]], None]:
        """One prefill per distinct prompt of this rank (TRL's sampler repeats each prompt G times)."""
        groups: dict[int, list[int]] = {}
        for row, prompt in enumerate(self._encoded):
            groups.setdefault(id(prompt), []).append(row)
        completions: list[list[int]] = [[] for _ in self._encoded]
        with (
            self.spent("rollout"),
            unwrap_model_for_generation(
                self.model_wrapped, self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
            ) as model,
        ):  # fmt: skip
            training = model.training
            model.eval()
            for count in sorted({len(rows) for rows in groups.values()}):  # cut groups are sampled apart
                some = [rows for rows in groups.values() if len(rows) == count]
                sampled = generate_ids(
                    model, self.processing_class, [self._encoded[rows[0]] for rows in some],
                    num_generations=count, max_new_tokens=self.max_completion_length,
                    temperature=self.temperature, top_p=self.top_p, top_k=self.top_k or 0,
                )  # fmt: skip
                for rows, group in zip(some, sampled, strict=True):
                    for row, ids in zip(rows, group, strict=True):
                        completions[row] = ids
            model.train(training)
        return completions, None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, compute_aux_loss: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:  # fmt: skip
        logps, entropies = [], []
        size = batch_size or len(input_ids)
        with self.spent("score"), self.accelerator.autocast():
            for start in range(0, len(input_ids), size):
                part = slice(start, start + size)
                some, uncertain = score(
                    model, self._encoded[part], input_ids[part, -logits_to_keep:],
                    attention_mask[part, -logits_to_keep:], self.scoring, self._tokenizer.pad_token_id,
                    work=self.work,
                )  # fmt: skip
                logps.append(some)
                entropies.append(uncertain)
        return torch.cat(logps), torch.cat(entropies), None

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """As TRL's, but that groups stay together: its shuffle of rows would give every micro-batch a few
        completions of many prompts, each of which would be read again."""
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        parts = self.args.steps_per_generation
        if self._step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            order = group_order([id(prompt) for prompt in batch["encoded"]], self.num_generations)
            self._buffered_inputs = split_tensor_dict(reordered(batch, order), parts)
        return self._buffered_inputs[self._step % parts]

    def prediction_step(self, *args: Any, **kwargs: Any) -> tuple:
        started = self._clock()
        found = super().prediction_step(*args, **kwargs)
        self.log_times("eval", self._clock() - started)
        return found

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._encoded = inputs["encoded"]
        return super()._compute_loss(model, inputs)

    def rollouts(self) -> list[Rollout]:
        """The latest generation, completions of one prompt side by side; whole on the main process."""
        logs = self._logs
        found = []
        for i, (row, prompt, completion, advantage) in enumerate(
            zip(logs["extra"]["row"], logs["prompt"], logs["completion"], logs["advantages"], strict=True)
        ):
            earned = {name: values[i] for name, values in logs["rewards"].items()}
            rewards = {name: None if math.isnan(value) else value for name, value in earned.items()}
            found.append(
                Rollout(
                    self.samples[row],
                    completion_text(prompt),
                    completion_text(completion),
                    rewards,
                    advantage,
                )
            )
        return found

    def _warn_if_silent(self, metrics: dict[str, list[float]]) -> None:
        """Counts generation batches that teach nothing and warns each time PATIENCE is reached."""
        flat = metrics["frac_reward_zero_std"][-1]
        formatted = metrics["rewards/format/mean"][-1] if "rewards/format/mean" in metrics else 1.0
        self._silent["format"] = self._silent["format"] + 1 if formatted < LOW_FORMAT else 0
        self._silent["flat"] = self._silent["flat"] + 1 if flat > MANY_FLAT_GROUPS else 0
        if self._silent["format"] == PATIENCE:
            logger.warning(
                "format_ok has stayed under %.0f %% for %d generation batches, so almost no rollout can "
                "earn a reward; likely causes: no warm-up before this stage (or too short a one), "
                "max_completion_length %d too small for three segments, a temperature of %.2f too high, "
                "prompt_style `direct`.",
                100 * LOW_FORMAT, PATIENCE, self.max_completion_length, self.temperature,
            )  # fmt: skip
        if self._silent["flat"] == PATIENCE:
            logger.warning(
                "more than %.0f %% of the groups have had rewards without variance for %d generation "
                "batches, so their advantage is 0 and nothing is learned; likely causes: questions too "
                "easy or too hard, num_generations %d too small, a temperature of %.2f too low, rewards "
                "that do not tell these completions apart.",
                100 * MANY_FLAT_GROUPS, PATIENCE, self.num_generations, self.temperature,
            )  # fmt: skip
