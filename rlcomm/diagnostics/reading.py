"""A prompt with its labels behind it, read once; then read again from any place on, many times at once.

    [ media | words | assistant | label 1 | label 2 | ... ]      one row, a label sees the prompt and itself
                  \\__ again from here: the keys and values before it are kept, the media are not encoded

So one forward of R rows gives the label scores under R different replacements of activations.
"""

from collections.abc import Sequence
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)

import torch  # isort: skip
from transformers import DynamicCache

from rlcomm.diagnostics.hooks import Activations, Layers, Patch, decoder_of, layers_of, reading, writing
from rlcomm.omni.encode import EncodedPrompt, merge_media
from rlcomm.omni.labels import label_ids
from rlcomm.omni.policy import base_model


class Reading:
    """One branch of an item.

    Args:
        model: the thinker, wrapped or not.
        tokenizer: its tokenizer.
        prompt: the branch.
        labels: the candidates.
        known: a reading of the same labels; where both share their media (the same objects) and begin alike,
            only what differs is read.

    Attributes:
        layers: of the decoder.
        length: of the row, prompt and labels.
        shared: so many first places have the activations of `known`; 0 without it.
        activations: (component, layer) -> (length, H).
        scores: per label the mean log-probability of its tokens (`omni.labels`), in nats, (labels,).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        prompt: EncodedPrompt,
        labels: Sequence[str],
        known: "Reading | None" = None,
    ):
        self.thinker = base_model(model.module if hasattr(model, "module") else model)
        self.decoder = decoder_of(model)
        self.layers: Layers = layers_of(self.decoder)
        self.prompt = prompt
        self._lay_out(tokenizer, labels)
        self._embeds: torch.Tensor
        self._pictures: torch.Tensor | None
        self._deepstack: list[torch.Tensor] | None
        self.shared = 0 if known is None else _shared(prompt, known.prompt)
        if known is None or self.shared == 0:
            found = self._read_all()
        else:
            words = self.thinker.get_input_embeddings()(self.ids[self.shared :].to(self.thinker.device))
            self._embeds = torch.cat([known._embeds[:, : self.shared], words[None]], 1)
            self._pictures, self._deepstack = known._pictures, known._deepstack
            with reading(self.layers) as found:
                hidden = self._from(self.shared, 1, known._cache)
            self._score(hidden, self.shared)
            found = {key: torch.cat([known.activations[key][: self.shared], found[key][0]])[None]
                     for key in found}  # fmt: skip
        self.activations: Activations = {key: value[0] for key, value in found.items()}

    def rescored(self, rows: Sequence[Sequence[Patch]], start: int) -> list[list[float]]:
        """The scores under the patches of each row.

        Args:
            rows: patches of each row, (R,), none of them before `start`.
            start: the first place that is read again; at most the prompt's last.

        Returns:
            (R, labels), as `scores`.
        """
        moved = [[Patch(p.component, p.layer, p.at - start, p.values) for p in patches] for patches in rows]
        with writing(self.layers, moved):
            hidden = self._from(start, len(rows), self._cache)
        return self._scores(hidden, start).tolist()

    def _lay_out(self, tokenizer: Any, labels: Sequence[str]) -> None:
        """Ids, positions, who sees whom, and which place predicts which token of which label."""
        size = len(self.prompt)
        ends = label_ids(tokenizer, labels)
        fed = [token for end in ends for token in end[:-1]]
        self.length = size + len(fed)
        self.ids = torch.cat([self.prompt.ids, torch.tensor(fed, dtype=self.prompt.ids.dtype)])
        self._sees = torch.ones(self.length, self.length, dtype=torch.bool).tril()
        depths: list[int] = []
        self._asked: list[tuple[int, int, int]] = []  # label, predicting place, token
        place = size
        for number, end in enumerate(ends):
            behind = place + len(end) - 1
            self._sees[behind:, place:behind] = False  # what follows sees the prompt, not this label
            depths += range(len(end) - 1)
            before = [size - 1, *range(place, behind)]
            self._asked += [(number, where, token) for where, token in zip(before, end, strict=True)]
            place = behind
        following = (self.prompt.next_position + torch.tensor(depths, dtype=torch.long)).expand(3, -1)
        self.positions = torch.cat([self.prompt.positions, following.to(self.prompt.positions.dtype)], 1)

    def _read_all(self) -> Activations:
        """The whole row through the thinker, media and all; keeps what its decoder was given."""
        thinker = self.thinker
        given: dict[str, Any] = {}
        watch = self.decoder.register_forward_pre_hook(
            lambda module, args, kwargs: given.update(kwargs), with_kwargs=True
        )
        self._cache = DynamicCache(config=thinker.config.get_text_config())
        try:
            with reading(self.layers) as found:
                hidden = thinker.model(
                    input_ids=self.ids[None].to(thinker.device),
                    attention_mask=self._mask(0, 1),
                    position_ids=self.positions[:, None].to(thinker.device),
                    past_key_values=self._cache,
                    use_cache=True,
                    **merge_media([self.prompt], thinker.device, thinker.dtype),
                ).last_hidden_state
        finally:
            watch.remove()
        self._embeds = given["inputs_embeds"]
        # Qwen3-Omni adds visual features behind several layers as well.
        self._pictures = given.get("visual_pos_masks")
        self._deepstack = given.get("deepstack_visual_embeds")
        self._score(hidden, 0)
        return found

    def _from(self, start: int, rows: int, before: DynamicCache) -> torch.Tensor:
        """Last hidden states (R, length - start, H) of `rows` copies, read from `start` on."""
        cache = DynamicCache(config=self.thinker.config.get_text_config())
        if start:
            for number, layer in enumerate(before.layers):
                kept: Any = layer
                cache.update(
                    kept.keys[:, :, :start].expand(rows, -1, -1, -1),
                    kept.values[:, :, :start].expand(rows, -1, -1, -1),
                    number,
                )
        extra: dict[str, Any] = {}
        if self._pictures is not None and self._deepstack is not None and self._pictures[:, start:].any():
            gone = int(self._pictures[:, :start].sum())
            extra["visual_pos_masks"] = self._pictures[:, start:].expand(rows, -1)
            extra["deepstack_visual_embeds"] = [part[gone:].repeat(rows, 1) for part in self._deepstack]
        return self.decoder(
            inputs_embeds=self._embeds[:, start:].expand(rows, -1, -1),
            attention_mask=self._mask(start, rows),
            position_ids=self.positions[:, None, start:].expand(-1, rows, -1).to(self.thinker.device),
            past_key_values=cache,
            use_cache=True,
            **extra,
        ).last_hidden_state

    def _mask(self, start: int, rows: int) -> torch.Tensor:
        """Additive (R, 1, length - start, length), so that every attention implementation takes it."""
        dtype = self.thinker.dtype
        blocked = torch.zeros(self.length - start, self.length, dtype=dtype)
        blocked.masked_fill_(~self._sees[start:], torch.finfo(dtype).min)
        return blocked.to(self.thinker.device).expand(rows, 1, -1, -1)

    def _score(self, hidden: torch.Tensor, start: int) -> None:
        self.scores: list[float] = self._scores(hidden, start)[0].tolist()

    def _scores(self, hidden: torch.Tensor, start: int) -> torch.Tensor:
        """(R, labels) from last hidden states (R, length - start, H)."""
        labels, places, tokens = (torch.tensor(column) for column in zip(*self._asked, strict=True))
        wanted, where = torch.unique(places, return_inverse=True)
        logits = self.thinker.lm_head(hidden[:, (wanted - start).to(hidden.device)])
        logps = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1).cpu()
        each = logps[:, where, tokens]
        sums = each.new_zeros(len(each), int(labels.max()) + 1).index_add_(1, labels, each)
        return sums / torch.bincount(labels)


def _shared(prompt: EncodedPrompt, known: EncodedPrompt) -> int:
    """So many first tokens of both are the same, media included; 0 where their media are other objects."""
    mine, theirs = ({name: id(tensor) for name, tensor in p.media.items()} for p in (prompt, known))
    if mine != theirs:
        return 0
    size = min(len(prompt), len(known)) - 1
    same = (prompt.ids[:size] == known.ids[:size]) & (
        prompt.positions[:, :size] == known.positions[:, :size]
    ).all(0)
    return int(same.long().cumprod(0).sum())
