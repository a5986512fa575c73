r"""Which option an answer names, in the ways in which people and models write it.

    "B"  "(b)"  "B. violin"  "violin (B)"  "The answer is \boxed{B}."  "选项B"    -> the second option

What is not said plainly is not read: two answers, a doubt, a letter that its text contradicts, a sentence
that merely begins like an option ("A violin is heard" does not name option A) are None, never a guess.
"""

import re
import unicodedata
from collections.abc import Sequence

from rlcomm.data.rows import without_letters
from rlcomm.rewards.lead import DOUBT, LED, LED_WEAKLY, SENTENCE, TAIL, WHY, clean
from rlcomm.rewards.spelling import normalise

_ALONE = re.compile(r"(?:(?:option|choice|answer)\b)?[^\w]*([a-z])[^\w#%]*", re.IGNORECASE)
_LABELLED = re.compile(
    r"[^\w\s]{0,4}([a-z])(?:[^\w\s#%/&+]{0,6}\s+|[).:\]、,;]+)(\S.*)", re.IGNORECASE | re.DOTALL
)
_LABEL_BEHIND = re.compile(r"(\S[^(\[]*)[(\[]\s*(?:option\s+)?([a-z])\s*[)\]]\W*", re.IGNORECASE | re.DOTALL)
_ARTICLE = re.compile(r"\W*a\s+\w", re.IGNORECASE)
_MENTIONED = re.compile(r"(?<![\w'])(?!(?:A|I)\s+[a-z])([A-Z])(?![\w'])")
_OTHER, _TORN = -1, -2  # it is no bare answer; it is one, and no option's


def option(answer: str, options: Sequence[str]) -> int | None:
    """The index of the option that `answer` names: by its text, by its letter, or by both where they agree.

    Args:
        answer: as parsed.
        options: their texts in the order shown, without letters or each with its own ("A. a drum").

    Returns:
        The index; None: it names none of them, or several, or says that it does not know.
    """
    if not options or not answer.strip():
        return None
    found = _read(answer, list(options))
    if found < 0 and (texts := without_letters(list(options))) != list(options):
        found = _read(answer, texts)
    return found if found >= 0 else None


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
    found = _same(answer, options)
    if len({options[i].strip() for i in found}) != 1:
        return None
    return found[0]


def _read(answer: str, texts: Sequence[str]) -> int:
    """The index, `_OTHER` or `_TORN`."""
    if (found := _bare(answer, texts)) != _OTHER:
        return found
    text = clean(answer)
    for form in (text, TAIL.sub("", WHY.sub("", text))):
        for read in (_bare, _led):
            if (found := read(form, texts)) != _OTHER:
                return found
        if DOUBT.search(text):
            return _TORN
    return _among_sentences(text, texts)


def _among_sentences(text: str, texts: Sequence[str]) -> int:
    """The answer that one sentence of several gives ("I hear it. So the answer is B."), or the first line."""
    claims = [
        _bare(TAIL.sub("", WHY.sub("", part[lead.end() :])), texts, led=True)
        for part in map(str.strip, SENTENCE.split(text))
        if (lead := LED.match(part))
    ]
    first, newline, _ = text.partition("\n")
    line = _bare(TAIL.sub("", first), texts) if newline else _OTHER
    if line == _OTHER:
        mentioned = {ord(letter) - ord("A") for letter in _MENTIONED.findall(text)}
        claims += [index for index in mentioned if index < len(texts)] if claims else []
    else:
        claims.append(line)
    return claims[0] if len(set(claims)) == 1 else _OTHER


def _led(text: str, texts: Sequence[str]) -> int:
    """The bare answer behind "the answer is", "option", "it is" and their like."""
    lead = LED.match(text) or LED_WEAKLY.match(text)
    return _bare(text[lead.end() :], texts, led=True) if lead else _OTHER


def _bare(text: str, texts: Sequence[str], led: bool = False) -> int:
    """An answer with nothing around it; `led`: behind other words, where "a" alone begins a phrase."""
    labelled = _LABELLED.fullmatch(text.strip())
    if labelled and not _literal(text, texts) and not _ARTICLE.match(text):
        # letter and text must agree; dropping the article "a" would hide where not
        index, rest = _index(labelled.group(1)), labelled.group(2)
        if same := _same(rest, texts):
            return index if index in same else _TORN
    behind = _LABEL_BEHIND.fullmatch(text.strip())
    if behind and not _literal(text, texts) and (same := _same(behind.group(1), texts)):
        index = _index(behind.group(2))
        return index if index in same else _TORN
    if _same(text, texts):
        found = text_index(text, texts)
        return _TORN if found is None else found
    alone = _ALONE.fullmatch(unicodedata.normalize("NFKC", text).strip())
    if alone and not (led and re.fullmatch(r"a\W*", text.strip())) and _index(alone.group(1)) < len(texts):
        return _index(alone.group(1))
    return _OTHER


def _same(answer: str, options: Sequence[str]) -> list[int]:
    """The options that are this text: as it stands, else after normalisation."""
    if found := _literal(answer, options):
        return found
    text = normalise(answer)
    return [i for i, option in enumerate(options) if text and normalise(option) == text]


def _literal(answer: str, options: Sequence[str]) -> list[int]:
    """The options that are this text as it stands, else those that differ from it in case alone."""
    text = answer.strip()
    exact = [i for i, option in enumerate(options) if text and option.strip() == text]
    folded = [i for i, option in enumerate(options) if text and option.strip().casefold() == text.casefold()]
    return exact or folded


def _index(letter: str) -> int:
    return ord(letter.lower()) - ord("a")
