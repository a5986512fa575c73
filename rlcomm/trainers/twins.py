"""Twins in a generation: which of its groups belong together, and one baseline over both.

Groups of twins are drawn side by side (`rlcomm.trainers.order`), on one rank or on two.
"""

from collections.abc import Mapping, Sequence

import torch
from trl.trainer.utils import nanstd


def twin_groups(rows: Sequence[int], size: int, twins: Mapping[int, int]) -> list[tuple[int, int]]:
    """The groups of a generation that stand beside their twin's.

    Args:
        rows: per completion of all ranks its row, groups side by side.
        size: completions of a group.
        twins: row -> row of its twin.

    Returns:
        Pairs (group, group + 1); no group is in two of them.
    """
    asked = rows[::size]
    found: list[tuple[int, int]] = []
    group = 0
    while group + 1 < len(asked):
        together = twins.get(asked[group]) == asked[group + 1]
        if together:
            found.append((group, group + 1))
        group += 2 if together else 1
    return found


def advantages(
    rewards: torch.Tensor, pairs: Sequence[tuple[int, int]], size: int, scale: str
) -> tuple[torch.Tensor, float]:
    """Advantages with one baseline over the 2G completions of a pair, and over G elsewhere.

        A_i = (r_i - mean r) / (std r + 1e-4)        mean and std over the pair, or over the group (as TRL)

    A pair whose one clip is always answered right and the other never has no gradient by its groups; by the
    pair it has.

    Args:
        rewards: (N,) weighted sums of all ranks; NaN: nothing could be scored.
        pairs: as `twin_groups` finds them.
        size: G.
        scale: TRL's scale_rewards: group, batch (std over all) or none.

    Returns:
        (N,) advantages, 0 where the reward is NaN; the share of completions without variance beside them.
    """
    second = {b for _, b in pairs}
    partner = dict(pairs)
    found, flat = torch.zeros_like(rewards), 0
    whole = nanstd(rewards)
    for group in range(len(rewards) // size):
        if group in second:
            continue
        block = slice(group * size, (group + (2 if group in partner else 1)) * size)
        values = rewards[block]
        spread = whole if scale == "batch" else nanstd(values)
        found[block] = (values - values.nanmean()) / (1 if scale == "none" else spread + 1e-4)
        flat += len(values) * bool(torch.isclose(spread, torch.zeros_like(spread)))
    return found.nan_to_num(nan=0.0), flat / len(rewards)
