"""Who decodes and encodes the clips."""

from dataclasses import dataclass, field


@dataclass
class WorkerFields:
    """Who decodes and encodes the clips: transformers' keys, with one meaning in every training stage."""

    dataloader_num_workers: int = field(
        default=0,
        metadata={
            "help": "processes (of each rank) that decode and encode clips ahead of the model, at least 0; "
            "0: the main process does, when they are needed"
        },
    )
    dataloader_prefetch_factor: int | None = field(
        default=None,
        metadata={
            "help": "batches each of them has ready (prompts, where rollouts are sampled), at least 1; "
            "null: 2; only with workers"
        },
    )
