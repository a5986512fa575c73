"""Contrastive decoding: move the full input's scores away from a reference that lacks, or spoils, one part.

    l = (1 + a) l_full - a l_ref        optional plausibility cut: keep l_full >= log b + max l_full

One formula, many names: the methods differ in what the reference branch sees (`PRESETS`). AVCD contrasts
three references at once. Scores are next-token logits or candidate scores; a constant added to a branch
changes no decision, so raw logits and log-probabilities decide alike.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlcomm.utils.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


def _check(a: float, b: float | None) -> None:
    if not (a >= 0 and math.isfinite(a)):
        raise UserError(
            f"the contrast strength a is {a}, which would pull towards the reference or blow up; set a "
            "finite number of 0 or more."
        )
    if b is not None and not 0 < b <= 1:
        raise UserError(
            f"the plausibility b is {b}, outside (0, 1], where the cut keeps everything or nothing; set a "
            "share of the best probability such as 0.1, or leave it out for no cut."
        )


@dataclass(frozen=True)
class Contrast:
    """One contrastive method.

    Attributes:
        reference: what the reference branch sees, in words for the report.
        a: strength >= 0; 0 is plain decoding of the full input.
        b: plausibility in (0, 1]: only scores within log b of the best are kept, 1 keeps the best alone;
            None: no cut.
        source: paper.

    Raises:
        UserError: a or b out of range.
    """

    reference: str
    a: float
    b: float | None
    source: str

    def __post_init__(self) -> None:
        _check(self.a, self.b)


PRESETS = {
    "vcd": Contrast("frames with diffusion noise", a=1.0, b=0.1, source="arXiv 2311.16922"),
    "cad": Contrast("the context removed", a=0.5, b=None, source="arXiv 2305.14739"),
    "aad": Contrast("the audio removed", a=0.5, b=None, source="arXiv 2506.07233"),
    # No published default is known to us: AAD's numbers, so that the two differ in the reference alone.
    "acd": Contrast("perturbed audio", a=0.5, b=None, source="as compared in arXiv 2606.05161"),
    "icd": Contrast("a disturbed instruction", a=1.0, b=0.1, source="arXiv 2403.18715"),
}

AVCD_A = 0.5
AVCD_B = 0.2
"""The released code's (kaistmm/AVCD)."""
AVCD_GATE = 0.6
"""Entropy in nats below which AVCD leaves the full input's scores alone."""


def contrast(full: "Tensor", reference: "Tensor", a: float, b: float | None = None) -> "Tensor":
    """Scores pushed away from the reference branch.

        l = (1 + a) l_full - a l_ref
        with b: l = -inf where l_full < log b + max l_full

    The cut is taken on l_full, so the best score of the full input always stays. A score of -inf in l_full
    stays -inf, whatever the reference says; one of -inf in l_ref alone becomes +inf (for a > 0): the limit of
    the formula. a = 0 without a cut gives l_full to the bit. Range: unbounded, and not normalised; only the
    order within a row means something.

    Args:
        full: scores of the full input, (V,) or (B, V); half precision is raised to float32.
        reference: scores of the reference branch, of the same shape.
        a: strength >= 0.
        b: plausibility in (0, 1], or None for no cut.

    Returns:
        (V,) or (B, V), at least float32.

    Raises:
        ValueError: branches of different shapes, or neither (V,) nor (B, V).
        UserError: a or b out of range.

    Source: Visual Contrastive Decoding (arXiv 2311.16922), the contrast and its adaptive plausibility.
    """
    _check(a, b)
    full, reference = _same_shape(full, reference)
    result = full if a == 0 else _masked((1 + a) * full - a * reference, full)
    return result if b is None else _cut(result, full, b)


def avcd(
    full: "Tensor",
    without_both: "Tensor",
    without_first: "Tensor",
    without_second: "Tensor",
    a: float = AVCD_A,
    b: float | None = AVCD_B,
    gate: float = AVCD_GATE,
    doubt: "Tensor | None" = None,
) -> "Tensor":
    """Audio-visual contrastive decoding, against the two modalities that dominate less.

        l = (2 + 2a) L - 2a L12 + L1 + L2      where entropy(softmax L) >= gate, with the cut
        l = L                                  elsewhere, without it

    Each row is gated by itself. The weights sum to 4, so a gated row is about four times as steep as a plain
    one: take the argmax, or sample at four times the temperature. The released code cuts to -1e-4, which lets
    implausible tokens win over negative logits; here the cut is -inf. A score of -inf in L stays -inf.

    Args:
        full: L, scores of the full input, (V,) or (B, V); half precision is raised to float32.
        without_both: L12, both less dominant modalities masked.
        without_first: L1, the first of them masked.
        without_second: L2, the second masked.
        a: strength >= 0.
        b: plausibility in (0, 1], or None for no cut.
        gate: entropy in nats, >= 0; 0 contrasts everywhere.
        doubt: what is held against it, () or (B,); None: the entropy of softmax L. Scores that are means over
            the tokens of an answer have another one than the answers.

    Returns:
        (V,) or (B, V), at least float32.

    Raises:
        ValueError: branches of different shapes, or neither (V,) nor (B, V).
        UserError: a, b or the gate out of range.

    Source: AVCD (arXiv 2505.20862), its trimodal contrast and entropy-guided decoding; b from its code.
    """
    _check(a, b)
    if not gate >= 0:
        raise UserError(f"AVCD's entropy gate is {gate}, and no entropy is below 0; set nats of 0 or more.")
    full, without_both, without_first, without_second = _same_shape(
        full, without_both, without_first, without_second
    )
    mixed = (2 + 2 * a) * full + without_first + without_second
    if a > 0:
        mixed = mixed - 2 * a * without_both
    mixed = _masked(mixed, full)
    if b is not None:
        mixed = _cut(mixed, full, b)
    return mixed.where(((entropy(full) if doubt is None else doubt) >= gate).unsqueeze(-1), full)


def entropy(scores: "Tensor") -> "Tensor":
    """Entropy in nats of softmax(scores): H = -sum_v p_v ln p_v, in [0, ln V].

    Args:
        scores: (V,) or (B, V) logits; -inf is probability 0 and adds nothing.

    Returns:
        () or (B,).

    Source: Shannon (1948), section 6.
    """
    log_probs = _raised(scores).log_softmax(-1)
    probs = log_probs.exp()
    return -(probs * log_probs.masked_fill(probs == 0, 0.0)).sum(-1)


def _raised(scores: "Tensor") -> "Tensor":
    return scores if scores.element_size() >= 4 else scores.float()


def _same_shape(*branches: "Tensor") -> "list[Tensor]":
    shapes = [tuple(branch.shape) for branch in branches]
    if len(set(shapes)) > 1 or len(shapes[0]) not in (1, 2):
        raise ValueError(f"need branches of one shape, (V,) or (B, V), not {', '.join(map(str, shapes))}")
    return [_raised(branch) for branch in branches]


def _masked(scores: "Tensor", full: "Tensor") -> "Tensor":
    """What the full input rules out stays out; the arithmetic alone would give inf - inf there."""
    return scores.masked_fill(full == -math.inf, -math.inf)


def _cut(scores: "Tensor", full: "Tensor", b: float) -> "Tensor":
    return scores.masked_fill(full < math.log(b) + full.max(dim=-1, keepdim=True).values, -math.inf)
