"""The tokens by which an answer to choose from is scored: its own, and its end where that tells it apart.

violin   vi|olin      nothing more: the end of the turn is nearly sure behind every label, and averaged in
trumpet  tr|um|pet    it would shrink every difference between them
1        1|<end>      10 begins like it, so that it ends is part of what it says
10       1|0
"""

from collections.abc import Sequence
from typing import Any


def label_ids(tokenizer: Any, labels: Sequence[str], closing: str | None = None) -> list[list[int]]:
    """Token ids of every label; of one with whose tokens another begins, also the token that ends it.

    Args:
        tokenizer: of the model.
        labels: as the assistant would write them, K different ones.
        closing: what the assistant writes behind a label, of which the first token ends it; None: the end of
            its turn.

    Returns:
        K lists, none of them empty.
    """
    own = [tokenizer(label, add_special_tokens=False)["input_ids"] for label in labels]
    if closing is None:
        end = [tokenizer.eos_token_id]
    else:
        end = tokenizer(closing, add_special_tokens=False)["input_ids"][:1]
    return [
        ids + end
        if not ids or any(len(ids) < len(other) and other[: len(ids)] == ids for other in own)
        else ids
        for ids in own
    ]


def label_tokens(tokenizer: Any, labels: Sequence[str], closing: str | None = None) -> list[int]:
    """How many tokens of every label are scored, (K,): a mean log-probability times it is the label's own."""
    return [len(ids) for ids in label_ids(tokenizer, labels, closing)]
