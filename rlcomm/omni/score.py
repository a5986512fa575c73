"""Log-probabilities and entropies of completions, with the media in the forward.

Two forms of one computation:
    rows     every completion in a row of its own behind its prompt: the plain reference
    grouped  all prompts and completions in one row, what is shared once (`omni.layout`, `omni.grouped`)
Both go through the (wrapped) model's own forward with TRL's fused head, so no (B, T, V) tensor of logits is
kept and DDP, DeepSpeed and PEFT see an ordinary step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rlcomm.omni import grouped
from rlcomm.omni.encode import EncodedPrompt, extend, merge_media
from rlcomm.omni.labels import label_ids
from rlcomm.omni.layout import Family, find_families, lay_out
from rlcomm.omni.policy import base_model
from rlcomm.omni.rows import pad_prompts
from rlcomm.utils.errors import UserError

IGNORED = -100  # a label that is not asked for


@dataclass
class Work:
    """What scoring had to read.

    Attributes:
        tokens: of prompts and completions, a prompt once for each of its completions.
        read: tokens that were in fact put through the model.
        places: those and the filler beside them.
        starts: of the last call, where in all its rows behind each other the first token of each completion
            is predicted, (B,): there stands the last token of its prompt.
    """

    tokens: int = 0
    read: int = 0
    places: int = 0
    starts: torch.Tensor | None = None

    @property
    def padding(self) -> float:
        """Share of filler, in [0, 1)."""
        return 1 - self.read / self.places if self.places else 0.0


def score(
    model: Any,
    prompts: list[EncodedPrompt],
    completions: torch.Tensor,
    mask: torch.Tensor,
    scoring: str = "auto",
    pad_id: int = 0,
    wanted: torch.Tensor | None = None,
    work: Work | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of every completion token and entropy (nats) of the distribution it was drawn from.

    Args:
        model: the thinker, wrapped or not, with TRL's fused head (`load_policy` and TRL's trainers add it).
        prompts: B prompts, one per row of `completions`; rows that share a prompt hold the same object, and
            those of one clip the same media tensors.
        completions: token ids (B, C), right-padded.
        mask: (B, C) of 0/1, a prefix of ones in each row.
        scoring: `grouped`, `rows`, or `auto`: the one of `form` for what the batch holds.
        pad_id: filler token.
        wanted: (B, C) of 0/1, the tokens to score; None: all of `mask`. The others are read, and cost no
            head.
        work: what is read here is added to it.

    Returns:
        log-probs (B, C) and entropies (B, C), float, 0 where nothing was to be scored.

    Raises:
        UserError: the model cannot attend as `scoring` needs it to.
    """
    keep = mask.bool() if wanted is None else mask.bool() & wanted.bool()
    inner = base_model(model.module if hasattr(model, "module") else model)
    families = find_families(prompts, inner.config)
    if _chosen(scoring, inner.config.get_text_config(), families, len(prompts)) == "grouped":
        grouped.enable(inner)
        inputs, readers, starts = _grouped(prompts, families, completions, mask)
    else:
        inputs, readers, starts = _rows(prompts, completions, mask, pad_id)
    where = (starts[:, None] + torch.arange(mask.shape[1])).to(keep.device)[keep]
    labels = torch.full_like(inputs["input_ids"], IGNORED)
    labels.view(-1)[where] = completions[keep]
    if work is not None:
        tokens = sum(map(len, prompts)) + int(mask.sum())
        work.tokens += tokens
        work.places += labels.numel()
        work.starts = starts
        work.read += labels.numel() if grouped.ARGUMENT in inputs else tokens
    outputs = model(
        **inputs,
        **merge_media(readers, completions.device, inner.dtype),
        shift_labels=labels,
        fused_lm_head=True,
        use_cache=False,
    )
    if grouped.ARGUMENT in inputs and not inputs[grouped.ARGUMENT].used:
        raise RuntimeError("the groups were lost on their way to the decoder's attention")
    return tuple(
        values.new_zeros(mask.shape).masked_scatter(keep, values.flatten()[where])
        for values in (outputs.log_probs, outputs.entropy)
    )  # type: ignore[return-value]


def form(group: float) -> str:
    """The cheapest form for prompts with G completions each.

    Without a second completion nothing is shared, and `rows`, a plain batch, is as good. With one, `grouped`
    was the cheapest at every length of prompts (P) and completions (C) measured, so that lengths do not
    matter. Scoring and backward, the time of `rows` over that of `grouped`, and beside it the ratio of their
    tokens, (P + C) G / (P + G C); one decoder layer of 0.8 or 1.8 M parameters, completions of one length,
    CPU time of one thread on a machine that was not idle, medians of three interleaved rounds:

        P, C, G          times rows  tokens        P, C, G          times rows  tokens
        64, 16, 2             1.58     1.67        512, 16, 2            1.83     1.94
        64, 16, 8             2.68     3.33        512, 16, 16           10.9     11.0
        64, 64, 2             1.08     1.33        512, 128, 8           3.35     3.33
        64, 64, 8             1.62     1.78        512, 256, 2           1.21     1.50
        64, 256, 2            1.16     1.11        1536, 64, 8           6.12     6.25
        64, 256, 16           1.08     1.23        2048, 16, 2           2.13     1.98

    On a GPU nothing has been measured.

    Args:
        group: G, completions of a prompt, mean over the prompts.

    Returns:
        `grouped` or `rows`.
    """
    return "grouped" if group > 1 else "rows"


def _chosen(scoring: str, config: Any, families: Sequence[Family], rows: int) -> str:
    """`grouped` or `rows`: what `scoring` comes to for so many rows and a decoder of this configuration."""
    refusal = grouped.refusal(config)
    if scoring == "auto":
        return "rows" if refusal is not None else form(rows / len(families))
    if scoring == "grouped" and refusal is not None:
        raise UserError(f"scoring is grouped, but {refusal}; leave scoring at auto.")
    return scoring


def _rows(
    prompts: list[EncodedPrompt], completions: torch.Tensor, mask: torch.Tensor, pad_id: int
) -> tuple[dict[str, Any], list[EncodedPrompt], torch.Tensor]:
    """[pad | prompt | completion | pad], one row per completion, media repeated for each.

    Returns:
        The model's arguments, the prompts whose media it reads, and where in all the rows behind each other
        the first token of each completion is predicted (B,).
    """
    ids, prompt_mask, positions, following = pad_prompts(prompts, pad_id, completions.device)
    longest = int(mask.sum(1).max())
    within = torch.arange(longest, device=completions.device)
    inputs = {
        "input_ids": torch.cat([ids, completions[:, :longest]], 1),
        "attention_mask": torch.cat([prompt_mask, mask[:, :longest].to(prompt_mask)], 1),
        "position_ids": torch.cat([positions, (following[:, None] + within).expand(3, -1, -1)], 2),
    }
    starts = torch.arange(len(prompts)) * inputs["input_ids"].shape[1] + ids.shape[1] - 1
    return inputs, prompts, starts


def _grouped(
    prompts: list[EncodedPrompt], families: Sequence[Family], completions: torch.Tensor, mask: torch.Tensor
) -> tuple[dict[str, Any], list[EncodedPrompt], torch.Tensor]:
    """Everything in one row; returns as `_rows`."""
    device = completions.device
    texts = [ids[:length] for ids, length in zip(completions.cpu(), mask.sum(1).tolist(), strict=True)]
    row = lay_out(prompts, texts, families, device)
    inputs = {
        "input_ids": row.ids[None].to(device),
        "position_ids": row.positions[:, None].to(device),
        **grouped.inputs(row.groups),
    }
    return inputs, row.readers, row.starts


def pad_completions(
    completions: list[list[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-pads token lists: ids (B, C) and mask (B, C) of 0/1."""
    longest = max(len(c) for c in completions)
    ids = torch.tensor([c + [pad_id] * (longest - len(c)) for c in completions], device=device)
    return ids, torch.tensor([[1] * len(c) + [0] * (longest - len(c)) for c in completions], device=device)


@torch.no_grad()
def candidate_scores(
    model: Any,
    processor: Any,
    prompts: Sequence[EncodedPrompt],
    candidates: Sequence[Sequence[str]],
    normalise: bool = True,
    scoring: str = "auto",
    prefixes: Sequence[str] | None = None,
    closing: str | None = None,
    work: Work | None = None,
) -> list[list[float]]:
    """Log-probability of each candidate answer behind its prompt, by the tokens of `label_ids`.

    Args:
        model: thinker with TRL's fused head.
        processor: its processor.
        prompts: B prompts; the media of those that share them (`encode.reword`) are read once.
        candidates: per prompt, the labels to score.
        normalise: mean over the label's tokens instead of their sum.
        scoring: see `score`.
        prefixes: per prompt, words of the assistant that precede every candidate (not scored).
        closing: what would follow every candidate; None: the end of the turn.
        work: see `score`; its rows are the candidates of all prompts in order.

    Returns:
        Per prompt, one score (nats, at most 0) per candidate.
    """
    tokenizer = processor.tokenizer
    if prefixes is not None:
        words = (tokenizer(prefix, add_special_tokens=False)["input_ids"] for prefix in prefixes)
        prompts = [extend(prompt, ids) for prompt, ids in zip(prompts, words, strict=True)]
    rows, texts = [], []
    for prompt, labels in zip(prompts, candidates, strict=True):
        rows += [prompt] * len(labels)
        texts += label_ids(tokenizer, labels, closing)
    ids, mask = pad_completions(texts, tokenizer.pad_token_id, base_model(model).device)
    totals = score(model, rows, ids, mask, scoring, tokenizer.pad_token_id, work=work)[0].sum(1)
    values = iter((totals / mask.sum(1) if normalise else totals).tolist())
    return [[next(values) for _ in labels] for labels in candidates]


def branch_scores(
    model: Any,
    processor: Any,
    items: Sequence[Sequence[EncodedPrompt]],
    candidates: Sequence[Sequence[str]],
    normalise: bool = True,
) -> list[list[list[float]]]:
    """`candidate_scores` of several branches an item, all in one forward.

    Args:
        model: as there, as the other arguments.
        processor: likewise.
        items: per item the prompts of its branches.
        candidates: per item the labels.
        normalise: as there.

    Returns:
        Per item, per branch, one score (nats, at most 0) per candidate.
    """
    prompts = [prompt for branches in items for prompt in branches]
    labels = [labels for branches, labels in zip(items, candidates, strict=True) for _ in branches]
    scores = iter(candidate_scores(model, processor, prompts, labels, normalise))
    return [[next(scores) for _ in branches] for branches in items]
