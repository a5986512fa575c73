"""The completion format of every stage: build it, read it leniently, know where its segments lie.

    <a-think> what is heard </a-think> <v-think> what is seen </v-think> <answer> final answer </answer>

One builder and one reader serve SFT targets, rollouts, rewards and evaluation (RL-CoMM, arXiv 2511.10059).
Reading is lenient and never raises: it returns what it finds and says what is wrong with each segment.
Strictness belongs to the format reward alone (`rlcomm.rewards.format`).
"""

import itertools
import re
from dataclasses import dataclass
from typing import Literal

from rlcomm.utils.errors import UserError

Status = Literal["ok", "missing", "empty", "repeated", "out_of_order"]

TAGS: tuple[str, str, str] = ("a-think", "v-think", "answer")
"""The three tags in the order in which they must stand."""

_TAG = re.compile(r"<(/?)(a-think|v-think|answer)>")


@dataclass(frozen=True)
class Segment:
    """One segment of a completion.

    Attributes:
        text: inner text without the white space around it; "" where there is none.
        span: (start, end) of `text` in characters of the completion, so `completion[start:end] == text`;
            an empty span where there is no text. Characters, not tokens: the same for every tokenizer.
        status: "ok"; "missing" (no opening tag directly closed by its own closing tag); "repeated" (a tag
            more than once; `text` is the first complete one); "empty" (nothing visible inside);
            "out_of_order" (starts before a segment that belongs in front of it).
    """

    text: str
    span: tuple[int, int]
    status: Status

    @property
    def found(self) -> bool:
        """There is something to read, whether or not its place is right."""
        return self.status in ("ok", "repeated", "out_of_order") and _visible(self.text)


@dataclass(frozen=True)
class Steps:
    """A completion read into its three segments; `text` is the completion as it was given."""

    text: str
    audio: Segment
    video: Segment
    answer: Segment

    @property
    def outside(self) -> str:
        """What stands outside the three segments and their tags, trimmed; "" in a clean completion."""
        left, position = [], 0
        for start, end in sorted(part.span for part in (self.audio, self.video, self.answer) if part.text):
            left.append(self.text[position:start])
            position = end
        left.append(self.text[position:])
        return _TAG.sub("", "".join(left)).strip()

    @property
    def answer_start(self) -> int | None:
        """Character index right behind the `</v-think>` of the v-think that was read; None without one.

        Everything from here on is the "answer tokens" of Ans-CO (RL-CoMM's N).
        """
        if self.video.status == "missing":
            return None
        return self.text.index("</v-think>", self.video.span[1]) + len("</v-think>")


def build(audio: str, video: str, answer: str) -> str:
    """Writes a completion in the one format; `parse(build(a, v, y))` gives the three back, all "ok".

    Args:
        audio: what is heard. video: what is seen. answer: the final answer. White space around them is
            trimmed.

    Raises:
        UserError: a segment is empty or itself contains one of the tags.
    """
    parts = []
    for tag, inner in zip(TAGS, (audio, video, answer), strict=True):
        if not _visible(inner):
            raise UserError(
                f"The <{tag}> segment of a completion is empty, so it would teach an invalid format; "
                "give it at least one word."
            )
        if found := _TAG.search(inner):
            raise UserError(
                f"The <{tag}> text {inner!r} contains the tag {found.group()}, so it could not be read "
                "back; remove the tag from the text."
            )
        parts.append(f"<{tag}> {inner.strip()} </{tag}>")
    return " ".join(parts)


def parse(text: str) -> Steps:
    """Reads a completion leniently; never raises.

    A segment is an opening tag whose NEXT tag is its own closing tag. A segment wrapped around other tags is
    therefore missing: were its inner text taken whole, `<a-think> <v-think> x </v-think> </a-think>` would
    make the two segments alike and be paid by the audio-visual correlation reward.
    """
    tags = list(_TAG.finditer(text))
    pairs: dict[str, tuple[int, int]] = {}  # tag -> inner span of its first complete pair
    for opening, closing in itertools.pairwise(tags):
        name = opening.group(2)
        if not opening.group(1) and closing.group(1) and closing.group(2) == name and name not in pairs:
            pairs[name] = (opening.end(), closing.start())

    segments = []
    for rank, name in enumerate(TAGS):
        if name not in pairs:
            segments.append(Segment("", (0, 0), "missing"))
            continue
        start, end = pairs[name]
        inner = text[start:end]
        start += len(inner) - len(inner.lstrip())
        inner = inner.strip()
        status: Status = "ok"
        if sum(tag.group(2) == name for tag in tags) > 2:
            status = "repeated"
        elif not _visible(inner):
            status = "empty"
        elif any(pairs.get(before, (-1, -1))[0] > start for before in TAGS[:rank]):
            # The later one of a swapped pair keeps "ok": one of the two fails the strict format already.
            status = "out_of_order"
        segments.append(Segment(inner, (start, start + len(inner)), status))
    return Steps(text, *segments)


def answer_of(text: str, prompt_style: str) -> str | None:
    """The final answer of a completion, or None where there is none (a class of its own, never "no").

    Args:
        text: the completion.
        prompt_style: "direct" (the whole text is the answer) or "steps" (the text inside <answer>).

    Raises:
        ValueError: another prompt style.
    """
    if prompt_style == "direct":
        return text.strip() if _visible(text) else None
    if prompt_style == "steps":
        answer = parse(text).answer
        return answer.text if answer.found else None
    raise ValueError(f"prompt_style must be 'steps' or 'direct', not {prompt_style!r}")


def _visible(text: str) -> bool:
    """Zero-width and control characters are no content: an invisible segment earns no format reward."""
    return any(char.isprintable() and not char.isspace() for char in text)
