"""The settings each decoder is tuned over: stated, since nAUC grows with the number of settings tried."""

from typing import Any

from rlcomm.decoding import contrastive
from rlcomm.utils.errors import UserError

GACL_LAMBDAS = (0.5, 1.0, 1.25, 2.0)
GACL_TAUS = (0.5, 1.0, 1.5)
CONTRAST_STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""The strengths a of AAD and ACD (arXiv 2606.05161); the other contrasts get the same, to be comparable."""

PROMPTS = ("audio_priority", "ignore_text", "bias_awareness", "chain_of_thought")
"""Prompt interventions: nothing to tune, one setting each."""

GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    "greedy": ({},),
    "gacl": tuple({"lam": lam, "tau": tau} for lam in GACL_LAMBDAS for tau in GACL_TAUS),
    **{
        name: tuple({"a": a, "b": preset.b} for a in CONTRAST_STRENGTHS)
        for name, preset in contrastive.PRESETS.items()
    },
    "avcd": tuple({"a": a, "b": contrastive.AVCD_B} for a in CONTRAST_STRENGTHS),
    **{name: ({},) for name in PROMPTS},
}
"""Decoder -> its settings, as keywords of `gacl.Settings`, `contrastive.contrast` or `contrastive.avcd`."""


def settings_tried(decoder: str) -> int:
    """The number of settings a decoder is tuned over, >= 1 (12 for GACL, 7 for a contrast).

    Raises:
        UserError: a decoder without a grid.
    """
    if decoder not in GRIDS:
        raise UserError(f"decoder {decoder!r} has no grid to tune over; name one of {', '.join(GRIDS)}.")
    return len(GRIDS[decoder])
