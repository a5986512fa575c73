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

from rlcomm.errors import UserError
from rlcomm.omni import grouped
from rlcomm.omni.encode import EncodedPrompt, completion_ids, merge_media, position_dtype
from rlcomm.omni.rollout import base_model, pad_prompts

SCORINGS = ("auto", "grouped", "packed", "rows")
_IGNORED = -100


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


@dataclass
class Family:
    """Rows of a batch that begin alike and are read as one.

    Attributes:
        prefix: tokens that their prompts share, all media among them.
        rows: their numbers.
    """

    prefix: int
    rows: list[int]


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
        UserError: `scoring` is `grouped` and the model cannot attend so.
    """
    keep = mask.bool() if wanted is None else mask.bool() & wanted.bool()
    inner = base_model(model.module if hasattr(model, "module") else model)
    lengths = mask.sum(1).tolist()
    families = _families(prompts, inner.config)
    text_config = inner.config.get_text_config()
    if scoring == "auto":
        scoring = _chosen(text_config, families, lengths)
    if scoring == "grouped":
        if (why := grouped.refusal(text_config)) is not None:
            raise UserError(f"scoring is grouped, but {why}, or scoring to packed or rows.")
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


def form(prompt: float, completion: float, group: float) -> str:
    """The cheapest form for prompts of P tokens with G completions of C tokens each.

    Args:
        prompt: P, tokens of a prompt, mean over the prompts.
        completion: C, tokens of a completion, mean over the completions.
        group: G, completions of a prompt, mean over the prompts.

    Returns:
        `grouped` or `rows`.
    """
    return "grouped" if group > 1 else "rows"


def _chosen(config: Any, families: list[Family], lengths: list[int]) -> str:
    """What `auto` stands for in this batch with a decoder of this configuration."""
    count = len(families)
    best = form(
        sum(one.prefix for one in families) / count, sum(lengths) / len(lengths), len(lengths) / count
    )
    if best == "rows" or grouped.refusal(config) is None:
        return best
    # A block mask is exact where the kernel takes a mask and every layer sees everything.
    sees_all = "sliding_attention" not in (getattr(config, "layer_types", None) or ())
    return "packed" if config._attn_implementation == "eager" and sees_all else "rows"


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
    labels = torch.full_like(inputs["input_ids"], _IGNORED)
    labels[:, ids.shape[1] - 1 : -1] = completions.masked_fill(~keep, _IGNORED)
    return inputs, prompts, labels, labels.flatten() != _IGNORED, sum(map(len, prompts)) + sum(lengths)


def _families(prompts: list[EncodedPrompt], config: Any) -> list[Family]:
    """Rows with one prompt (the same object), or with one clip (the same tensors) where that reads less.

    Prompts of one clip share everything up to where their words part; the words behind that stand before each
    completion, so that sharing does not pay where they are longer than the clip.
    """
    own: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        own.setdefault(id(prompt), []).append(row)
    clips: dict[tuple, list[list[int]]] = {}
    for rows in own.values():
        media = prompts[rows[0]].media
        same = tuple(sorted((name, id(tensor)) for name, tensor in media.items()))
        clips.setdefault(same or ("no clip", rows[0]), []).append(rows)
    placeholders = torch.tensor([config.audio_token_id, config.image_token_id, config.video_token_id])
    found = []
    for apart in clips.values():
        alone = [Family(len(prompts[rows[0]]), rows) for rows in apart]
        if len(apart) > 1:
            read = [prompts[rows[0]] for rows in apart]
            prefix = _common(read)
            behind = sum((len(p) - prefix + 1) * len(rows) for p, rows in zip(read, apart, strict=True))
            cost = sum(len(prompt) - 1 + len(rows) for prompt, rows in zip(read, apart, strict=True))
            media = any(torch.isin(prompt.ids[prefix - 1 :], placeholders).any() for prompt in read)
            if prefix > 0 and prefix - 1 + behind < cost and not media:
                alone = [Family(prefix, [row for rows in apart for row in rows])]
        found += alone
    return found


def _common(prompts: list[EncodedPrompt]) -> int:
    """Tokens with which all of these begin, at the same positions."""
    shortest = min(map(len, prompts))
    first = prompts[0]
    same = torch.ones(shortest, dtype=torch.bool)
    for prompt in prompts[1:]:
        same &= prompt.ids[:shortest] == first.ids[:shortest]
        same &= (prompt.positions[:, :shortest] == first.positions[:, :shortest]).all(0)
    return int(same.long().cumprod(0).sum())


class _Line:
    """[shared prefix | rest of prompt, c1 | rest of prompt, c2 | ...] of one family.

    The last token of what is shared stands once in front of every completion, at its own position, so that
    each completion's first token has its true predecessor beside it.

    Attributes:
        prompt: whose media are read.
        prefix: tokens of the shared prefix in the line.
        rows: of the batch, those with at least one token.
        sizes: tokens of each row's piece.
        lengths: of their completions, which end the pieces.
        ids: (L,).
        positions: (3, L).
        labels: (L,), what each place predicts.
    """

    def __init__(
        self, family: Family, prompts: list[EncodedPrompt], completions: torch.Tensor, lengths: list[int],
        keep: torch.Tensor,
    ):  # fmt: skip
        device = completions.device
        self.prompt, self.prefix = prompts[family.rows[0]], family.prefix - 1
        self.rows = [row for row in family.rows if lengths[row]]
        self.lengths = [lengths[row] for row in self.rows]
        self.sizes = []
        tokens = [self.prompt.ids[: self.prefix].to(device)]
        places = [self.prompt.positions[:, : self.prefix].to(device)]
        labels = [torch.full_like(tokens[0], _IGNORED)]
        for row, length in zip(self.rows, self.lengths, strict=True):
            prompt = prompts[row]
            rest = prompt.ids[self.prefix :].to(device)
            behind = prompt.next_position + torch.arange(length - 1, device=device)
            tokens += [rest, completions[row, : length - 1]]
            places += [
                prompt.positions[:, self.prefix :].to(device),
                behind.to(prompt.positions.dtype).expand(3, -1),
            ]
            labels += [
                torch.full_like(rest[1:], _IGNORED),
                completions[row, :length].masked_fill(~keep[row, :length], _IGNORED),
            ]
            self.sizes.append(len(rest) + length - 1)
        self.ids, self.labels = torch.cat(tokens), torch.cat(labels)
        self.positions = torch.cat(places, 1)

    def __len__(self) -> int:
        return len(self.ids)


def _places(lines: list[_Line], starts: list[int], keep: torch.Tensor) -> torch.Tensor:
    """Where each wanted completion token (in the order of `keep`) is predicted, in the flat batch."""
    place = torch.zeros(keep.shape, dtype=torch.long)
    for line, start in zip(lines, starts, strict=True):
        end = start + line.prefix
        for row, length, size in zip(line.rows, line.lengths, line.sizes, strict=True):
            end += size
            place[row, :length] = torch.arange(end - length, end)
    return place.to(keep.device)[keep]


def _packed(
    prompts: list[EncodedPrompt], families: list[Family], completions: torch.Tensor, lengths: list[int],
    keep: torch.Tensor, pad_id: int,
) -> tuple:  # fmt: skip
    """A row per line. A token attends to the prompt and to its own completion only."""
    lines = [_Line(family, prompts, completions, lengths, keep) for family in families]
    longest = max(map(len, lines))
    device = completions.device
    ids = torch.full((len(lines), longest), pad_id, device=device)
    labels = torch.full_like(ids, _IGNORED)
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
    return inputs, [line.prompt for line in lines], labels, _places(lines, starts, keep), sum(map(len, lines))


def _grouped(
    prompts: list[EncodedPrompt], families: list[Family], completions: torch.Tensor, lengths: list[int],
    keep: torch.Tensor, pad_id: int,
) -> tuple:  # fmt: skip
    """All lines in one row; who attends to whom is said by their lengths."""
    lines = [_Line(family, prompts, completions, lengths, keep) for family in families]
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
    return inputs, [line.prompt for line in lines], labels, _places(lines, starts, keep), sum(map(len, lines))


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
