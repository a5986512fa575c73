"""One spelling for answers that mean the same, in time that grows with their length alone."""

import functools
import re
import unicodedata

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_DECADES = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: number for number, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * number for number, word in enumerate(_DECADES.split(), start=2)}
_ARTICLES = {"a", "an", "the"}
_SIGNS = "#%/:"
# what stands between a sign and what it belongs to; of runs of white space one is left before they are used
_APART = re.compile(r" (?=[#%])| ?([/:]) ?")
_ZEROS = re.compile(r"(?<![\d.])(\d+)(?:\.0+|(\.\d*?[1-9])0+)(?![\d.])")  # those of "2.0" and "2.50"


@functools.lru_cache(maxsize=1 << 14)  # gold answers and words of a policy come again and again
def normalise(text: str) -> str:
    """One spelling for answers that mean the same.

    NFKC, case folded, invisible characters dropped, underscores and punctuation to spaces (kept: a decimal
    point and a minus sign of a number, and the signs of "C#", "50 %", "4/4", "4:4"; dropped: apostrophes, the
    commas of "1,000" and the zeros of "2.0"), articles left out unless nothing else is there, number words up
    to ninety-nine to digits, single spaces.

    Args:
        text: any string.

    Returns:
        The normalised text; "" if it holds no letter, digit or symbol. Idempotent.

    Example:
        `normalise(" The Twenty-One\\u00a0_violins_! ")` is `"21 violins"`.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = "".join(char for char in text if unicodedata.category(char) != "Cf").replace("\u2212", "-")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"['\u2019]", "", text)
    words = _APART.sub(r"\1", " ".join(_kept(" ".join(text.split())).split())).split()
    words = [word for word in words if word not in _ARTICLES] or words
    words = re.sub(rf"([{_SIGNS}])", r" \1 ", " ".join(words)).split()
    return _ZEROS.sub(r"\1\2", _APART.sub(r"\1", " ".join(_digits(words))))


def _kept(text: str) -> str:
    """The text (single spaces) with what says nothing turned into spaces."""
    kept = []
    for index, char in enumerate(text):
        before, after = text[index - 1 : index], text[index + 1 : index + 2]
        if (char == "." and before.isdigit() and after.isdigit()) or (
            char == "-" and after.isdigit() and not before.strip()
        ):
            kept.append(char)
        elif char in _SIGNS and _says_something(text, index):
            kept.append(f"{char} " if char in "#%" else char)
        elif unicodedata.category(char)[0] in "PZC" or unicodedata.category(char) == "Sk":
            kept.append(" ")
        else:
            kept.append(char)
    return "".join(kept)


def _says_something(text: str, index: int) -> bool:
    """Whether the sign at `index` is part of what is said ("C#", "50 %", "3 / 4", "4:4"), no punctuation."""
    before, after = text[max(index - 2, 0) : index], text[index + 1 : index + 3]
    if text[index] in "%/":  # may stand apart
        before, after = before.rstrip(), after.lstrip()
    return _in_word(before[-1:]) and (text[index] in "#%" or _in_word(after[:1]))


def _in_word(char: str) -> bool:
    return char != "" and unicodedata.category(char)[0] in "LMN"


def _digits(words: list[str]) -> list[str]:
    """Number words to digits: ["twenty", "one"] -> ["21"]."""
    out: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        if word in _TENS:
            unit = _UNITS.get(words[index + 1], 0) if index + 1 < len(words) else 0
            compound = 0 < unit < 10
            out.append(str(_TENS[word] + (unit if compound else 0)))
            index += 1 + compound
            continue
        out.append(str(_UNITS[word]) if word in _UNITS else word)
        index += 1
    return out
