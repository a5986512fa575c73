"""Free-form decoding over several branches: every branch reads its own prompt, a rule mixes their scores.

    branch 1: sound, picture, text -> logits --+
    branch 2: sound ----------------> logits --+--> rule --> scores --> argmax --> one token, fed to all
    ...                                      --+

The branches differ in media and words and so in length. What they share is the answer: every branch is asked
for its next token behind the same words. They are read together, one clip under several words once, and go on
together, a row each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import SuppressTokensLogitsProcessor

from rlcomm.omni.encode import EncodedPrompt
from rlcomm.omni.policy import base_model, suppressed_tokens
from rlcomm.omni.rollout import begin

Rule = Callable[[list[torch.Tensor]], torch.Tensor]
"""Next-token logits (B, V) of every branch, float32, in order -> scores (B, V)."""


@torch.no_grad()
def generate_branched_ids(
    model: Any,
    processor: Any,
    branches: Sequence[Sequence[EncodedPrompt]],
    rule: Rule,
    max_new_tokens: int = 256,
) -> list[list[int]]:
    """Decodes every item greedily by the mixed scores of its branches.

    Special tokens but the end of turn are ruled out (-inf) in every branch and in the mix. A row in which
    the rule leaves no score above -inf, or a NaN at the top, ends there: no branch has an answer to give.
    With one branch and a rule that returns its logits this is `rollout.generate_ids` at temperature 0.

    Args:
        model: the thinker, unwrapped (or a PeftModel around it).
        processor: its processor.
        branches: `branches[k][i]` is branch k's prompt of item i; each prompt may have a length of its own.
        rule: as `decoders.token_rule` makes them; it sees the B items that have not ended yet.
        max_new_tokens: at most so many tokens, the end of turn included.

    Returns:
        Per item the token ids, the end of turn included where it was reached.

    Raises:
        ValueError: no branch or no item, or branches with different numbers of items.
    """
    if len({len(prompts) for prompts in branches}) != 1 or not branches[0]:
        raise ValueError(
            f"need branches of the same items, at least one, not {[len(prompts) for prompts in branches]}"
        )
    thinker = base_model(model)
    device, tokenizer = thinker.device, processor.tokenizer
    suppress: Any = SuppressTokensLogitsProcessor(suppressed_tokens(tokenizer), device=device)

    rows = begin(thinker, [prompt for prompts in branches for prompt in prompts], tokenizer.pad_token_id)
    answers: list[list[int]] = [[] for _ in branches[0]]
    alive = torch.arange(len(answers), device=device)  # which answer each row belongs to
    for step in range(max_new_tokens):
        logits = suppress(None, rows.logits()).chunk(len(branches))  # branch after branch
        scores = suppress(None, rule(list(logits)))
        tokens = scores.argmax(-1)
        answered = scores.gather(-1, tokens[:, None])[:, 0] > -torch.inf  # a NaN is not
        for answer, token, given in zip(alive.tolist(), tokens.tolist(), answered.tolist(), strict=True):
            if given:
                answers[answer].append(token)
        going = answered & (tokens != tokenizer.eos_token_id)
        if step + 1 == max_new_tokens or not going.any():
            break
        keep = going.nonzero()[:, 0]
        alive, tokens = alive[keep], tokens[keep]
        if len(keep) < len(going):
            rows.select(torch.cat([keep + number * len(going) for number in range(len(branches))]))
        rows.feed(tokens.repeat(len(branches)))
    return answers


def generate_branched(
    model: Any,
    processor: Any,
    branches: Sequence[Sequence[EncodedPrompt]],
    rule: Rule,
    max_new_tokens: int = 256,
) -> list[str]:
    """`generate_branched_ids` decoded: per item its text without special tokens."""
    answers = generate_branched_ids(model, processor, branches, rule, max_new_tokens)
    return processor.tokenizer.batch_decode(answers, skip_special_tokens=True)
