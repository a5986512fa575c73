"""Log-probabilities and entropies of completions, with the media in the forward.

Three forms of one computation:
    rows     every completion in a row of its own behind its prompt: the plain reference
    packed   [prompt | c1 | c2 | ...] in a row per prompt, with a block mask: prompt and media are read once
    grouped  [prompt | c1 | c2 | ... | next prompt | ...] in one row, without a mask (`rlcomm.omni.grouped`)
All go through the (wrapped) model's own forward with TRL's fused head, so no (B, T, V) tensor of logits is
kept and DDP, DeepSpeed and PEFT see an ordinary step.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch

from rlcomm.omni import grouped
from rlcomm.omni.encode import EncodedPrompt, merge_media, position_dtype
from rlcomm.omni.labels import label_ids
from rlcomm.omni.lines import IGNORED, Family, Line, find_families, places
from rlcomm.omni.rollout import base_model, pad_prompts
from rlcomm.utils.errors import UserError


@dataclass
class Work:
    """What scoring had to read.

    Attributes:
        tokens: of prompts and completions, a prompt once for each of its completions.
        read: tokens that were in fact put through the model.
        places: those and the filler beside them.
    """

    tokens: int = 0
    read: int = 0
    places: int = 0

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
        scoring: `grouped`, `packed`, `rows`, or `auto`: the one of `form` for what the batch holds.
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
    lengths = mask.sum(1).tolist()
    families = find_families(prompts, inner.config)
    text_config = inner.config.get_text_config()
    if scoring == "auto":
        scoring = _chosen(text_config, families, len(lengths))
    if (why := refusal(scoring, text_config)) is not None:
        raise UserError(f"scoring is {scoring}, but {why}; leave scoring at auto.")
    if scoring == "grouped":
        grouped.enable(inner)
    build = {"grouped": _grouped, "packed": _packed, "rows": _rows}[scoring]
    device = completions.device
    inputs, readers, labels, where, read = build(prompts, families, completions, lengths, keep, pad_id)
    if work is not None:
        work.tokens += sum(map(len, prompts)) + sum(lengths)
        work.places += labels.numel()
        work.read += read
    allowed = inputs.get("attention_mask")
    if allowed is not None and allowed.dtype == torch.bool:
        # (B, 1, L, L); additive, so that every attention implementation takes it
        lowest = torch.finfo(inner.dtype).min
        inputs["attention_mask"] = torch.zeros_like(allowed, dtype=inner.dtype).masked_fill_(~allowed, lowest)
    outputs = model(
        **inputs,
        **merge_media(readers, device, inner.dtype),
        shift_labels=labels,
        fused_lm_head=True,
        use_cache=False,
    )
    if scoring == "grouped" and not inputs[grouped.ARGUMENT].used:
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
        64, 64, 2             1.08     1.33        512, 128, 8           3.35     3.33   (packed: 2.31)
        64, 64, 8             1.62     1.78        512, 256, 2           1.21     1.50
        64, 256, 2            1.16     1.11        1536, 64, 8           6.12     6.25   (packed: 4.57)
        64, 256, 16           1.08     1.23        2048, 16, 2           2.13     1.98

    On a GPU nothing has been measured.

    Args:
        group: G, completions of a prompt, mean over the prompts.

    Returns:
        `grouped` or `rows`.
    """
    return "grouped" if group > 1 else "rows"


def _chosen(config: Any, families: list[Family], rows: int) -> str:
    """What `auto` stands for in this batch with a decoder of this configuration."""
    if form(rows / len(families)) == "rows":
        return "rows"
    return next(name for name in ("grouped", "packed", "rows") if refusal(name, config) is None)


def refusal(scoring: str, config: Any) -> str | None:
    """Why a decoder cannot attend as a form of scoring needs it to, as part of a sentence; None: it can.

    Args:
        scoring: `grouped`, `packed` or `rows`.
        config: of the decoder.
    """
    if scoring == "rows":
        return None
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "the model has sliding-window layers, whose windows would end at the wrong token"
    name = config._attn_implementation
    if name in ("sdpa", grouped.ATTENTION) or (scoring, name) == ("packed", "eager"):
        return None
    takes = "does not know groups" if scoring == "grouped" else "takes no mask of who attends to whom"
    return f"attn_implementation is {name!r}, whose kernel {takes} (that of sdpa does)"


def _rows(
    prompts: list[EncodedPrompt], families: list[Family], completions: torch.Tensor, lengths: list[int],
    keep: torch.Tensor, pad_id: int,
) -> tuple:  # fmt: skip
    """[pad | prompt | completion | pad], one row per completion, media repeated for each."""
    device = completions.device
    ids, prompt_mask, positions, following = pad_prompts(prompts, pad_id, device)
    longest = max(lengths)
    completions, keep = completions[:, :longest], keep[:, :longest]
    within = torch.arange(longest, device=device)
    present = within < torch.tensor(lengths, device=device)[:, None]
    inputs = {
        "input_ids": torch.cat([ids, completions], 1),
        "attention_mask": torch.cat([prompt_mask, present.to(prompt_mask)], 1),
        "position_ids": torch.cat([positions, (following[:, None] + within).expand(3, -1, -1)], 2),
    }
    labels = torch.full_like(inputs["input_ids"], IGNORED)
    labels[:, ids.shape[1] - 1 : -1] = completions.masked_fill(~keep, IGNORED)
    return inputs, prompts, labels, labels.flatten() != IGNORED, sum(map(len, prompts)) + sum(lengths)


def _packed(
    prompts: list[EncodedPrompt], families: list[Family], completions: torch.Tensor, lengths: list[int],
    keep: torch.Tensor, pad_id: int,
) -> tuple:  # fmt: skip
    """A row per line. A token attends to the prompt and to its own completion only."""
    lines = [Line(family, prompts, completions, lengths, keep) for family in families]
    longest = max(map(len, lines))
    device = completions.device
    ids = torch.full((len(lines), longest), pad_id, device=device)
    labels = torch.full_like(ids, IGNORED)
    positions = torch.zeros((3, *ids.shape), dtype=position_dtype(prompts), device=device)
    segment = torch.full_like(ids, -1)  # 0: the prompt, k: the k-th completion, -1: padding
    for number, line in enumerate(lines):
        ids[number, : len(line)], labels[number, : len(line)] = line.ids, line.labels
        positions[:, number, : len(line)] = line.positions
        sizes = torch.tensor([line.prefix, *line.sizes])
        segment[number, : len(line)] = torch.arange(len(sizes)).repeat_interleave(sizes).to(device)
    seen, seer = segment[:, None, :], segment[:, :, None]
    causal = torch.ones(longest, longest, dtype=torch.bool, device=device).tril()
    allowed = causal & ((seen == seer) | (seen == 0))
    inputs = {"input_ids": ids, "attention_mask": allowed[:, None], "position_ids": positions}
    starts = [number * longest for number in range(len(lines))]
    return inputs, [line.prompt for line in lines], labels, places(lines, starts, keep), sum(map(len, lines))


def _grouped(
    prompts: list[EncodedPrompt], families: list[Family], completions: torch.Tensor, lengths: list[int],
    keep: torch.Tensor, pad_id: int,
) -> tuple:  # fmt: skip
    """All lines in one row; who attends to whom is said by their lengths."""
    lines = [Line(family, prompts, completions, lengths, keep) for family in families]
    starts = [0, *itertools.accumulate(map(len, lines))][:-1]
    inputs = {
        "input_ids": torch.cat([line.ids for line in lines])[None],
        "position_ids": torch.cat([line.positions.to(position_dtype(prompts)) for line in lines], 1)[:, None],
        grouped.ARGUMENT: grouped.Groups(
            [
                grouped.group(start, line.prefix, line.sizes, completions.device)
                for start, line in zip(starts, lines, strict=True)
            ]
        ),
    }
    labels = torch.cat([line.labels for line in lines])[None]
    return inputs, [line.prompt for line in lines], labels, places(lines, starts, keep), sum(map(len, lines))


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
    closing: str | None = None,
) -> list[list[float]]:
    """Log-probability of each candidate answer behind its prompt, by the tokens of `label_ids`.

    Args:
        model: thinker with TRL's fused head.
        processor: its processor.
        prompts: B prompts.
        candidates: per prompt, the labels to score.
        normalise: mean over the label's tokens instead of their sum.
        scoring: see `score`.
        prefixes: per prompt, words of the assistant that precede every candidate (not scored).
        closing: what would follow every candidate; None: the end of the turn.

    Returns:
        Per prompt, one score (nats, at most 0) per candidate.
    """
    tokenizer = processor.tokenizer
    device = base_model(model).device
    rows, texts, skipped = [], [], []
    for i, (prompt, labels) in enumerate(zip(prompts, candidates, strict=True)):
        prefix = tokenizer(prefixes[i], add_special_tokens=False)["input_ids"] if prefixes else []
        for label in label_ids(tokenizer, labels, closing):
            rows.append(prompt)
            texts.append(prefix + label)
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
