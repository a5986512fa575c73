"""Decoders on a model: the branches of one item are made, read and decided between.

sample, clip -> branch_prompts -> scores of the labels, or next-token logits -> the decoder's rule -> answer
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample
from rlcomm.decoding import decoders
from rlcomm.decoding.branches import REASONED, branch_prompts
from rlcomm.omni.branching import generate_branched
from rlcomm.omni.labels import label_tokens
from rlcomm.omni.policy import own_temperature
from rlcomm.omni.score import branch_scores
from rlcomm.utils.errors import UserError


def decode_label(
    policy: Any,
    sample: Sample,
    clip: Clip,
    labels: Sequence[str],
    decoder: str = "gacl",
    settings: Mapping[str, Any] | None = None,
    arbitrate: str = "text",
    normalise: bool = True,
) -> decoders.Choice:
    """The label that a decoder chooses: all branches are scored in one forward.

    Args:
        policy: anything with `.model`, `.processor` and `.config`; of `load_policy`, for one.
        sample: its first question is asked for the answer alone; `meta["without_text"]` is that question
            without the text that may conflict with the clip.
        clip: what the joint branch sees and hears.
        labels: K answers to choose from.
        decoder: a key of `decoders.READS`: greedy, gacl, aad, acd, cad, vcd, icd, avcd or a prompt
            intervention.
        settings: keywords of `GACLSettings`, or `a`, `b` of a contrast; None: the decoder's defaults.
        arbitrate: what GACL's and CAD's other branch leaves out: `text`, `video` or `audio`.
        normalise: mean log-probability of a label's tokens, else their sum.

    Returns:
        Number of the label and the scores it was chosen by; `applies` is False where the item lacks one of
        the branches (no text to leave out, say) and the joint answer stands.

    Raises:
        UserError: an unknown decoder, settings out of range, or one that answers behind its own reasoning.
    """
    names = decoders.branches([decoder])
    if decoder in REASONED:
        raise UserError(
            f"decoder {decoder!r} writes its reasoning before it answers, so labels cannot be scored right "
            "behind the question; use decode_text."
        )
    prompts = branch_prompts(policy, sample, clip, names, "direct", arbitrate)
    there = {name: prompt for name, prompt in prompts.items() if prompt is not None}
    with own_temperature(policy.model):
        [scored] = branch_scores(
            policy.model, policy.processor, [list(there.values())], [list(labels)], normalise
        )
    tokens = dict.fromkeys(there, label_tokens(policy.processor.tokenizer, labels)) if normalise else None
    return decoders.choose(decoder, dict(zip(there, scored, strict=True)), settings, tokens=tokens)


def decode_text(
    policy: Any,
    sample: Sample,
    clip: Clip,
    decoder: str = "gacl",
    settings: Mapping[str, Any] | None = None,
    arbitrate: str = "text",
    prompt_style: str = "direct",
    max_new_tokens: int = 256,
) -> str:
    """What a decoder writes, token by token: the branches share the answer and differ in what they see.

    Args:
        policy, sample, clip, decoder, settings, arbitrate: as in `decode_label`.
        prompt_style: `direct` asks for the answer alone, `steps` for hearing, seeing, answer.
        max_new_tokens: at most so many, the end of turn included.

    Returns:
        The text without special tokens, of greedy decoding by the decoder's rule; where the item lacks one
        of the branches, the joint branch's own.

    Raises:
        UserError: an unknown decoder, settings out of range, an unknown prompt style.
    """
    rule = decoders.token_rule(decoder, settings)
    reads = decoders.READS[decoder]
    prompts = branch_prompts(policy, sample, clip, ("joint", *reads), prompt_style, arbitrate)
    if any(prompts[name] is None for name in reads):
        reads, rule = ("joint",), decoders.token_rule("greedy")
    branches = [[prompt] for name in reads if (prompt := prompts[name]) is not None]
    [text] = generate_branched(policy.model, policy.processor, branches, rule, max_new_tokens)
    return text
