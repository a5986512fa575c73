"""Consistency (ours): is the question answered right of this clip and of its counterfactual twin?"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rlcomm.rewards import accuracy
from rlcomm.steps import Steps

if TYPE_CHECKING:
    from rlcomm.data.sample import Sample


def score(steps: Steps, sample: "Sample", others: Sequence[Steps], twin: "Sample") -> float:
    """Joint success of a completion and its twin's completions.

        r_con = 1[o3 = y] * mean over the twin's completions of 1[o3' = y']

    Nothing where both are wrong ("not worse without the sense" would pay that), and the answers alone count:
    an a-think that changes with the sound earns nothing for it. A policy that always or never changes its
    answer earns it only on pairs whose gold answers do the same (`rlcomm audit` says on how many).

    Args:
        steps: a parsed completion; o3 is its answer.
        sample: y is its gold answer.
        others: parsed completions of the twin, at least one.
        twin: the twin's row; y' is its gold answer.

    Returns:
        A number in [0, 1].

    Example:
        A right answer whose twin was answered right in 1 of 4 completions earns 0.25, a wrong one 0.
    """
    if not accuracy.score(steps, sample):
        return 0.0
    return sum(accuracy.score(other, twin) for other in others) / len(others)
