"""The repair of conflict: what a decoder wins back where the senses disagree, and at which price.

Accuracies, gains and drops are shares in [-1, 1]; a budget is in percentage points (`budget_points`), as in
"nAUC@0-5". Every metric gives `{"value", "n", "ci95"}`, its interval from whole clips
(`metrics.bootstrap_sums`).
"""

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from rlcomm.evaluation.metrics import Metric, mean, of_sums

Clusters = Sequence[Hashable] | None

SLACK = 1e-9  # a drop equal to the budget but for rounding is within it


def conflict_gain(method: Sequence[bool], joint: Sequence[bool], clusters: Clusters = None) -> Metric:
    """Acc_method(conflict) - Acc_joint(conflict), on the same conflict items. Range [-1, 1], a share.

    The interval is that of the paired difference.

    Args:
        method: is the decoder's answer right, (N,).
        joint: is plain joint decoding's, the same items.
        clusters: as in `metrics.bootstrap_ci95`.

    Source: GACL (arXiv 2606.05161).
    """
    return mean([int(m) - int(j) for m, j in zip(method, joint, strict=True)], clusters)


def faithful_drop(method: Sequence[bool], joint: Sequence[bool], clusters: Clusters = None) -> Metric:
    """Acc_joint(aligned) - Acc_method(aligned), where text and audio agree. Range [-1, 1], a share.

    Negative where the method is better there too. Arguments as in `conflict_gain`, of the aligned items.

    Source: GACL (arXiv 2606.05161).
    """
    return conflict_gain(joint, method, clusters)


def frontier(gains: Sequence[float], drops: Sequence[float], budget_points: float) -> float:
    """frontier(K) = max conflict gain over the settings with faithful drop <= K, 0 if there is none.

    A step function of K that never falls once a setting is within it. It may be negative: a decoder all of
    whose feasible settings do harm is not credited with the joint decoding it did not try. Negative drops
    are within every budget. Range [-1, 1], a share.

    Args:
        gains: conflict gain of each setting, (S,), shares.
        drops: faithful drop of each setting, (S,), shares.
        budget_points: K >= 0 in percentage points.

    Source: GACL (arXiv 2606.05161).
    """
    within = [g for g, d in zip(gains, drops, strict=True) if d <= budget_points / 100 + SLACK]
    return max(within, default=0.0)


def frontier_area(gains: Sequence[float], drops: Sequence[float], budget_points: float) -> float:
    """nAUC@0-B = (1/B) integral of frontier(K) dK over [0, B], the mean of the frontier. Range [-1, 1].

    The same number as the paper's area / (B * 100) with K and gain in points; reported x 100. The frontier
    is a step function: it jumps at each drop in [0, B] and is flat between. "Trapezoid area" is meant as
    trapezoids between neighbouring jumps, of equal height on both sides since nothing happens between them
    (each jump stands twice among the knots, before and after), so the area is exact: a sum of rectangles. Two
    other readings are not this: joining the jumps by slopes credits a gain at budgets that do not afford it,
    and a trapezoid rule on a coarse grid of K (0, 1, ..., B) smears every jump over one cell.

    Args:
        gains: conflict gain of each setting, (S,), shares.
        drops: faithful drop of each setting, (S,), shares.
        budget_points: B > 0 in percentage points.

    Raises:
        ValueError: B <= 0.

    Source: GACL (arXiv 2606.05161), nAUC.
    """
    if len(gains) != len(drops):
        raise ValueError(f"{len(gains)} gains and {len(drops)} drops are not of the same settings")
    return float(_area(np.asarray([gains], float), np.asarray([drops], float), budget_points)[0])


@dataclass(frozen=True)
class Runs:
    """Correctness of one decoder under each of its settings, beside plain joint decoding.

    Attributes:
        joint_conflict: is joint decoding right on each conflict item, (N_c,).
        joint_aligned: on each aligned (faithful) item, (N_a,).
        conflict: the decoder's, for each setting, (S, N_c).
        aligned: (S, N_a).
        conflict_clips: the clip of each conflict item; None: every item is one of its own.
        aligned_clips: of each aligned item; a clip in both is drawn with all its items. Give both or neither.

    Raises:
        ValueError: lengths that do not match.
    """

    joint_conflict: Sequence[bool]
    joint_aligned: Sequence[bool]
    conflict: Sequence[Sequence[bool]]
    aligned: Sequence[Sequence[bool]]
    conflict_clips: Clusters = None
    aligned_clips: Clusters = None

    def __post_init__(self) -> None:
        if len(self.conflict) != len(self.aligned):
            raise ValueError(
                f"{len(self.conflict)} settings on conflict items, {len(self.aligned)} on aligned"
            )
        for joint, rows in ((self.joint_conflict, self.conflict), (self.joint_aligned, self.aligned)):
            if any(len(row) != len(joint) for row in rows):
                raise ValueError(f"a setting has not one answer for each of the {len(joint)} joint ones")
        if (self.conflict_clips is None) != (self.aligned_clips is None):
            raise ValueError(
                "clips are given for one of the two sets, so it is unknown which of them go together"
            )

    def gains(self) -> list[float]:
        """Conflict gain of each setting, (S,), shares. ValueError if there is no conflict item."""
        return [_difference(row, self.joint_conflict) for row in self.conflict]

    def drops(self) -> list[float]:
        """Faithful drop of each setting, (S,), shares. ValueError if there is no aligned item."""
        return [_difference(self.joint_aligned, row) for row in self.aligned]


def nauc(runs: Runs, budget_points: float) -> Metric:
    """`frontier_area` of a decoder's runs, with its interval: nAUC@0-B, reported x 100. Range [-1, 1].

    It grows with the number of settings tried, so say that number beside it: each budget has the best of them
    on the very items it is measured on. n is the number of conflict and aligned items.

    Raises:
        ValueError: B <= 0.
    """
    return _over_all([runs], lambda gains, drops: _area(gains, drops, budget_points))


def macro_nauc(several: Sequence[Runs], budget_points: float) -> Metric:
    """The mean of `nauc` over benchmarks, each of equal weight, with its interval.

    Clips are drawn over all benchmarks at once, so one that several of them ask about counts as one.

    Raises:
        ValueError: B <= 0.

    Source: GACL (arXiv 2606.05161), which reports macro averages.
    """
    return _over_all(several, lambda gains, drops: _area(gains, drops, budget_points))


def best_gain(runs: Runs, budget_points: float) -> Metric:
    """`frontier` of a decoder's runs at one budget K, with its interval. Range [-1, 1].

    The best setting is chosen anew in every draw, on the items it is measured on, so it grows with the number
    of settings tried, as `nauc` does. n is the number of conflict and aligned items.
    """
    return macro_best_gain([runs], budget_points)


def macro_best_gain(several: Sequence[Runs], budget_points: float) -> Metric:
    """The mean of `best_gain` over benchmarks, each of equal weight, with its interval; as `macro_nauc`."""
    return _over_all(several, lambda gains, drops: _frontier(gains, drops, budget_points))


@dataclass(frozen=True)
class Selection:
    """The setting chosen on dev.

    Attributes:
        index: of the setting; None: infeasible, no setting keeps within the budget.
        feasible: how many settings do.
        tried: how many there were.
    """

    index: int | None
    feasible: int
    tried: int


def select(gains: Sequence[float], drops: Sequence[float], budget_points: float = 5.0) -> Selection:
    """The setting with the best conflict gain on dev among those with faithful drop <= budget.

    Ties (to 1e-9) go to the smaller drop, then to the first. A decoder without a feasible setting is reported
    as infeasible, never dropped and never given its least bad setting.

    Args:
        gains: conflict gain of each setting on dev, (S,), shares.
        drops: faithful drop of each setting on dev, (S,), shares.
        budget_points: in percentage points.

    Source: GACL (arXiv 2606.05161), which selects under a drop of 5 points.
    """
    feasible = [
        i for i, (_, d) in enumerate(zip(gains, drops, strict=True)) if d <= budget_points / 100 + SLACK
    ]
    best = min(feasible, key=lambda i: (-round(gains[i], 9), round(drops[i], 9)), default=None)
    return Selection(index=best, feasible=len(feasible), tried=len(gains))


def _difference(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Accuracy of the first minus that of the second, on the same items."""
    if len(first) == 0:
        raise ValueError("there is no item to compare a setting with joint decoding on")
    return (sum(map(bool, first)) - sum(map(bool, second))) / len(first)


def _area(gains: np.ndarray, drops: np.ndarray, budget_points: float) -> np.ndarray:
    """Mean of the frontier over [0, B] for each row of (R, S) gains and drops; (R,). NaN rows stay NaN."""
    if not budget_points > 0:
        raise ValueError(f"an area over the budgets 0 to {budget_points} points has no width")
    budget = budget_points / 100
    order = np.argsort(drops, axis=1, kind="stable")
    heights = np.maximum.accumulate(np.take_along_axis(gains, order, axis=1), axis=1)
    jumps = np.clip(np.take_along_axis(drops, order, axis=1), 0.0, budget)
    ends = np.concatenate([jumps[:, 1:], np.full((len(jumps), 1), budget)], axis=1)[:, : jumps.shape[1]]
    return (heights * (ends - jumps)).sum(axis=1) / budget


def _frontier(gains: np.ndarray, drops: np.ndarray, budget_points: float) -> np.ndarray:
    """`frontier` for each row of (R, S) gains and drops; (R,)."""
    within = np.where(drops <= budget_points / 100 + SLACK, gains, -np.inf)
    best = within.max(axis=1, initial=-np.inf)
    return np.where(np.isneginf(best), 0.0, best)


def _over_all(several: Sequence[Runs], statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Metric:
    """The mean over benchmarks of a statistic of gains and drops (R, S) over resampled items; a clip that
    stands in several is drawn with all its items. Undefined where one of them lacks conflict or aligned
    items."""
    blocks: list[np.ndarray] = []
    clips: list[Hashable] = []
    count = 0
    for number, runs in enumerate(several):
        block, own = _features(runs)
        blocks.append(block)
        clips += own if own is not None else [f"{number}/{i}" for i in range(len(block))]
        count += len(block)
    widths = [block.shape[1] for block in blocks]
    features = np.zeros((count, sum(widths)))
    row = column = 0
    for block in blocks:
        features[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    edges = np.cumsum([0, *widths])

    def of(sums: np.ndarray) -> np.ndarray:
        parts = [_of_block(sums[:, a:b], statistic) for a, b in itertools.pairwise(edges)]
        return np.mean(parts, axis=0)

    return of_sums(features, of, count, clips)


def _features(runs: Runs) -> tuple[np.ndarray, list | None]:
    """Counts and differences to joint decoding, first of conflict, then of aligned items; and their clips."""
    settings = len(runs.conflict)
    conflict, aligned = len(runs.joint_conflict), len(runs.joint_aligned)
    features = np.zeros((conflict + aligned, 2 * (1 + settings)))
    features[:conflict, 0] = 1.0
    features[conflict:, 1 + settings] = 1.0
    for s in range(settings):
        features[:conflict, 1 + s] = np.asarray(runs.conflict[s], float) - np.asarray(
            runs.joint_conflict, float
        )
        features[conflict:, 2 + settings + s] = np.asarray(runs.joint_aligned, float) - np.asarray(
            runs.aligned[s], float
        )
    clips = None
    if runs.conflict_clips is not None and runs.aligned_clips is not None:
        clips = [*runs.conflict_clips, *runs.aligned_clips]
    return features, clips


def _of_block(sums: np.ndarray, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """The statistic of one benchmark's sums (R, 2 (1 + S)); NaN where a draw has no item of one side."""
    settings = sums.shape[1] // 2 - 1
    result = np.full(len(sums), np.nan)
    whole = (sums[:, 0] > 0) & (sums[:, 1 + settings] > 0)
    kept = sums[whole]
    gains = kept[:, 1 : 1 + settings] / kept[:, :1]
    drops = kept[:, 2 + settings :] / kept[:, 1 + settings : 2 + settings]
    result[whole] = statistic(gains, drops)
    return result
