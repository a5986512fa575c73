"""One decoder, or another model, against joint decoding, on items in conflict and on aligned ones.

What is counted, of the items in conflict, the aligned ones, or both:

    conflict_acc, aligned_acc       accuracy
    conflict_gain, faithful_drop    won and lost against joint decoding (`repair`)
    sign_flip_rate                  share of conflict items whose evidence alone is right and loses
                                    (`margins`); an item whose right answer was not scored is no flip
    nauc_5, frontier_5, ...         what the best settings win at which price (`repair`)
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from rlcomm.evaluation import margins, metrics, repair
from rlcomm.evaluation.catalog import GROUPS, group_name
from rlcomm.evaluation.metrics import Metric
from rlcomm.evaluation.records import LABEL_SCORED, Answers, marked

BUDGETS = (5, 10)  # points, of nAUC@0-B and the frontier at B
OF_SCORES = ("sign_flip_rate", "evidence_conflict_acc")  # of the branches, however the decoder answers
Parts = dict[str, tuple[list[float], list[str]]]  # metric -> value of each item, its clip


@dataclasses.dataclass(frozen=True)
class Sides:
    """One decoder on the conflict and aligned test items of one benchmark.

    Attributes:
        runs: under each of its settings.
        parts: under the chosen one, item by item; None: infeasible.
        answers: how its answers were obtained.
    """

    runs: repair.Runs
    parts: Parts | None
    answers: Answers = LABEL_SCORED

    def counted(self) -> dict[str, Metric]:
        """What they add up to."""
        found: dict[str, Metric] = {}
        for budget in BUDGETS:
            found[f"nauc_{budget}"] = repair.nauc(self.runs, budget)
            found[f"frontier_{budget}"] = repair.best_gain(self.runs, budget)
        for name, (values, clips) in (self.parts or {}).items():
            found[name] = metrics.mean(values, clips)
        return _marked(found, self.answers)


def against_joint(
    conflict: tuple[Sequence[bool], Sequence[bool], list[str]],
    aligned: tuple[Sequence[bool], Sequence[bool], list[str]],
) -> Parts:
    """Accuracy on both sides, the gain and the drop.

    Args:
        conflict: of each item in conflict: is the joint answer right, is the decoder's; its clip.
        aligned: of each aligned item likewise.
    """
    found: Parts = {}
    for name, change, (joint, mine, clips), sign in (
        ("conflict_acc", "conflict_gain", conflict, 1.0),
        ("aligned_acc", "faithful_drop", aligned, -1.0),
    ):
        found[name] = [float(m) for m in mine], clips
        found[change] = [sign * (m - j) for m, j in zip(mine, joint, strict=True)], clips
    return found


def flips(pairs: Sequence[tuple[float | None, float | None]], clips: list[str]) -> Parts:
    """The sign flips among items in conflict, of their margins (joint, evidence)."""
    return {"sign_flip_rate": ([float(margins.is_flip(j, a)) for j, a in pairs], clips)}


def macros(
    several: Mapping[str, Sides], keys: Sequence[str], parts: Iterable[Sequence[str]] = ()
) -> dict[str, dict[str, Metric]]:
    """The means of one decoder over the benchmarks of each group, over all of `keys` ("all"), and over each
    of `parts` that is neither (`group_name`).

    Args:
        several: benchmark -> the decoder on it.
        keys: the benchmarks with both sides, the same ones for every decoder.
        parts: those that each decoder applies to, so that every other one stands beside it there.
    """
    groups = {**GROUPS, "all": tuple(keys)}
    for part in parts:
        if not any(set(part) == set(members) for members in groups.values()):
            groups[group_name(part)] = tuple(part)
    return {
        group: _macro([several[key] for key in members])
        for group, members in groups.items()
        if len(members) > 1 and set(members) <= set(several)
    }


def _macro(several: Sequence[Sides]) -> dict[str, Metric]:
    """The means over benchmarks; without a feasible setting in each of them nAUC and frontier alone."""
    found: dict[str, Metric] = {}
    runs = [both.runs for both in several]
    for budget in BUDGETS:
        found[f"nauc_{budget}"] = repair.macro_nauc(runs, budget)
        found[f"frontier_{budget}"] = repair.macro_best_gain(runs, budget)
    parts = [both.parts for both in several if both.parts is not None]
    if len(parts) == len(several):
        for key in parts[0]:
            if all(key in part for part in parts):
                pairs = [part[key] for part in parts]
                found[key] = metrics.macro_mean([v for v, _ in pairs], [clips for _, clips in pairs])
    scored = any(both.answers == LABEL_SCORED for both in several)
    return _marked(found, LABEL_SCORED if scored else several[0].answers)


def _marked(found: dict[str, Metric], answers: Answers) -> dict[str, Metric]:
    own = marked({name: found[name] for name in OF_SCORES if name in found}, LABEL_SCORED)
    return marked({**found, **own}, answers)
