"""The names a text claims: instruments and sounds found as whole words and not negated."""

import re
from collections.abc import Iterable, Sequence
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


def listed(names: Sequence[str]) -> str:
    """The names as a sentence lists them, in their order: "a drum, an oboe and a harp"."""
    things = [f"{'an' if name[0] in 'aeiou' else 'a'} {name}" for name in names]
    return " and ".join(filter(None, [", ".join(things[:-1]), *things[-1:]]))


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

    def exact(self, text: str, names: Iterable[str]) -> bool:
        """Whether `text` claims these names, nothing more and nothing less; an empty one never does."""
        return bool(text) and self.claimed(text) == {self.name(name) for name in names}
