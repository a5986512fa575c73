"""What the models are asked, and whether an account of sound speaks of pictures."""

import re
from collections.abc import Sequence

# Words of sight. What an audio-only model says of pictures it has made up.
_SEEN = re.compile(
    r"\b(?:see|sees|saw|seen|seeing|looks?|looked|looking|watch(?:es|ed|ing)?|visibl[ey]|invisible"
    r"|visual(?:s|ly)?|view(?:s|ed)?|pictures?|pictured|images?|photos?|videos?|footage|frames?|screen|camera"
    r"|shows|shown|depict(?:s|ed|ing)?|wear(?:s|ing)|on the (?:left|right)(?: side)?)\b",
    re.IGNORECASE,
)


def reference_prompt(question: str, answer: str, options: Sequence[str] = ()) -> str:
    """The words that go with the sound; the one builder, also for training the miniature.

    After the released RL-CoMM prompt: the model is an assistant for hearing, is told the answer, and reasons
    about what it hears that is useful for it, inside <a-think> tags.
    """
    choices = [f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options)]
    return "\n".join([
        "You are an assistant for hearing.", question, *choices, f"The answer is: {answer}",
        "Reason about what you hear that is useful for this answer, in <a-think> </a-think>.",
    ])  # fmt: skip


def speaks_of_sight(text: str) -> str | None:
    """The first word of sight in `text` ("I see a drum" -> "see"); None where it speaks of sound alone."""
    found = _SEEN.search(text)
    return found.group() if found else None
