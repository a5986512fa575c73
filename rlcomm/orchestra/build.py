"""Builds Orchestra on disk: clips, Sample files, and every benchmark's file in its official format.

Every scene has a random source of its own, made from the seed, its split and its number: the result does not
depend on the number of workers, and a longer build begins with the scenes of a shorter one.
"""

import copy
import dataclasses
import functools
import itertools
import multiprocessing
import signal
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from rlcomm import steps
from rlcomm.data.decode import decode_frames
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample, Turn, write_jsonl
from rlcomm.data.sources import read_music_avqa
from rlcomm.orchestra import evidence, official, questions, render
from rlcomm.orchestra.instruments import BY_NAME, INSTRUMENTS
from rlcomm.orchestra.questions import EXISTENCE, Question
from rlcomm.orchestra.scenes import Scene, draw
from rlcomm.orchestra.sounds import SOUNDS
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

# Shares of the base's scenes in which picture and sound disagree. So few are muted that looking is nearly
# always enough: with 7 % the base already answered most muted clips right.
SYNC_MUTED = 0.005
SYNC_AMBIENT = 0.03
# Of the base's last stretch: clips in which an instrument is silent and the words name it all the same, as
# captions of web video name what is seen. This is where the trust in the picture comes from. Their types
# begin with "Captioned/".
CAPTIONED = 0.06
# Beside the base's conversations: so many more with a text in the question that is right or beside the point.
# This is where the trust in text comes from.
READING = 0.3
_READING_KINDS = {"Read": 0.4, "Heard": 0.4, "Seen": 0.2}  # the text alone, with the sound, with the picture
# Of its last stretch as well: wrong texts that are believed, as nobody listens who copies a description.
BELIEVED = 0.15
_EXISTENCE_SHARE = 0.6  # of the training questions
_OPEN_SHARE = 0.05
_WARMUP_EXISTENCE_SHARE = 0.5
_WARMUP_OPEN_SHARE = 0.1
# Of the scenes of training and warm-up: an ambient sound replaces everything, and the question is open. With
# none, the format held on four in ten clips of the modified split.
_AMBIENT = 0.05
_WARMUP_AMBIENT = 0.1
_MODIFIED_PER_SOUND = 20  # as in AV-ConfuseBench
_CAPTIONS = "test/captions/captions.yaml"


def _source(seed: int, split: str, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def _chosen(index: int, share: float) -> bool:
    """Whether row `index` belongs to a share spread evenly over the rows: exact for every length."""
    return int((index + 1) * share + 1e-9) > int(index * share + 1e-9)


def _kind(index: int, muted: float, ambient: float) -> str:
    """Of scene `index`, by the shares of muted and ambient ones; muted where it is due to be both."""
    if _chosen(index, muted):
        return "muted"
    return "ambient" if _chosen(index + 11, ambient) else "symmetric"


def _pick(rng: np.random.Generator, items: Iterable[Any]) -> Any:
    pool = list(items)
    return pool[int(rng.integers(len(pool)))]


def _of_type(rng: np.random.Generator, ask: list[Question], type: str) -> Question:
    """A question of this type: templates, then answers have equal chances ("no" is no better a guess)."""
    pool = [question for question in ask if question.type == type]
    template = _pick(rng, sorted({question.template for question in pool}))
    pool = [question for question in pool if question.template == template]
    answer = _pick(rng, sorted({question.answer for question in pool}))
    return _pick(rng, [question for question in pool if question.answer == answer])


def _existence(rng: np.random.Generator, scene: Scene) -> Question:
    """Is there a ... sound? Half ask a sounding instrument, so that neither "yes" nor "no" is the better
    guess.

    The other half ask an absent one; where one is muted, seven in ten of them ask that one.
    """
    if rng.random() < 0.5:
        return questions.existence(scene, _pick(rng, scene.audible))
    if scene.muted and rng.random() < 0.7:
        return questions.existence(scene, scene.muted)
    return questions.existence(scene, _pick(rng, [name for name in INSTRUMENTS if name not in scene.visible]))


def _mixed(rng: np.random.Generator, scene: Scene, existence_share: float, open_share: float) -> Question:
    draw = rng.random()
    if scene.ambient or draw < open_share:
        return questions.open_question(scene)
    if draw < open_share + existence_share:
        return _existence(rng, scene)
    ask = questions.all_questions(scene)
    return _of_type(rng, ask, _pick(rng, sorted({question.type for question in ask} - {EXISTENCE})))


def _dense(rng: np.random.Generator, scene: Scene, feeling: str) -> list[Turn]:
    """All existence questions, the open ones and three or four of other types, shuffled: one conversation.
    `feeling` as in `evidence.conversation`."""
    ask = questions.all_questions(scene)
    types = sorted({question.type for question in ask} - {EXISTENCE})
    some = rng.permutation(types)[: int(rng.integers(3, 5))]
    turns = [question.turn() for question in ask if question.type == EXISTENCE] + questions.open_turns(scene)
    turns += [_of_type(rng, ask, str(type)).turn() for type in some]
    if rng.random() < 1 / 3:
        turns.append(questions.open_turn(scene))
    turns += evidence.bare(scene, rng, feeling)
    return [turns[i] for i in rng.permutation(len(turns))]


def _captions(rng: np.random.Generator, scene: Scene) -> list[Turn]:
    """The existence questions and the open ones, answered as if all that is visible sounded."""
    named = dataclasses.replace(scene, audible=tuple(sorted(scene.visible)), muted=None)
    turns = [questions.existence(named, name).turn() for name in INSTRUMENTS] + questions.open_turns(named)
    turns = [dataclasses.replace(turn, type=f"Captioned/{turn.type.split('/')[1]}") for turn in turns]
    return [turns[i] for i in rng.permutation(len(turns))]


def _meta(scene: Scene, split: str) -> dict[str, Any]:
    truth = scene.truth()
    return {"split": split} | {key: truth[key] for key in ("visible", "audible", "ambient", "muted")}


class _Builder:
    """What one build gathers before anything is written."""

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        self.scenes: list[Scene] = []

    def scene(
        self,
        split: str,
        index: int,
        kind: str,
        test: bool = False,
        ambient: str | None = None,
        fits: Callable[[Scene], bool] = lambda scene: True,
    ) -> tuple[Scene, np.random.Generator]:
        rng = _source(self.seed, split, index)
        scene = draw(f"{split}-{index:05d}", rng, test=test, kind=kind, ambient=ambient)
        while not fits(scene):
            scene = draw(scene.id, rng, test=test, kind=kind, ambient=ambient)
        self.scenes.append(scene)
        return scene, rng

    def clip(self, scene: Scene) -> Path:
        return self.out / "clips" / f"{scene.id}.mp4"

    def sample(self, scene: Scene, split: str, turns: list[Turn], id: str | None = None) -> Sample:
        clip = str(self.clip(scene))
        return Sample(id=id or scene.id, turns=tuple(turns), video=clip, audio=clip, meta=_meta(scene, split))

    def imported(self, name: str, split: str) -> list[Sample]:
        """The rows of a MUSIC-AVQA file as users get them, through the importer, and what is true of them."""
        samples, problems = read_music_avqa(self.out / name, self.out / "clips")
        assert not problems, problems
        scenes = {scene.id: scene for scene in self.scenes}
        return [
            dataclasses.replace(sample, meta=sample.meta | _meta(scenes[sample.meta["video_id"]], split))
            for sample in samples
        ]


def _sync(b: _Builder, rows: int) -> tuple[list[Sample], list[Sample]]:
    """For the base, and with another question of how it feels for its last stretch."""
    samples: dict[str, list[Sample]] = {"Level": [], "SER": []}
    for index in range(rows):
        kind = "symmetric"
        if _chosen(index, SYNC_MUTED):
            kind = "muted"
        elif _chosen(index + 10, SYNC_AMBIENT):  # other rows than the muted ones
            kind = "ambient"
        scene, rng = b.scene("sync", index, kind)
        for feeling, some in samples.items():
            some.append(b.sample(scene, "sync", _dense(copy.deepcopy(rng), scene, feeling)))
    return samples["Level"], samples["SER"]


def _captioned(b: _Builder, rows: int) -> list[Sample]:
    samples = []
    for index in range(rows):
        scene, rng = b.scene("captioned", index, "muted")
        samples.append(b.sample(scene, "captioned", _captions(rng, scene)))
    return samples


def _reading(b: _Builder, rows: int, feeling: str) -> list[Sample]:
    """Conversations with texts about the first `rows` scenes of the base, the sound or the picture beside
    them, or neither."""
    samples = []
    for index, scene in enumerate(b.scenes[:rows]):
        rng = _source(b.seed, "reading", index)
        kind = str(rng.choice(list(_READING_KINDS), p=list(_READING_KINDS.values())))
        turns = evidence.conversation(scene, kind, rng, feeling)
        if not turns:
            continue
        sample = b.sample(scene, "reading", turns, f"reading-{index:05d}")
        lost = {"Read": ("audio", "video"), "Heard": ("video",), "Seen": ("audio",)}[kind]
        for sense in lost:
            sample = sample.without(sense)
        samples.append(sample)
    return samples


def _believed(b: _Builder, rows: int) -> list[Sample]:
    """Wrong texts beside the sound or the picture of the first `rows` scenes of the base, answered as they
    say."""
    samples = []
    for index, scene in enumerate(b.scenes[:rows]):
        rng = _source(b.seed, "believed", index)
        kind, lost = ("Seen", "audio") if index % 3 == 2 else ("Heard", "video")
        turns = evidence.believed(scene, kind, rng)
        if turns:
            samples.append(b.sample(scene, "believed", turns, f"believed-{index:05d}").without(lost))
    return samples


def _only_heard(sample: Sample) -> Sample:
    """The same conversation without the picture: the questions about the sound alone, for the audio model."""
    turns = tuple(turn for turn in sample.turns if turn.type.startswith("Audio/") or turn.type == "Open/Hear")
    return Sample(id=sample.id, turns=turns, audio=sample.audio, meta=sample.meta | {"split": "audio"})


def _warmup(b: _Builder, rows: int, asymmetric: float) -> list[Sample]:
    samples = []
    for index in range(rows):
        scene, rng = b.scene("warmup", index, _kind(index, asymmetric, _WARMUP_AMBIENT))
        question = _mixed(rng, scene, _WARMUP_EXISTENCE_SHARE, _WARMUP_OPEN_SHARE)
        target = steps.build(
            questions.hear_text(scene.audible, scene.ambient),
            questions.see_text(scene.visible),
            question.answer,
        )
        samples.append(b.sample(scene, "warmup", [question.turn(target)]))
    return samples


def _train(b: _Builder, rows: int, asymmetric: float) -> list[dict]:
    out: list[dict] = []
    for index in range(rows):
        scene, rng = b.scene("train", index, _kind(index, asymmetric, _AMBIENT))
        question = _mixed(rng, scene, _EXISTENCE_SHARE, _OPEN_SHARE)
        out.append(question.music_avqa(scene.id, index))
    return out


def _conflict(b: _Builder, rows: int) -> list[Sample]:
    """Rows for SFT against believing texts: the sound alone, a text and a question, answered by the sound.

    Tasks and texts (faithful, adversarial, irrelevant) take turns, every pair of them equally often; so do
    the moods and families that are the answers. Asked in the words of MCR-BENCH, over training scenes.
    """
    samples = []
    for index in range(rows):
        task, turn = evidence.TASKS[index % 3], index // 9
        condition = evidence.CONDITIONS[1:][index // 3 % 3]
        mood = evidence.MOODS[turn % 2] if task == "SER" else None
        family = evidence.FAMILIES[turn % 4] if task == "VSC" else None
        fits = functools.partial(_fits, mood=mood, family=family)
        scene, rng = b.scene("conflict", index, "symmetric", fits=fits)
        one = evidence.evidence(scene, task, rng)
        assert one
        sample = b.sample(scene, "conflict", [one.turn(condition, "Heard")]).without("video")
        meta = {"task": task, "condition": condition, "without_text": one.question}
        samples.append(dataclasses.replace(sample, meta=sample.meta | meta))
    return samples


def _sync_test(b: _Builder, rows: int) -> list[dict]:
    """Equal numbers of every type, as far as the scenes allow; existence half yes, half no."""
    out, asked = [], Counter({type: 0 for type in questions.TYPES})
    for index in range(rows):
        scene, rng = b.scene("test", index, "symmetric", test=True)
        ask = questions.all_questions(scene)
        possible = {question.type for question in ask}
        type = min((type for type in questions.TYPES if type in possible), key=asked.__getitem__)
        asked[type] += 1
        question = _of_type(rng, ask, type)
        out.append(question.music_avqa(scene.id, index))
    return out


def _confuse(b: _Builder, rows: int) -> dict[str, tuple[list[Sample], list[dict]]]:
    """AV-ConfuseBench: muted with its positive control over the same clips, and modified."""
    out: dict[str, tuple[list[Sample], list[dict]]]
    out = {"muted": ([], []), "control": ([], []), "modified": ([], [])}
    for index in range(rows):
        scene, rng = b.scene("muted", index, "muted", test=True)
        assert scene.muted
        for split, name in (("muted", scene.muted), ("control", _pick(rng, scene.audible))):
            question = questions.existence(scene, name)
            out[split][0].append(b.sample(scene, split, [question.turn()], f"{split}-{index:05d}"))
            seen = sorted(scene.visible)
            out[split][1].append(
                {
                    "video_id": scene.id,
                    "question": question.text,
                    "answer": question.answer,
                    "instruments": ", ".join(seen),
                    "instruments_len": questions.NUMBERS[len(seen)],
                }
            )
    numbered = itertools.product(range(min(rows // len(SOUNDS), _MODIFIED_PER_SOUND)), SOUNDS)
    for index, (_, ambient) in enumerate(numbered):
        scene, _ = b.scene("modified", index, "ambient", test=True, ambient=ambient)
        turn = questions.open_turn(scene)
        out["modified"][0].append(b.sample(scene, "modified", [turn]))
        out["modified"][1].append(
            {
                "video_id": scene.id,
                "filename": f"{scene.id}.mp4",
                "question": turn.question,
                "sound_type": ambient,
                "annotation": turn.answer,
            }
        )
    return out


def _fits(scene: Scene, mood: str | None = None, family: str | None = None) -> bool:
    """Whether the music of a scene feels so, and is made in this way alone."""
    families = {BY_NAME[name].family for name in scene.audible}
    return (mood is None or evidence.mood(scene) == mood) and (family is None or families == {family})


def _mcr(b: _Builder, rows: int) -> dict[str, list[dict]]:
    """MCR-BENCH, as many rows a task, over scenes of its own; moods and families equally often.

    Row i of AQA and of SER ask scene i. So does that of VSC where the sound of scene i is made in the wanted
    way alone, as it is drawn to be in every other eight scenes; else VSC has a scene more.
    """
    out: dict[str, list[dict]] = {f"test/mcr/{task}.json": [] for task in evidence.TASKS}
    for index in range(rows):
        family = evidence.FAMILIES[index % 4]
        mood = evidence.MOODS[(index + index // 4) % 2]
        alone = family if index // 8 % 2 == 0 else None
        fits = functools.partial(_fits, mood=mood, family=alone)
        scene, rng = b.scene("text", index, "symmetric", test=True, fits=fits)
        for task in evidence.TASKS:
            if task == "VSC" and not _fits(scene, family=family):
                fits = functools.partial(_fits, family=family)
                scene, rng = b.scene("vsc", index, "symmetric", test=True, fits=fits)
            row = official.mcr(scene, task, rng)
            assert row
            out[f"test/mcr/{task}.json"].append(row)
    return out


def _benchmarks(b: _Builder, rows: int) -> dict[str, list[dict]]:
    """The rows of every file of `rlcomm.orchestra.official`; only MCR-BENCH has clips of its own."""
    scenes, most = [scene for scene in b.scenes if scene.test], min(rows, official.MOST)
    over_all_clips = {
        "alme/stimuli.jsonl": official.alme,
        "captions/captions.jsonl": official.captions,
        "avqa/val_qa.json": official.avqa,
        "avhbench/QA.json": official.avhbench,
        "cmm/all_data_final_reorg.json": official.cmm,
        "mmau/mmau.json": official.mmau,
        "mmar/MMAR-meta.jsonl": official.mmar,
        "omnibench/omnibench.jsonl": official.omnibench,
    }
    out = _mcr(b, rows)
    for name, rows_of in over_all_clips.items():
        out[f"test/{name}"] = rows_of(scenes, most, _source(b.seed, name, 0))
    return out


def _render(job: tuple[Scene, Path]) -> None:
    render.render(*job)


def _leave_ctrl_c_to_the_main_process() -> None:
    """Which ends its workers; each of them would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _render_all(b: _Builder, workers: int, progress: bool) -> None:
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


def _pictures(b: _Builder, rows: list[dict]) -> None:
    """The pictures of OmniBench's rows: the first frame of each clip."""
    for name in sorted({row["image_path"] for row in rows}):
        shown, _ = decode_frames(b.out / "clips" / Path(name).with_suffix(".mp4"), MediaSettings())
        with files.replacing(b.out / "test/omnibench/mm_data/image" / name) as temporary:
            Image.fromarray(shown[0]).save(temporary)


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
    """Writes Orchestra below `out`; splits of zero rows are left out.

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
    for name, value in (sizes | {"seed": seed}).items():
        if value < 0:
            raise UserError(f"orchestra {name}={value}: must not be negative; give 0 or more.")
    if not 0 <= asymmetric <= 1:
        raise UserError(f"orchestra asymmetric={asymmetric}: is a share; give a number from 0 to 1.")
    if workers < 1:
        raise UserError(f"orchestra workers={workers}: at least one process must render; give 1 or more.")
    b = _Builder(Path(out), seed)
    annotations: dict[str, list[Sample]] = {}
    tables: dict[str, list[dict]] = {}  # file -> rows, in the official formats
    annotations["sync"], last = _sync(b, sync)
    annotations["base"] = annotations["sync"] + _reading(b, round(READING * sync), "Level")
    annotations["settle"] = [
        *last,
        *_reading(b, round(READING * sync), "SER"),
        *_believed(b, round(BELIEVED * sync)),
        *_captioned(b, round(CAPTIONED * sync)),
    ]
    annotations["audio"] = [_only_heard(sample) for sample in annotations["sync"]]
    annotations["warmup"] = _warmup(b, warmup, asymmetric)
    tables["music_avqa/train.json"] = _train(b, train, asymmetric)
    annotations["conflict"] = _conflict(b, conflict)
    tables["test/music_avqa/test.json"] = _sync_test(b, test)
    for split, (samples, rows) in _confuse(b, test).items():
        annotations[f"test/{split}"], tables[f"test/avconfuse/{split}.json"] = samples, rows
    tables |= _benchmarks(b, test if benchmarks else 0)
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
