"""The same numbers by the plainest way: one row at a time, transformers' own forward, full logits, with the
media."""

from pathlib import Path
from typing import Any

import torch
from trl import SFTConfig

from rlcomm.omni.encode import EncodedPrompt, merge_media
from rlcomm.omni.policy import Policy

CPU = torch.device("cpu")


def plain(
    policy: Policy, prompt: EncodedPrompt, ids: list[int], temperature: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities (T,) of the completion `ids` and entropies (T,) of the distributions before each of
    them."""
    completion = torch.tensor(ids)
    row = torch.cat([prompt.ids, completion])[None]
    logits = policy.model(
        input_ids=row, attention_mask=torch.ones_like(row), use_audio_in_video=True,
        video_second_per_grid=torch.tensor([1.0]), **merge_media([prompt], CPU, torch.float32),
    ).logits[0, len(prompt) - 1 : -1]  # fmt: skip
    logps = (logits / temperature).log_softmax(-1)
    return logps.gather(1, completion[:, None])[:, 0], -(logps.exp() * logps).sum(-1)


def gradients(policy: Policy) -> torch.Tensor:
    """All gradients of the policy as one vector; they are cleared."""
    grads = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])
    policy.model.zero_grad()
    return grads


def weights(policy: Policy) -> torch.Tensor:
    """A copy of all weights as one vector."""
    return torch.cat([p.detach().flatten().clone() for p in policy.model.parameters()])


def sft_config(folder: Path, **settings: Any) -> SFTConfig:
    """TRL's settings with what `rlcomm.config.sft` fixes for our path, on the CPU, one plain SGD step (not
    clipped: clipping would hide a wrong scale)."""
    options: dict[str, Any] = dict(
        dataset_kwargs={"skip_prepare_dataset": True}, remove_unused_columns=False, max_length=None,
        bf16=False, gradient_checkpointing=False, use_cpu=True, report_to="none", save_strategy="no",
        disable_tqdm=True, max_steps=1, learning_rate=0.01, max_grad_norm=0.0, lr_scheduler_type="constant",
        optim="sgd", output_dir=str(folder), train_sampling_strategy="sequential",
    )  # fmt: skip
    return SFTConfig(**{**options, **settings})
