"""The benchmarks by name: where their files lie in a data folder, and who reads, scores and counts.

    catalog.open_sets("runs/orchestra", ["mcr", "avconfuse_muted", "my/birds.yaml"]) -> [Set, ...]
    catalog.benchmarks_in("runs/orchestra") -> the Sets that the folder itself holds, of `OWN`

Another reader or file layout: `files` and `media` name them by benchmark. A new benchmark is a file in
`benchmarks/` and an entry of `KINDS`.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlcomm.data.sample import Sample
from rlcomm.data.vocabulary import Vocabulary
from rlcomm.evaluation.benchmarks import (
    alme,
    avconfuse,
    avhbench,
    avqa,
    cmm,
    common,
    custom,
    mcr,
    mmar,
    mmau,
    music_avqa,
    omnibench,
)
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import Reading, Record
from rlcomm.utils.errors import UserError

CONFLICT, ALIGNED = "adversarial", "faithful"
"""The conditions whose items are in conflict, and those whose senses (or texts) agree."""
OWN = ("avconfuse_muted", "avconfuse_modified", "music_avqa")
"""What a stage is evaluated on when it ends, as far as the data folder holds it."""
JOINT, AUDIO_ONLY = "joint", "audio_only"


@dataclass(frozen=True)
class Kind:
    """How one benchmark is handled.

    Attributes:
        file: its official file, below <data>/test.
        media: folder that its media paths start at, below <data>.
        read: (file, media folder) -> samples, or UserError naming every wrong row and field.
        score: (sample, what was read out of an answer) -> scored fields.
        count: records -> metrics.
        views: in which a model is asked for its own words: with everything, and where that is of interest
            with the sound alone.
    """

    file: str
    media: str
    read: Callable[[Path, Path], list[Sample]]
    score: Callable[[Sample, Reading], dict[str, Any]]
    count: Callable[[Sequence[Record]], dict[str, Metric]]
    views: tuple[str, ...] = (JOINT,)


@dataclass(frozen=True)
class Set:
    """The items of one benchmark, opened; the rest as in `Kind`."""

    key: str
    samples: list[Sample]
    score: Callable[[Sample, Reading], dict[str, Any]]
    count: Callable[[Sequence[Record]], dict[str, Metric]]
    views: tuple[str, ...] = (JOINT,)

    def parts(self) -> dict[str, list[Sample]]:
        """The samples by the name their records bear: a positive control goes by its own."""
        found: dict[str, list[Sample]] = {}
        for sample in self.samples:
            found.setdefault(sample.meta.get("benchmark", self.key), []).append(sample)
        return found


def _read_muted(path: Path, media: Path) -> list[Sample]:
    """The muted items (in conflict) and the positive control beside them (aligned), over the same clips."""
    found = []
    for name, condition, file in (
        (avconfuse.MUTED, CONFLICT, path),
        (avconfuse.CONTROL, ALIGNED, control_of(path)),
    ):
        for sample in avconfuse.read_muted(file, media):
            meta = {
                **sample.meta,
                "benchmark": name,
                "condition": condition,
                "candidates": list(common.YES_NO),
                "row": sample.id,
            }
            found.append(dataclasses.replace(sample, id=f"{name}-{sample.id}", meta=meta))
    return found


def control_of(muted: Path) -> Path:
    """The positive control beside a muted file.

    Raises:
        UserError: there is none.
    """
    control = muted.with_name("control.json")
    if not control.is_file():
        raise UserError(
            f'{muted}: has no positive control beside it, so always answering "no" would score 100 %; write '
            f"{control.name} in the same format about instruments that do sound."
        )
    return control


def _score_muted(sample: Sample, reading: Reading) -> dict[str, Any]:
    return {**common.score(sample, reading), **avconfuse.score_muted(sample, reading)}


def _score_modified(sample: Sample, reading: Reading) -> dict[str, Any]:
    vocabulary = vocabulary_of(tuple(sample.meta.get("names", sample.meta["visible"])))
    style = "direct" if reading.hearing == reading.text else "steps"  # its own segments, where it has them
    fields = avconfuse.score_modified(sample, reading, style, vocabulary)
    return {**common.score(sample, reading), **fields}


@functools.lru_cache(maxsize=1024)
def vocabulary_of(names: tuple[str, ...]) -> Vocabulary:
    """`Vocabulary.of`, each once."""
    return Vocabulary.of(names)


def _read_music_avqa(path: Path, media: Path) -> list[Sample]:
    """The candidates of every item are the different gold answers of the file."""
    samples = music_avqa.read(path, media)
    labels = common.label_set(sample.answer for sample in samples)
    return [common.with_candidates(sample, labels) for sample in samples]


def _score_music_avqa(sample: Sample, reading: Reading) -> dict[str, Any]:
    return {**common.score(sample, reading), **music_avqa.score(sample, reading)}


def _mcr(task: str) -> Kind:
    return Kind(
        f"mcr/{task}.json",
        "clips",
        lambda path, media: mcr.read(path, media, task),
        mcr.score,
        lambda records: mcr.score_metrics(records, task),
    )


KINDS: dict[str, Kind] = {
    "avconfuse_muted": Kind(
        "avconfuse/muted.json",
        "clips",
        _read_muted,
        _score_muted,
        avconfuse.muted_metrics,
        (JOINT, AUDIO_ONLY),
    ),
    "avconfuse_modified": Kind(
        "avconfuse/modified.json",
        "clips",
        avconfuse.read_modified,
        _score_modified,
        avconfuse.modified_metrics,
    ),
    "music_avqa": Kind(
        "music_avqa/test.json", "clips", _read_music_avqa, _score_music_avqa, music_avqa.score_metrics
    ),
    "avqa": Kind("avqa/val_qa.json", "clips", avqa.read, avqa.score, avqa.score_metrics),
    "avhbench": Kind("avhbench/QA.json", "clips", avhbench.read, avhbench.score, avhbench.score_metrics),
    **{name: _mcr(task) for task, name in mcr.NAMES.items()},
    "alme": Kind("alme/stimuli.jsonl", "clips", alme.read, alme.score, alme.score_metrics),
    "cmm": Kind("cmm/all_data_final_reorg.json", "clips", cmm.read, cmm.score, cmm.score_metrics),
    "mmau": Kind("mmau/mmau.json", "clips", mmau.read, mmau.score, mmau.score_metrics),
    "mmar": Kind("mmar/MMAR-meta.jsonl", "clips", mmar.read, mmar.score, mmar.score_metrics),
    "omnibench": Kind(
        "omnibench/omnibench.jsonl",
        "test/omnibench/mm_data",
        omnibench.read,
        omnibench.score,
        omnibench.score_metrics,
    ),
}
GROUPS = {"mcr": tuple(mcr.NAMES.values())}


def group_name(keys: Iterable[str]) -> str:
    """The name of a mean over benchmarks that are no group: all of theirs, in one order."""
    return "+".join(sorted(keys))


def names(wanted: Iterable[str], data: str | os.PathLike) -> list[str]:
    """The benchmarks that are meant, each once: `mcr` stands for its three, a YAML file for itself, and any
    other name for the set of one's own at <data>/test/<name>/<name>.yaml.

    Raises:
        UserError: an unknown name.
    """
    found: dict[str, None] = {}
    for name in wanted:
        own = Path(data) / "test" / name / f"{name}.yaml"
        if name not in KINDS and name not in GROUPS and own.is_file():
            name = str(own)
        elif name not in KINDS and name not in GROUPS and not name.endswith((".yaml", ".yml")):
            raise UserError(
                f"benchmark {name!r} is unknown; use some of {', '.join([*KINDS, *GROUPS])}, or the YAML "
                "file that describes a set of your own."
            )
        found.update(dict.fromkeys(GROUPS.get(name, (name,))))
    return list(found)


def open_sets(
    data: str | os.PathLike,
    wanted: Iterable[str],
    files: Mapping[str, str] | None = None,
    media: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> list[Set]:
    """Reads the benchmarks that are meant.

    Args:
        data: the data folder; every benchmark's file and media lie in it as `KINDS` says.
        wanted: see `names`.
        files: benchmark -> its file, where it lies elsewhere.
        media: benchmark -> the folder of its media, where it lies elsewhere.
        limit: only the first so many items of each (whole pairs: the conditions of one row stay together).

    Raises:
        UserError: an unknown benchmark, a missing file, or the wrong rows of all files, by row and field.
    """
    found, problems = [], []
    opened = names(wanted, data)
    for field, places in (("benchmark_files", files), ("benchmark_media", media)):
        if unknown := sorted(set(places or {}) - set(opened)):
            raise UserError(
                f"{field} names {unknown[0]!r}, which is not among the benchmarks ({', '.join(opened)}); "
                "correct the name, or leave it out."
            )
    for name in opened:
        try:
            found.append(_open(Path(data), name, files or {}, media or {}))
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    keys = [one.key for one in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"benchmark {twice[0]!r} is named twice; give the set of your own another name.")
    return [dataclasses.replace(one, samples=first(one.samples, limit)) for one in found]


def benchmarks_in(folder: str | os.PathLike, video_dir: str | os.PathLike | None = None) -> list[Set]:
    """The benchmarks of `OWN` that a data folder holds.

    Args:
        folder: the data folder; any of the files may be missing, but not all.
        video_dir: folder of the clips, default `folder`/clips.

    Raises:
        UserError: no benchmark file, a muted file without its positive control, or wrong rows.
    """
    media = dict.fromkeys(OWN, str(video_dir)) if video_dir is not None else {}
    found = [_open(Path(folder), name, {}, media) for name in OWN if _place(folder, name).is_file()]
    if not found:
        raise UserError(
            f"{folder}: holds no benchmark file; give a folder with test/avconfuse/muted.json, "
            "test/avconfuse/modified.json or test/music_avqa/test.json."
        )
    return found


def holds_benchmarks(folder: str | os.PathLike) -> bool:
    """Whether `benchmarks_in` would find a file in a data folder."""
    return any(_place(folder, name).is_file() for name in OWN)


def _place(folder: str | os.PathLike, name: str) -> Path:
    return Path(folder) / "test" / KINDS[name].file


def _open(data: Path, name: str, files: Mapping[str, str], media: Mapping[str, str]) -> Set:
    if name not in KINDS:
        key = custom.describe(name).name
        if key in KINDS or key in GROUPS:
            raise UserError(f"{name}, field 'name': {key!r} is a benchmark's own name; give it another one.")
        return Set(key, custom.read(name), custom.score, lambda rows: custom.score_metrics(rows, key))
    kind = KINDS[name]
    path = Path(files.get(name, _place(data, name)))
    if not path.is_file():
        raise UserError(
            f"{path}: the file of benchmark {name} is not there; put the official one there, or name it in "
            "the recipe's benchmark_files."
        )
    samples = kind.read(path, Path(media.get(name, data / kind.media)))
    return Set(name, samples, kind.score, kind.count, kind.views)


def first(samples: list[Sample], limit: int | None) -> list[Sample]:
    """The items of the first `limit` pairs (an item without a pair is one of its own).

    Sides that follow one another in the list (muted, then control) are cut alike.
    """
    if limit is None:
        return samples
    kept: dict[str, dict[str, None]] = {}
    found = []
    for sample in samples:
        group = kept.setdefault(str(sample.meta.get("benchmark", "")), {})
        pair = str(sample.meta.get("pair") or sample.id)
        if pair in group or len(group) < limit:
            group[pair] = None
            found.append(sample)
    return found
