"""Models of experts (Qwen3-Omni) are tuned without the auxiliary loss on their routers."""

from typing import Any


def without_router_loss(trainer: Any) -> None:
    """Turns the loss off that TRL would add, in the trainer and in the model's own forward.

    It counts how often each expert is chosen, over rows with a plain mask; ours hold many completions in one
    row. The routers of a model that is only tuned are balanced already.

    Args:
        trainer: of TRL, just made.
    """
    trainer.aux_loss_enabled = False
    decoder = trainer.model.config.get_text_config()
    if hasattr(decoder, "output_router_logits"):
        decoder.output_router_logits = False
