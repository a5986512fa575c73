"""G completions per prompt: prompt and media are read once, and G samples go on from them.

Two forms of one computation:
    shared    the prompt's keys and values are kept once and attended to by all its samples (`omni.shared`)
    copies    every sample gets a copy of them in transformers' own cache: the plain reference
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rlcomm.omni.encode import EncodedPrompt, merge_media, position_dtype
from rlcomm.omni.policy import suppressed_tokens
from rlcomm.omni.shared import SharedRows

# Rows that have ended leave when they are at least this share of the batch: leaving copies what the others
# have written so far, staying costs a row.
LEAVE = 1 / 8


def base_model(model: Any) -> Any:
    """The thinker inside a PeftModel (its LoRA layers stay active), or the thinker itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


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


@torch.no_grad()
def generate_ids(
    model: Any,
    processor: Any,
    prompts: list[EncodedPrompt],
    num_generations: int = 1,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int | None = None,
    min_new_tokens: int = 0,
    cache: str = "shared",
) -> list[list[list[int]]]:
    """Samples `num_generations` completions of every prompt; its prefill and its media are computed once.

    Args:
        model: the thinker, unwrapped (or a PeftModel around it).
        processor: its processor.
        prompts: B encoded prompts, of any lengths.
        num_generations: G.
        max_new_tokens: at most so many tokens, the end of turn included.
        temperature: 0 decodes greedily, otherwise logits are divided by it.
        top_p: nucleus share in (0, 1]; 1 keeps everything.
        top_k: 0 keeps everything.
        seed: own random stream; None uses torch's global one.
        min_new_tokens: no end of turn before so many tokens.
        cache: `shared` or `copies`: how the samples keep their prompt; copies where layers have windows.

    Returns:
        Per prompt, G lists of token ids, the end of turn included where it was reached.

    Raises:
        ValueError: another `cache`.
    """
    if cache not in ("shared", "copies"):
        raise ValueError(f"cache must be 'shared' or 'copies', not {cache!r}")
    thinker = base_model(model)
    device = thinker.device
    tokenizer = processor.tokenizer
    greedy = temperature == 0.0
    warp: Any = LogitsProcessorList(
        [SuppressTokensLogitsProcessor(suppressed_tokens(tokenizer), device=device)]
    )
    if not greedy and temperature != 1.0:
        warp.append(TemperatureLogitsWarper(temperature))
    if not greedy and top_k:
        warp.append(TopKLogitsWarper(top_k))
    if not greedy and top_p < 1.0:
        warp.append(TopPLogitsWarper(top_p))
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)

    rows: Rows | SharedRows
    windows = "sliding_attention" in (getattr(thinker.config.get_text_config(), "layer_types", None) or ())
    if cache == "shared" and not windows:
        rows = SharedRows(thinker, prompts, tokenizer.pad_token_id, num_generations)
    else:
        rows = read(thinker, prompts, tokenizer.pad_token_id)
        if num_generations > 1:
            rows.repeat(num_generations)
    completions: list[list[int]] = [[] for _ in range(len(prompts) * num_generations)]
    alive = list(range(len(completions)))  # which completion each row belongs to
    going = [True] * len(alive)
    for step in range(max_new_tokens):
        logits = rows.logits()
        if step < min_new_tokens:  # before top_k and top_p, which must find other tokens to keep
            logits[:, tokenizer.eos_token_id] = -torch.inf
        scores = warp(None, logits)
        if greedy:
            tokens = scores.argmax(-1)
        else:
            tokens = torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
        for row, token in enumerate(tokens.tolist()):
            if going[row]:
                completions[alive[row]].append(token)
                going[row] = token != tokenizer.eos_token_id
        if step + 1 == max_new_tokens or not any(going):
            break
        if going.count(False) >= LEAVE * len(going):  # what ended in between is read on and not kept
            stay = [row for row, on in enumerate(going) if on]
            keep = torch.tensor(stay, device=device)
            rows.select(keep)
            alive, going, tokens = [alive[row] for row in stay], [True] * len(stay), tokens[keep]
        rows.feed(tokens)
    return [completions[i * num_generations : (i + 1) * num_generations] for i in range(len(prompts))]


def generate(model: Any, processor: Any, prompts: list[EncodedPrompt], **options: Any) -> list[list[str]]:
    """`generate_ids` decoded: per prompt, G texts without special tokens."""
    return [
        processor.tokenizer.batch_decode(group, skip_special_tokens=True)
        for group in generate_ids(model, processor, prompts, **options)
    ]
