"""The splits of Orchestra: which scenes they have and what is asked of each."""

import copy
import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rlcomm import steps
from rlcomm.data.sample import Sample, Turn
from rlcomm.data.sources import read_music_avqa
from rlcomm.orchestra import asking, evidence, official, questions
from rlcomm.orchestra.instruments import BY_NAME
from rlcomm.orchestra.scenes import Scene, draw
from rlcomm.orchestra.sounds import SOUNDS

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


def _meta(scene: Scene, split: str) -> dict[str, Any]:
    truth = scene.truth()
    return {"split": split} | {key: truth[key] for key in ("visible", "audible", "ambient", "muted")}


class Gathered:
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
        rng = asking.source(self.seed, split, index)
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


def sync(b: Gathered, rows: int) -> tuple[list[Sample], list[Sample]]:
    """For the base, and with another question of how it feels for its last stretch."""
    samples: dict[str, list[Sample]] = {"Level": [], "SER": []}
    for index in range(rows):
        kind = "symmetric"
        if asking.chosen(index, SYNC_MUTED):
            kind = "muted"
        elif asking.chosen(index + 10, SYNC_AMBIENT):  # other rows than the muted ones
            kind = "ambient"
        scene, rng = b.scene("sync", index, kind)
        for feeling, some in samples.items():
            some.append(b.sample(scene, "sync", asking.dense(copy.deepcopy(rng), scene, feeling)))
    return samples["Level"], samples["SER"]


def captioned(b: Gathered, rows: int) -> list[Sample]:
    samples = []
    for index in range(rows):
        scene, rng = b.scene("captioned", index, "muted")
        samples.append(b.sample(scene, "captioned", asking.captioned(rng, scene)))
    return samples


def reading(b: Gathered, rows: int, feeling: str) -> list[Sample]:
    """Conversations with texts about the first `rows` scenes of the base, the sound or the picture beside
    them, or neither."""
    samples = []
    for index, scene in enumerate(b.scenes[:rows]):
        rng = asking.source(b.seed, "reading", index)
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


def believed(b: Gathered, rows: int) -> list[Sample]:
    """Wrong texts beside the sound or the picture of the first `rows` scenes of the base, answered as they
    say."""
    samples = []
    for index, scene in enumerate(b.scenes[:rows]):
        rng = asking.source(b.seed, "believed", index)
        kind, lost = ("Seen", "audio") if index % 3 == 2 else ("Heard", "video")
        turns = evidence.believed(scene, kind, rng)
        if turns:
            samples.append(b.sample(scene, "believed", turns, f"believed-{index:05d}").without(lost))
    return samples


def only_heard(sample: Sample) -> Sample:
    """The same conversation without the picture: the questions about the sound alone, for the audio model."""
    turns = tuple(turn for turn in sample.turns if turn.type.startswith("Audio/") or turn.type == "Open/Hear")
    return Sample(id=sample.id, turns=turns, audio=sample.audio, meta=sample.meta | {"split": "audio"})


def warmup(b: Gathered, rows: int, asymmetric: float) -> list[Sample]:
    samples = []
    for index in range(rows):
        scene, rng = b.scene("warmup", index, asking.kind_of(index, asymmetric, _WARMUP_AMBIENT))
        question = asking.mixed(rng, scene, _WARMUP_EXISTENCE_SHARE, _WARMUP_OPEN_SHARE)
        target = steps.build(
            questions.hear_text(scene.audible, scene.ambient),
            questions.see_text(scene.visible),
            question.answer,
        )
        samples.append(b.sample(scene, "warmup", [question.turn(target)]))
    return samples


def train(b: Gathered, rows: int, asymmetric: float) -> list[dict]:
    out: list[dict] = []
    for index in range(rows):
        scene, rng = b.scene("train", index, asking.kind_of(index, asymmetric, _AMBIENT))
        question = asking.mixed(rng, scene, _EXISTENCE_SHARE, _OPEN_SHARE)
        out.append(question.music_avqa(scene.id, index))
    return out


def conflict(b: Gathered, rows: int) -> list[Sample]:
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


def sync_test(b: Gathered, rows: int) -> list[dict]:
    """Equal numbers of every type, as far as the scenes allow; existence half yes, half no."""
    out, asked = [], Counter({type: 0 for type in questions.TYPES})
    for index in range(rows):
        scene, rng = b.scene("test", index, "symmetric", test=True)
        ask = questions.all_questions(scene)
        possible = {question.type for question in ask}
        type = min((type for type in questions.TYPES if type in possible), key=asked.__getitem__)
        asked[type] += 1
        question = asking.of_type(rng, ask, type)
        out.append(question.music_avqa(scene.id, index))
    return out


def confuse(b: Gathered, rows: int) -> dict[str, tuple[list[Sample], list[dict]]]:
    """AV-ConfuseBench: muted with its positive control over the same clips, and modified."""
    out: dict[str, tuple[list[Sample], list[dict]]]
    out = {"muted": ([], []), "control": ([], []), "modified": ([], [])}
    for index in range(rows):
        scene, rng = b.scene("muted", index, "muted", test=True)
        assert scene.muted
        for split, name in (("muted", scene.muted), ("control", asking.pick(rng, scene.audible))):
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


def _mcr(b: Gathered, rows: int) -> dict[str, list[dict]]:
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


def benchmarks(b: Gathered, rows: int) -> dict[str, list[dict]]:
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
        out[f"test/{name}"] = rows_of(scenes, most, asking.source(b.seed, name, 0))
    return out
