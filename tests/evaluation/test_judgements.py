"""Yes-no judgements, calibration and ratios by hand; each test names its trap."""

import numpy as np
import pytest

from rlcomm.evaluation import metrics

NOTHING = {"value": None, "n": 0, "ci95": None}

# gold yes: yes yes no (unparsed)   gold no: yes no (unparsed) no
GOLDS = ["yes", "yes", "yes", "yes", "no", "no", "no", "no"]
CLASSES = ["yes", "yes", "no", None, "yes", "no", None, "no"]


def near(value):
    return pytest.approx(value, abs=1e-9)


def test_precision_recall_and_f1_by_hand():
    # TP 2, FP 1, FN 2 (one "no", one unparsed)
    precision, recall, f1 = (f(GOLDS, CLASSES) for f in (metrics.precision, metrics.recall, metrics.f1))
    assert (precision["value"], precision["n"]) == (near(2 / 3), 3)
    assert (recall["value"], recall["n"]) == (near(2 / 4), 4)
    assert (f1["value"], f1["n"]) == (near(4 / 7), 5)
    assert f1["value"] == near(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))


def test_unparsed_is_never_no():
    # with "no" as the positive class: predicted no 3 (2 right), not 5
    assert metrics.precision(GOLDS, CLASSES, positive="no")["value"] == near(2 / 3)
    assert metrics.precision(GOLDS, CLASSES, positive="no")["n"] == 3
    assert metrics.recall(GOLDS, CLASSES, positive="no")["value"] == near(2 / 4)
    assert metrics.f1(["no", "no"], [None, None], positive="no")["value"] == 0.0
    assert metrics.yes_rate(CLASSES)["value"] == near(3 / 8)


def test_always_no_has_no_precision_and_an_f1_of_zero():
    golds, classes = ["yes", "no"], ["no", "no"]
    assert metrics.precision(golds, classes) == NOTHING
    assert metrics.recall(golds, classes)["value"] == 0.0
    assert metrics.f1(golds, classes)["value"] == 0.0
    assert metrics.f1(["no"], ["no"]) == NOTHING  # no positive anywhere: undefined, not 0
    assert metrics.f1([], []) == NOTHING


def test_pa_and_hr_by_hand():
    assert metrics.perception_accuracy(GOLDS, CLASSES)["value"] == near(2 / 4)
    assert metrics.hallucination_resistance(GOLDS, CLASSES)["value"] == near(2 / 4)
    assert metrics.hallucination_resistance(["no", "no", "yes"], ["no", None, "yes"])["value"] == near(1 / 2)
    assert metrics.perception_accuracy(["no"], ["no"]) == NOTHING


def test_a_gold_that_is_no_judgement_is_refused():
    with pytest.raises(ValueError, match="gold 1 is 'maybe'"):
        metrics.precision(["yes", "maybe"], ["yes", "yes"])


def test_ratio_of_ones_is_the_mean_with_its_interval():
    values = [1.0, 0.0, 0.0, 1.0, 1.0, 0.25]
    clips = ["a", "a", "b", "c", "c", "d"]
    assert metrics.ratio(values, [1.0] * 6, clips) == metrics.mean(values, clips)


def test_a_ratio_is_resampled_whole():
    # clip a: 1 of 1, clip b: 1 of 3; draws: aa 1, ab 2/4, bb 1/3
    result = metrics.ratio([1, 1, 0, 0], [1, 1, 1, 1], ["a", "b", "b", "b"])
    assert (result["value"], result["n"]) == (0.5, 4)
    assert result["ci95"] == near([1 / 3, 1.0])


def test_draws_without_a_denominator_are_left_out_of_the_interval():
    # clip a has the only denominator: bb (p 1/4) is undefined, aa and ab are 1
    assert metrics.ratio([1, 0], [1, 0], ["a", "b"]) == {"value": 1.0, "n": 1, "ci95": [1.0, 1.0]}
    assert metrics.ratio([1, 0], [0, 0], ["a", "b"]) == NOTHING


def test_the_interval_of_a_ratio_matches_the_delta_method():
    rng = np.random.default_rng(0)
    denominators = rng.integers(1, 5, 2000)
    numerators = rng.binomial(denominators, 0.3)
    value = numerators.sum() / denominators.sum()
    spread = np.sqrt(np.sum((numerators - value * denominators) ** 2)) / denominators.sum()
    low, high = metrics.ratio(list(numerators), list(denominators))["ci95"]
    assert low == pytest.approx(value - 1.96 * spread, abs=0.1 * spread)
    assert high == pytest.approx(value + 1.96 * spread, abs=0.1 * spread)


def test_reliability_bins_by_hand():
    # two bins (0, .5], (.5, 1]: the edge .5 and the 0 belong to the first
    bins = metrics.reliability_bins([0.0, 0.5, 0.6, 1.0, None], [False, True, True, False, True], bins=2)
    assert bins == [
        {"low": 0.0, "high": 0.5, "n": 2, "confidence": 0.25, "accuracy": 0.5},
        {"low": 0.5, "high": 1.0, "n": 2, "confidence": 0.8, "accuracy": 0.5},
    ]


def test_a_confidence_on_an_edge_is_in_the_lower_bin():
    # 0.7 * 10 is 7.000000000000001: counting bins by ceil would put it one too high
    for m in range(1, 11):
        bins = metrics.reliability_bins([m / 10], [True])
        assert [b["n"] for b in bins].index(1) == m - 1


def test_an_empty_bin_has_no_means():
    assert metrics.reliability_bins([], [], bins=1) == [
        {"low": 0.0, "high": 1.0, "n": 0, "confidence": None, "accuracy": None}
    ]


def test_calibration_error_by_hand():
    # bins of two: |.5 - .25| * 2/4 + |.5 - .8| * 2/4 = .275
    confidences, correct = [0.0, 0.5, 0.6, 1.0, None], [False, True, True, False, True]
    result = metrics.expected_calibration_error(confidences, correct, ["a", "b", "c", "d", "e"], bins=2)
    assert (result["value"], result["n"]) == (near(0.275), 4)
    assert 0.0 <= result["ci95"][0] < 0.275 < result["ci95"][1] <= 1.0
    assert metrics.expected_calibration_error([1.0, 0.0], [True, False])["value"] == 0.0
    assert metrics.expected_calibration_error([1.0], [False]) == {"value": 1.0, "n": 1, "ci95": [1.0, 1.0]}
    assert metrics.expected_calibration_error([None], [True]) == NOTHING


def test_errors_of_opposite_sign_cancel_within_a_bin_only():
    # .6 right and .8 wrong share a bin of one: |.5 - .7| = .2; apart: (.4 + .8) / 2 = .6
    assert metrics.expected_calibration_error([0.6, 0.8], [True, False], bins=1)["value"] == near(0.2)
    assert metrics.expected_calibration_error([0.6, 0.8], [True, False])["value"] == near(0.6)


def test_a_confidence_outside_the_unit_interval_is_refused():
    with pytest.raises(ValueError, match=r"1\.2"):
        metrics.expected_calibration_error([1.2], [True])
