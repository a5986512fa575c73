"""Which question is asked of a scene, drawn so that neither a type nor an answer is the better guess."""

import dataclasses
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from rlcomm.data.sample import Turn
from rlcomm.orchestra import evidence, questions
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.questions import EXISTENCE, Question
from rlcomm.orchestra.scenes import Scene


def source(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers of one row of a split, its own whatever else is built."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def chosen(index: int, share: float) -> bool:
    """Whether row `index` belongs to a share spread evenly over the rows: exact for every length."""
    return int((index + 1) * share + 1e-9) > int(index * share + 1e-9)


def kind_of(index: int, muted: float, ambient: float) -> str:
    """Of scene `index`, by the shares of muted and ambient ones; muted where it is due to be both."""
    if chosen(index, muted):
        return "muted"
    return "ambient" if chosen(index + 11, ambient) else "symmetric"


def pick(rng: np.random.Generator, items: Iterable[Any]) -> Any:
    """One of the items, each as likely."""
    pool = list(items)
    return pool[int(rng.integers(len(pool)))]


def of_type(rng: np.random.Generator, ask: list[Question], type: str) -> Question:
    """A question of this type: templates, then answers have equal chances ("no" is no better a guess)."""
    pool = [question for question in ask if question.type == type]
    template = pick(rng, sorted({question.template for question in pool}))
    pool = [question for question in pool if question.template == template]
    answer = pick(rng, sorted({question.answer for question in pool}))
    return pick(rng, [question for question in pool if question.answer == answer])


def existence(rng: np.random.Generator, scene: Scene) -> Question:
    """Is there a ... sound? Half ask a sounding instrument, so that neither "yes" nor "no" is the better
    guess.

    The other half ask an absent one; where one is muted, seven in ten of them ask that one.
    """
    if rng.random() < 0.5:
        return questions.existence(scene, pick(rng, scene.audible))
    if scene.muted and rng.random() < 0.7:
        return questions.existence(scene, scene.muted)
    return questions.existence(scene, pick(rng, [name for name in INSTRUMENTS if name not in scene.visible]))


def mixed(rng: np.random.Generator, scene: Scene, existence_share: float, open_share: float) -> Question:
    """One question: by these shares "Is there a ... sound?", the open one, else a type, each as likely."""
    draw = rng.random()
    if scene.ambient or draw < open_share:
        return questions.open_question(scene)
    if draw < open_share + existence_share:
        return existence(rng, scene)
    ask = questions.all_questions(scene)
    return of_type(rng, ask, pick(rng, sorted({question.type for question in ask} - {EXISTENCE})))


def dense(rng: np.random.Generator, scene: Scene, feeling: str) -> list[Turn]:
    """All existence questions, the open ones and three or four of other types, shuffled: one conversation.
    `feeling` as in `evidence.conversation`."""
    ask = questions.all_questions(scene)
    types = sorted({question.type for question in ask} - {EXISTENCE})
    some = rng.permutation(types)[: int(rng.integers(3, 5))]
    turns = [question.turn() for question in ask if question.type == EXISTENCE] + questions.open_turns(scene)
    turns += [of_type(rng, ask, str(type)).turn() for type in some]
    if rng.random() < 1 / 3:
        turns.append(questions.open_turn(scene))
    turns += evidence.bare(scene, rng, feeling)
    return [turns[i] for i in rng.permutation(len(turns))]


def captioned(rng: np.random.Generator, scene: Scene) -> list[Turn]:
    """The existence questions and the open ones, answered as if all that is visible sounded."""
    named = dataclasses.replace(scene, audible=tuple(sorted(scene.visible)), muted=None)
    turns = [questions.existence(named, name).turn() for name in INSTRUMENTS] + questions.open_turns(named)
    turns = [dataclasses.replace(turn, type=f"Captioned/{turn.type.split('/')[1]}") for turn in turns]
    return [turns[i] for i in rng.permutation(len(turns))]
