"""What can be asked of a scene with options to choose from, and which scenes and places take turns."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from rlcomm.orchestra import questions
from rlcomm.orchestra.evidence import MOODS, mood
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.questions import NUMBERS
from rlcomm.orchestra.scenes import Scene
from rlcomm.orchestra.sounds import SOUNDS

Asked = tuple[str, str, list[str]]  # question, gold answer, the other options


# -- what can be asked of a scene ----------------------------------------------------------------------------


def shown(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = str(rng.choice(scene.visible))
    return "Which instrument is shown in the video?", answer, absent(scene, 3, rng)


def heard(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = str(rng.choice(scene.audible))
    others = [scene.muted] if scene.muted else []
    return "Which instrument is heard?", answer, [*others, *absent(scene, 3 - len(others), rng)]


def come_from(scene: Scene, rng: np.random.Generator) -> Asked:
    sounds = other_sounds(scene, 2, rng)
    others = [with_article(str(rng.choice(scene.visible))), *map(with_article, sounds)]
    return "Where does the sound in the video come from?", with_article(str(scene.ambient)), others


def source_of(scene: Scene, rng: np.random.Generator) -> Asked:
    return "What is the source of the sound?", str(scene.ambient), other_sounds(scene, 3, rng)


def happening(scene: Scene, rng: np.random.Generator) -> Asked:
    """What plays and what is silent; every wrong option calls an instrument sounding that is not."""
    heard, silent = str(rng.choice(scene.audible)), scene.muted
    one, other = absent(scene, 2, rng)
    answer, *others = (
        f"The {playing} plays and the {quiet} is silent."
        for playing, quiet in ((heard, silent), (silent, heard), (one, silent), (other, heard))
    )
    return "What is happening in the video?", answer, others


def counted(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = NUMBERS[len(scene.audible)]
    return "How many instruments are heard?", answer, [number for number in NUMBERS if number != answer]


def count_shown(scene: Scene, rng: np.random.Generator) -> Asked:
    _, answer, others = counted(scene, rng)
    return "How many of the instruments in the picture are heard?", answer, others


def louder_pair(scene: Scene) -> tuple[str, ...] | None:
    """(louder, softer), clearly so; None where no two differ enough."""
    asked = questions.all_questions(scene)
    return next(
        (one.values for one in asked if one.type == "Audio/Comparative" and one.answer == "yes"), None
    )


def louder(scene: Scene, rng: np.random.Generator) -> Asked:
    pair = louder_pair(scene)
    assert pair is not None
    first, second = sorted(pair)
    return f"Which one is louder, the {first} or the {second}?", pair[0], [pair[1]]


def last_in(scene: Scene, rng: np.random.Generator) -> Asked:
    assert scene.late
    others = [name for name in scene.audible if name != scene.late]
    return "Which instrument comes in last?", scene.late, others


def felt(scene: Scene, rng: np.random.Generator) -> Asked:
    answer = mood(scene)
    assert answer
    return "How does the music feel?", answer, [name for name in MOODS if name != answer]


def silent(scene: Scene, rng: np.random.Generator) -> Asked:
    assert scene.muted
    others = [str(rng.choice(scene.audible)), *absent(scene, 2, rng)]
    return "Which instrument is in the picture and not in the sound?", scene.muted, others


def seen_and_heard(scene: Scene, rng: np.random.Generator) -> Asked:
    seen, heard = str(rng.choice(scene.visible)), str(scene.ambient)
    (gone,), (other,) = absent(scene, 1, rng), other_sounds(scene, 1, rng)
    answer, *others = (
        f"{with_article(picture)} in the picture and {with_article(sound)} in the sound"
        for picture, sound in ((seen, heard), (seen, other), (gone, heard), (gone, other))
    )
    return "What do the picture and the sound hold?", answer, others


# -- choosing ------------------------------------------------------------------------------------------------


def by_sound(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene], list[Scene]]:
    """(in sync, one instrument muted, all sound replaced), each in the order given."""
    return (
        [scene for scene in scenes if not scene.muted and not scene.ambient],
        [scene for scene in scenes if scene.muted],
        [scene for scene in scenes if scene.ambient],
    )


def playing(scenes: Sequence[Scene]) -> list[Scene]:
    """Scenes whose instruments are heard: in sync and muted by turns."""
    same, muted, _ = by_sound(scenes)
    return [scene for pair in itertools.zip_longest(same, muted) for scene in pair if scene]


def in_turn(rows: int, pools: Sequence[Sequence[Scene]]) -> Iterator[tuple[int, int, Scene]]:
    """(pool, turn of the pool, scene) row by row: pools that hold a scene take turns, so do their scenes."""
    filled = [kind for kind, pool in enumerate(pools) if pool]
    for index in range(rows if filled else 0):
        turn, kind = index // len(filled), filled[index % len(filled)]
        yield kind, turn, pools[kind][turn % len(pools[kind])]


def placed(answer: str, others: Sequence[str], kind: int, turn: int, rng: np.random.Generator) -> list[str]:
    """The options: the gold one in a place that goes by kind and turn, the others around it in random order.

    k turns give each of k places once; the next k begin one place later, so that a place does not go with
    every k-th scene.
    """
    options = [others[i] for i in rng.permutation(len(others))]
    places = len(others) + 1
    options.insert((kind + turn + turn // places) % places, answer)
    return options


def absent(scene: Scene, number: int, rng: np.random.Generator) -> list[str]:
    """Different instruments that are neither seen nor heard."""
    absent = [name for name in INSTRUMENTS if name not in scene.visible]
    return [str(name) for name in rng.choice(absent, number, replace=False)]


def other_sounds(scene: Scene, number: int, rng: np.random.Generator) -> list[str]:
    """Different ambient sounds that are not this scene's."""
    others = [sound for sound in SOUNDS if sound != scene.ambient]
    return [str(sound) for sound in rng.choice(others, number, replace=False)]


def with_article(thing: str) -> str:
    """A harp, a bird; rain."""
    return thing if thing in ("rain", "thunder", "wind") else f"a {thing}"


def clip_name(scene: Scene) -> str:
    return f"{scene.id}.mp4"
