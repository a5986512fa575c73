"""Hand-worked metrics; each test names its trap."""

import numpy as np
import pytest

from rlcomm.evaluation import metrics


def test_accuracy_by_hand():
    assert metrics.accuracy([True, True, False, True])["value"] == 0.75
    assert metrics.accuracy([True, True, False, True])["n"] == 4


def test_unparsed_answers_are_wrong_in_acc_and_absent_from_acc_parsed():
    # four muted items answered: no, yes, (unparsed), no
    correct, parsed = [True, False, False, True], [True, True, False, True]
    assert metrics.accuracy(correct)["value"] == 0.5
    assert metrics.accuracy_parsed(correct, parsed)["value"] == pytest.approx(2 / 3)
    assert metrics.accuracy_parsed(correct, parsed)["n"] == 3
    assert metrics.unparsed_rate(parsed)["value"] == 0.25


def test_yes_rate_counts_unparsed_in_its_denominator():
    assert metrics.yes_rate(["yes", None, "no", "yes"])["value"] == 0.5


def test_nothing_applicable_is_no_number():
    assert metrics.mean([None, None]) == {"value": None, "n": 0, "ci95": None}
    assert metrics.accuracy([]) == {"value": None, "n": 0, "ci95": None}


def test_bootstrap_is_deterministic_and_ordered():
    values = [1.0] * 30 + [0.0] * 20
    low, high = metrics.bootstrap_ci95(values)
    assert [low, high] == metrics.bootstrap_ci95(values)
    assert low < 0.6 < high


def test_bootstrap_matches_the_normal_interval_of_a_large_sample():
    values = [1.0] * 400 + [0.0] * 600
    half = 1.96 * np.sqrt(0.4 * 0.6 / 1000)
    low, high = metrics.bootstrap_ci95(values)
    assert low == pytest.approx(0.4 - half, abs=0.004)
    assert high == pytest.approx(0.4 + half, abs=0.004)


def test_bootstrap_over_two_clips_has_three_means():
    # clip a: one item right; clip b: three items wrong. Draws: aa 1.0 (p 1/4), ab 0.25 (1/2), bb 0.0 (1/4)
    assert metrics.bootstrap_ci95([1, 0, 0, 0], ["a", "b", "b", "b"]) == [0.0, 1.0]


def test_questions_about_one_clip_are_not_independent():
    values = [float(i < 50) for i in range(100)]
    alone = metrics.bootstrap_ci95(values)
    by_clip = metrics.bootstrap_ci95(values, [i // 10 for i in range(100)])
    assert by_clip[1] - by_clip[0] > 2 * (alone[1] - alone[0])


def test_constant_values_have_no_width():
    assert metrics.bootstrap_ci95([1.0, 1.0, 1.0]) == [1.0, 1.0]


def test_the_macro_mean_weighs_sets_equally_and_draws_shared_clips_together():
    # means 1/4 and 1: the macro mean is 5/8, whatever the sizes
    found = metrics.macro_mean([[1, 0, 0, 0], [1]], [list("abcd"), ["e"]])
    assert found["value"] == 0.625
    assert found["n"] == 5
    assert metrics.macro_mean([[1], []], [["a"], []])["value"] is None
    # one clip decides both sets: the interval of the mean is that of either, not narrower
    values, clips = [1, 0] * 10, [str(i) for i in range(20)]
    alone = metrics.mean(values, clips)
    shared = metrics.macro_mean([values, values], [clips, clips])
    apart = metrics.macro_mean([values, values], [clips, [f"{clip}'" for clip in clips]])
    assert shared["ci95"] == pytest.approx(alone["ci95"], abs=1e-12)
    assert apart["ci95"][1] - apart["ci95"][0] < 0.85 * (shared["ci95"][1] - shared["ci95"][0])
