"""The deterministic keyword judge: which instruments and sounds a text claims, and what that is worth.

A text claims a name iff one of the name's phrases occurs in it as whole words and is not negated. It stands
where the paper's A-Acc and V-Acc come from a judge model; it is cheaper, repeatable, and blind to everything
but names.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rlcomm.data.vocabulary import Vocabulary

_HALF = re.compile(r"based on the (audio|video)", re.IGNORECASE)
_HEARING = re.compile(
    r"\b(?:hear|hears|heard|hearing|sounds?|sounding|listen|audio|audible)\b", re.IGNORECASE
)
_SEEING = re.compile(r"\b(?:see|sees|seen|seeing|shows?|shown|visible|picture|image|video)\b", re.IGNORECASE)


def halves(text: str) -> tuple[str, str]:
    """(heard, seen) of a text that was asked for both.

    First "Based on the video, ... Based on the audio, ..." in either order, the form that AV-ConfuseBench
    asks for; then whole sentences of which each speaks of hearing or of seeing but not of both ("I hear rain.
    I see a harp."). Any other text is given whole as both, since nothing tells its parts apart.
    """
    parts = {"audio": "", "video": ""}
    marks = list(_HALF.finditer(text))
    for mark, following in itertools.zip_longest(marks, marks[1:]):
        end = following.start() if following else len(text)
        parts[mark.group(1).lower()] += " " + text[mark.end() : end]
    if not marks:
        for sentence in re.split(r"(?<=[.!?\n])\s+", text):
            hears, sees = bool(_HEARING.search(sentence)), bool(_SEEING.search(sentence))
            if hears == sees:
                return text, text
            parts["audio" if hears else "video"] += " " + sentence
    if not all(part.strip() for part in parts.values()):
        return text, text
    return parts["audio"].strip(" ,\n"), parts["video"].strip(" ,\n")


@dataclass(frozen=True)
class Judgement:
    """A-Acc and V-Acc of one modified clip, each in [0, 5], and why.

    `v_acc` is None where nothing is known to be visible; both are None where a judge model gave no readable
    judgement (`rlcomm.evaluation.judge_model`).
    """

    a_acc: float | None
    v_acc: float | None
    why: str


def judge(heard: str, seen: str, sound: str, visible: Iterable[str], vocabulary: Vocabulary) -> Judgement:
    """Scores what a model says of a clip whose sound was replaced.

    With V the visible instruments, H the names claimed as heard and S those claimed as seen:

        A-Acc = 5 * [sound in H] * (1 - |H & V| / |V|)       V-Acc = 5 * |S & V| / |V|

    so hearing the replaced sound is worth nothing to a model that hears every visible instrument too.

    Args:
        heard: the hearing part: the a-think, or the whole text under the direct prompt.
        seen: the seeing part: the v-think, or the whole text.
        sound: the replaced sound ("bird", "thunderstorm", ...).
        visible: names of the instruments in the picture.
        vocabulary: the names looked for.

    Source: stands where RL-CoMM (arXiv 2511.10059) asks a judge model for 0-5; the keyword rule is ours.
    """
    target, shown = vocabulary.name(sound), {vocabulary.name(name) for name in visible}
    hears, sees = vocabulary.claimed(heard), vocabulary.claimed(seen)
    invented = hears & shown
    clean = 1 - len(invented) / len(shown) if shown else 1.0
    a_acc = 5.0 * (target in hears) * clean
    v_acc = 5.0 * len(sees & shown) / len(shown) if shown else None
    why = (
        f"{target} {'named' if target in hears else 'not named'} as heard; "
        f"visible but claimed as heard: {', '.join(sorted(invented)) or 'none'}; "
        f"seen {len(sees & shown)} of {len(shown)} visible"
    )
    return Judgement(a_acc, v_acc, why)
