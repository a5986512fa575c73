"""Builds Orchestra on disk: clips, Sample files, and every benchmark's file in its official format.

Every scene has a random source of its own, made from the seed, its split and its number: the result does not
depend on the number of workers, and a longer build begins with the scenes of a shorter one.

Files: `clips/<id>.mp4`, `truth.json` (what is seen and heard in every clip), and

- `sync.jsonl`: conversations (dense supervision: every instrument is asked about in every scene),
  visible = audible but for 0.5 % with one instrument muted and 3 % in which an ambient sound replaces
  everything; `audio.jsonl`: their questions about the sound, without the picture; `base.jsonl`: the same
  rows and 30 % more with texts in the questions, which are right or beside the point ("Text/" types), for
  the base; `settle.jsonl`: these, asked for the mood in place of the level, 15 % more whose texts are
  wrong and believed, and 6 % more in which an instrument is silent and the words name it all the same,
  as captions do ("Captioned/" types).
- `warmup.jsonl`: single questions whose target has all three segments; in a tenth of the scenes an
  ambient sound replaces everything, and they get the open question.
- `music_avqa/train.json`: single questions in the official format, six in ten of them "Is there a ...
  sound?", a twentieth the open question over an ambient sound; `train.jsonl`: the same rows through the
  importer.
- `conflict.jsonl`: questions about the sound alone, with a text beside them that is faithful, adversarial
  or irrelevant, as often each; answered by the sound, over clips of their own (`conflict-*`).
- `test/avconfuse/{muted,control,modified}.json`, `test/music_avqa/test.json` in the official formats, and
  the same rows as `test/{muted,control,modified,sync}.jsonl`.
- below `test/`, every other benchmark in its official format, at most 200 rows each over the test clips
  above; media paths start at `clips`:

      captions/captions.jsonl          captions that contradict the picture, four rows a clip; the
                                       captions.yaml beside it describes it, media folder included
      alme/stimuli.jsonl               transcripts that contradict the sound
      avhbench/QA.json                 yes or no, like the next one
      cmm/all_data_final_reorg.json
      avqa/val_qa.json                 multiple choice, like the next three
      mmau/mmau.json
      mmar/MMAR-meta.jsonl
      omnibench/omnibench.jsonl        media paths start at `test/omnibench/mm_data`: pictures in its
                                       folder image, sounds from the clips
      mcr/{AQA,SER,VSC}.json           descriptions that contradict the sound: `test` rows each over clips
                                       of their own (`text-*`, `vsc-*`: about three for two rows)
"""

import multiprocessing
import signal
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from rlcomm.data.decode import decode_frames
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample, write_jsonl
from rlcomm.orchestra import official, render, splits
from rlcomm.orchestra.scenes import Scene
from rlcomm.orchestra.splits import Gathered
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

_CAPTIONS = "test/captions/captions.yaml"


def _render(job: tuple[Scene, Path]) -> None:
    render.render(*job)


def _leave_ctrl_c_to_the_main_process() -> None:
    """Which ends its workers; each of them would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _render_all(b: Gathered, workers: int, progress: bool) -> None:
    jobs = [(scene, b.clip(scene)) for scene in b.scenes]
    bar: dict[str, Any] = {"total": len(jobs), "desc": "Orchestra", "unit": "clip", "disable": not progress}
    if workers == 1 or len(jobs) < 32:
        for job in tqdm(jobs, **bar):
            _render(job)
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with context.Pool(min(workers, len(jobs)), _leave_ctrl_c_to_the_main_process) as pool:
        for _ in tqdm(pool.imap_unordered(_render, jobs, chunksize=16), **bar):
            pass


def _pictures(b: Gathered, rows: list[dict]) -> None:
    """The pictures of OmniBench's rows: the first frame of each clip."""
    for name in sorted({row["image_path"] for row in rows}):
        shown, _ = decode_frames(b.out / "clips" / Path(name).with_suffix(".mp4"), MediaSettings())
        with files.replacing(b.out / "test/omnibench/mm_data/image" / name) as temporary:
            Image.fromarray(shown[0]).save(temporary)


def _rows(
    b: Gathered, sizes: dict[str, int], asymmetric: float, benchmarks: bool
) -> tuple[dict[str, list[Sample]], dict[str, list[dict]]]:
    """What will be written: samples by split, and rows by file in the official formats."""
    annotations: dict[str, list[Sample]] = {}
    tables: dict[str, list[dict]] = {}  # file -> rows, in the official formats
    annotations["sync"], last = splits.sync(b, sizes["sync"])
    annotations["base"] = annotations["sync"] + splits.reading(
        b, round(splits.READING * sizes["sync"]), "Level"
    )
    annotations["settle"] = [
        *last,
        *splits.reading(b, round(splits.READING * sizes["sync"]), "SER"),
        *splits.believed(b, round(splits.BELIEVED * sizes["sync"])),
        *splits.captioned(b, round(splits.CAPTIONED * sizes["sync"])),
    ]
    annotations["audio"] = [splits.only_heard(sample) for sample in annotations["sync"]]
    annotations["warmup"] = splits.warmup(b, sizes["warmup"], asymmetric)
    tables["music_avqa/train.json"] = splits.train(b, sizes["train"], asymmetric)
    annotations["conflict"] = splits.conflict(b, sizes["conflict"])
    tables["test/music_avqa/test.json"] = splits.sync_test(b, sizes["test"])
    for split, (samples, rows) in splits.confuse(b, sizes["test"]).items():
        annotations[f"test/{split}"], tables[f"test/avconfuse/{split}.json"] = samples, rows
    tables |= splits.benchmarks(b, sizes["test"] if benchmarks else 0)
    return annotations, tables


def _check(numbers: dict[str, int], asymmetric: float, workers: int) -> None:
    for name, value in numbers.items():
        if value < 0:
            raise UserError(f"orchestra {name}={value}: must not be negative; give 0 or more.")
    if not 0 <= asymmetric <= 1:
        raise UserError(f"orchestra asymmetric={asymmetric}: is a share; give a number from 0 to 1.")
    if workers < 1:
        raise UserError(f"orchestra workers={workers}: at least one process must render; give 1 or more.")


def _write(b: Gathered, annotations: dict[str, list[Sample]], tables: dict[str, list[dict]]) -> None:
    """Everything but the clips, which are there."""
    _pictures(b, tables["test/omnibench/omnibench.jsonl"])
    for name, rows in tables.items():
        if rows:
            (files.write_jsonl if name.endswith("l") else files.write_json)(b.out / name, rows)
    if tables["test/captions/captions.jsonl"]:
        files.write_text(b.out / _CAPTIONS, official.CAPTIONS)
    for name, source in (("train", "music_avqa/train.json"), ("test/sync", "test/music_avqa/test.json")):
        annotations[name] = b.imported(source, name.split("/")[0]) if tables[source] else []
    for name, samples in annotations.items():
        if samples:
            write_jsonl(b.out / f"{name}.jsonl", samples)
    files.write_json(b.out / "truth.json", {scene.id: scene.truth() for scene in b.scenes})


def build(
    out: str | Path,
    *,
    seed: int = 0,
    sync: int = 0,
    warmup: int = 0,
    train: int = 0,
    conflict: int = 0,
    test: int = 300,
    asymmetric: float = 0.5,
    benchmarks: bool = True,
    workers: int = 2,
    progress: bool = True,
) -> None:
    """Writes Orchestra below `out`, the files named above; splits of zero rows are left out.

    The same arguments give the same bytes (the clips: on the same machine), whatever the number of workers.

    Args:
        out: folder; made if missing.
        seed: of everything.
        sync: conversations for the base.
        warmup: rows of the warm-up.
        train: rows of the reinforcement learning.
        conflict: rows of the SFT against believing texts.
        test: muted clips, and rows of the sync test; the modified split has a fifth per sound, at most 20.
        asymmetric: share in [0, 1] of warm-up and training scenes with one instrument muted.
        benchmarks: write the other benchmarks too.
        workers: processes that render.
        progress: show a bar.

    Raises:
        UserError: a value out of range, or `out` cannot be written.
    """
    sizes = {"sync": sync, "warmup": warmup, "train": train, "conflict": conflict, "test": test}
    _check(sizes | {"seed": seed}, asymmetric, workers)
    b = Gathered(Path(out), seed)
    annotations, tables = _rows(b, sizes, asymmetric, benchmarks)
    try:
        (b.out / "clips").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{b.out}: cannot be a folder for Orchestra ({error.strerror}); give another one."
        ) from error
    # Annotations of an earlier build go first, the new ones come last: where they stand, all clips are there.
    written = [*tables, *(f"{name}.jsonl" for name in annotations)]
    for name in (*written, _CAPTIONS, "train.jsonl", "test/sync.jsonl", "truth.json"):
        (b.out / name).unlink(missing_ok=True)
    _render_all(b, workers, progress)
    _write(b, annotations, tables)
