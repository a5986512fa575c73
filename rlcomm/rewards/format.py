"""The format reward: is the completion exactly the three segments?"""

from typing import TYPE_CHECKING

from rlcomm.steps import TAGS, Steps

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample


def score(steps: Steps, sample: "Sample | None" = None, lenient: bool = False) -> float:
    """r_format of RL-CoMM (section Step-RR).

        strict:   1  iff each tag stands once, in order, no segment is empty, only white space is outside
        lenient:  1  iff the text contains the six tags, in any order (as the released research code)

    Args:
        steps: a parsed completion.
        sample: unused; every reward has the same first two arguments.
        lenient: which of the two.

    Returns:
        0.0 or 1.0.
    """
    if lenient:
        return float(all(tag in steps.text for name in TAGS for tag in (f"<{name}>", f"</{name}>")))
    in_place = all(part.status == "ok" for part in (steps.audio, steps.video, steps.answer))
    return float(in_place and not steps.outside)
