"""The stages of a recipe, and the pipeline that chains them."""

import rlcomm.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)
