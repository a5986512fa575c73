"""SFT on clips: TRL's SFTTrainer with rlcomm's one scoring path, so the loss hears what the sampler hears."""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from trl import SFTTrainer

from rlcomm.data.sample import Sample
from rlcomm.omni.encode import conversation_pieces
from rlcomm.omni.prompts import Prompts
from rlcomm.omni.score import score
from rlcomm.trainers.checkpoints import AtomicCheckpoints
from rlcomm.trainers.clips import ClipSampler
from rlcomm.trainers.routers import without_router_loss
from rlcomm.trainers.times import StepTimes
from rlcomm.utils.errors import UserError

_IGNORED = -100


def targets(sample: Sample) -> list[str]:
    """The assistant's words of every turn: the row's own target, or where it has none the gold answer."""
    return [turn.target if turn.target is not None else turn.answer for turn in sample.turns]


class ConversationCollator:
    """Dataset rows `{"row": index}` -> a batch for `OmniSFTTrainer`.

    The batch holds `prompts` (a list of B EncodedPrompts), `completion_ids` (B, C), `completion_mask` (B, C)
    and `labels` (B, C), -100 outside the assistant's words.
    """

    def __init__(self, samples: Sequence[Sample], prompts: Prompts):
        self.samples, self.prompts = samples, prompts

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        encoded, texts, masks = [], [], []
        for row in rows:
            sample = self.samples[row["row"]]
            text, mask = conversation_pieces(
                self.prompts.policy, sample, self.prompts.prompt_style, targets(sample)
            )
            encoded.append(self.prompts(sample))
            texts.append(text)
            masks.append(mask)
        longest = max(map(len, texts))
        pad = self.prompts.policy.processor.tokenizer.pad_token_id
        ids = torch.tensor([text + [pad] * (longest - len(text)) for text in texts])
        spoken = torch.tensor([mask + [0] * (longest - len(mask)) for mask in masks])
        present = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        return {
            "prompts": encoded,
            "completion_ids": ids,
            "completion_mask": present,
            "labels": ids.masked_fill(spoken == 0, _IGNORED),
        }


class OmniSFTTrainer(StepTimes, AtomicCheckpoints, SFTTrainer):
    """Minimises the mean negative log-likelihood of the assistant's tokens, media in the forward.

    Takes TRL's `SFTConfig` with `dataset_kwargs={"skip_prepare_dataset": True}`,
    `remove_unused_columns=False` and `max_length=None` (`rlcomm.config.sft` sets them), and a
    `ConversationCollator`.

    Attributes:
        clips: what tells the clip of each row of the dataset, for rows of one clip side by side; None: the
            order of `train_sampling_strategy`.
    """

    scoring = "auto"
    clips: Sequence[Hashable] | None = None
    model: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        without_router_loss(self)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        if self.clips is None:
            return super()._get_train_sampler(*args, **kwargs)
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return ClipSampler(self.clips, self._train_batch_size, seed, self)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list, Any]:
        try:
            return super().get_batch_samples(*args, **kwargs)
        except UserError as error:
            raise _own_words(error) from None

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        """Tokens with a loss in the accumulation window, over all ranks (our labels are not shifted)."""
        if not batch_samples:
            return None
        count = sum((batch["labels"] != _IGNORED).sum() for batch in batch_samples).to(device)
        return self.accelerator.gather(count).sum() if self.args.average_tokens_across_devices else count

    def compute_loss(
        self,
        model: Any,
        inputs: dict,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        counted = inputs["labels"] != _IGNORED
        with self.spent("score"):
            logps, entropies = score(
                model, inputs["prompts"], inputs["completion_ids"], inputs["completion_mask"], self.scoring,
                self._tokenizer.pad_token_id, counted, work=self.work,
            )  # fmt: skip
        loss = self.token_loss(logps, entropies, counted, inputs, num_items_in_batch)
        mode = "train" if self.model.training else "eval"
        share = counted.sum().clamp(min=1)
        self._metrics[mode]["entropy"].append(((entropies * counted).sum() / share).item())
        if return_outputs:
            return loss, {"logps": logps.detach()}
        return loss

    def token_loss(
        self, logps: torch.Tensor, entropies: torch.Tensor, counted: torch.Tensor, inputs: dict,
        num_items_in_batch: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """-sum log p / number of tokens, over the assistant's tokens.

        Args:
            logps: (B, C), 0 outside the completions.
            entropies: (B, C), nats.
            counted: (B, C) bool, tokens with a loss.
            inputs: the collated batch.
            num_items_in_batch: tokens with a loss over the accumulation window and all ranks; None: this
                batch alone.
        """
        total = counted.sum() if num_items_in_batch is None else num_items_in_batch
        loss = -(logps * counted).sum() / total.clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # DDP averages gradients over ranks
        return loss

    def prediction_step(
        self, model: Any, inputs: dict, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple:
        inputs = self._prepare_inputs(inputs)
        started = self._clock()
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs).detach()
        self.log_times("eval", self._clock() - started)
        return loss, None, None


def _own_words(error: UserError) -> UserError:
    """The sentence of an error that torch's DataLoader brought from a worker, wrapped in a traceback."""
    lines = str(error).strip().splitlines()
    if " in DataLoader worker process " not in lines[0]:
        return error
    kind = type(error)
    return kind(lines[-1].removeprefix(f"{kind.__module__}.{kind.__qualname__}: "))
