"""Rows of different senses on several processes: refused where these would wait for each other for ever.

Where rank 0 reads sound and picture and rank 1 a picture alone, rank 0 runs a tower that rank 1 does not.
"""

import mimetypes
import re
from collections.abc import Sequence
from typing import Any

from rlcomm.data.sample import Sample
from rlcomm.omni.policy import ENCODERS
from rlcomm.utils.errors import UserError


def check_senses(recipe: Any, model: Any, samples: Sequence[Sample]) -> None:
    """Every process must run the same towers in every step wherever running one is an act of all processes:
    under ZeRO-3, which gathers the weights of each layer as it is reached, and where towers train whose
    gradients all processes sum (plain DDP can be told to look which were left out, ZeRO-2 cannot).

    Args:
        recipe: of a training stage.
        model: the policy's, with what of it trains.
        samples: the rows that will be seen, senses that are dropped left out already.

    Raises:
        UserError: rows of different senses where that cannot work; names two of them.
    """
    if recipe.world_size == 1:
        return
    zero = recipe.deepspeed_plugin.zero_stage if recipe.deepspeed_plugin else 0
    towers_train = any(
        parameter.requires_grad and re.search(rf"(^|\.)({'|'.join(ENCODERS)})\.", name)
        for name, parameter in model.named_parameters()
    )
    looks = recipe.ddp_find_unused_parameters
    if looks is None:  # as transformers decides
        looks = not recipe.gradient_checkpointing
    if zero == 3:
        why, remedy = "under ZeRO-3", "start with launch/zero2.yaml and freeze_encoders true"
    elif zero and towers_train:
        why, remedy = f"with freeze_encoders false under ZeRO-{zero}", "set freeze_encoders true"
    elif towers_train and not looks:
        why = "with freeze_encoders false and ddp_find_unused_parameters false"
        remedy = "set ddp_find_unused_parameters true or freeze_encoders true"
    else:
        return
    first: dict[tuple[str, ...], Sample] = {}
    for sample in samples:
        first.setdefault(senses(sample, images_apart=zero == 3), sample)
    if len(first) == 1:
        return
    (some, one), (others, other) = list(first.items())[:2]
    dropped = any(getattr(recipe, f"modality_dropout_{name}", 0.0) for name in ("video", "audio"))
    raise UserError(
        f"{recipe.dataset}: row {one.id!r} is read with {' and '.join(some) or 'no clip'}, row {other.id!r} "
        f"with {' and '.join(others) or 'no clip'}, and {why} processes that read different senses in one "
        f"step fail or wait for each other for ever; {remedy}, or give rows of one kind"
        f"{' and no modality_dropout' if dropped else ''}."
    )


def senses(sample: Sample, images_apart: bool = False) -> tuple[str, ...]:
    """What of a sample the towers read: `sound` and `picture`; an image file is an `image` instead
    where those are told apart (a batch of both runs its tower twice)."""
    found = ["sound"] if sample.audio else []
    if sample.video:
        kind = mimetypes.guess_type(str(sample.video))[0] or ""
        found.append("image" if images_apart and kind.startswith("image/") else "picture")
    return tuple(found)
