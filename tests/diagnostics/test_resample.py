"""Rank correlation and area under the curve, against hand values and libraries; intervals over clips."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from rlcomm.diagnostics.resample import auc, spearman


def test_spearman_of_hand_values():
    assert spearman([1, 2, 3, 4], [10, 30, 20, 40], "abcd")["value"] == pytest.approx(0.8)  # 1 - 6*2/60
    assert spearman([1, 2, 3], [5, 4, 1], "abc")["value"] == pytest.approx(-1.0)
    assert spearman([1, 1, 1], [5, 4, 1], "abc") == {"value": None, "n": 3, "ci95": None}
    assert spearman([], [], [])["value"] is None


def test_ties_count_as_in_libraries():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    clips = [str(i) for i in range(60)]
    assert spearman(x, y, clips)["value"] == pytest.approx(spearmanr(x, y).statistic)
    assert auc(y > 2, x, clips)["value"] == pytest.approx(roc_auc_score(y > 2, x))


def test_auc_of_hand_values():
    assert auc([True, True, False, False], [3, 1, 2, 0], "abcd")["value"] == pytest.approx(0.75)
    assert auc([True, True], [3, 1], "ab") == {"value": None, "n": 2, "ci95": None}


def test_intervals_draw_whole_clips():
    """Trap: ten copies of each clip drawn one by one would make the interval three times too narrow."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(20)
    y = x + rng.standard_normal(20)
    alone = spearman(x, y, range(20))["ci95"]
    copies = spearman(np.repeat(x, 10), np.repeat(y, 10), np.repeat(np.arange(20), 10))["ci95"]
    assert copies[1] - copies[0] == pytest.approx(alone[1] - alone[0], rel=0.05)
    wrong = spearman(np.repeat(x, 10), np.repeat(y, 10), range(200))["ci95"]
    assert wrong[1] - wrong[0] < 0.6 * (copies[1] - copies[0])
