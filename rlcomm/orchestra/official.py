"""Orchestra in the official formats of the benchmarks: pure functions from test scenes to the rows of a file.

What a row asks, its scene answers beyond doubt. The kinds of question of a file take turns, and so do the
scenes of a kind; "yes" and "no" are asked equally often, and the gold option stands in every place equally
often. A longer file begins with the rows of a shorter one. Clips are named by their file alone. Arguments of
the functions that give a whole file:

    scenes   in sync, with one instrument muted, with all sound replaced (told apart by what they are)
    rows     how many at most; a kind of question that no scene answers is left out
    rng      chooses the instruments and the order of the options
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rlcomm.orchestra import questions
from rlcomm.orchestra.evidence import CAPTION, CONDITIONS, MOODS, caption, evidence, mood
from rlcomm.orchestra.instruments import BY_NAME, INSTRUMENTS
from rlcomm.orchestra.questions import NUMBERS
from rlcomm.orchestra.scenes import Scene
from rlcomm.orchestra.sounds import SOUNDS

MOST = 200  # rows of a file over clips that are there already
# The description of captions.jsonl, beside it (rlcomm.evaluation.benchmarks.custom).
CAPTIONS = "name: captions\nfile: captions.jsonl\nmedia_dir: ../../clips\n"
CLIPS = "../../../clips/"  # from omnibench's mm_data

Asked = tuple[str, str, list[str]]  # question, gold answer, the other options


# -- text that contradicts the senses ------------------------------------------------------------------------


def mcr(scene: Scene, task: str, rng: np.random.Generator) -> dict | None:
    """One row of MCR-BENCH's AQA.json, SER.json or VSC.json; None where the scene does not answer the task.

    The three texts are the descriptions alone; `options` and `adversarial_answer` are not of the release.
    """
    one = evidence(scene, task, rng)
    if one is None:
        return None
    return {
        "audio": _clip(scene),
        "gt": one.answer,
        **{name: one.texts[name] for name in CONDITIONS[1:]},
        "neutral": one.question,
        "options": list(one.options),
        "adversarial_answer": one.wrong,
    }


def alme(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """ALME's stimuli.jsonl: "A harp is playing." against "A drum is playing.", as if transcribed."""
    out = []
    for index, scene in enumerate(_playing(scenes)[:rows]):
        one = evidence(scene, "AQA", rng)
        assert one is not None  # an instrument sounds
        choices = _placed(one.answer, [one.wrong], 0, index, rng)
        out.append(
            {
                "stimulus_id": f"alme-{index:05d}",
                "audio_path": _clip(scene),
                "ref_text": one.texts["faithful"],
                "conflict_text": one.texts["adversarial"],
                "language": "EN",
                "question": {
                    "question_text": f"Which one plays: {' or '.join(choices)}?",
                    "choices": choices,
                    "correct_answer": one.answer,
                    "flip_type": "instrument_swap",
                },
            }
        )
    return out


def captions(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """captions.jsonl, a set of our own (`CAPTIONS`): captions of the picture, four conditions a scene.

    `rows` counts the scenes. The clips are shown and not heard.
    """
    out = []
    for index, scene in enumerate(_playing(scenes)[:rows]):
        one = caption(scene, rng)
        for condition in CONDITIONS:
            row: dict[str, Any] = {
                "id": f"captions-{index:05d}-{condition}",
                "question": one.asked(condition, CAPTION),
                "answer": one.answer,
                "video": _clip(scene),
                "candidates": list(one.options),
                "condition": condition,
                "pair": f"captions-{index:05d}",
                "without_text": one.question,
            }
            out.append(row | ({"text_answer": one.wrong} if condition == "adversarial" else {}))
    return out


# -- yes or no -----------------------------------------------------------------------------------------------


def avhbench(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """AVHBench's QA.json: three judgement tasks, each as often Yes as No, and captions.

    Invisible is what replaced the sound, or an instrument that is not there at all; silent is the muted
    instrument; a clip whose sound was replaced does not match.
    """
    same, muted, replaced = _by_sound(scenes)

    def visible(scene: Scene) -> str:
        return f"Is the {rng.choice(scene.visible)} visible in the video?"

    def invisible(scene: Scene) -> str:
        gone = scene.ambient if rng.random() < 0.5 else _absent(scene, 1, rng)[0]
        return f"Is the {gone} visible in the video?"

    def sounding(scene: Scene) -> str:
        return f"Is the {rng.choice(scene.audible)} making sound in the audio?"

    def silent(scene: Scene) -> str:
        return f"Is the {scene.muted} making sound in the audio?"

    def matching(scene: Scene) -> str:
        return "Are the contexts of audio and visual content matching?"

    def described(scene: Scene) -> str:
        return "Describe what you see and hear in a single sentence."

    kinds: list[tuple[list[Scene], str, str, Callable[[Scene], str]]] = [
        (replaced, "Audio-driven Video Hallucination", "Yes", visible),
        (replaced, "Audio-driven Video Hallucination", "No", invisible),
        (muted, "Video-driven Audio Hallucination", "Yes", sounding),
        (muted, "Video-driven Audio Hallucination", "No", silent),
        (same if replaced else [], "AV Matching", "Yes", matching),
        (replaced, "AV Matching", "No", matching),
        (muted, "AV Captioning", "", described),
    ]
    out = []
    for kind, _, scene in _in_turn(rows, [pool for pool, *_ in kinds]):
        _, task, label, text = kinds[kind]
        label = label or questions.open_question(scene).answer
        out.append({"video_id": scene.id, "task": task, "text": text(scene), "label": label})
    return out


def cmm(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """CMM's all_data_final_reorg.json: pairs of probes of one clip, what is there (yes), what is not (no).

    Not there is what another sense or the words suggest: the muted instrument (seen, not heard), what
    replaced the sound (heard, not seen), an instrument of the same family as one that is there.
    """
    same, muted, replaced = _by_sound(scenes)
    playing = _playing(scenes)

    def kin(scene: Scene, there: str) -> str:
        absent = _absent(scene, len(INSTRUMENTS) - len(scene.visible), rng)
        return next((name for name in absent if BY_NAME[name].family == BY_NAME[there].family), absent[0])

    kinds = [
        (muted, "overrely_visual_ignore_audio", "visual+audio", "hear"),
        (replaced, "overrely_audio_ignore_visual", "visual+audio", "see"),
        (muted, "overrely_language_ignore_visual", "visual", "see"),
        (same, "visual-language", "visual", "see"),
        (playing, "audio-language", "audio", "hear"),
        (same, "visual-audio-language", "visual+audio", "hear"),
    ]
    out = []
    for kind, _, scene in _in_turn(rows // 2, [pool for pool, *_ in kinds]):
        _, name, modality, sense = kinds[kind]
        there = str(rng.choice(scene.audible if sense == "hear" else scene.visible))
        suggested = {kinds[0][1]: scene.muted, kinds[1][1]: scene.ambient}
        gone = suggested.get(name) or kin(scene, there)
        where = "audio" if sense == "hear" else "video"
        category = "over-reliance_unimodal_priors"
        if not name.startswith("overrely"):
            category = "inter-modality_spurious_correlation"
        for thing, answer in ((there, "yes"), (gone, "no")):
            out.append(
                {
                    "category": category,
                    "sub_category": name,
                    "modality": modality,
                    "granularity": "event-level" if sense == "hear" else "object-level",
                    "correlation_type": None,
                    "video_path": _clip(scene) if "visual" in modality else None,
                    "audio_path": _clip(scene) if "audio" in modality else None,
                    "question": f"Did you {sense} {_a(thing)} in the {where}?",
                    "answer": answer,
                }
            )
    return out


# -- multiple choice -----------------------------------------------------------------------------------------


def avqa(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """AVQA's val_qa.json: four choices; the muted instrument is a wrong one wherever there is one."""
    _, muted, replaced = _by_sound(scenes)
    kinds = [
        (_playing(scenes), "View", "Which", _shown),
        (muted, "Sound", "Which", _heard),
        (replaced, "Sound", "Come From", _come_from),
        (muted, "Both", "Happening", _happening),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(_in_turn(rows, [pool for pool, *_ in kinds])):
        _, relation, type, ask = kinds[kind]
        question, answer, others = ask(scene, rng)
        choices = _placed(answer, others, kind, turn, rng)
        out.append(
            {
                "id": index,
                "video_name": scene.id,
                "video_id": index,
                "question_text": question,
                "multi_choice": choices,
                "answer": choices.index(answer),
                "question_relation": relation,
                "question_type": type,
            }
        )
    return out


def mmau(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """MMAU's test-mini file, of the tasks music and sound; harder with every instrument more."""
    replaced, playing = _by_sound(scenes)[2], _playing(scenes)
    kinds = [
        (playing, "music", "Information Extraction", "Instrumentation", _heard),
        (replaced, "sound", "Reasoning", "Acoustic Source Inference", _source),
        (playing, "music", "Reasoning", "Musical Texture Interpretation", _count),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(_in_turn(rows, [pool for pool, *_ in kinds])):
        _, task, category, sub_category, ask = kinds[kind]
        question, answer, others = ask(scene, rng)
        out.append(
            {
                "id": f"mmau-{index:05d}",
                "audio_id": _clip(scene),
                "question": question,
                "choices": _placed(answer, others, kind, turn, rng),
                "answer": answer,
                "dataset": "Orchestra",
                "task": task,
                "split": "test-mini",
                "category": category,
                "sub-category": sub_category,
                "difficulty": ("easy", "easy", "medium", "hard")[len(scene.audible)],
            }
        )
    return out


def mmar(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """MMAR-meta.jsonl, of three of its four layers; two to four choices."""
    replaced, playing = _by_sound(scenes)[2], _playing(scenes)
    louder = [scene for scene in playing if _louder_pair(scene)]
    late = [scene for scene in playing if scene.late]
    felt = [scene for scene in playing if mood(scene)]
    kinds = [
        (louder, "music", "Signal Layer", "Audio Difference Analysis", _louder),
        (late, "music", "Perception Layer", "Temporal Analysis", _last),
        (playing, "music", "Perception Layer", "Counting and Statistics", _count),
        (replaced, "sound", "Perception Layer", "Environmental Perception and Reasoning", _source),
        (felt, "music", "Semantic Layer", "Emotion and Intention", _mood),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(_in_turn(rows, [pool for pool, *_ in kinds])):
        _, modality, category, sub_category, ask = kinds[kind]
        question, answer, others = ask(scene, rng)
        out.append(
            {
                "id": f"mmar-{index:05d}",
                "audio_path": _clip(scene),
                "question": question,
                "choices": _placed(answer, others, kind, turn, rng),
                "answer": answer,
                "modality": modality,
                "category": category,
                "sub-category": sub_category,
                "language": None,
                "source": "Orchestra",
            }
        )
    return out


def omnibench(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """OmniBench's file: four options that picture and sound decide together.

    `image_path` is "<clip>.png", the first frame of the clip, in the folder image of mm_data.
    """
    _, muted, replaced = _by_sound(scenes)
    kinds = [
        (muted, "Object Identification and Description", "music", _silent),
        (_playing(scenes), "Count and Quantity", "music", _count_shown),
        (replaced, "Contextual and Environmental", "Sound Event", _seen_and_heard),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(_in_turn(rows, [pool for pool, *_ in kinds])):
        _, task, sound, ask = kinds[kind]
        question, answer, others = ask(scene, rng)
        out.append(
            {
                "index": index,
                "task type": task,
                "audio type": sound,
                "question": question,
                "audio content": questions.hear_text(scene.audible, scene.ambient),
                "image content": questions.see_text(scene.visible),
                "audio_path": f"{CLIPS}{_clip(scene)}",
                "image_path": f"{scene.id}.png",
                "answer": answer,
                "options": _placed(answer, others, kind, turn, rng),
            }
        )
    return out


# -- what can be asked of a scene ----------------------------------------------------------------------------


def _shown(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = str(rng.choice(scene.visible))
    return "Which instrument is shown in the video?", answer, _absent(scene, 3, rng)


def _heard(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = str(rng.choice(scene.audible))
    others = [scene.muted] if scene.muted else []
    return "Which instrument is heard?", answer, [*others, *_absent(scene, 3 - len(others), rng)]


def _come_from(scene: Scene, rng: np.random.Generator) -> Asked:
    sounds = _other_sounds(scene, 2, rng)
    others = [_a(str(rng.choice(scene.visible))), *map(_a, sounds)]
    return "Where does the sound in the video come from?", _a(str(scene.ambient)), others


def _source(scene: Scene, rng: np.random.Generator) -> Asked:
    return "What is the source of the sound?", str(scene.ambient), _other_sounds(scene, 3, rng)


def _happening(scene: Scene, rng: np.random.Generator) -> Asked:
    """What plays and what is silent; every wrong option calls an instrument sounding that is not."""
    heard, silent = str(rng.choice(scene.audible)), scene.muted
    one, other = _absent(scene, 2, rng)
    answer, *others = (
        f"The {playing} plays and the {quiet} is silent."
        for playing, quiet in ((heard, silent), (silent, heard), (one, silent), (other, heard))
    )
    return "What is happening in the video?", answer, others


def _count(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = NUMBERS[len(scene.audible)]
    return "How many instruments are heard?", answer, [number for number in NUMBERS if number != answer]


def _count_shown(scene: Scene, rng: np.random.Generator) -> Asked:
    _, answer, others = _count(scene, rng)
    return "How many of the instruments in the picture are heard?", answer, others


def _louder_pair(scene: Scene) -> tuple[str, ...] | None:
    """(louder, softer), clearly so; None where no two differ enough."""
    asked = questions.all_questions(scene)
    return next(
        (one.values for one in asked if one.type == "Audio/Comparative" and one.answer == "yes"), None
    )


def _louder(scene: Scene, rng: np.random.Generator) -> Asked:
    pair = _louder_pair(scene)
    assert pair is not None
    first, second = sorted(pair)
    return f"Which one is louder, the {first} or the {second}?", pair[0], [pair[1]]


def _last(scene: Scene, rng: np.random.Generator) -> Asked:
    assert scene.late
    others = [name for name in scene.audible if name != scene.late]
    return "Which instrument comes in last?", scene.late, others


def _mood(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = mood(scene)
    assert answer
    return "How does the music feel?", answer, [name for name in MOODS if name != answer]


def _silent(scene: Scene, rng: np.random.Generator) -> Asked:
    assert scene.muted
    others = [str(rng.choice(scene.audible)), *_absent(scene, 2, rng)]
    return "Which instrument is in the picture and not in the sound?", scene.muted, others


def _seen_and_heard(scene: Scene, rng: np.random.Generator) -> Asked:
    seen, heard = str(rng.choice(scene.visible)), str(scene.ambient)
    (gone,), (other,) = _absent(scene, 1, rng), _other_sounds(scene, 1, rng)
    answer, *others = (
        f"{_a(picture)} in the picture and {_a(sound)} in the sound"
        for picture, sound in ((seen, heard), (seen, other), (gone, heard), (gone, other))
    )
    return "What do the picture and the sound hold?", answer, others


# -- choosing ------------------------------------------------------------------------------------------------


def _by_sound(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene], list[Scene]]:
    """(in sync, one instrument muted, all sound replaced), each in the order given."""
    return (
        [scene for scene in scenes if not scene.muted and not scene.ambient],
        [scene for scene in scenes if scene.muted],
        [scene for scene in scenes if scene.ambient],
    )


def _playing(scenes: Sequence[Scene]) -> list[Scene]:
    """Scenes whose instruments are heard: in sync and muted by turns."""
    same, muted, _ = _by_sound(scenes)
    return [scene for pair in itertools.zip_longest(same, muted) for scene in pair if scene]


def _in_turn(rows: int, pools: Sequence[Sequence[Scene]]) -> Iterator[tuple[int, int, Scene]]:
    """(pool, turn of the pool, scene) row by row: pools that hold a scene take turns, so do their scenes."""
    filled = [kind for kind, pool in enumerate(pools) if pool]
    for index in range(rows if filled else 0):
        turn, kind = index // len(filled), filled[index % len(filled)]
        yield kind, turn, pools[kind][turn % len(pools[kind])]


def _placed(answer: str, others: Sequence[str], kind: int, turn: int, rng: np.random.Generator) -> list[str]:
    """The options: the gold one in a place that goes by kind and turn, the others around it in random order.

    k turns give each of k places once; the next k begin one place later, so that a place does not go with
    every k-th scene.
    """
    options = [others[i] for i in rng.permutation(len(others))]
    places = len(others) + 1
    options.insert((kind + turn + turn // places) % places, answer)
    return options


def _absent(scene: Scene, number: int, rng: np.random.Generator) -> list[str]:
    """Different instruments that are neither seen nor heard."""
    absent = [name for name in INSTRUMENTS if name not in scene.visible]
    return [str(name) for name in rng.choice(absent, number, replace=False)]


def _other_sounds(scene: Scene, number: int, rng: np.random.Generator) -> list[str]:
    """Different ambient sounds that are not this scene's."""
    others = [sound for sound in SOUNDS if sound != scene.ambient]
    return [str(sound) for sound in rng.choice(others, number, replace=False)]


def _a(thing: str) -> str:
    """A harp, a bird; rain."""
    return thing if thing in ("rain", "thunder", "wind") else f"a {thing}"


def _clip(scene: Scene) -> str:
    return f"{scene.id}.mp4"
