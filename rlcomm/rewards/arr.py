"""ARR, audio reasoning rationality: did it reason from what the audio-only reference heard?"""

from typing import TYPE_CHECKING

from rlcomm.rewards import accuracy
from rlcomm.steps import Steps

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample
    from rlcomm.rewards.embed import Embedder

INSTRUCTION = "Given a reference answer, retrieve semantically similar content"
"""Written before the reference side, for embedding models trained with instructions (RL-CoMM)."""


def score(steps: Steps, sample: "Sample", embedder: "Embedder", omega: float) -> float | None:
    """r_arr of RL-CoMM (section Step-RR).

        r_arr = 1  iff  S(o1, o_ref) > omega  AND  o3 = y,  else 0          S = cosine of sentence embeddings

    Args:
        steps: a parsed completion; o1 is its a-think, o3 its answer.
        sample: o_ref is `sample.reference`, y its gold answer.
        embedder: gives S; the reference side carries INSTRUCTION.
        omega: threshold in [-1, 1]. The paper's 0.8 belongs to Qwen3-Embedding-0.6B; MiniLM needs
            `rlcomm.rewards.omega.MINILM_OMEGA`.

    Returns:
        0.0 or 1.0; None where the sample has no reference reasoning (not applicable).
    """
    if not sample.reference:
        return None
    if not steps.audio.found or not accuracy.score(steps, sample):
        return 0.0
    return float(embedder.similarity(steps.audio.text, sample.reference, INSTRUCTION) > omega)
