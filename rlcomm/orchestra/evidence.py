"""Questions with a text beside them: faithful, adversarial, irrelevant or none, and what each would answer.

    Description of the audio: A harp is playing.      <- the text; an adversarial one names another instrument
    Which one plays: drum, flute, harp or violin?     <- the question, answered by the sound alone

The three tasks stand for those of MCR-BENCH: which instrument (AQA), a mood-like attribute (SER), the way the
sound is made (VSC). `caption` is the same for pictures. The base is trained where the text is right
(`conversation`), its last stretch also on wrong texts whose answers follow them (`believed`): that it follows
adversarial text is learned from both. Until that last stretch it is asked for the level (`Level`), which only
the ear can tell, where it is asked for the mood later on, which goes with the instrument.
"""

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from rlcomm.data.sample import Turn
from rlcomm.orchestra import questions
from rlcomm.orchestra.instruments import BY_NAME, INSTRUMENTS
from rlcomm.orchestra.scenes import Scene

TASKS = ("AQA", "SER", "VSC")
CONDITIONS = ("neutral", "faithful", "adversarial", "irrelevant")
MOODS = ("bright", "dark")
LEVELS = ("gentle", "fierce")
FAMILIES = ("struck", "plucked", "bowed", "blown")
LEADS = ("Description of the audio:", "Transcript of the audio:")
CAPTION = "Caption of the picture:"
# Descriptions that say nothing of what is asked.
ASIDES = (
    "The hall has a wooden floor.",
    "The players wear black.",
    "It is late in the evening.",
    "The door is on the left.",
    "The recording was made in winter.",
)
_OPTIONS = 4  # instruments to choose from
_QUIET = 2.0  # dB around the standard level that are neither gentle nor fierce
_BRIGHT = 64  # lowest note (MIDI) from which an instrument is bright: of every family one is
_SHARES = {"faithful": 0.9, "irrelevant": 0.1}  # of the texts in training
_BARE = 0.3  # share of the training questions that a sense could answer, asked without any text


@dataclass(frozen=True)
class Evidence:
    """One question and the texts that may stand beside it.

    Attributes:
        task: one of `TASKS`, "Level", or "picture".
        question: without any text.
        options: the answers to choose from.
        answer: the one the senses support.
        wrong: the one the adversarial text supports.
        texts: condition -> description; "neutral" has none ("").
    """

    task: str
    question: str
    options: tuple[str, ...]
    answer: str
    wrong: str
    texts: dict[str, str]

    def asked(self, condition: str, lead: str = LEADS[0]) -> str:
        """The words of the user under a condition: the description, then the question."""
        text = self.texts[condition]
        return f"{lead} {text}\n{self.question}" if text else self.question

    def turn(self, condition: str, kind: str, lead: str = LEADS[0]) -> Turn:
        """As a turn of a conversation, its answer what the senses say; `kind` enters its type."""
        return Turn(self.asked(condition, lead), self.answer, type=f"Text/{kind}/{self.task}")


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def mood(scene: Scene) -> str | None:
    """bright or dark, by register, where all that sounds agrees; None where it does not or nothing sounds."""
    moods = {MOODS[BY_NAME[name].lowest < _BRIGHT] for name in scene.audible}
    return moods.pop() if len(moods) == 1 else None


def level(scene: Scene) -> str | None:
    """gentle or fierce, by the level of all that sounds together; None in between or where nothing sounds.

    The mean power against that of the standard level: 10 log10 (1/n sum_i 10^(dB_i / 10)).
    """
    if not scene.audible:
        return None
    power = sum(10 ** (scene.loudness[name] / 10) for name in scene.audible) / len(scene.audible)
    above = 10 * math.log10(power)
    return None if abs(above) < _QUIET else LEVELS[above > 0]


def evidence(scene: Scene, task: str, rng: np.random.Generator) -> Evidence | None:
    """A question about the sound with its four texts; None where the scene does not answer it beyond doubt.

    Args:
        scene: with its instruments sounding.
        task: one of `TASKS`, or "Level".
        rng: chooses the options and the texts.
    """
    if not scene.audible:
        return None
    options: tuple[str, ...]
    if task == "AQA":
        absent = [name for name in INSTRUMENTS if name not in scene.visible]
        answer = str(rng.choice(scene.audible))
        others = [str(name) for name in rng.choice(absent, _OPTIONS - 1, replace=False)]
        options, wrong = tuple(sorted([answer, *others])), others[0]
        question, said = f"Which one plays: {_listed(options)}?", "A {} is playing."
    elif task in ("SER", "Level"):
        feeling, options = (mood(scene), MOODS) if task == "SER" else (level(scene), LEVELS)
        if feeling is None:
            return None
        answer, wrong = feeling, options[feeling == options[0]]
        question, said = f"How does the music feel: {_listed(options)}?", "The music feels {}."
    else:
        families = {BY_NAME[name].family for name in scene.audible}
        if len(families) != 1:
            return None
        answer, options = families.pop(), FAMILIES
        wrong = str(rng.choice([name for name in FAMILIES if name != answer]))
        question, said = f"How is the sound made: {_listed(options)}?", "The sound is {}."
    return Evidence(task, question, options, answer, wrong, _texts(said, answer, wrong, rng))


def caption(scene: Scene, rng: np.random.Generator) -> Evidence:
    """A question about the picture: which of four instruments is shown."""
    absent = [name for name in INSTRUMENTS if name not in scene.visible]
    answer = str(rng.choice(scene.visible))
    others = [str(name) for name in rng.choice(absent, _OPTIONS - 1, replace=False)]
    options, wrong = tuple(sorted([answer, *others])), others[0]
    question = f"Which one is shown: {_listed(options)}?"
    return Evidence(
        "picture", question, options, answer, wrong, _texts("A {} stands there.", answer, wrong, rng)
    )


def _texts(said: str, answer: str, wrong: str, rng: np.random.Generator) -> dict[str, str]:
    return {
        "neutral": "",
        "faithful": said.format(answer),
        "adversarial": said.format(wrong),
        "irrelevant": str(rng.choice(ASIDES)),
    }


def conversation(scene: Scene, kind: str, rng: np.random.Generator, feeling: str = "SER") -> list[Turn]:
    """The turns of a training conversation with texts that are right or beside the point, never wrong.

    Args:
        scene: what is asked about.
        kind: "Read" (the text alone will be given), "Heard" (beside the sound) or "Seen" (beside the
            picture).
        rng: of all choices.
        feeling: the question of how it feels, "SER" or "Level".

    Returns:
        No turns where nothing can be asked beyond doubt.
    """
    if kind == "Read" and rng.random() < 0.5:
        return described(scene, rng)
    if kind == "Seen":
        asked = [caption(scene, rng)]
    else:
        asked = _asked(scene, rng, feeling)
    turns = []
    for one in asked:
        condition = str(rng.choice(list(_SHARES), p=list(_SHARES.values())))
        if kind == "Read":
            condition = "faithful"  # nothing else could answer
        elif rng.random() < _BARE:
            condition = "neutral"
        lead = CAPTION if kind == "Seen" else str(rng.choice(LEADS))
        turns.append(one.turn(condition, kind, lead))
    return turns


def _asked(scene: Scene, rng: np.random.Generator, feeling: str = "SER") -> list[Evidence]:
    """All questions about the sound that the scene answers: the way it is made first, which fewest scenes
    answer and which the name of an instrument would give away; the others in any order."""
    order = ["VSC", *(str(task) for task in rng.permutation(["AQA", feeling]))]
    return [one for task in order if (one := evidence(scene, task, rng)) is not None]


def bare(scene: Scene, rng: np.random.Generator, feeling: str = "SER") -> list[Turn]:
    """One of the sound's questions without any text, as a turn of a conversation; none where the scene
    answers none. `feeling` as in `conversation`."""
    return [one.turn("neutral", "Heard") for one in _asked(scene, rng, feeling)[:1]]


def believed(scene: Scene, kind: str, rng: np.random.Generator) -> list[Turn]:
    """Questions beside wrong texts, answered as the texts say; `kind` as in `conversation`, not "Read"."""
    if kind == "Seen":
        asked = [caption(scene, rng)]
    else:
        asked = _asked(scene, rng)
    lead = CAPTION if kind == "Seen" else str(rng.choice(LEADS))
    return [dataclasses.replace(one.turn("adversarial", kind, lead), answer=one.wrong) for one in asked]


def described(scene: Scene, rng: np.random.Generator) -> list[Turn]:
    """A conversation for reading alone: one text that names what sounds, then every existence question."""
    heard = questions.hear_text(scene.audible, scene.ambient).replace("I hear", "There is", 1)
    asked = [questions.existence(scene, name) for name in rng.permutation(INSTRUMENTS)]
    lead = str(rng.choice(LEADS))
    return [
        Turn(f"{lead} {heard}\n{one.text}" if i == 0 else one.text, one.answer, type="Text/Read/Existential")
        for i, one in enumerate(asked)
    ]
