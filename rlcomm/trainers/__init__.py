"""TRL's trainers, with the clip in every forward."""

import rlcomm.utils.torchvision_ops  # noqa: F401  (before TRL, which imports torchvision)
