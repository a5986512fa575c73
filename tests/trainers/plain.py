"""The same numbers by the plainest way: one row at a time, transformers' own forward, full logits, with the
media."""

import torch

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
