"""Rows of one clip in one micro-batch (`group_by_clip`), so that scoring reads the clip once for all of them.

    rows of clips    a a a b b c        two a micro-batch:    b b | a c | a a        one: any order

No more rows of a clip stand together than a micro-batch holds: its other rows come elsewhere in the epoch, so
that a step still sees many clips.
"""

import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler


def by_clip(clips: Sequence[Hashable], size: int, rng: random.Random, room: int = 0) -> list[int]:
    """All rows once, shuffled, rows of one clip side by side in micro-batches.

    Args:
        clips: what tells the clip of each row.
        size: rows of a micro-batch.
        rng: draws the order.
        room: rows that the micro-batch at hand still takes before the first whole one, below `size`.
    """
    of_clip: dict[Hashable, list[int]] = defaultdict(list)
    for row in rng.sample(range(len(clips)), len(clips)):
        of_clip[clips[row]].append(row)
    pieces = [rows[at : at + size] for rows in of_clip.values() for at in range(0, len(rows), size)]
    rng.shuffle(pieces)
    whole = [piece for piece in pieces if len(piece) == size]
    rest = [row for piece in pieces if len(piece) < size for row in piece]
    while whole and len(rest) < room:
        rest += whole.pop()
    head, rest = rest[:room], rest[room:]
    filled = len(rest) // size * size
    batches = whole + [rest[at : at + size] for at in range(0, filled, size)]
    rng.shuffle(batches)
    return [*head, *(row for batch in batches for row in batch), *rest[filled:]]


class ClipSampler(Sampler):
    """`by_clip` anew each epoch, decided by seed and epoch alone: alike on all ranks and in a resumed run.

    Args:
        clips: what tells the clip of each row.
        size: rows of a micro-batch.
        seed: of the run.
        trainer: whose `state.epoch` says how far the run is.
    """

    def __init__(self, clips: Sequence[Hashable], size: int, seed: int, trainer: Any):
        self.clips, self.size, self.seed, self.trainer = clips, size, seed, trainer

    def __iter__(self) -> Iterator[int]:
        epoch = int((self.trainer.state.epoch or 0) + 1e-6)
        return iter(by_clip(self.clips, self.size, random.Random(f"{self.seed}, {epoch}")))

    def __len__(self) -> int:
        return len(self.clips)
