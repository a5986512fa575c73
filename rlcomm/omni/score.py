"""Log-probabilities and entropies of completions, with the media in the forward.

Two forms of one computation:
    rows    every completion in a row of its own behind its prompt: the plain reference
    packed  [prompt | c1 | c2 | ...] in one row with a block mask: each prompt and its media are read once
Both go through the (wrapped) model's own forward with TRL's fused head, so no (B, T, V) tensor of logits is
kept and DDP, DeepSpeed and PEFT see an ordinary step.
"""

from typing import Any

import torch

from rlcomm.omni.encode import EncodedPrompt, completion_ids, merge_media, position_dtype
from rlcomm.omni.rollout import base_model, pad_prompts

_IGNORED = -100


def score(
    model: Any,
    prompts: list[EncodedPrompt],
    completions: torch.Tensor,
    mask: torch.Tensor,
    scoring: str = "auto",
    pad_id: int = 0,
    wanted: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of every completion token and entropy (nats) of the distribution it was drawn from.

    Args:
        model: the thinker, wrapped or not, with TRL's fused head (`load_policy` and TRL's trainers add it).
        prompts: B prompts, one per row of `completions`; rows that share a prompt hold the same object.
        completions: token ids (B, C), right-padded.
        mask: (B, C) of 0/1, a prefix of ones in each row.
        scoring: `packed`, `rows`, or `auto`: packed where rows share a prompt.
        pad_id: filler token.
        wanted: (B, C) of 0/1, the tokens to score; None: all of `mask`. The others are read, and cost no
            head.

    Returns:
        log-probs (B, C) and entropies (B, C), float, 0 where nothing was to be scored.
    """
    keep = mask.bool() if wanted is None else mask.bool() & wanted.bool()
    if scoring == "auto":
        scoring = "packed" if len({id(prompt) for prompt in prompts}) < len(prompts) else "rows"
    build = {"packed": _packed, "rows": _rows}[scoring]
    device = completions.device
    inputs, readers, labels, where = build(prompts, completions, mask, keep, pad_id)
    inner = base_model(model.module if hasattr(model, "module") else model)
    allowed = inputs["attention_mask"]
    if allowed.dtype == torch.bool:  # (B, 1, L, L); additive, so that every attention implementation takes it
        lowest = torch.finfo(inner.dtype).min
        inputs["attention_mask"] = torch.zeros_like(allowed, dtype=inner.dtype).masked_fill_(~allowed, lowest)
    outputs = model(
        **inputs,
        **merge_media(readers, device, inner.dtype),
        shift_labels=labels,
        fused_lm_head=True,
        use_cache=False,
    )
    return tuple(
        values.new_zeros(mask.shape).masked_scatter(keep, values.flatten()[where])
        for values in (outputs.log_probs, outputs.entropy)
    )  # type: ignore[return-value]


def _rows(
    prompts: list[EncodedPrompt],
    completions: torch.Tensor,
    mask: torch.Tensor,
    keep: torch.Tensor,
    pad_id: int,
) -> tuple:
    """[pad | prompt | completion | pad], one row per completion, media repeated for each."""
    device = completions.device
    ids, prompt_mask, positions, following = pad_prompts(prompts, pad_id, device)
    continued = following[:, None] + torch.arange(completions.shape[1], device=device)
    inputs = {
        "input_ids": torch.cat([ids, completions], 1),
        "attention_mask": torch.cat([prompt_mask, mask.to(prompt_mask)], 1),
        "position_ids": torch.cat([positions, continued.expand(3, -1, -1)], 2),
    }
    labels = torch.full_like(inputs["input_ids"], _IGNORED)
    labels[:, ids.shape[1] - 1 : -1] = completions.masked_fill(~keep, _IGNORED)
    return inputs, prompts, labels, labels.flatten() != _IGNORED


def _packed(
    prompts: list[EncodedPrompt],
    completions: torch.Tensor,
    mask: torch.Tensor,
    keep: torch.Tensor,
    pad_id: int,
) -> tuple:
    """[prompt without its last token | last, c1 | last, c2 | ...] per distinct prompt.

    The prompt's last token stands once in front of every completion, at its own position, so that each
    completion's first token has its true predecessor beside it. A token attends to the prompt and to its own
    completion only.
    """
    device = completions.device
    groups: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(id(prompt), []).append(row)
    readers = [prompts[rows[0]] for rows in groups.values()]
    lengths = mask.sum(1).tolist()
    longest = max(len(prompts[rows[0]]) - 1 + sum(lengths[row] for row in rows) for rows in groups.values())
    ids = torch.full((len(groups), longest), pad_id, device=device)
    labels = torch.full_like(ids, _IGNORED)
    positions = torch.zeros((3, *ids.shape), dtype=position_dtype(readers), device=device)
    segment = torch.full_like(ids, -1)  # 0: the prompt, k: the k-th completion, -1: padding
    place = torch.zeros_like(
        mask, dtype=torch.long
    )  # where each completion token is predicted, in the flat batch
    for line, rows in enumerate(groups.values()):
        prompt = prompts[rows[0]]
        end = len(prompt) - 1
        ids[line, :end] = prompt.ids[:-1].to(device)
        positions[:, line, :end] = prompt.positions[:, :-1].to(device)
        segment[line, :end] = 0
        for number, row in enumerate(rows, 1):
            length = lengths[row]
            if length == 0:
                continue
            stop = end + length
            ids[line, end] = prompt.ids[-1]
            ids[line, end + 1 : stop] = completions[row, : length - 1]
            labels[line, end:stop] = completions[row, :length].masked_fill(~keep[row, :length], _IGNORED)
            positions[:, line, end] = prompt.positions[:, -1].to(device)
            positions[:, line, end + 1 : stop] = prompt.next_position + torch.arange(
                length - 1, device=device
            )
            segment[line, end:stop] = number
            place[row, :length] = line * longest + torch.arange(end, stop, device=device)
            end = stop
    seen, seer = segment[:, None, :], segment[:, :, None]
    causal = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    allowed = causal & ((seen == seer) | (seen == 0))
    inputs = {
        "input_ids": ids,
        "attention_mask": allowed[:, None],
        "position_ids": positions,
    }
    return inputs, readers, labels, place[keep]


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
    prompts: list[EncodedPrompt],
    candidates: list[list[str]],
    normalise: bool = True,
    scoring: str = "auto",
    prefixes: list[str] | None = None,
) -> list[list[float]]:
    """Log-probability of each candidate answer behind its prompt.

    Args:
        model: thinker with TRL's fused head.
        processor: its processor.
        prompts: B prompts.
        candidates: per prompt, the labels to score.
        normalise: mean over the label's tokens (end of turn included) instead of their sum.
        scoring: see `score`.
        prefixes: per prompt, words of the assistant that precede every candidate (not scored).

    Returns:
        Per prompt, one score (nats, at most 0) per candidate.
    """
    tokenizer = processor.tokenizer
    device = base_model(model).device
    rows, texts, skipped = [], [], []
    for i, (prompt, labels) in enumerate(zip(prompts, candidates, strict=True)):
        prefix = tokenizer(prefixes[i], add_special_tokens=False)["input_ids"] if prefixes else []
        for label in labels:
            rows.append(prompt)
            texts.append(prefix + completion_ids(tokenizer, label))
            skipped.append(len(prefix))
    ids, mask = pad_completions(texts, tokenizer.pad_token_id, device)
    before = torch.tensor(skipped, device=device)
    asked = torch.arange(ids.shape[1], device=device) >= before[:, None]
    logps, _ = score(model, rows, ids, mask, scoring, tokenizer.pad_token_id, asked)
    totals = logps.sum(1)
    if normalise:
        totals = totals / (mask.sum(1) - before)
    values = iter(totals.tolist())
    return [[next(values) for _ in labels] for labels in candidates]
