"""Which rows, in which order."""

from dataclasses import dataclass

from rlcomm.config.media import MediaFields
from rlcomm.utils.options import option


@dataclass
class DataFields(MediaFields):
    """Which rows."""

    dataset: str = option("", "JSON Lines file of samples")
    max_rows: int | None = option(None, "the first so many rows", at_least=1)
    max_failed_share: float = option(
        0.1,
        "rows without a reference, sight or target are left out up to this share, and listed",
        at_least=0,
        at_most=1,
    )


@dataclass
class OrderFields:
    """In which order rows are learned."""

    group_by_clip: bool = option(
        False,
        "rows of one clip come in one micro-batch (of per_device_train_batch_size), which reads the clip "
        "once; one row a micro-batch: a plain shuffle",
    )
