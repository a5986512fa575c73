"""AVC, audio-visual correlation: does what is heard go with what is seen?"""

from typing import TYPE_CHECKING, Literal, get_args

from rlcomm.rewards import accuracy
from rlcomm.steps import Steps

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample
    from rlcomm.rewards.embed import Embedder

INSTRUCTION = "Given a reference answer, retrieve semantically coherent content"
"""Written before the v-think side, for embedding models trained with instructions (RL-CoMM)."""

Mode = Literal["similarity", "calibrated", "witnessed"]
MODES: tuple[str, ...] = get_args(Mode)
NEED_REFERENCE: frozenset[str] = frozenset({"calibrated", "witnessed"})
"""Modes that compare with `sample.reference`; "witnessed" with `sample.sight` too."""


def score(
    steps: Steps,
    sample: "Sample",
    embedder: "Embedder",
    mode: Mode = "similarity",
    omega: float | None = None,
) -> float | None:
    """r_avc of RL-CoMM (section Step-RR), or one of our forms of it.

        r_avc = 1 + I   if o3 = y
                I       if o3 is present and o3 != y
                0       if o3 is missing

        similarity (the paper):  I = S(o1, o2) clipped to [0, 1]
        calibrated (ours):       I = 1 - |S(o1, o2) - S(o_ref, o2)| clipped to [0, 1]
        witnessed (ours):        I = calibrated's  if S(o2, o_see) > omega and each tag stands once,  else 0

    Known exploits (`rlcomm audit` measures them). Similarity is maximised by one text in both segments:
    copying v-think into a-think (1.88 of 2 in a sketch, with muted accuracy at 0), or telling what is heard
    as what is seen. Calibrated pays for the first only where the reference agrees with the picture, but
    whatever the v-think says, an a-think like the reference makes both similarities equal and I near 1.
    Neither mode knows the picture, so a v-think made from the sound alone is paid as well as the honest one.
    Witnessed asks a second witness, who saw the picture and heard nothing, as ARR asks one who only heard.
    Without tags nothing would be left to compare: r_avc is 0 unless a-think and v-think both parse.

    Args:
        steps: a parsed completion; o1, o2, o3 are its a-think, v-think and answer.
        sample: y is its gold answer, o_ref its reference reasoning, o_see its sight.
        embedder: gives S, the cosine of sentence embeddings; the v-think side carries INSTRUCTION (in
            S(o2, o_see) the witness's side does).
        mode: "similarity", "calibrated" or "witnessed".
        omega: threshold in [-1, 1] of "witnessed"; the one of ARR, since both compare two texts about one
            sense.

    Returns:
        A number in [0, 2]; None where there is no reference reasoning, or no sight, to compare with (not
        applicable).

    Raises:
        ValueError: another mode, or "witnessed" without omega.
    """
    if mode not in MODES:
        raise ValueError(f"avc mode must be one of {', '.join(MODES)}, not {mode!r}")
    if mode == "witnessed" and omega is None:
        raise ValueError("avc mode 'witnessed' needs omega")
    if (mode in NEED_REFERENCE and not sample.reference) or (mode == "witnessed" and not sample.sight):
        return None
    if not (steps.audio.found and steps.video.found and steps.answer.found):
        return 0.0
    correlation = embedder.similarity(steps.audio.text, steps.video.text, INSTRUCTION)
    if mode in NEED_REFERENCE:
        assert sample.reference is not None
        expected = embedder.similarity(sample.reference, steps.video.text, INSTRUCTION)
        correlation = 1.0 - abs(correlation - expected)
    if mode == "witnessed" and not _seen(steps, sample, embedder, omega):  # type: ignore[arg-type]
        correlation = 0.0
    return accuracy.score(steps, sample) + min(max(correlation, 0.0), 1.0)


def _seen(steps: Steps, sample: "Sample", embedder: "Embedder", omega: float) -> bool:
    """Whether the v-think says what the witness of the picture says; with a tag twice, nothing is said."""
    assert sample.sight is not None
    if any(part.status == "repeated" for part in (steps.audio, steps.video, steps.answer)):
        return False
    return embedder.similarity(steps.video.text, sample.sight, INSTRUCTION) > omega
