"""The deterministic keyword judge: which instruments and sounds a text claims, and what that is worth.

A text claims a name iff one of the name's phrases occurs in it as whole words and is not negated. It stands
where the paper's A-Acc and V-Acc come from a judge model; it is cheaper, repeatable, and blind to everything
but names.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

# The replaced sounds of AV-ConfuseBench modified, each with the words that name it.
SOUNDS = {
    "bird": (
        "bird",
        "birdsong",
        "bird song",
        "chirp",
        "chirping",
        "chirpin",
        "tweet",
        "tweeting",
        "twittering",
    ),
    "drill": ("drill", "drilling", "jackhammer", "power tool", "electric drill"),
    "rain": ("rain", "raining", "rainfall", "raindrop", "downpour", "rainstorm"),
    "thunder": ("thunder", "thunderstorm", "thunderclap", "thundering", "lightning"),
    "wind": ("wind", "windy", "gust", "gale", "breeze"),
}

# One entry a family: a model that says "guitar" for an acoustic_guitar has named it.
INSTRUMENTS = {
    "accordion": ("accordion",),
    "bagpipe": ("bagpipe",),
    "banjo": ("banjo",),
    "bass": ("bass", "double bass", "contrabass"),
    "bassoon": ("bassoon",),
    "bell": ("bell",),
    "cello": ("cello", "violoncello"),
    "clarinet": ("clarinet",),
    "congas": ("conga", "bongo"),
    "cymbal": ("cymbal",),
    "drum": ("drum", "drum set", "drum kit", "snare drum", "snare"),
    "erhu": ("erhu",),
    "flute": ("flute",),
    "guitar": ("guitar", "acoustic guitar", "electric guitar", "classical guitar"),
    "guzheng": ("guzheng", "zither"),
    "harmonica": ("harmonica",),
    "harp": ("harp",),
    "horn": ("horn", "french horn"),
    "maracas": ("maraca",),
    "marimba": ("marimba",),
    "oboe": ("oboe",),
    "organ": ("organ",),
    "piano": ("piano",),
    "pipa": ("pipa",),
    "saxophone": ("saxophone", "sax", "baritone saxophone"),
    "suona": ("suona",),
    "timpani": ("timpani",),
    "trombone": ("trombone",),
    "trumpet": ("trumpet",),
    "tuba": ("tuba",),
    "ukulele": ("ukulele",),
    "violin": ("violin", "fiddle"),
    "xylophone": ("xylophone",),
}

# A negator reaches to the right, to the end of its clause; silence words reach back to the nearest name.
_CLAUSE = re.compile(
    r"[.;:!?\n]|\b(?:but|however|instead|only|although|though|while)\b"
    r"|,(?=\s*(?:i|it|we|there|one)\b)"
)
_NEGATOR = re.compile(
    r"\b(?:no|not|never|without|neither|nor|absence of|cannot|can't|don't|doesn't|isn't|aren't)\b"
)
_SILENT = re.compile(
    r"\b(?:silent|muted|mute|inaudible|absent|missing"
    r"|(?:is|are|was|were) not|isn't|aren't|cannot be|can't be|makes? no sound)\b"
)


def _words(text: str) -> str:
    """Lower case, underscores as spaces, one apostrophe: "Acoustic_Guitar" is "acoustic guitar"."""
    return re.sub(r"[_\-]+", " ", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")).lower()


@dataclass(frozen=True)
class Vocabulary:
    """The names a text can claim: the built-in ones and those of a user's own clips.

    Attributes:
        names: phrase -> name.
        pattern: finds the phrases as whole words, longest first ("drum kit" before "drum"), singular or
            plural.
    """

    names: dict[str, str]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, extra: Iterable[str] = ()) -> "Vocabulary":
        """The built-in families and sounds, plus every name of `extra` that none of them covers."""
        names = {
            phrase: name
            for table in (INSTRUMENTS, SOUNDS)
            for name, phrases in table.items()
            for phrase in phrases
        }
        for name in extra:
            names.setdefault(" ".join(_words(name).split()), name)
        names.pop("", None)
        phrases = "|".join(re.escape(p).replace(r"\ ", r"\s+") for p in sorted(names, key=len, reverse=True))
        # "wind instrument" and "wind section" name no weather
        return cls(names, re.compile(rf"\b({phrases})(?:e?s)?\b(?!\s+(?:instrument|section|quintet))"))

    def name(self, word: str) -> str:
        """The one name of `word`: "thunderstorm" -> "thunder", "acoustic_guitar" -> "guitar", else itself."""
        found = self.pattern.fullmatch(" ".join(_words(word).split()))
        return self.names[" ".join(found.group(1).split())] if found else word

    def claimed(self, text: str) -> set[str]:
        """The names that `text` claims: found as whole words and not negated.

        "I hear rain, not a piano" claims rain; "the flute is silent" claims nothing; "upright bassoonist"
        claims nothing (whole words only).
        """
        claims: set[str] = set()
        for clause in _CLAUSE.split(_words(text)):
            found = [
                (m.start(), m.end(), self.names[" ".join(m.group(1).split())])
                for m in self.pattern.finditer(clause)
            ]
            negator = _NEGATOR.search(clause)
            denied = {i for i, (start, _, _) in enumerate(found) if negator and start > negator.start()}
            for silent in _SILENT.finditer(clause):
                before = [i for i, (_, end, _) in enumerate(found) if end <= silent.start()]
                denied.update(before[-1:])
            claims |= {name for i, (_, _, name) in enumerate(found) if i not in denied}
        return claims


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

    `v_acc` is None where nothing is known to be visible.
    """

    a_acc: float
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
