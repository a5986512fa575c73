"""The stages of a recipe, and the pipeline that chains them."""

import rlcomm.utils.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)
