"""G completions per prompt: prompt and media are read once, and G samples go on from them.

Two forms of one computation:
    shared    the prompt's keys and values are kept once and attended to by all its samples (`omni.shared`)
    copies    every sample gets a copy of them in transformers' own cache: the plain reference (`omni.rows`)
"""

from typing import Any

import torch
from transformers import (
    LogitsProcessorList,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rlcomm.omni.encode import EncodedPrompt
from rlcomm.omni.policy import base_model, suppressed_tokens
from rlcomm.omni.rows import Rows, read
from rlcomm.omni.shared import SharedRows

# Rows that have ended leave when they are at least this share of the batch: leaving copies what the others
# have written so far, staying costs a row.
LEAVE = 1 / 8


def begin(
    thinker: Any, prompts: list[EncodedPrompt], pad_id: int, times: int = 1, cache: str = "shared"
) -> Rows | SharedRows:
    """Reads the prompts, each to be continued by `times` sequences.

    Args:
        thinker: the model that reads.
        prompts: B prompts, of any lengths.
        pad_id: filler token.
        times: sequences of each prompt; sequence i continues prompt i // times.
        cache: `shared` or `copies`: how they keep their prompt; copies where layers have windows.

    Raises:
        ValueError: another `cache`.
    """
    if cache not in ("shared", "copies"):
        raise ValueError(f"cache must be 'shared' or 'copies', not {cache!r}")
    windows = "sliding_attention" in (getattr(thinker.config.get_text_config(), "layer_types", None) or ())
    if cache == "shared" and not windows:
        return SharedRows(thinker, prompts, pad_id, times)
    rows = read(thinker, prompts, pad_id)
    if times > 1:
        rows.repeat(times)
    return rows


class _Sampler:
    """Draws the next tokens: what is suppressed, temperature, top_k, top_p, in this order.

    Args:
        tokenizer: of the policy.
        device: where tokens are drawn.
        temperature, top_p, top_k, seed, min_new_tokens: see `generate_ids`.
    """

    def __init__(
        self, tokenizer: Any, device: Any, temperature: float, top_p: float, top_k: int,
        seed: int | None, min_new_tokens: int,
    ):  # fmt: skip
        self.end, self.least = tokenizer.eos_token_id, min_new_tokens
        self.greedy = temperature == 0.0
        self.warp: Any = LogitsProcessorList(
            [SuppressTokensLogitsProcessor(suppressed_tokens(tokenizer), device=device)]
        )
        if not self.greedy and temperature != 1.0:
            self.warp.append(TemperatureLogitsWarper(temperature))
        if not self.greedy and top_k:
            self.warp.append(TopKLogitsWarper(top_k))
        if not self.greedy and top_p < 1.0:
            self.warp.append(TopPLogitsWarper(top_p))
        self.generator = None if seed is None else torch.Generator(device).manual_seed(seed)

    def __call__(self, logits: torch.Tensor, step: int) -> torch.Tensor:
        """Logits (N, V) of step 0, 1, ... -> tokens (N,)."""
        if step < self.least:  # before top_k and top_p, which must find other tokens to keep
            logits[:, self.end] = -torch.inf
        scores = self.warp(None, logits)
        if self.greedy:
            return scores.argmax(-1)
        return torch.multinomial(scores.softmax(-1), 1, generator=self.generator)[:, 0]


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
        cache: see `begin`.

    Returns:
        Per prompt, G lists of token ids, the end of turn included where it was reached.
    """
    thinker = base_model(model)
    device, tokenizer = thinker.device, processor.tokenizer
    draw = _Sampler(tokenizer, device, temperature, top_p, top_k, seed, min_new_tokens)
    rows = begin(thinker, prompts, tokenizer.pad_token_id, num_generations, cache)
    completions: list[list[int]] = [[] for _ in range(len(prompts) * num_generations)]
    alive = list(range(len(completions)))  # which completion each row belongs to
    going = [True] * len(alive)
    for step in range(max_new_tokens):
        tokens = draw(rows.logits(), step)
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
