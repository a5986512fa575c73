"""Prompts that are continued by several sequences each; every prompt is read once and kept once.

    prompt keys (P) --+--> sequence 1: own keys (T)
                      +--> sequence 2: own keys (T)
                      ...

A step of decoding attends to [the prompt's keys; the sequence's own keys]. All queries of a prompt meet its
keys in one product, so a prompt's keys are stored once and read once a step, whatever the number of its
sequences. Own keys grow in place. `rows.Rows`, which gives every sequence a copy of its prompt, is the plain
reference.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from rlcomm.omni import grouped, rows
from rlcomm.omni.encode import EncodedPrompt, merge_media, position_dtype
from rlcomm.omni.layout import find_families, lay_out

ATTENTION = "rlcomm_shared"
ROOM = 32  # own keys for so many tokens at first; doubled when they are used up


class SharedLayer(DynamicLayer):
    """Keys and values of one decoder layer.

    Attributes:
        prompt_keys, prompt_values: of the prompts, (B, K, P, D), K key/value heads of width D.
        keys, values: of what each sequence read since, (N, K, T, D); views into buffers with room to grow.
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, sequences: int):
        super().__init__()
        self.prompt_keys, self.prompt_values = keys, values
        shape = (sequences, keys.shape[1], ROOM, keys.shape[3])
        self._buffers = [keys.new_empty(shape), values.new_empty(shape)]
        self._show(0)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Adds one token (N, K, 1, D) to every sequence; returns the own keys and values (N, K, T, D)."""
        length = self.keys.shape[2]
        if length == self._buffers[0].shape[2]:
            self._buffers = [torch.cat([buffer, torch.empty_like(buffer)], 2) for buffer in self._buffers]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, length] = states[:, :, 0]
        self._show(length + 1)
        return self.keys, self.values

    def select(self, sequences: torch.Tensor) -> None:
        """These sequences stay."""
        length = self.keys.shape[2]
        self._buffers = [buffer[sequences] for buffer in self._buffers]
        self._show(length)

    def select_prompts(self, prompts: torch.Tensor) -> None:
        """These prompts stay."""
        self.prompt_keys, self.prompt_values = self.prompt_keys[prompts], self.prompt_values[prompts]

    def _show(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class SharedRows:
    """Prompts that have been read and are being continued by several sequences each, by one token at a time.

    The interface of `rows.Rows`.

    Args:
        thinker: the model that reads.
        prompts: B prompts, of any lengths.
        pad_id: filler token.
        times: sequences of each prompt; sequence i continues prompt i // times.

    Attributes:
        following: position of each sequence's next token, (N,).
        hidden: last hidden state at its last token, (N, H).
    """

    def __init__(self, thinker: Any, prompts: list[EncodedPrompt], pad_id: int, times: int = 1):
        self.thinker = thinker
        read = _read(thinker, prompts, pad_id)
        self.layers = [SharedLayer(keys, values, len(prompts) * times) for keys, values in read.layers]
        self.cache = Cache(layers=list(self.layers))
        self.following, self.hidden = (x.repeat_interleave(times, 0) for x in (read.following, read.hidden))
        self._filler: torch.Tensor | None = None  # (B, 1, 1, P), -inf where a prompt has no token
        if not read.present.all():
            absent = ~read.present
            self._filler = read.hidden.new_zeros(absent.shape).masked_fill_(absent, -torch.inf)[:, None, None]
        self._prompts = len(prompts)
        self._owner = torch.arange(len(prompts), device=thinker.device).repeat_interleave(times)
        # Queries stand in a table (prompts, width) when they meet the prompts' keys.
        self._width = times
        self._place: torch.Tensor | None = None  # of each sequence in the table; None: every place is taken

    def logits(self) -> torch.Tensor:
        """Of the next tokens, (N, V), float32."""
        return self.thinker.lm_head(self.hidden).float()

    def select(self, keep: torch.Tensor) -> None:
        """The sequences of these numbers (increasing) stay; prompts leave when half of them are done with."""
        for layer in self.layers:
            layer.select(keep)
        self.following, self.hidden, self._owner = self.following[keep], self.hidden[keep], self._owner[keep]
        counts = self._owner.bincount(minlength=self._prompts)
        used = counts.nonzero()[:, 0]
        if 2 * len(used) <= self._prompts:  # halving: all these copies together cost less than one
            for layer in self.layers:
                layer.select_prompts(used)
            if self._filler is not None:
                self._filler = self._filler[used]
            self._owner = torch.searchsorted(used, self._owner)
            self._prompts, counts = len(used), counts[used]
        self._width = int(counts.max())
        self._place = None
        if int(counts.min()) < self._width:
            first = counts.cumsum(0) - counts
            rank = torch.arange(len(self._owner), device=counts.device) - first[self._owner]
            self._place = self._owner * self._width + rank

    def feed(self, tokens: torch.Tensor) -> None:
        """Reads one more token (N,) in every sequence."""
        with grouped.attending(self.thinker.model.language_model.config, ATTENTION):
            self.hidden = self.thinker.model(
                input_ids=tokens[:, None], past_key_values=self.cache, use_cache=True, shared_rows=self,
                position_ids=self.following[None, :, None].expand(3, -1, -1),
            ).last_hidden_state[:, -1]  # fmt: skip
        self.following = self.following + 1

    def attend(self, layer: SharedLayer, query: torch.Tensor, scaling: float) -> torch.Tensor:
        """Attention of one query a sequence (N, H, D) to its prompt and its own tokens: (N, H, D)."""
        sequences, heads, width = query.shape
        groups = layer.keys.shape[1]
        query = (query * scaling).view(sequences, groups, heads // groups, width)
        own = self._table(query @ layer.keys.transpose(2, 3))
        common = self._table(query) @ layer.prompt_keys.transpose(2, 3)
        if self._filler is not None:
            common = common + self._filler
        split = common.shape[3]
        weights = torch.cat([common, own], 3).softmax(3, dtype=torch.float32).to(query.dtype)
        found = self._rows(weights[..., :split] @ layer.prompt_values, heads // groups)
        found = found + self._rows(weights[..., split:], heads // groups) @ layer.values
        return found.reshape(sequences, heads, width)

    def _table(self, x: torch.Tensor) -> torch.Tensor:
        """(N, K, R, X) of the sequences as (prompts, K, width * R, X), zeros where a place is empty."""
        if self._place is not None:
            table = x.new_zeros(self._prompts * self._width, *x.shape[1:])
            x = table.index_copy_(0, self._place, x)
        x = x.view(self._prompts, self._width, *x.shape[1:]).transpose(1, 2)
        return x.reshape(self._prompts, x.shape[1], -1, x.shape[-1])

    def _rows(self, x: torch.Tensor, queries: int) -> torch.Tensor:
        """The way back of `_table`; `queries` is R."""
        x = x.view(self._prompts, x.shape[1], self._width, queries, x.shape[-1]).transpose(1, 2).flatten(0, 1)
        return x if self._place is None else x[self._place]


def shared_attention(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any,
    scaling: float, shared_rows: SharedRows, **kwargs: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """transformers' attention interface: query (N, H, 1, D) -> (N, 1, H, D)."""
    return shared_rows.attend(shared_rows.layers[module.layer_idx], query[:, :, 0], scaling)[:, None], None


AttentionInterface.register(ATTENTION, shared_attention)


@dataclass
class _Read:
    """Prompts that have been read.

    Attributes:
        layers: per layer keys and values (B, K, P, D).
        present: (B, P), false where a prompt has no token.
        hidden: last hidden states at the last tokens, (B, H).
        following: position of the next token, (B,).
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    present: torch.Tensor
    hidden: torch.Tensor
    following: torch.Tensor


def _read(thinker: Any, prompts: list[EncodedPrompt], pad_id: int) -> _Read:
    """Reads all prompts in one row, what they share once; plainly where the model cannot attend so."""
    config = thinker.model.language_model.config
    if grouped.refusal(config) is not None:
        plain = rows.read(thinker, prompts, pad_id)
        held: Any = plain.cache.layers
        layers = [(layer.keys, layer.values) for layer in held]
        return _Read(layers, plain.mask.bool(), plain.hidden, plain.following)
    device, dtype = thinker.device, position_dtype(prompts)
    # What follows a prompt is one token, which is drawn where the prompt ends and not read yet.
    drawn = [torch.tensor([pad_id])] * len(prompts)
    row = lay_out(prompts, drawn, find_families(prompts, thinker.config), device)
    cache: Any = DynamicCache(config=thinker.config.get_text_config())
    own = config._attn_implementation.removeprefix(grouped.ATTENTION)
    with grouped.attending(config, grouped.ATTENTION + own):
        states = thinker.model(
            input_ids=row.ids[None].to(device), position_ids=row.positions[:, None].to(device),
            past_key_values=cache, use_cache=True, **grouped.inputs(row.groups),
            **merge_media(row.readers, device, thinker.dtype),
        ).last_hidden_state  # fmt: skip
    longest = max(map(len, prompts))
    places = torch.zeros(len(prompts), longest, dtype=torch.long)
    present = torch.zeros(places.shape, dtype=torch.bool)
    for number, spans in enumerate(row.seen):
        tokens = torch.cat([torch.arange(span.start, span.stop) for span in spans])
        places[number, : len(tokens)], present[number, : len(tokens)] = tokens, True
    places = places.to(device)
    layers = []
    while cache.layers:  # each leaves as soon as it is sorted by prompts
        layer = cache.layers.pop(0)
        layers.append((_by_prompt(layer.keys, places), _by_prompt(layer.values, places)))
    following = torch.tensor([prompt.next_position for prompt in prompts], dtype=dtype)
    return _Read(layers, present.to(device), states[0, row.starts.to(device)], following.to(device))


def _by_prompt(row: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(1, K, L, D) of one row -> (B, K, P, D) of the prompts whose tokens stand at `places` (B, P)."""
    if len(places) == 1:
        return row
    return row[0][:, places].transpose(0, 1).contiguous()
