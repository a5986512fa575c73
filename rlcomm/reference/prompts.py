"""What the models are asked, and whether an account of sound speaks of pictures."""

import re
from collections.abc import Sequence

_COLOUR = r"(?:red|blue|green|yellow|orange|purple|pink|white|black|brown|gr[ae]y|golden)"
_HEARD = r"(?:sounds?|audio|music|melody|rhythm|beat|tone|timbre|pitch|tempo|recording|soundtrack|voice|song)"
_NOT = r"(?:can ?not|can't|could not|couldn't|do not|don't|without|not|never|nothing|no|any)"

# Words of sight, and what can only be known by sight: what an audio-only model says of pictures that it has
# made up.
_SEEN = (
    r"see|sees|saw|seen|seeing|looks?|looked|looking|watch(?:es|ed|ing)?|visibl[ey]|invisible",
    r"visual(?:s|ly)?|view(?:s|ed|ers?)?|pictures?|pictured|images?|photos?|photographs?|videos?|footage",
    r"frames?|screen|camera|close-up|shows|showing|shown|depict(?:s|ed|ing)?|on the (?:left|right)(?: side)?",
    r"wear(?:s|ing)|dressed (?:in|as)|in an? (?:\w+ )?(?:shirt|suit|dress|jacket|coat)|smil(?:es|ing)",
    r"(?:stands?|standing|sits?|sitting) (?:on|at|next|behind|beside|near|in front)|seated",
    r"holding (?:an?|his|her|their|up)(?! (?:\w+ )?(?:note|chord|tone|pitch|rhythm|beat|tempo)\b)",
    _COLOUR,
)
# What holds such a word and yet says nothing of a picture; taken out before the words are looked for.
_HARMLESS = (
    r"I see(?=[,.;:!])|I see (?:why|how|no (?:reason|need)|that the answer)|let(?:'s| us| me) see",
    r"to see (?:if|whether)|watch out|look(?:ing)? (?:for|forward)|points? of view|in view of",
    rf"look(?:s|ed)? (?:like|as if|as though) (?:the (?:answer|{_HEARD})|there|this|that|it|we)",
    rf"{_NOT}(?: \w+){{0,2}} (?:see|seen|seeing|watch|watching|look|looking|visible|shown)"
    r"(?: (?:at|the|this|that|any|an?))*(?: (?:video|pictures?|images?|screen|footage|frames?|visuals?))?",
    rf"{_NOT} (?:video|pictures?|images?|visuals?|visual \w+)",
    rf"{_HEARD}(?: \w+){{0,3}} (?:show|depict)(?:s|ed|ing)?|show(?:s|ing|n)? (?:that|up|off)",
    rf"{_HEARD}(?: track)? (?:of|in|from) (?:the|this) (?:video|footage)|(?:video|footage)(?:'s)? {_HEARD}",
    r"paint(?:s|ing)? (?:\w+ ){0,2}picture|(?:stereo|sound) image|on the (?:left|right) (?:channel|ear)",
    r"frame drums?|screen door|camera (?:shutter|clicks?|clicking)|video games?|a (?:\w+ )?watch",
    r"wearing (?:high )?(?:heels|shoes|boots|headphones)|(?:black|white) keys?",
    r"(?:white|pink|brown|gr[ae]y) noise|blue notes?",
)
_SAID = r"\"[^\"]*\""  # what somebody is heard to say
_PLAIN = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
_FIND_SEEN = re.compile(rf"\b(?:{'|'.join(_SEEN)})\b", re.IGNORECASE)
_FIND_HARMLESS = re.compile(rf"{_SAID}|\b(?:{'|'.join(_HARMLESS)})(?!\w)", re.IGNORECASE)


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
    """The first words of sight in `text` ("I see a drum" -> "see"); None where it speaks of sound alone.

    Figures of speech ("I see, so ..."), heard things with such a word in their names (a frame drum, a camera
    shutter) and what is said not to be seen do not count.
    """
    plain = text.translate(_PLAIN)
    found = _FIND_SEEN.search(_FIND_HARMLESS.sub("...", plain))
    return found.group() if found else None
