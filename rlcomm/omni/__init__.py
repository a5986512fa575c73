"""The one door to the model: prompts, rollouts, scores."""

import rlcomm.utils.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)
