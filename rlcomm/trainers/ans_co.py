"""Ans-CO: answer-centred confidence optimisation (RL-CoMM, arXiv 2511.10059).

    L = -(1/T) sum_t log pi(o_t | o_<t, x)  +  lambda * (1/|N|) sum_{t in N} H_t

N = the tokens after </v-think>; H_t = entropy of the next-token distribution. lambda falls to exactly 0 for a
sample whose answer uncertainty u is above the threshold: no confidence is pushed into a guess.
"""

import math
from typing import Any

import torch

from rlcomm import steps
from rlcomm.trainers.sft import OmniSFTTrainer


def answer_masks(tokenizer: Any, ids: list[int]) -> tuple[list[int], list[int]]:
    """Which completion tokens are the answer's.

    Args:
        tokenizer: of the policy.
        ids: completion tokens (T,).

    Returns:
        N (T,): 1 on every token after </v-think> (all 0 where the tag is missing); and the answer's content
        tokens
        (T,): 1 on tokens that carry characters inside <answer>, tags left out.
    """
    lengths = [len(tokenizer.decode(ids[: i + 1], skip_special_tokens=True)) for i in range(len(ids))]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    parsed = steps.parse(text)
    behind, answer = parsed.answer_start, parsed.answer
    after, content = [0] * len(ids), [0] * len(ids)
    start = 0
    for i, end in enumerate(lengths):
        if behind is not None and (
            end > behind or start == end == len(text)
        ):  # the end of turn has no characters
            after[i] = 1
        if answer.found and start < answer.span[1] and end > answer.span[0] and text[start:end].strip():
            content[i] = 1
        start = end
    return after, content


def uncertainty(
    entropies: torch.Tensor, top: torch.Tensor, content: torch.Tensor, unit: str, vocab: int
) -> torch.Tensor:
    """u, the uncertainty of each sample's answer.

    Args:
        entropies: (B, T), nats.
        top: (B, T), probability of each token; used by `1-pmax` only (greedy answers: p = pmax).
        content: (B, T) of 0/1, the answer's content tokens.
        unit: `nats`: mean H; `log10`: mean H / ln 10; `normalised`: mean H / ln V; `1-pmax`: mean of 1 - p.
        vocab: V.

    Returns:
        (B,), 0 where a sample has no answer token.
    """
    values = {
        "nats": entropies,
        "log10": entropies / math.log(10.0),
        "normalised": entropies / math.log(vocab),
        "1-pmax": 1.0 - top,
    }[unit]
    return (values * content).sum(1) / content.sum(1).clamp(min=1)


def ans_co_loss(
    logps: torch.Tensor,
    entropies: torch.Tensor,
    mask: torch.Tensor,
    after: torch.Tensor,
    lambdas: torch.Tensor,
) -> torch.Tensor:
    """The loss above, mean over samples.

    Args:
        logps: log-probabilities of the completion tokens (B, T).
        entropies: (B, T), nats.
        mask: (B, T) of 0/1, completion tokens.
        after: (B, T) of 0/1, the tokens N after </v-think>.
        lambdas: (B,), lambda of each sample, 0 where the gate is closed.

    Returns:
        A scalar.
    """
    likelihood = -(logps * mask).sum(1) / mask.sum(1).clamp(min=1)
    spread = (entropies * after).sum(1) / after.sum(1).clamp(min=1)
    return (likelihood + lambdas * spread).mean()


class AnsCOTrainer(OmniSFTTrainer):
    """Trains on chosen rollouts with the Ans-CO loss.

    Args:
        ansco_lambda: weight of the entropy term.
        ansco_threshold: samples with u above it have lambda 0.
        ansco_uncertainty: unit of u.
        *args, **kwargs: of `OmniSFTTrainer`; the collator is an `AnsCOCollator`.
    """

    def __init__(
        self, *args: Any, ansco_lambda: float, ansco_threshold: float, ansco_uncertainty: str, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        self.ansco_lambda, self.ansco_threshold, self.ansco_uncertainty = (
            ansco_lambda,
            ansco_threshold,
            ansco_uncertainty,
        )

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        """Samples in the whole accumulation window, over all ranks: the loss is a mean over samples."""
        if not batch_samples:
            return None
        count = torch.tensor(sum(len(batch["prompts"]) for batch in batch_samples), device=device)
        return self.accelerator.gather(count).sum() if self.args.average_tokens_across_devices else count

    def token_loss(
        self, logps: torch.Tensor, entropies: torch.Tensor, counted: torch.Tensor, inputs: dict,
        num_items_in_batch: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        after, content = inputs["after"], inputs["content"]
        with torch.no_grad():
            vocab = self.model.config.get_text_config().vocab_size
            u = uncertainty(entropies, logps.exp(), content, self.ansco_uncertainty, vocab)
            lambdas = torch.where(u > self.ansco_threshold, 0.0, self.ansco_lambda)
        mode = "train" if self.model.training else "eval"
        spread = (entropies * after).sum(1) / after.sum(1).clamp(min=1)
        for name, value in (
            ("ansco/lambda", lambdas.mean()),
            ("ansco/gate_rate", (u > self.ansco_threshold).float().mean()),
            ("ansco/uncertainty", u.mean()),
            ("ansco/answer_entropy", spread.detach().mean()),
        ):
            self._metrics[mode][name].append(value.item())
        loss = ans_co_loss(logps, entropies, counted, after, lambdas)
        if num_items_in_batch is not None:  # mean over the window instead of over this micro-batch
            loss = loss * len(logps) / num_items_in_batch
            if self.args.average_tokens_across_devices:
                loss = loss * self.accelerator.num_processes
        return loss


class AnsCOCollator:
    """Rows `{"row": index}` -> the batch of `ConversationCollator` plus `after` and `content`.

    Args:
        chosen: (sample, completion ids) pairs.
        prompts: makes encoded prompts.
    """

    def __init__(self, chosen: list[tuple[Any, list[int]]], prompts: Any):
        self.chosen, self.prompts = chosen, prompts

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        tokenizer = self.prompts.policy.processor.tokenizer
        picked = [self.chosen[row["row"]] for row in rows]
        masks = [answer_masks(tokenizer, ids) for _, ids in picked]
        longest = max(len(ids) for _, ids in picked)

        def padded(values: list[int], fill: int) -> list[int]:
            return values + [fill] * (longest - len(values))

        ids = torch.tensor([padded(ids, tokenizer.pad_token_id) for _, ids in picked])
        mask = torch.tensor([padded([1] * len(ids), 0) for _, ids in picked])
        return {
            "prompts": [self.prompts(sample) for sample, _ in picked],
            "completion_ids": ids,
            "completion_mask": mask,
            "labels": ids.masked_fill(mask == 0, -100),
            "after": torch.tensor([padded(after, 0) for after, _ in masks]),
            "content": torch.tensor([padded(content, 0) for _, content in masks]),
        }
