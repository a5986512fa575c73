"""Text prior and reliance on a sense: what is answered without it, and which of its fragments suffice.

Each item is asked in full, without the sense (omitted, not silenced), and with fragment k of N of it
(N = 2..5: 14 runs). The same axes exist for every sense; report them per modality.

Source: All That Glitters Is Not Audio (arXiv 2604.24401).
"""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from rlcomm.evaluation.metrics import Metric, divide, mean, of_sums, ratio

Clusters = Sequence[Hashable] | None
Kind = Literal["TS", "FS", "XS", "AN", "AH", "UN"]

FRAGMENT_RUNS = tuple((k, n) for n in range(2, 6) for k in range(n))
"""Fragment k of n of each run, 14 in all."""


def text_prior(none: Sequence[bool], full: Sequence[bool], clusters: Clusters = None) -> Metric:
    """R_TP = Acc_none / Acc_full: the accuracy that is left without the sense. Range [0, inf).

    Chance is not taken off: a blind guesser among c options scores (1/c) / Acc_full.

    Args:
        none: is the answer without the sense right, (N,).
        full: is the answer to the whole input right, the same items.
        clusters: as in `metrics.bootstrap_ci95`.

    Returns:
        `{"value", "n", "ci95"}`, n the items; no value if nothing is right in full.

    Source: arXiv 2604.24401 (published: 60-72 %).
    """
    rows = [[float(bool(n)), float(bool(f))] for n, f in zip(none, full, strict=True)]
    return of_sums(rows, lambda s: divide(s[:, 0], s[:, 1]), len(rows), clusters)


def partition(
    full: Sequence[bool], none: Sequence[bool], fragments: Sequence[Sequence[bool] | None]
) -> list[Kind]:
    """What each item needs.

        TS   full right, none right     text suffices
        FS   full right, none wrong     and some fragment is right: a fragment suffices
        XS   full right, none wrong     and no fragment is right: it takes the whole
        AH   full wrong, none right     the sense harms
        UN   both wrong                 unsolved
        AN   full right, none wrong     of an item whose fragments were not run; AN = FS + XS otherwise

    Args:
        full: is the answer to the whole input right, (N,).
        none: is the answer without the sense right, (N,).
        fragments: is each fragment's answer right, (N, runs); None or empty: not run. Read for AN items only.

    Source: arXiv 2604.24401.
    """
    kinds: list[Kind] = []
    for whole, without, parts in zip(full, none, fragments, strict=True):
        if whole and not without:
            kinds.append("AN" if not parts else "FS" if any(parts) else "XS")
        else:
            kinds.append("TS" if whole else "AH" if without else "UN")
    return kinds


def shares(kinds: Sequence[Kind], clusters: Clusters = None) -> dict[str, Metric]:
    """Share of each part of `partition` over all items: ts, an, ah, un (they sum to 1), fs, xs.

    an counts FS, XS and AN together. fs and xs are over the items whose part is known: those that are not an
    AN without fragments. Range [0, 1].

    Args:
        kinds: of `partition`, (N,).
        clusters: as in `metrics.bootstrap_ci95`.

    Source: arXiv 2604.24401.
    """
    known = [kind != "AN" for kind in kinds]
    result = {name.lower(): mean([kind == name for kind in kinds], clusters) for name in ("TS", "AH", "UN")}
    result["an"] = mean([kind in ("FS", "XS", "AN") for kind in kinds], clusters)
    for name in ("FS", "XS"):
        result[name.lower()] = ratio([kind == name for kind in kinds], known, clusters)
    return result


def of_sense(
    full: Sequence[bool],
    none: Sequence[bool],
    fragments: Sequence[Sequence[bool] | None],
    clusters: Clusters = None,
) -> dict[str, Metric]:
    """What is left without a sense, and which of its parts suffice.

    Args:
        full, none, fragments: as in `partition`.
        clusters: as in `metrics.bootstrap_ci95`.

    Returns:
        r_tp (`text_prior`), lost = AN / (TS + AN), the `shares` ts, fs, xs, an, ah, un, and `whole_needed`.
    """
    kinds = partition(full, none, fragments)
    return {
        "r_tp": text_prior(none, full, clusters),
        "lost": ratio([f and not n for f, n in zip(full, none, strict=True)], full, clusters),
        **shares(kinds, clusters),
        "whole_needed": whole_needed(kinds, clusters),
    }


def whole_needed(kinds: Sequence[Kind], clusters: Clusters = None) -> Metric:
    """XS / AN: of the items that need the sense, the share that needs all of it. Range [0, 1].

    AN is FS + XS here: items whose fragments were not run are in neither.

    Args:
        kinds: of `partition`, (N,).
        clusters: as in `metrics.bootstrap_ci95`.

    Returns:
        `{"value", "n", "ci95"}`, n the AN items with fragments.

    Source: arXiv 2604.24401 (published: 3.0-4.2 %).
    """
    return ratio([kind == "XS" for kind in kinds], [kind in ("FS", "XS") for kind in kinds], clusters)


def fragment_suffices(
    full: Sequence[bool],
    none: Sequence[bool],
    fragments: Sequence[Sequence[bool] | None],
    chance: Sequence[float],
    clusters: Clusters = None,
) -> Metric:
    """FS / AN corrected for chance: the share of AN items that some fragment answers by more than luck.

        e_i = 1 - (1 - g_i)^(F_i)                  a guesser is right on at least one of F_i fragments
        FS* = sum_i (fs_i - e_i) / sum_i (1 - e_i)  over the AN items with fragments

    An item that a fragment truly answers is in FS for certain, any other with probability e_i; then the
    expected FS share is FS* + (1 - FS*) e, which this solves (Abbott's correction). 1: every AN item is
    answered by a fragment; 0: as often as guessing would; negative: less often than that. It is not clipped,
    so that averages stay unbiased. Range (-inf, 1].

    It assumes that guesses on fragments are independent. A model that gives all fragments the same guess is
    right on some fragment less often than e_i, so FS* is too low for it: a lower bound. With four options and
    14 runs e = 0.982, and the correction divides by 0.018: read the interval, or use fewer runs.

    Args:
        full: is the answer to the whole input right, (N,).
        none: is the answer without the sense right, (N,).
        fragments: is each fragment's answer right, (N, runs); None or empty leaves the item out.
        chance: g_i, the probability of a right guess in one run, in [0, 1): 1 / options, (N,).
        clusters: as in `metrics.bootstrap_ci95`.

    Returns:
        `{"value", "n", "ci95"}`, n the AN items with fragments.

    Raises:
        ValueError: a chance outside [0, 1).

    Source: ours, for FS of arXiv 2604.24401; Abbott (1925), A method of computing the effectiveness of an
    insecticide.
    """
    rows = []
    for kind, parts, guess in zip(partition(full, none, fragments), fragments, chance, strict=True):
        if not 0 <= guess < 1:
            raise ValueError(f"chance {guess} is outside [0, 1); give 1 / options")
        lucky = 1 - (1 - guess) ** len(parts) if parts else 0.0
        rows.append([float(kind == "FS") - lucky, 1 - lucky] if kind in ("FS", "XS") else [0.0, 0.0])
    n = sum(row[1] != 0 for row in rows)
    return of_sums(np.asarray(rows).reshape(-1, 2), lambda s: divide(s[:, 0], s[:, 1]), n, clusters)
