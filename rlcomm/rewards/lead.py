r"""What stands around an answer: markup, "the answer is", "is correct", "because ...", and words of doubt.

In the languages of the models and sets that are read here: English, Chinese, Japanese, Korean, German,
French, Spanish, Italian, Portuguese, Russian. No pattern takes more than linear time.
"""

import re
import unicodedata

_MARKS = re.compile(
    r"\*{1,3}|`+|\$+|\\[()\[\]]|(?<!\w)_{1,3}(?=\w)|(?<=\w)_{1,3}(?!\w)|</?(?:b|i|em|strong|answer|option)>",
    re.IGNORECASE,
)
_BRACED = re.compile(r"\\(?:boxed|fbox|text\w*|math\w+)\s{0,3}\{([^{}]{0,500})\}")
_OPEN, _CLOSE = "\"'“‘「『《(", "\"'”’」』》)"

_CLAIM = (
    # the answer is; my final answer:; the correct option is
    r"(?:(?:the|my|our|your) )?(?:(?:correct|right|final|best|most likely) ){0,2}"
    r"(?:answer|option|choice|response|solution) ?(?:(?:here )?(?:is|would be|should be|must be)\b)? ?[:=-]?"
    # I choose; I would go with
    r"|I(?:'d|'ll| would| will)? (?:choose|pick|select|answer|go (?:with|for))\b"
    # 答案是, 正确选项为, 我选, 应该选择
    r"|我?的?(?:正确|最终|最佳|最后)?的?(?:答案|选项|回答)(?:应该|应)?(?:选择?|是|为)? ?:?"
    r"|(?:我|我会)?(?:应该|应)?选择? ?:?"
    r"|(?:正解|答え|回答)は|(?:정답|답)(?:은|:)"
    r"|(?:(?:die|la|a|il) )?(?:richtige |bonne )?(?:antwort|réponse|respuesta|risposta|resposta|ответ)"
    r"(?: correcte| correcta| corretta)? ?(?:(?:ist|lautet|est|es|è|é)\b(?: la\b)?)? ?[:—-]?"
)
_LINK = r"(?:(?:(?:so|therefore|thus|hence|well|okay|ok)\b|因此|所以|综上|故) ?[,:，]? ?)?"
_NAMED = r"(?:(?:the )?(?:option|choice|letter)\b|选项)? ?:? ?"

LED = re.compile(rf"{_LINK}(?:{_CLAIM})\s?{_NAMED}", re.IGNORECASE)
"""Words that say that the answer follows."""
LED_WEAKLY = re.compile(rf"{_LINK}(?:(?:it|this|that)(?:'s| is)\b ?)?{_NAMED}", re.IGNORECASE)
"""Words that stand before an answer, and before much else; also nothing at all."""
TAIL = re.compile(
    r" (?:is|seems) (?:the )?(?:correct|right|best)(?: (?:answer|option|choice|one))?\W{0,9}$"
    r"| (?:is|would be) (?:the|my) (?:final )?(?:answer|choice)\W{0,9}$"
    r"| ?(?:是?正确的?(?:答案|选项)?|是对的|选项|项|です|だ|입니다|번)\W{0,9}$"
    r"| (?:ist|est|es|è|é) (?:richtig|korrekt|correcte?|correct[ao]|corrett[ao]|corret[ao])\W{0,9}$",
    re.IGNORECASE,
)
"""Words that say that what stands before them is the answer."""
WHY = re.compile(
    r"(?:[\s,.;:—-]{1,5}|(?=因))(?:because|since|因为|weil|denn|parce que|porque|perché)(?:\b|(?<=因为)).*",
    re.IGNORECASE | re.DOTALL,
)
"""From "because" to the end."""
DOUBT = re.compile(
    r"\b(?:can(?:'t|not| not)|could(?:n't| not)|unable to|impossible to|hard to|no way to|don't|do not) "
    r"(?:really )?(?:tell|determine|say|know|decide|be (?:sure|certain)|identify)\b"
    r"|\b(?:no (?:idea|clue|comment|opinion|answer|information)|not (?:sure|certain|clear)|unsure|uncertain|"
    r"unclear|unknown|whether|maybe|perhaps|possibly|might|either)\b"
    r"|不知道|不确定|不清楚|无法|没法|不好说|说不准|没有?(?:把握|头绪|答案)|可能|也许|或许|わから|分から|모르",
    re.IGNORECASE,
)
"""Words of somebody who does not know."""
SENTENCE = re.compile(
    r"[.!?](?: |\n|$)|[。！？!?\n]|[,;，；] ?(?=so\b|therefore\b|thus\b|hence\b|所以|因此|故)"
)
"""Where a sentence ends, or a conclusion begins."""


def clean(text: str) -> str:
    r"""The text in one form of its characters (NFKC), without markup, quotes and double spaces.

    "**Ｂ**", "\boxed{\text{B}}", "<b>B</b>", "“B”" -> "B".
    """
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    for _ in range(3):  # boxes in boxes
        text = _BRACED.sub(r"\1", text)
    text = "\n".join(" ".join(line.split()) for line in _MARKS.sub("", text).splitlines() if line.strip())
    while len(text) > 1 and text[0] in _OPEN and text[-1] == _CLOSE[_OPEN.index(text[0])]:
        if _CLOSE[_OPEN.index(text[0])] in text[1:-1]:
            break  # two things in quotes
        text = text[1:-1].strip()
    return text


def plain(text: str) -> str:
    """An answer without what is said around it: "The answer is two." -> "two."."""
    text = TAIL.sub("", WHY.sub("", clean(text)))
    lead = LED.match(text) or LED_WEAKLY.match(text)
    return text[lead.end() :] if lead else text
