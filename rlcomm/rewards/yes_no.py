"""Whether an answer to a yes/no question says yes or no.

    "No, it is silent."  "**No**"  "The answer is no."  "There is no violin sound."  "没有。"   -> no
    "No idea."  "yes or no"  "none"  "There is no drum sound." (asked for a violin)         -> None

A statement counts only for what was asked: one that says yes must say the whole of the question, one that
says no may say less of it; each without other words than the question's and in their order ("The drum is
louder than the violin." does not answer whether the violin is louder than the drum).
"""

import re

from rlcomm.rewards.lead import DOUBT, LED, LED_WEAKLY, clean

_YES = "yes oui ja sí si sì sim да はい 네 예 是 是的 有 有的 对 对的 會 会"
_NO = "no non nein não нет いいえ 아니요 아니오 否 不 不是 没有 沒有 没 不对 无"
_BARE = {**dict.fromkeys(_YES.split(), "yes"), **dict.fromkeys(_NO.split(), "no")}
_FIRST = re.compile(r"\W*(yes|no)\b(?!\s*(?:or|and|/)\s*(?:yes|no)\b)", re.IGNORECASE)
_OTHER_WORD = re.compile(r"(?<![\w'])(yes|no)(?=\s*(?:[,.;!]|$))", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:no|not|never|cannot|nothing|none|neither|nor|without)\b|n't\b|没|沒|不|无|無", re.IGNORECASE
)
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u9fff])[\w'])+")
_HEARD = (
    "sound sounds sounding sounded hear heard hears hearing audible play plays playing played present "
    "声 音 听 聽 响"
)
_SEEN = "see seen sees visible shown show shows look 看 见 画"
_FILLING = (
    "a an the there it this that these those is are was were be being been am do does did can could "
    "has have in of from on at any some video audio clip recording scene music musical instrument "
    "instruments actually clearly definitely indeed one i we you ever here to by "
    "有 的 是 在 里 裡 中 视 频 片 段 乐 器 吗 嗎 呢 到 出 了 能 可 以 我 这 那 个 任 何 存 会"
)
_SENSES = {"heard": set(_HEARD.split()), "seen": set(_SEEN.split())}
_IDLE = {*_HEARD.split(), *_SEEN.split(), *_FILLING.split()}
_ASKED = re.compile(r"\?|有没有|是不是|是否|会不会|能不能")
_STATED = re.compile(
    r"(?:(?:there|it|they|this|that|i|we|the|a|an|no)\b|[有没沒不无無听我视音画])", re.IGNORECASE
)


def yes_no(answer: str | None, question: str = "") -> str | None:
    """The class of an answer to a yes/no question: "yes", "no", or None for unparsed.

    Args:
        answer: as parsed.
        question: what was asked; "": statements are read by their sense alone, whatever they are about.
    """
    text = clean(answer or "")
    lead = LED.match(text) or LED_WEAKLY.match(text)
    if lead and (found := bare(text[lead.end() :])) is not None:
        return found
    first, _, rest = re.sub(r"[,，.。;；!！:\n]", "\n", text).partition("\n")
    if (found := bare(first)) is not None:
        others = {word.lower() for word in _OTHER_WORD.findall(text)} - {found}
        said = rest.strip().partition("\n")[0]
        return None if others or DOUBT.search(said) else found
    if _ASKED.search(text) or DOUBT.search(text):
        return None
    begun = _FIRST.match(text)
    if begun and begun.group(1).lower() == "yes":
        return None if _OTHER_WORD.search(text[begun.end() :]) else "yes"
    return _stated(text.split("\n")[0], question) if _STATED.match(text) or begun else None


def bare(text: str) -> str | None:
    """ "yes" or "no" where the text is such a word alone, in any of the languages; else None."""
    return _BARE.get(text.strip(" \t\n.,;:!。，！").casefold())


def _stated(text: str, question: str) -> str | None:
    """What a statement says: "There is no violin sound." -> "no"."""
    negations = len(_NEGATION.findall(text))
    if negations > 1 or re.search(r"\b(?:or|but|if|other)\b|但|或|还是", text, re.IGNORECASE):
        return None
    said, senses = _content(text)
    if not question:
        return (
            "no"
            if negations
            else "yes"
            if re.match(r"there\b|it\b|i\b|we\b|有", text, re.I) and senses
            else None
        )
    asked, asked_senses = _content(question)
    if _NEGATION.search(question):
        return None
    short = not said and not senses  # "It is not.", "There is."
    if negations:
        return "no" if _in_order(said, asked) and senses <= asked_senses else None
    return "yes" if short or (said == asked and senses == asked_senses) else None


def _content(text: str) -> tuple[list[str], set[str]]:
    """(the words that say what it is about, whether hearing or seeing is spoken of)."""
    words = [word.removesuffix("n't") for word in _WORD.findall(text.casefold())]
    senses = {sense for sense, known in _SENSES.items() if known & set(words)}
    words = [word for word in words if word not in _IDLE and not _NEGATION.fullmatch(word) and word != "ca"]
    return [word.removesuffix("s") if len(word) > 3 else word for word in words], senses


def _in_order(part: list[str], whole: list[str]) -> bool:
    """Whether `part` are words of `whole` in their order."""
    left = iter(whole)
    return all(word in left for word in part)
