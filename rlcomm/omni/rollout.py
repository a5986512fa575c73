"""G completions per prompt: prompt and media are read once, the key/value cache is expanded to G samples."""

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

from rlcomm.omni.encode import EncodedPrompt, merge_media
from rlcomm.omni.policy import suppressed_tokens


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
    positions = torch.zeros((3, len(prompts), longest), dtype=torch.long)
    for i, prompt in enumerate(prompts):
        ids[i, longest - len(prompt) :] = prompt.ids
        mask[i, longest - len(prompt) :] = 1
        positions[:, i, longest - len(prompt) :] = prompt.positions
    following = torch.tensor([prompt.next_position for prompt in prompts])
    return ids.to(device), mask.to(device), positions.to(device), following.to(device)


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

    Returns:
        Per prompt, G lists of token ids, the end of turn included where it was reached.
    """
    thinker = base_model(model)
    device, dtype = thinker.device, thinker.dtype
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

    ids, mask, positions, following = pad_prompts(prompts, tokenizer.pad_token_id, device)
    cache = DynamicCache(config=thinker.config.get_text_config())
    hidden = thinker.model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        **merge_media(prompts, device, dtype),
    ).last_hidden_state[:, -1]  # fmt: skip
    if num_generations > 1:
        cache.batch_repeat_interleave(num_generations)
        mask, following, hidden = (
            x.repeat_interleave(num_generations, dim=0) for x in (mask, following, hidden)
        )

    completions: list[list[int]] = [[] for _ in range(len(prompts) * num_generations)]
    alive = torch.arange(len(completions), device=device)  # which completion each row of the cache belongs to
    for step in range(max_new_tokens):
        scores = warp(None, thinker.lm_head(hidden).float())
        if greedy:
            tokens = scores.argmax(-1)
        else:
            tokens = torch.multinomial(scores.softmax(-1), 1, generator=generator)[:, 0]
        for row, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            completions[row].append(token)
        going = tokens != tokenizer.eos_token_id
        if step + 1 == max_new_tokens or not going.any():
            break
        if not going.all():  # finished rows leave the batch: every later step costs only what it must
            keep = going.nonzero()[:, 0]
            cache.batch_select_indices(keep)
            alive, tokens, mask, following = alive[keep], tokens[keep], mask[keep], following[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        hidden = thinker.model(
            input_ids=tokens[:, None], attention_mask=mask, past_key_values=cache, use_cache=True,
            position_ids=(following + step)[None, :, None].expand(3, -1, -1),
        ).last_hidden_state[:, -1]  # fmt: skip
    return [completions[i * num_generations : (i + 1) * num_generations] for i in range(len(prompts))]


def generate(model: Any, processor: Any, prompts: list[EncodedPrompt], **options: Any) -> list[list[str]]:
    """`generate_ids` decoded: per prompt, G texts without special tokens."""
    return [
        processor.tokenizer.batch_decode(group, skip_special_tokens=True)
        for group in generate_ids(model, processor, prompts, **options)
    ]
