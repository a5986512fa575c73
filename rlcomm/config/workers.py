"""Who decodes and encodes the clips."""

from dataclasses import dataclass

from rlcomm.utils.options import option


@dataclass
class WorkerFields:
    """Who decodes and encodes the clips: transformers' keys, with one meaning in every training stage."""

    dataloader_num_workers: int = option(
        0,
        "processes (of each rank) that decode and encode clips ahead of the model; 0: the main process does, "
        "when they are needed",
        at_least=0,
    )
    dataloader_prefetch_factor: int | None = option(
        None,
        "batches each of them has ready (prompts, where rollouts are sampled); null: 2; only with workers",
        at_least=1,
    )
