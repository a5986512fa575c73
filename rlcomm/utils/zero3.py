"""Whole models beside a partitioned one, and a partitioned one made whole."""

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def outside_zero3() -> Iterator[None]:
    """Inside, `from_pretrained` loads whole models even while a DeepSpeed ZeRO-3 configuration is alive.

    transformers keeps the live configuration in a module global and partitions ANY model it loads under it,
    helper models included, whose weights then read as empty tensors. It is put back afterwards.
    """
    from transformers.integrations import deepspeed as integration

    reference = getattr(integration, "_hf_deepspeed_config_weak_ref", None)
    alive = reference() if reference is not None else None
    if alive is None:
        yield
        return
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration.set_hf_deepspeed_config(alive)


@contextlib.contextmanager
def gathered(model: Any) -> Iterator[None]:
    """Inside, the weights of a model that ZeRO-3 partitioned at loading are whole on every process.

    For a model that no DeepSpeed engine runs yet: nothing else would gather them, and its layers would read
    empty tensors. All processes must come here. Does nothing for a model that is whole.
    """
    partitioned = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_id")]
    if not partitioned:
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(partitioned):
        yield
