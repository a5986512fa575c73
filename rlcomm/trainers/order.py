"""In which order GRPO asks the rows: TRL's, the same in a resumed run; with twins side by side, types evenly.

a generation asks P prompts:   p p'  q q'  r s t ...      pairs first, so that a rank that holds a pair's
                                                          completions holds both rows
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Sampler
from trl.trainer.utils import RepeatSampler

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Drawing:
    """Which rows a generation asks, where they are not simply shuffled.

    Attributes:
        twins: row -> row of its twin, both ways.
        share: of the prompts of a generation in [0, 1] that come with their twin; where a generation cannot
            hold it, several in a row do.
        types: per row the type of its question: every type is asked as often, rows of a rare one again and
            again; None: as they come.
    """

    twins: Mapping[int, int]
    share: float = 0.0
    types: Sequence[str] | None = None

    def pairs_in(self, generation: int, prompts: int) -> int:
        """How many pairs generation number `generation` of an epoch (from 0) holds among its prompts."""
        each = self.share * prompts / 2 + _ROUNDING
        return int((generation + 1) * each) - int(generation * each)

    def arranged(self, order: Sequence[int], prompts: int, generator: torch.Generator | None) -> list[int]:
        """The rows of an epoch.

        Args:
            order: all rows, shuffled.
            prompts: P of a generation.
            generator: shuffles the pairs; None: they stay in order.

        Returns:
            Whole generations, as many as `order` has; without `types` no row stands in it twice.
        """
        first = {row: place for place, row in enumerate(order)}
        pairs = [(a, self.twins[a]) for a in order if a in self.twins and first[a] < first[self.twins[a]]]
        if generator is not None:
            pairs = [pairs[i] for i in torch.randperm(len(pairs), generator=generator).tolist()]
        counts = [self.pairs_in(i, prompts) for i in range(len(order) // prompts)]
        if self.types is not None:
            return self._evenly(order, pairs, counts, prompts)
        together = iter(pairs)
        asked = {row for pair in pairs[: sum(counts)] for row in pair}
        alone = iter([row for row in order if row not in asked])
        found: list[int] = []
        for count in counts:
            found += itertools.chain.from_iterable(itertools.islice(together, count))
            found += itertools.islice(alone, prompts - 2 * count)
        return found

    def _evenly(
        self, order: Sequence[int], pairs: Sequence[tuple[int, int]], counts: Sequence[int], prompts: int
    ) -> list[int]:
        """Each time the type that was asked least; of a type, row after row and then from the first again."""
        assert self.types is not None
        asked = Counter({self.types[row]: 0 for row in order})
        alone = {kind: _Round([row for row in order if self.types[row] == kind]) for kind in asked}
        together = {
            kind: _Round(some) for kind in asked
            if (some := [pair for pair in pairs if self.types[pair[0]] == kind])
        }  # fmt: skip
        found: list[int] = []
        for count in counts:
            rows: list[int] = []
            for _ in range(count):
                kind = min(together, key=asked.__getitem__)
                rows += together[kind].next()
                asked[kind] += 2
            while len(rows) < prompts:
                kind = min(asked, key=asked.__getitem__)
                rows.append(alone[kind].next(rows))
                asked[kind] += 1
            found += rows
        return found


class _Round:
    """Items one after the other, round and round; those in `but` are passed over, if not all are."""

    def __init__(self, items: Sequence[Any]):
        self.items, self.at = items, 0

    def next(self, but: Sequence[Any] = ()) -> Any:
        for _ in self.items:
            item = self.items[self.at % len(self.items)]
            self.at += 1
            if item not in but:
                break
        return item


class OrderOfEpoch(Sampler):
    """TRL's sampler, whose order of an epoch is the same in a resumed run.

    TRL's own draws one order after the other; a process that resumes in the third epoch would draw the first
    one again, and see some rows twice and others never.

    Args:
        sampler: TRL's RepeatSampler.
        trainer: whose `state.epoch` says how far the run is.
        drawing: which rows a generation asks; None: as TRL shuffles them.
    """

    def __init__(self, sampler: Any, trainer: Any, drawing: Drawing | None = None):
        self.sampler, self.trainer, self.drawing = sampler, trainer, drawing

    def __iter__(self) -> Iterator[int]:
        sampler = self.sampler
        if sampler.shuffle:
            sampler.generator.manual_seed(sampler.seed)
            for _ in range(int((self.trainer.state.epoch or 0) + 1e-6)):  # those of the epochs before
                torch.randperm(sampler.num_samples, generator=sampler.generator)
        if self.drawing is None:
            return iter(sampler)
        order, generator = list(range(sampler.num_samples)), None
        if sampler.shuffle:
            generator = sampler.generator
            order = torch.randperm(sampler.num_samples, generator=generator).tolist()
        rows = self.drawing.arranged(order, sampler.batch_size, generator)
        # TRL repeats each row G times, and the generation for each of its steps: places in `rows` here
        places = RepeatSampler(
            order, sampler.mini_repeat_count, sampler.batch_size, sampler.repeat_count, shuffle=False
        )
        return (rows[place] for place in places)

    def __len__(self) -> int:
        return len(self.sampler)
