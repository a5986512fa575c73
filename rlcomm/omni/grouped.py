"""Attention by groups: every piece of a row attends to what it continues, and to itself.

    one row     p p p p p | a a a | b b      q q q | c c c c | d        no filler, no mask
    p, q        plain causal attention, each by itself
    a, b        as a batch of two, causal, behind the keys of p; c, d likewise behind those of q

All other layers work token by token, so that one row of everything (`omni.layout`) costs exactly its
tokens. The split is made where the tokens meet: in an attention function of transformers' interface, which
the decoder alone is given (the towers keep theirs) and which without groups is the model's own. The groups go
there as an argument of the wrapped model's own forward, so that gradient checkpointing, PEFT, DDP and
DeepSpeed see an ordinary step. No (completions x completions) part exists, and no mask but one piece's.

On a GPU, where nothing has been measured yet, SDPA does this too: FlexAttention would have to be compiled,
and whether that pays is not known.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

ATTENTION = "rlcomm_grouped_"  # and the model's own attention: the name in transformers' interface
OWN = {"sdpa": sdpa_mask, "eager": eager_mask}  # those that can be split, and how their masks are made
ARGUMENT = "prefix_groups"  # the argument of the model's forward that carries the groups


@dataclass(frozen=True)
class Group:
    """Pieces of a row that continue the same tokens.

    Attributes:
        context: spans of the row that they continue, in order; none: they begin a prompt.
        start: where the pieces begin.
        stop: where they end.
        count: how many they are, N.
        longest: tokens of the longest, C.
        gather: (N * C,) places behind `start` of each piece's tokens, filled up with its last; None where all
            are equally long.
        scatter: (stop - start,) where each token stands in that; None likewise.
    """

    context: tuple[slice, ...]
    start: int
    stop: int
    count: int
    longest: int
    gather: torch.Tensor | None
    scatter: torch.Tensor | None

    @classmethod
    def of(
        cls, context: Sequence[slice], start: int, lengths: Sequence[int], device: torch.device
    ) -> "Group":
        """Pieces of these lengths (1 or more) from `start` on."""
        count, longest, total = len(lengths), max(lengths), sum(lengths)
        gather = scatter = None
        if total != count * longest:
            long = torch.tensor(lengths)
            within = torch.arange(longest)
            places = (long.cumsum(0) - long)[:, None] + torch.minimum(within, long[:, None] - 1)
            gather = places.flatten().to(device)
            scatter = (within < long[:, None]).flatten().nonzero()[:, 0].to(device)
        return cls(tuple(context), start, start + total, count, longest, gather, scatter)

    @property
    def before(self) -> int:
        """P, tokens of the context."""
        return sum(span.stop - span.start for span in self.context)

    def keys(self, tokens: torch.Tensor) -> torch.Tensor:
        """(1, K, L, D) of the row -> (N, K, P + C, D): the context, for each piece again, and the piece."""
        context = [tokens[:, :, span].expand(self.count, -1, -1, -1) for span in self.context]
        return torch.cat([*context, self.batch(tokens)], 2)

    def batch(self, tokens: torch.Tensor) -> torch.Tensor:
        """(1, H, L, D) of the row -> (N, H, C, D): the pieces."""
        tokens = tokens[:, :, self.start : self.stop]
        if self.gather is not None:
            tokens = tokens[:, :, self.gather]
        return tokens.view(tokens.shape[1], self.count, self.longest, -1).transpose(0, 1)

    def flat(self, pieces: torch.Tensor) -> torch.Tensor:
        """(N, C, H, D) -> (1, stop - start, H, D): the way back."""
        tokens = pieces.reshape(1, self.count * self.longest, *pieces.shape[2:])
        return tokens if self.scatter is None else tokens[:, self.scatter]


@dataclass
class Groups:
    """The groups of one row.

    Attributes:
        groups: in order they are the whole row.
        used: how many layers have attended by them: 0 after a forward means that something lost them.
        masks: what `mask` has made, for the layers that come after.
    """

    groups: list[Group] = field(default_factory=list)
    used: int = 0
    masks: dict[tuple, torch.Tensor] = field(default_factory=dict)

    def mask(self, number: int, shared: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """What the pieces of a group attend to, made once for all layers, forward and backward.

        Args:
            number: of the group, which has N pieces of at most C tokens behind P.
            shared: query heads of a key head, whose queries stand behind each other.
            dtype: of the queries; in numbers, as SDPA would turn a mask of booleans into them in every layer.
            device: of the queries.

        Returns:
            (shared * C, P + C), 0 on the context and on the piece up to the token itself, -inf behind it.
        """
        key = (number, shared, dtype, device)
        if key not in self.masks:
            one = self.groups[number]
            before = one.before
            behind = torch.full((one.longest, before + one.longest), -torch.inf, dtype=dtype, device=device)
            self.masks[key] = behind.triu(before + 1).repeat(shared, 1)
        return self.masks[key]


def inputs(groups: Sequence[Group]) -> dict[str, Any]:
    """Arguments of the model's forward that say who attends to whom. A mask of one number keeps transformers
    from making one of all tokens by all."""
    return {ARGUMENT: Groups(list(groups)), "attention_mask": torch.zeros(1, 1, 1, 1)}


def refusal(config: Any, name: str | None = None) -> str | None:
    """Why a decoder cannot attend by groups, as part of a sentence; None: it can.

    Args:
        config: of the decoder.
        name: its attn_implementation; None: the one it has.
    """
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        return "the model has sliding-window layers, whose windows would end at the wrong token"
    name = (name or config._attn_implementation).removeprefix(ATTENTION)
    if name in OWN:
        return None
    return f"attn_implementation is {name!r}, whose kernel knows no groups (those of sdpa and eager do)"


def enable(thinker: Any) -> None:
    """Gives the decoder of `thinker` the attention function below, for good: a checkpointed layer looks it up
    again in the backward. Without groups it is the model's own, and no file tells the difference."""
    decoder = thinker.model.language_model
    if not decoder.config._attn_implementation.startswith(ATTENTION):
        decoder.set_attn_implementation(ATTENTION + decoder.config._attn_implementation)


@contextmanager
def attending(config: Any, name: str) -> Iterator[None]:
    """The decoder of this configuration takes the attention function `name` inside."""
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


def attention(
    own: str,
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    prefix_groups: Groups | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Attention of one row by its groups; without them the model's own.

    Args:
        own: the model's own, of `OWN`.
        module: the attention layer.
        query: (1, H, L, D).
        key: (1, K, L, D), H a multiple of K.
        value: (1, K, L, D).
        attention_mask: of plain attention; with groups None or one number.
        dropout: probability.
        scaling: of the scores; None: D ** -0.5.
        prefix_groups: the groups.
        **kwargs: of plain attention.

    Returns:
        (1, L, H, D), and with groups no weights.

    Raises:
        RuntimeError: groups together with a mask, with several rows or with a window.
    """
    options: dict[str, Any] = {"dropout": dropout, "scaling": scaling}
    plain = sdpa_attention_forward if own == "sdpa" else _eager(module)
    if prefix_groups is None:
        return plain(module, query, key, value, attention_mask, **options, **kwargs)
    masked = attention_mask is not None and attention_mask.numel() > 1
    if masked or len(query) != 1 or kwargs.get("sliding_window") is not None:
        raise RuntimeError("groups stand in one row, without a mask and without a window")
    prefix_groups.used += 1
    parts = []
    for number, one in enumerate(prefix_groups.groups):
        if own == "sdpa" and one.count == 1 and not one.context:
            asked, keys, values = (x[:, :, one.start : one.stop] for x in (query, key, value))
            parts.append(plain(module, asked, keys, values, None, **options)[0])
            continue
        asked, keys, values = one.batch(query), one.keys(key), one.keys(value)
        shared = query.shape[1] // key.shape[1] if own == "sdpa" else 1
        mask = prefix_groups.mask(number, shared, query.dtype, query.device)
        if own == "sdpa":
            read = _together(asked, keys, values, mask, dropout, scaling)
        else:
            read = plain(module, asked, keys, values, mask, **options)[0]
        parts.append(one.flat(read))
    return torch.cat(parts, 1), None


def _together(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, dropout: float,
    scaling: float | None,
) -> torch.Tensor:  # fmt: skip
    """SDPA of (N, H, C, D) as (N, C, H, D).

    The queries of the heads that share a key head stand behind each other, so that no key is repeated for
    them.
    """
    count, heads, longest, width = query.shape
    query = query.reshape(count, key.shape[1], -1, width)
    read = scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return read.view(count, heads, longest, width).transpose(1, 2)


def _eager(module: torch.nn.Module) -> Any:
    """The eager attention of a layer, which stands beside it in transformers."""
    return sys.modules[type(module).__module__].eager_attention_forward  # type: ignore[attr-defined]


for _own, _mask in OWN.items():
    AttentionInterface.register(ATTENTION + _own, partial(attention, _own))
    AttentionMaskInterface.register(ATTENTION + _own, _mask)  # type: ignore[arg-type]
