"""Grouped attention: each prompt attends to itself once, its completions to [the prompt; themselves].

    one row     p p p p p | a a a | b b      q q q | c c c c | d        no filler, no mask
    prefixes    p's and q's: plain causal attention, each by itself
    groups      a, b as a batch of two, causal, behind the keys of p; c, d likewise behind those of q

All other layers work token by token, so that one row of everything costs exactly its tokens. The split is
made where the tokens meet: in an attention function of transformers' interface, which the decoder alone is
given (the towers keep theirs) and which without groups is SDPA as before. The layout goes there as an
argument of the wrapped model's own forward, so that gradient checkpointing, PEFT, DDP and DeepSpeed see an
ordinary step. No (completions x completions) part exists, and no mask but one completion's.

On a GPU, where nothing has been measured yet, SDPA does this too: FlexAttention would have to be compiled,
and whether that pays is not known.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "rlcomm_grouped"  # the name in transformers' interface
ARGUMENT = "prefix_groups"  # the argument of the model's forward that carries the layout


@dataclass(frozen=True)
class Group:
    """One prompt with its completions in the row.

    Attributes:
        start: where the prompt begins.
        split: where its completions begin.
        stop: where they end.
        count: how many they are, N.
        longest: tokens of the longest, C.
        gather: (N * C,) places behind `split` of each completion's tokens, filled up with its last; None
            where all are equally long.
        scatter: (stop - split,) where each token stands in that; None likewise.
    """

    start: int
    split: int
    stop: int
    count: int
    longest: int
    gather: torch.Tensor | None
    scatter: torch.Tensor | None


@dataclass
class Groups:
    """The layout of one row.

    Attributes:
        groups: one per prompt, in order; together they are the whole row.
        used: how many layers have attended by it: 0 after a forward means that something lost it on its way.
        masks: what `mask` has made, for the layers that come after.
    """

    groups: list[Group] = field(default_factory=list)
    used: int = 0
    masks: dict[tuple, torch.Tensor] = field(default_factory=dict)

    def mask(self, number: int, shared: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """What the completions of a group attend to, made once for all layers, forward and backward.

        Args:
            number: of the group, which has N completions of at most C tokens behind P.
            shared: query heads of a key head, whose queries stand behind each other.
            dtype: of the queries; in numbers, as SDPA would turn a mask of booleans into them in every layer.
            device: of the queries.

        Returns:
            (shared * C, P + C), 0 on the prompt and on the completion up to the token itself, -inf behind it.
        """
        key = (number, shared, dtype, device)
        if key not in self.masks:
            one = self.groups[number]
            prefix = one.split - one.start
            behind = torch.full((one.longest, prefix + one.longest), -torch.inf, dtype=dtype, device=device)
            self.masks[key] = behind.triu(prefix + 1).repeat(shared, 1)
        return self.masks[key]


def group(start: int, prefix: int, lengths: list[int], device: torch.device) -> Group:
    """The group of a prompt of `prefix` tokens at `start`, with completions of these lengths (1 or more)."""
    count, longest, total = len(lengths), max(lengths, default=0), sum(lengths)
    gather = scatter = None
    if total != count * longest:
        long = torch.tensor(lengths)
        within = torch.arange(longest)
        places = (long.cumsum(0) - long)[:, None] + torch.minimum(within, long[:, None] - 1)
        gather = places.flatten().to(device)
        scatter = (within < long[:, None]).flatten().nonzero()[:, 0].to(device)
    return Group(start, start + prefix, start + prefix + total, count, longest, gather, scatter)


def enable(thinker: Any) -> None:
    """Gives the decoder of `thinker` the attention function below, for good: a checkpointed layer looks it up
    again in the backward. Without groups it is SDPA, and no file tells the difference."""
    decoder = thinker.model.language_model
    if decoder.config._attn_implementation != ATTENTION:
        decoder.set_attn_implementation(ATTENTION)


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    prefix_groups: Groups | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one row by its groups; without them SDPA.

    Args:
        module: the attention layer.
        query: (1, H, T, D).
        key: (1, K, T, D), H a multiple of K.
        value: (1, K, T, D).
        attention_mask: of plain SDPA; with groups None.
        dropout: probability.
        scaling: of the scores; None: D ** -0.5.
        prefix_groups: the layout.
        **kwargs: of plain SDPA.

    Returns:
        (1, T, H, D), and no weights.

    Raises:
        RuntimeError: groups together with a mask, with several rows or with a window.
    """
    if prefix_groups is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if attention_mask is not None or len(query) != 1 or kwargs.get("sliding_window") is not None:
        raise RuntimeError("groups stand in one row, without a mask and without a window")
    prefix_groups.used += 1
    options: dict[str, Any] = {"dropout": dropout, "scaling": scaling}
    parts = []
    for number, one in enumerate(prefix_groups.groups):
        prefix, rest = slice(one.start, one.split), slice(one.split, one.stop)
        if one.split > one.start:
            parts.append(
                sdpa_attention_forward(
                    module, query[:, :, prefix], key[:, :, prefix], value[:, :, prefix], None, **options
                )[0]
            )
        if one.count:
            mask = prefix_groups.mask(number, query.shape[1] // key.shape[1], query.dtype, query.device)
            parts.append(_completions(one, query[:, :, rest], key, value, prefix, rest, mask, **options))
    return torch.cat(parts, 1), None


def _completions(
    one: Group, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, prefix: slice, rest: slice,
    mask: torch.Tensor, dropout: float, scaling: float | None,
) -> torch.Tensor:  # fmt: skip
    """(1, M, H, D) of the M tokens of a group's completions.

    The queries of the heads that share a key head stand behind each other, so that no key is repeated for
    them.
    """
    heads, width = query.shape[1], query.shape[-1]
    shared = heads // key.shape[1]
    asked = _batch(one, query)  # (N, H, C, D)
    asked = asked.reshape(one.count, key.shape[1], shared * one.longest, width)
    keys, values = (
        torch.cat([x[:, :, prefix].expand(one.count, -1, -1, -1), _batch(one, x[:, :, rest])], 2)
        for x in (key, value)
    )
    read = scaled_dot_product_attention(asked, keys, values, attn_mask=mask, dropout_p=dropout, scale=scaling)
    read = read.view(one.count, heads, one.longest, width).transpose(1, 2)
    flat = read.reshape(1, one.count * one.longest, heads, width)
    return flat if one.scatter is None else flat[:, one.scatter]


def _batch(one: Group, tokens: torch.Tensor) -> torch.Tensor:
    """(1, heads, M, D) -> (N, heads, C, D): a row for each completion."""
    if one.gather is not None:
        tokens = tokens[:, :, one.gather]
    return tokens.view(tokens.shape[1], one.count, one.longest, -1).transpose(0, 1)


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
