"""The one loop of every evaluation and diagnosis: batches, shared by processes, kept in a journal, in order.

    batches -> this process's share -> journal, or measured now -> rows -> the rows of all, in order

What is measured is the batch's own business: what a policy writes (`generated`), what its label scores say in
every branch (`scored`), a part of a diagnosis (`diagnostics.run`). The partition is fixed and every row is
read back from the journal, so neither an interruption nor the number of processes changes a byte.
"""

import contextlib
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcomm.data.clips import load_clip
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.evaluation.catalog import Set
from rlcomm.utils import processes
from rlcomm.utils.journal import kept, open_journal, weights

FORM = 2  # of what a journal holds; 2: labels scored by their own tokens, with their number
KEPT_CLIPS = 8  # decoded clips that are remembered: a clip's questions follow one another


@dataclass(frozen=True)
class Batch:
    """What is measured in one go.

    Attributes:
        name: of its file in the journal.
        size: items in it, for the bar.
        about: words for the bar.
        measure: gives its rows, JSON objects.
    """

    name: str
    size: int
    about: str
    measure: Callable[[], list[Any]]


class Clips:
    """Decodes clips; those used last are remembered.

    Args:
        media: how clips are decoded.
        cache_dir: of decoded media.
        most: so many are remembered.
    """

    def __init__(self, media: MediaSettings, cache_dir: str | None = None, most: int = KEPT_CLIPS):
        self.media, self.cache_dir, self.most = media, cache_dir, most
        self.known: OrderedDict[tuple[str | None, str | None], Clip] = OrderedDict()

    def __call__(self, sample: Sample) -> Clip:
        """The decoded clip of a sample.

        Raises:
            MediaError: it is missing or cannot be decoded; the message names the file.
        """
        place = sample.video, sample.audio
        if place not in self.known:
            self.known[place] = load_clip(sample.video, sample.audio, self.media, self.cache_dir)
            while len(self.known) > self.most:
                self.known.popitem(last=False)
        self.known.move_to_end(place)
        return self.known[place]


def claim(folder: Path, policy: Any, sets: Sequence[Set], asked: Mapping[str, Any]) -> Path:
    """Claims a folder for the journal of one measurement, on all processes.

    Args:
        folder: it need not exist.
        policy: who is asked.
        sets: what is asked.
        asked: JSON values that say how; a journal of other values is another measurement.

    Raises:
        UserError: the folder holds another measurement that was cut off.
    """
    path = str(getattr(policy, "path", ""))
    made = {
        "form": FORM,
        "model": path,
        "weights": weights(path),
        "benchmarks": {one.key: zlib.crc32(repr(one.samples).encode()) for one in sets},
        **asked,
    }
    if processes.rank() == 0:
        open_journal(folder, made, first=True)
    processes.wait()  # for the plan, so that no process measures under another one
    return open_journal(folder, made, first=False)


def measured(
    model: Any,
    batches: Sequence[Batch],
    journal: Path | None = None,
    title: str = "evaluate",
    progress: bool = True,
) -> list[list[Any]]:
    """The rows of each of these batches: what the journal holds, and the rest measured now."""
    from tqdm.auto import tqdm

    found = []
    with (
        inference(model),
        tqdm(
            total=sum(batch.size for batch in batches),
            desc=title,
            unit="item",
            disable=not progress,
            dynamic_ncols=True,
        ) as bar,
    ):
        for batch in batches:
            bar.set_postfix_str(batch.about, refresh=False)
            found.append(kept(journal, batch.name, batch.measure))
            bar.update(batch.size)
    return found


def shared(
    model: Any,
    batches: Sequence[Batch],
    journal: Path | None = None,
    title: str = "evaluate",
    progress: bool = True,
) -> list[list[Any]] | None:
    """The rows of every batch, in order, measured by all processes (accelerate) together.

    Returns:
        With a journal they are read back from it by the first process, None on the others; without one all
        processes get all of them.
    """
    rank, world = processes.rank(), processes.world()
    mine = measured(model, batches[rank::world], journal, title, progress and rank == 0)
    if journal is not None:
        processes.wait()
        return measured(model, batches, journal, progress=False) if rank == 0 else None
    if world == 1:
        return mine
    from accelerate.utils import gather_object

    placed = gather_object(list(zip(range(rank, len(batches), world), mine, strict=True)))
    return [rows for _, rows in sorted(placed, key=lambda item: item[0])]


@contextlib.contextmanager
def inference(model: Any) -> Iterator[None]:
    """No gradients and no dropout; the model is given back in the mode it came in (training)."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def split(items: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    """Items in order, so many at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
