"""Questions about a scene, in MUSIC-AVQA's own templates and answer vocabulary, with gold answers.

Every question is asked only where the scene answers it beyond doubt: loudness where levels differ clearly,
order where one instrument enters late. What is silent is never called first, loudest or sounding.
"""

import itertools
import json
from dataclasses import dataclass

from rlcomm.data.sample import Turn
from rlcomm.data.vocabulary import listed
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.scenes import PLACES, Scene

EXISTENCE = "Audio/Existential"
TYPES = (
    EXISTENCE,
    "Audio/Counting",
    "Audio/Comparative",
    "Visual/Existential",
    "Visual/Counting",
    "Visual/Location",
    "Audio-Visual/Existential",
    "Audio-Visual/Counting",
    "Audio-Visual/Location",
    "Audio-Visual/Temporal",
)
HEAR, SEE, BOTH = "What do you hear?", "What do you see?", "What do you hear and what do you see?"
NUMBERS = ("zero", "one", "two", "three")
_LOUDER = 5.0  # dB between two instruments before one is called louder
_LOUDEST = 3.0  # dB between the loudest and the next one


@dataclass(frozen=True)
class Question:
    """One question as MUSIC-AVQA stores it.

    Attributes:
        type: e.g. "Audio-Visual/Location".
        template: with placeholders in angle brackets.
        values: what fills them, in order.
        answer: gold answer y.
    """

    type: str
    template: str
    values: tuple[str, ...]
    answer: str

    @property
    def text(self) -> str:
        """The template with its placeholders filled."""
        text = self.template
        for value in self.values:
            start = text.index("<")
            text = text[:start] + value + text[text.index(">", start) + 1 :]
        return text

    def turn(self, target: str | None = None) -> Turn:
        """As a turn of a Sample."""
        return Turn(self.text, self.answer, target=target, type=self.type)

    def music_avqa(self, video_id: str, question_id: int) -> dict:
        """As a row of MUSIC-AVQA's JSON ("anser" is spelt so there; lists are JSON strings)."""
        return {
            "video_id": video_id,
            "question_id": question_id,
            "type": json.dumps(self.type.split("/")),
            "question_content": self.template,
            "templ_values": json.dumps(list(self.values)),
            "question_deleted": 0,
            "anser": self.answer,
        }


def hear_text(audible: tuple[str, ...] | list[str], ambient: str | None = None) -> str:
    """What is heard, in one sentence: "I hear a drum and a flute.", "I hear a bird.", "I hear nothing."."""
    if ambient:
        return f"I hear a {ambient}." if ambient in ("bird", "drill") else f"I hear {ambient}."
    return f"I hear {listed(sorted(audible))}." if audible else "I hear nothing."


def see_text(visible: tuple[str, ...] | list[str]) -> str:
    """What is seen, in one sentence: "I see a drum, a flute and a harp."."""
    return f"I see {listed(sorted(visible))}."


def open_turns(scene: Scene) -> list[Turn]:
    """The two open questions, with their answers."""
    return [
        Turn(HEAR, hear_text(scene.audible, scene.ambient), type="Open/Hear"),
        Turn(SEE, see_text(scene.visible), type="Open/See"),
    ]


def open_question(scene: Scene) -> Question:
    """The open question of the modified split, answered in the two halves that AV-ConfuseBench asks for."""
    answer = (
        f"Based on the video, {see_text(scene.visible)} "
        f"Based on the audio, {hear_text(scene.audible, scene.ambient)}"
    )
    return Question("Open/Both", BOTH, (), answer)


def open_turn(scene: Scene) -> Turn:
    """`open_question` as a turn."""
    return open_question(scene).turn()


def existence(scene: Scene, name: str) -> Question:
    """Is there a violin sound?"""
    answer = "yes" if name in scene.audible else "no"
    return Question(EXISTENCE, "Is there a <Object> sound?", (name,), answer)


def all_questions(scene: Scene) -> list[Question]:
    """Every question the scene answers, except the open ones, in a fixed order."""
    return [*_of_the_sound(scene), *_of_the_picture(scene), *_of_both(scene)]


def _of_the_sound(scene: Scene) -> list[Question]:
    ask = [existence(scene, name) for name in INSTRUMENTS]
    how_many = "How many musical instruments were heard throughout the video?"
    ask.append(Question("Audio/Counting", how_many, (), NUMBERS[len(scene.audible)]))
    for one, other in itertools.permutations(scene.audible, 2):
        difference = scene.loudness[one] - scene.loudness[other]
        if abs(difference) > _LOUDER:
            louder = "Is the <Object> louder than the <Object>?"
            ask.append(Question("Audio/Comparative", louder, (one, other), _yes(difference > 0)))
    return ask


def _of_the_picture(scene: Scene) -> list[Question]:
    seen = sorted(scene.visible)
    there = "Is there a <Object> in the entire video?"
    ask = [Question("Visual/Existential", there, (name,), _yes(name in seen)) for name in INSTRUMENTS]
    how_many = "How many types of musical instruments appeared in the entire video?"
    ask.append(Question("Visual/Counting", how_many, (), NUMBERS[len(seen)]))
    if len(seen) == 1:
        ask.append(Question("Visual/Location", "What kind of musical instrument is it?", (), seen[0]))
    for name in seen:
        where = PLACES.index(scene.place(name))
        for side, others in (("left", scene.places[:where]), ("right", scene.places[where + 1 :])):
            standing = [other for other in others if other]
            if len(standing) == 1:
                beside = "What is the instrument on the <LR> of <Object>?"
                ask.append(Question("Visual/Location", beside, (side, name), standing[0]))
    return ask


def _of_both(scene: Scene) -> list[Question]:
    seen, heard, late = sorted(scene.visible), scene.audible, scene.late
    ask = []
    if heard or scene.ambient:
        from_it = "Is this sound from the instrument in the video?"
        ask.append(Question("Audio-Visual/Existential", from_it, (), _yes(bool(heard))))
    always = "Is the <Object> in the video always playing?"
    ask += [
        Question("Audio-Visual/Existential", always, (name,), _yes(name in heard))
        for name in seen
        if name != late  # one that enters late sounds, but not always
    ]
    how_many = "How many instruments are sounding in the video?"
    ask.append(Question("Audio-Visual/Counting", how_many, (), NUMBERS[len(heard)]))
    if heard:
        loudest, *rest = sorted(heard, key=lambda name: -scene.loudness[name])
        if not rest or scene.loudness[loudest] - scene.loudness[rest[0]] >= _LOUDEST:
            where = "Where is the <LL> instrument?"
            ask.append(Question("Audio-Visual/Location", where, ("loudest",), scene.place(loudest)))
    sounding = "Where is the <FL> sounding instrument?"
    if late:
        ask.append(Question("Audio-Visual/Location", sounding, ("last",), scene.place(late)))
    if len(heard) == 2:
        temporal = "Audio-Visual/Temporal"
        first = "What is the <TH> instrument that comes in?"
        beside = "Which instrument makes sounds <BA> the <Object>?"
        if late is None:
            return [*ask, Question(temporal, first, ("first",), "simultaneously")]
        early = next(name for name in heard if name != late)
        ask += [
            Question("Audio-Visual/Location", sounding, ("first",), scene.place(early)),
            Question(temporal, first, ("first",), early),
            Question(temporal, first, ("second",), late),
            Question(temporal, beside, ("before", late), early),
            Question(temporal, beside, ("after", early), late),
        ]
    return ask


def _yes(true: bool) -> str:
    return "yes" if true else "no"
