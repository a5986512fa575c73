"""Where the parts of a question lie in a prompt, and how those of two branches are paired.

    joint      <audio> A A A </audio> | A drum plays. | Which one plays: drum or harp? ... assistant | drum
    reference  <audio> A A A </audio> |               | Which one plays: drum or harp? ... assistant | drum
               audio                    text            question                         answer

Branches differ in length, so places are never paired by index:

    tokens   the segment is in both and equally long: token by token
    mean     it is in both, of another length: the mean of the reference's goes to every place of the joint's
    absent   the reference lacks it (its text or its picture was left out): the mean over the reference's
             question goes there, which is to say that what stood there says nothing
"""

from dataclasses import dataclass
from typing import Any

import torch

from rlcomm.omni.encode import EncodedPrompt

GROUPS = ("audio", "video", "text", "question", "answer", "all")
RULES = ("tokens", "mean", "absent")


@dataclass(frozen=True)
class Pairing:
    """Places of the joint branch and those of the reference whose activations they get.

    Attributes:
        rule: of `RULES`; "mixed" of the group "all" where its parts have several.
        at: in the joint branch (n,).
        parts: one (places in the joint branch, places in the reference, whether their mean is taken) for each
            segment.
    """

    rule: str
    at: torch.Tensor
    parts: tuple[tuple[torch.Tensor, torch.Tensor, bool], ...]

    def values(self, reference: torch.Tensor) -> torch.Tensor:
        """What goes to `at`: (n, H) from the reference's activations (T, H)."""
        found = []
        for at, source, averaged in self.parts:
            taken = reference[source.to(reference.device)]
            found.append(taken.mean(0, keepdim=True).expand(len(at), -1) if averaged else taken)
        return torch.cat(found)


def segments(
    processor: Any, prompt: EncodedPrompt, other: EncodedPrompt, behind: int = 0
) -> dict[str, torch.Tensor]:
    """The places of a prompt, by group.

    Args:
        processor: of the policy.
        prompt: whose places are wanted.
        other: the other branch; words that only one of the two has are "text" (a token that joins such words
            with common ones too), the rest is "question", with its options, the instruction and the closing
            of the turn.
        behind: so many tokens follow the prompt, which predict the answer as its last token does.

    Returns:
        group -> places (n,), int64, groups without any left out. The opening of the turn and the tokens that
        frame media belong to none.
    """
    tokenizer = processor.tokenizer
    heard = tokenizer.convert_tokens_to_ids(processor.audio_token)
    seen = tokenizer.convert_tokens_to_ids([processor.video_token, processor.image_token])
    places = torch.arange(len(prompt))
    start, end = _words(processor, prompt), len(prompt) - 1
    words, others = prompt.ids[start:end].tolist(), other.ids[_words(processor, other) : -1].tolist()
    shorter = min(len(words), len(others))
    after = next((i for i in range(shorter) if words[-1 - i] != others[-1 - i]), shorter)
    before = next((i for i in range(shorter - after) if words[i] != others[i]), shorter - after)
    found = {
        "audio": places[prompt.ids == heard],
        "video": places[torch.isin(prompt.ids, torch.tensor(seen))],
        "text": places[start + before : end - after],
        "question": torch.cat([places[start : start + before], places[end - after : end]]),
        "answer": torch.arange(end, len(prompt) + behind),
    }
    return {group: at for group, at in found.items() if len(at)}


def _words(processor: Any, prompt: EncodedPrompt) -> int:
    """Where the user's words begin: behind the last medium, or behind the opening of a turn without any."""
    ids = processor.tokenizer.convert_tokens_to_ids([processor.vision_eos_token, processor.audio_eos_token])
    closing = torch.isin(prompt.ids, torch.tensor(ids)).nonzero().flatten()
    return int(closing[-1]) + 1 if len(closing) else 0


def pairings(joint: dict[str, torch.Tensor], reference: dict[str, torch.Tensor]) -> dict[str, Pairing]:
    """How the segments of a joint branch are paired with those of its reference.

    Args:
        joint: of `segments`.
        reference: of `segments`, the other way round.

    Returns:
        A pairing for each group of the joint branch, and one for "all" of them at once.
    """
    found = {}
    for group, at in joint.items():
        rule = "absent" if group not in reference else "mean"
        if rule == "mean" and len(reference[group]) == len(at):
            rule = "tokens"
        source = reference["question"] if rule == "absent" else reference[group]
        found[group] = Pairing(rule, at, ((at, source, rule != "tokens"),))
    rules = {pairing.rule for pairing in found.values()}
    found["all"] = Pairing(
        rules.pop() if len(rules) == 1 else "mixed",
        torch.cat([pairing.at for pairing in found.values()]),
        tuple(part for pairing in found.values() for part in pairing.parts),
    )
    return found
