"""Prompts read plainly, a row each, with filler in front of the short ones.

Every sequence that goes on from a prompt has a copy of its keys and values. The other forms are measured
against this one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from rlcomm.omni.encode import EncodedPrompt, merge_media, position_dtype


def pad_prompts(prompts: list[EncodedPrompt], pad_id: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Left-pads prompts.

    Returns:
        ids (B, P), attention mask (B, P) of 0/1, positions (3, B, P), next positions (B,).
    """
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad_id)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    positions = torch.zeros((3, len(prompts), longest), dtype=position_dtype(prompts))
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :] = prompt.ids
        mask[i, longest - len(prompt) :] = 1
        positions[:, i, longest - len(prompt) :] = prompt.positions
    following = torch.tensor([prompt.next_position for prompt in prompts], dtype=positions.dtype)
    return ids.to(device), mask.to(device), positions.to(device), following.to(device)


@dataclass
class Rows:
    """Prompts that have been read and are being continued, all by one token at a time.

    Attributes:
        thinker: the model that reads.
        cache: its keys and values of the prompts and of what followed.
        mask: (B, length of the cache) of 0/1.
        following: position of the next token, (B,).
        hidden: last hidden state at the last token, (B, H).
    """

    thinker: Any
    cache: DynamicCache
    mask: torch.Tensor
    following: torch.Tensor
    hidden: torch.Tensor

    def logits(self) -> torch.Tensor:
        """Of the next tokens, (B, V), float32."""
        return self.thinker.lm_head(self.hidden).float()

    def repeat(self, times: int) -> None:
        """Every row `times` times in a row; nothing is read again."""
        self.cache.batch_repeat_interleave(times)
        self.mask, self.following, self.hidden = (
            x.repeat_interleave(times, dim=0) for x in (self.mask, self.following, self.hidden)
        )

    def select(self, keep: torch.Tensor) -> None:
        """The rows of these numbers stay: every later step costs only what it must."""
        self.cache.batch_select_indices(keep)
        self.mask, self.following = self.mask[keep], self.following[keep]
        self.hidden = self.hidden[keep]

    def feed(self, tokens: torch.Tensor) -> None:
        """Reads one more token (B,) in every row."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        self.hidden = self.thinker.model(
            input_ids=tokens[:, None], attention_mask=self.mask, past_key_values=self.cache, use_cache=True,
            position_ids=self.following[None, :, None].expand(3, -1, -1),
        ).last_hidden_state[:, -1]  # fmt: skip
        self.following = self.following + 1


def read(thinker: Any, prompts: list[EncodedPrompt], pad_id: int) -> Rows:
    """Reads B prompts of any lengths, their media included, in one forward."""
    ids, mask, positions, following = pad_prompts(prompts, pad_id, thinker.device)
    cache = DynamicCache(config=thinker.config.get_text_config())
    hidden = thinker.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        **merge_media(prompts, thinker.device, thinker.dtype),
    ).last_hidden_state[:, -1]  # fmt: skip
    return Rows(thinker, cache, mask, following, hidden)
