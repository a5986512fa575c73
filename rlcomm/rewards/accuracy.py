"""The accuracy reward, and the one place that decides whether an answer is right.

Answers are compared whole, never by substring: "no" is in "piano", "one" is in "saxophone", and an empty
answer is in everything.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlcomm.steps import Steps

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_DECADES = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: number for number, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * number for number, word in enumerate(_DECADES.split(), start=2)}
_ARTICLES = {"a", "an", "the"}
_LETTER = re.compile(r"(?:(?:option|choice|answer)\b)?[^\w]*([a-z])[^\w#%]*", re.IGNORECASE)
_LABELLED = re.compile(r"[(\[*]*([a-z])[*]*[)\].:]+[*]*\s+(\S.*)", re.IGNORECASE | re.DOTALL)
_SIGNS = "#%/:"
_APART = re.compile(r" +(?=[#%])| *([/:]) *")  # what stands between a sign and what it belongs to


@functools.lru_cache(maxsize=1 << 14)  # gold answers and words of a policy come again and again
def normalise(text: str) -> str:
    """One spelling for answers that mean the same.

    NFKC, case folded, invisible characters dropped, underscores and punctuation to spaces (kept: a decimal
    point and a minus sign of a number, and the signs of "C#", "50 %", "4/4", "4:4"; dropped: apostrophes and
    the commas of "1,000"), articles left out unless nothing else is there, number words up to ninety-nine to
    digits, single spaces.

    Args:
        text: any string.

    Returns:
        The normalised text; "" if it holds no letter, digit or symbol. Idempotent.

    Example:
        `normalise(" The Twenty-One\\u00a0_violins_! ")` is `"21 violins"`.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = "".join(char for char in text if unicodedata.category(char) != "Cf")
    text = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
    text = re.sub(r"['\u2019]", "", text)
    kept = []
    for index, char in enumerate(text):
        before, after = text[index - 1 : index], text[index + 1 : index + 2]
        if (char == "." and before.isdigit() and after.isdigit()) or (
            char in "-\u2212" and after.isdigit() and not before.strip()
        ):
            kept.append("-" if char != "." else ".")
        elif char in _SIGNS and _says_something(text, index):
            kept.append(f"{char} " if char in "#%" else char)
        elif unicodedata.category(char)[0] in "PZC" or unicodedata.category(char) == "Sk":
            kept.append(" ")
        else:
            kept.append(char)
    words = _APART.sub(r"\1", "".join(kept)).split()
    words = [word for word in words if word not in _ARTICLES] or words
    words = re.sub(rf"([{_SIGNS}])", r" \1 ", " ".join(words)).split()
    return _APART.sub(r"\1", " ".join(_digits(words)))


def matches(candidate: str | None, gold: str, options: Sequence[str] = ()) -> bool:
    """Whether `candidate` is the gold answer (o3 = y of RL-CoMM).

    Open questions: equality of the normalised texts. Multiple choice: the option's text (`text_index`), its
    letter ("B", "(b)", "B.", "option B"), or both where they agree; `gold` may itself be given either way.

    Args:
        candidate: the answer as parsed; None or nothing visible is never right.
        gold: the gold answer.
        options: the options' texts without letters, in the order shown; () for an open question.

    Returns:
        True or False.
    """
    if not candidate:
        return False
    right = _option(gold, options)
    if right is not None:
        return _option(candidate, options) == right
    return normalise(candidate) == normalise(gold) != ""


def text_index(answer: str, options: Sequence[str]) -> int | None:
    """The index of the option with this text.

    Options that are one after normalisation ("2" and "two") stay different options: one that is literally the
    answer comes first, then one that differs in case alone, then one that is equal after normalisation.

    Args:
        answer: any string; one without a letter, digit or symbol is an option literally or not at all.
        options: the texts.

    Returns:
        The index (of the first, where an option stands there twice); None: no option has this text, or
        several different ones have it after normalisation.
    """
    found = _literal(answer, options) or _normalised(answer, options)
    if len({options[i].strip() for i in found}) != 1:
        return None
    return found[0]


def score(steps: Steps, sample: "Sample") -> float:
    """r_acc = 1[o3 = y], the reward of plain GRPO and a term of ARR and AVC.

    Args:
        steps: a parsed completion; without an answer segment it is wrong.
        sample: gold answer and options of its first turn.

    Returns:
        0.0 or 1.0.
    """
    return float(steps.answer.found and matches(steps.answer.text, sample.answer, sample.options))


def _option(answer: str, options: Sequence[str]) -> int | None:
    """The index of the option that `answer` names, or None."""
    if not options:
        return None
    labelled = _LABELLED.fullmatch(answer.strip())
    if labelled and not _literal(answer, options):  # an option may itself be called "A. violin"
        # letter and text must agree; dropping the article "a" would hide where not
        index, text = _index(labelled.group(1)), labelled.group(2)
        return index if index in (_literal(text, options) or _normalised(text, options)) else None
    if _literal(answer, options) or _normalised(answer, options):
        return text_index(answer, options)
    letter = _LETTER.fullmatch(unicodedata.normalize("NFKC", answer).strip())
    if letter and _index(letter.group(1)) < len(options):
        return _index(letter.group(1))
    return None


def _literal(answer: str, options: Sequence[str]) -> list[int]:
    """The options that are this text as it stands, else those that differ from it in case alone."""
    text = answer.strip()
    exact = [i for i, option in enumerate(options) if text and option.strip() == text]
    folded = [i for i, option in enumerate(options) if text and option.strip().casefold() == text.casefold()]
    return exact or folded


def _normalised(answer: str, options: Sequence[str]) -> list[int]:
    """The options that are this text after normalisation."""
    text = normalise(answer)
    return [i for i, option in enumerate(options) if text and normalise(option) == text]


def _says_something(text: str, index: int) -> bool:
    """Whether the sign at `index` is part of what is said ("C#", "50 %", "3 / 4", "4:4"), no punctuation."""
    before, after = text[:index], text[index + 1 :]
    if text[index] in "%/":  # may stand apart
        before, after = before.rstrip(), after.lstrip()
    return _in_word(before[-1:]) and (text[index] in "#%" or _in_word(after[:1]))


def _in_word(char: str) -> bool:
    return char != "" and unicodedata.category(char)[0] in "LMN"


def _index(letter: str) -> int:
    return ord(letter.lower()) - ord("a")


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
