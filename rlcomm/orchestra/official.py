"""Orchestra in the official formats of the benchmarks: pure functions from test scenes to the rows of a file.

What a row asks, its scene answers beyond doubt. The kinds of question of a file take turns, and so do the
scenes of a kind; "yes" and "no" are asked equally often, and the gold option stands in every place equally
often. A longer file begins with the rows of a shorter one. Clips are named by their file alone. Arguments of
the functions that give a whole file:

    scenes   in sync, with one instrument muted, with all sound replaced (told apart by what they are)
    rows     how many at most; a kind of question that no scene answers is left out
    rng      chooses the instruments and the order of the options
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlcomm.orchestra import choices, questions
from rlcomm.orchestra.evidence import CAPTION, CONDITIONS, caption, evidence, mood
from rlcomm.orchestra.instruments import BY_NAME, INSTRUMENTS
from rlcomm.orchestra.scenes import Scene

MOST = 200  # rows of a file over clips that are there already
# The description of captions.jsonl, beside it (rlcomm.evaluation.benchmarks.custom).
CAPTIONS = "name: captions\nfile: captions.jsonl\nmedia_dir: ../../clips\n"
CLIPS = "../../../clips/"  # from omnibench's mm_data


# -- text that contradicts the senses ------------------------------------------------------------------------


def mcr(scene: Scene, task: str, rng: np.random.Generator) -> dict | None:
    """One row of MCR-BENCH's AQA.json, SER.json or VSC.json; None where the scene does not answer the task.

    The three texts are the descriptions alone; `options` and `adversarial_answer` are not of the release.
    """
    one = evidence(scene, task, rng)
    if one is None:
        return None
    return {
        "audio": choices.clip_name(scene),
        "gt": one.answer,
        **{name: one.texts[name] for name in CONDITIONS[1:]},
        "neutral": one.question,
        "options": list(one.options),
        "adversarial_answer": one.wrong,
    }


def alme(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """ALME's stimuli.jsonl: "A harp is playing." against "A drum is playing.", as if transcribed."""
    out = []
    for index, scene in enumerate(choices.playing(scenes)[:rows]):
        one = evidence(scene, "AQA", rng)
        assert one is not None  # an instrument sounds
        options = choices.placed(one.answer, [one.wrong], 0, index, rng)
        out.append(
            {
                "stimulus_id": f"alme-{index:05d}",
                "audio_path": choices.clip_name(scene),
                "ref_text": one.texts["faithful"],
                "conflict_text": one.texts["adversarial"],
                "language": "EN",
                "question": {
                    "question_text": f"Which one plays: {' or '.join(options)}?",
                    "choices": options,
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
    for index, scene in enumerate(choices.playing(scenes)[:rows]):
        one = caption(scene, rng)
        for condition in CONDITIONS:
            row: dict[str, Any] = {
                "id": f"captions-{index:05d}-{condition}",
                "question": one.asked(condition, CAPTION),
                "answer": one.answer,
                "video": choices.clip_name(scene),
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
    same, muted, replaced = choices.by_sound(scenes)

    def visible(scene: Scene) -> str:
        return f"Is the {rng.choice(scene.visible)} visible in the video?"

    def invisible(scene: Scene) -> str:
        gone = scene.ambient if rng.random() < 0.5 else choices.absent(scene, 1, rng)[0]
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
    for kind, _, scene in choices.in_turn(rows, [pool for pool, *_ in kinds]):
        _, task, label, text = kinds[kind]
        label = label or questions.open_question(scene).answer
        out.append({"video_id": scene.id, "task": task, "text": text(scene), "label": label})
    return out


def cmm(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """CMM's all_data_final_reorg.json: pairs of probes of one clip, what is there (yes), what is not (no).

    Not there is what another sense or the words suggest: the muted instrument (seen, not heard), what
    replaced the sound (heard, not seen), an instrument of the same family as one that is there.
    """
    same, muted, replaced = choices.by_sound(scenes)
    playing = choices.playing(scenes)

    def kin(scene: Scene, there: str) -> str:
        absent = choices.absent(scene, len(INSTRUMENTS) - len(scene.visible), rng)
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
    for kind, _, scene in choices.in_turn(rows // 2, [pool for pool, *_ in kinds]):
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
                    "video_path": choices.clip_name(scene) if "visual" in modality else None,
                    "audio_path": choices.clip_name(scene) if "audio" in modality else None,
                    "question": f"Did you {sense} {choices.with_article(thing)} in the {where}?",
                    "answer": answer,
                }
            )
    return out


# -- multiple choice -----------------------------------------------------------------------------------------


def avqa(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """AVQA's val_qa.json: four choices; the muted instrument is a wrong one wherever there is one."""
    _, muted, replaced = choices.by_sound(scenes)
    kinds = [
        (choices.playing(scenes), "View", "Which", choices.shown),
        (muted, "Sound", "Which", choices.heard),
        (replaced, "Sound", "Come From", choices.come_from),
        (muted, "Both", "Happening", choices.happening),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(choices.in_turn(rows, [pool for pool, *_ in kinds])):
        _, relation, type, ask = kinds[kind]
        question, answer, others = ask(scene, rng)
        options = choices.placed(answer, others, kind, turn, rng)
        out.append(
            {
                "id": index,
                "video_name": scene.id,
                "video_id": index,
                "question_text": question,
                "multi_choice": options,
                "answer": options.index(answer),
                "question_relation": relation,
                "question_type": type,
            }
        )
    return out


def mmau(scenes: Sequence[Scene], rows: int, rng: np.random.Generator) -> list[dict]:
    """MMAU's test-mini file, of the tasks music and sound; harder with every instrument more."""
    replaced, playing = choices.by_sound(scenes)[2], choices.playing(scenes)
    kinds = [
        (playing, "music", "Information Extraction", "Instrumentation", choices.heard),
        (replaced, "sound", "Reasoning", "Acoustic Source Inference", choices.source_of),
        (playing, "music", "Reasoning", "Musical Texture Interpretation", choices.counted),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(choices.in_turn(rows, [pool for pool, *_ in kinds])):
        _, task, category, sub_category, ask = kinds[kind]
        question, answer, others = ask(scene, rng)
        out.append(
            {
                "id": f"mmau-{index:05d}",
                "audio_id": choices.clip_name(scene),
                "question": question,
                "choices": choices.placed(answer, others, kind, turn, rng),
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
    replaced, playing = choices.by_sound(scenes)[2], choices.playing(scenes)
    louder = [scene for scene in playing if choices.louder_pair(scene)]
    late = [scene for scene in playing if scene.late]
    felt = [scene for scene in playing if mood(scene)]
    kinds = [
        (louder, "music", "Signal Layer", "Audio Difference Analysis", choices.louder),
        (late, "music", "Perception Layer", "Temporal Analysis", choices.last_in),
        (playing, "music", "Perception Layer", "Counting and Statistics", choices.counted),
        (replaced, "sound", "Perception Layer", "Environmental Perception and Reasoning", choices.source_of),
        (felt, "music", "Semantic Layer", "Emotion and Intention", choices.felt),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(choices.in_turn(rows, [pool for pool, *_ in kinds])):
        _, modality, category, sub_category, ask = kinds[kind]
        question, answer, others = ask(scene, rng)
        out.append(
            {
                "id": f"mmar-{index:05d}",
                "audio_path": choices.clip_name(scene),
                "question": question,
                "choices": choices.placed(answer, others, kind, turn, rng),
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
    _, muted, replaced = choices.by_sound(scenes)
    kinds = [
        (muted, "Object Identification and Description", "music", choices.silent),
        (choices.playing(scenes), "Count and Quantity", "music", choices.count_shown),
        (replaced, "Contextual and Environmental", "Sound Event", choices.seen_and_heard),
    ]
    out = []
    for index, (kind, turn, scene) in enumerate(choices.in_turn(rows, [pool for pool, *_ in kinds])):
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
                "audio_path": f"{CLIPS}{choices.clip_name(scene)}",
                "image_path": f"{scene.id}.png",
                "answer": answer,
                "options": choices.placed(answer, others, kind, turn, rng),
            }
        )
    return out
