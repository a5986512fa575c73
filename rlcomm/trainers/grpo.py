"""GRPO on clips: TRL's GRPOTrainer, with the sound in the rollout and in the loss.

TRL's own trainer gives audio to the sampler but not to the log-probabilities, silently. Here a batch carries
a Python list of encoded prompts (one per completion, the same object within a group), which survives TRL's
shuffle and split, and both the sampler and the scorer read their inputs from it. Everything else (groups,
advantages, clipping, logging) is TRL's.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import GRPOTrainer
from trl.models.utils import unwrap_model_for_generation

from rlcomm.data.sample import Sample
from rlcomm.omni.encode import EncodedPrompt
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.score import score
from rlcomm.rewards.adapters import completion_text
from rlcomm.trainers.checkpoints import AtomicCheckpoints

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


class OrderOfEpoch(Sampler):
    """TRL's sampler, whose order of an epoch is the same in a resumed run.

    TRL's own draws one order after the other; a process that resumes in the third epoch would draw the first
    one again, and see some rows twice and others never.

    Args:
        sampler: TRL's RepeatSampler.
        trainer: whose `state.epoch` says how far the run is.
    """

    def __init__(self, sampler: Any, trainer: Any):
        self.sampler, self.trainer = sampler, trainer

    def __iter__(self) -> Iterator[int]:
        if self.sampler.shuffle:
            self.sampler.generator.manual_seed(self.sampler.seed)
            for _ in range(int((self.trainer.state.epoch or 0) + 1e-6)):  # those of the epochs before
                torch.randperm(self.sampler.num_samples, generator=self.sampler.generator)
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)


class OmniGRPOTrainer(AtomicCheckpoints, GRPOTrainer):
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
        scoring: `auto`, `packed` or `rows` (see `rlcomm.omni.score`).
        observe: the latest generation to further metrics; called on the main process alone.
        *args, **kwargs: TRL's.
    """

    model: Any
    args: Any
    data_collator: Any
    max_completion_length: int
    _signature_columns: Any
    _logs: Any

    def __init__(
        self,
        *args: Any,
        samples: Sequence[Sample],
        prompts: Prompts,
        scoring: str = "auto",
        observe: Callable[[list["Rollout"]], dict[str, float]] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.samples, self.prompts, self.scoring, self.observe = samples, prompts, scoring, observe
        # Fetching rows, which are numbers, needs no worker; in one, nothing could be announced to `prompts`.
        self.args.dataloader_num_workers, self.args.dataloader_prefetch_factor = 0, None
        self.args.dataloader_persistent_workers = False
        self.data_collator = self._announce
        self._announced: list[int] = []
        self._encoded: list[EncodedPrompt] = []  # of the rows at work, one per completion
        self._seconds: dict[str, float] = {}
        self._silent = {"format": 0, "flat": 0}

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            self._signature_columns = ["prompt", "row"]

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> OrderOfEpoch:
        return OrderOfEpoch(super()._get_train_sampler(*args, **kwargs), self)

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
        asked = time.perf_counter()
        self._encoded = [self.prompts(row["sample"]) for row in inputs]
        self._log_completion_extra("row", [row["row"] for row in inputs])  # gathered with the completions
        started = time.perf_counter()
        output = super()._generate_and_score_completions(inputs)
        mode = "train" if self.model.training else "eval"
        metrics = self._metrics[mode]
        metrics["time/prompts"].append(started - asked)
        metrics["time/rollout"].append(self._seconds.pop("rollout", 0.0))
        metrics["time/rewards"].append(self._seconds.pop("rewards", 0.0))
        metrics["time/generation_batch"].append(time.perf_counter() - started)
        if "rewards/format/mean" in metrics:
            metrics["steps/format_ok"].append(metrics["rewards/format/mean"][-1])
        if self.observe is not None and self.accelerator.is_main_process:  # which alone logs
            for name, value in self.observe(self.rollouts()).items():
                metrics[name].append(value)
        if mode == "train" and self.accelerator.is_main_process:
            self._warn_if_silent(metrics)
        output["encoded"] = self._encoded
        return output

    def _calculate_rewards(self, *args: Any) -> torch.Tensor:
        started = time.perf_counter()
        rewards = super()._calculate_rewards(*args)
        self._seconds["rewards"] = time.perf_counter() - started
        return rewards

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
        started = time.perf_counter()
        completions: list[list[int]] = [[] for _ in self._encoded]
        with unwrap_model_for_generation(
            self.model_wrapped, self.accelerator, gather_deepspeed3_params=self.args.ds3_gather_for_generation
        ) as model:
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
        self._seconds["rollout"] = time.perf_counter() - started
        return completions, None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, compute_aux_loss: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:  # fmt: skip
        started = time.perf_counter()
        logps, entropies = [], []
        size = batch_size or len(input_ids)
        with self.accelerator.autocast():
            for start in range(0, len(input_ids), size):
                part = slice(start, start + size)
                some, uncertain = score(
                    model, self._encoded[part], input_ids[part, -logits_to_keep:],
                    attention_mask[part, -logits_to_keep:], self.scoring, self._tokenizer.pad_token_id,
                )  # fmt: skip
                logps.append(some)
                entropies.append(uncertain)
        self._metrics["train" if self.model.training else "eval"]["time/score"].append(
            time.perf_counter() - started
        )
        return torch.cat(logps), torch.cat(entropies), None

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
