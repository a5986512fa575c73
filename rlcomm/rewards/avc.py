"""AVC, audio-visual correlation: does what is heard go with what is seen?"""

from typing import TYPE_CHECKING, Literal

from rlcomm.rewards import accuracy
from rlcomm.steps import Steps

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample
    from rlcomm.rewards.embed import Embedder

INSTRUCTION = "Given a reference answer, retrieve semantically coherent content"
"""Written before the v-think side, for embedding models trained with instructions (RL-CoMM)."""

Mode = Literal["similarity", "calibrated"]


def score(steps: Steps, sample: "Sample", embedder: "Embedder", mode: Mode = "similarity") -> float | None:
    """r_avc of RL-CoMM (section Step-RR), or our calibrated form of it.

        r_avc = 1 + I   if o3 = y
                I       if o3 is present and o3 != y
                0       if o3 is missing

        similarity (the paper):  I = S(o1, o2) clipped to [0, 1]
        calibrated (ours):       I = 1 - |S(o1, o2) - S(o_ref, o2)| clipped to [0, 1]

    Known exploits. Similarity is maximised by copying v-think into a-think (1.88 of 2 in a sketch, with muted
    accuracy at 0); calibrated pays for copying only where the reference agrees with the picture. Without tags
    nothing would be left to compare: r_avc is 0 unless a-think and v-think both parse. Calibrated has a hole
    of its own: a v-think that says nothing makes both similarities equal and I near 1.

    Args:
        steps: a parsed completion; o1, o2, o3 are its a-think, v-think and answer.
        sample: y is its gold answer, o_ref its reference reasoning.
        embedder: gives S, the cosine of sentence embeddings; the v-think side carries INSTRUCTION.
        mode: "similarity" or "calibrated".

    Returns:
        A number in [0, 2]; None where calibrated has no reference reasoning to compare with (not applicable).

    Raises:
        ValueError: another mode.
    """
    if mode not in ("similarity", "calibrated"):
        raise ValueError(f"avc mode must be 'similarity' or 'calibrated', not {mode!r}")
    if mode == "calibrated" and not sample.reference:
        return None
    if not (steps.audio.found and steps.video.found and steps.answer.found):
        return 0.0
    correlation = embedder.similarity(steps.audio.text, steps.video.text, INSTRUCTION)
    if mode == "calibrated":
        assert sample.reference is not None
        expected = embedder.similarity(sample.reference, steps.video.text, INSTRUCTION)
        correlation = 1.0 - abs(correlation - expected)
    return accuracy.score(steps, sample) + min(max(correlation, 0.0), 1.0)
