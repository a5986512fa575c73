"""What a decoder wins back, and its price, by hand; each test names its trap."""

import random

import pytest

from rlcomm.evaluation import repair
from rlcomm.evaluation.repair import Runs, Selection

NOTHING = {"value": None, "n": 0, "ci95": None}
GAINS, DROPS = [0.4, 0.1, 0.6, 0.3], [0.02, 0.0, 0.06, 0.03]  # shares, in no order


def near(value):
    return pytest.approx(value, abs=1e-9)


# ---- what a decoder wins back ----


def test_gain_and_drop_by_hand():
    joint, method = [False, False, True, False], [True, True, True, False]
    assert repair.conflict_gain(method, joint)["value"] == 0.5
    assert repair.conflict_gain(joint, method)["value"] == -0.5
    assert repair.faithful_drop(method=[True, False], joint=[True, True])["value"] == 0.5
    assert repair.faithful_drop(method=[True, True], joint=[True, False])["value"] == -0.5
    assert repair.faithful_drop([], []) == NOTHING


def test_the_gain_is_a_paired_difference():
    # item by item the decoder changes nothing, so the gain is 0 in every draw
    assert repair.conflict_gain([True, False] * 10, [True, False] * 10)["ci95"] == [0.0, 0.0]


def test_the_frontier_steps_by_hand():
    assert repair.frontier(GAINS, DROPS, 0) == 0.1
    assert repair.frontier(GAINS, DROPS, 1.99) == 0.1
    assert repair.frontier(GAINS, DROPS, 2) == 0.4  # the step includes its budget
    assert repair.frontier(GAINS, DROPS, 3) == 0.4  # a worse setting does not lower it
    assert repair.frontier(GAINS, DROPS, 5.9) == 0.4
    assert repair.frontier(GAINS, DROPS, 6) == 0.6


def test_the_frontier_without_a_feasible_setting_is_zero():
    assert repair.frontier([0.9], [0.051], 5) == 0.0
    assert repair.frontier([], [], 5) == 0.0


def test_the_frontier_of_harm_is_negative_and_a_negative_drop_is_always_within():
    assert repair.frontier([-0.2], [0.0], 5) == -0.2
    assert repair.frontier([0.2], [-0.01], 0) == 0.2


def test_a_drop_of_exactly_the_budget_is_within_despite_rounding():
    drop = 1.0 - 0.95
    assert drop > 0.05  # 0.050000000000000044
    assert repair.frontier([0.2], [drop], 5) == 0.2
    assert repair.select([0.2], [drop]).index == 0


def test_nauc_by_hand():
    # 0-5: .1 on [0, 2), .4 on [2, 5]; in points (10 * 2 + 40 * 3) / (5 * 100)
    assert repair.frontier_area(GAINS, DROPS, 5) == near(0.28)
    # 0-10: .1 * 2 + .4 * 4 + .6 * 4
    assert repair.frontier_area(GAINS, DROPS, 10) == near(0.42)


def test_nauc_edges():
    assert repair.frontier_area([], [], 5) == 0.0
    assert repair.frontier_area([0.5], [0.0], 5) == near(0.5)  # free: the whole width
    assert repair.frontier_area([0.5], [-0.3], 5) == near(0.5)  # a negative drop adds no width
    assert repair.frontier_area([0.5], [0.05], 5) == 0.0  # affordable at the end only: no width left
    assert repair.frontier_area([0.2, 0.5], [0.01, 0.01], 5) == near(0.4)
    with pytest.raises(ValueError, match="no width"):
        repair.frontier_area([0.5], [0.0], 0)
    with pytest.raises(ValueError, match="2 gains and 1 drops"):
        repair.frontier_area([0.5, 0.1], [0.0], 5)


def test_nauc_is_no_slope_between_the_jumps():
    # slopes from (0, 0) to (2.5, .4) to (5, .4) would give .3
    assert repair.frontier_area([0.4], [0.025], 5) == near(0.2)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("budget", [5, 10])
def test_nauc_equals_a_brute_force_integration(seed, budget):
    # drops lie on the edges of 0.01-point cells, so the frontier is flat within each and midpoints are exact
    rng = random.Random(seed)
    settings = rng.randint(1, 12)
    gains = [rng.uniform(-0.3, 0.8) for _ in range(settings)]
    drops = [rng.randint(-200, 1200) / 10_000 for _ in range(settings)]
    cells = budget * 100
    brute = sum(repair.frontier(gains, drops, (k + 0.5) / 100) for k in range(cells)) / cells
    assert repair.frontier_area(gains, drops, budget) == near(brute)
    assert repair.frontier_area(gains[::-1], drops[::-1], budget) == near(brute)


def make_runs(seed: int, items: int = 200, settings: int = 4) -> Runs:
    rng = random.Random(seed)

    def draw(rate):
        return [rng.random() < rate for _ in range(items)]

    return Runs(
        joint_conflict=draw(0.2),
        joint_aligned=draw(0.97),
        conflict=[draw(0.3 + 0.1 * s) for s in range(settings)],
        aligned=[draw(0.97 - 0.02 * s) for s in range(settings)],
    )


def test_runs_give_the_gains_and_drops_of_each_setting():
    runs = make_runs(0)
    for s in range(4):
        gain = repair.conflict_gain(runs.conflict[s], runs.joint_conflict)
        drop = repair.faithful_drop(runs.aligned[s], runs.joint_aligned)
        assert (runs.gains()[s], runs.drops()[s]) == (near(gain["value"]), near(drop["value"]))


def test_nauc_of_runs_is_that_of_their_gains_and_drops():
    for seed in range(5):
        runs = make_runs(seed)
        for budget in (5, 10):
            area = repair.nauc(runs, budget)
            assert area["value"] == near(repair.frontier_area(runs.gains(), runs.drops(), budget))
            assert area["n"] == 400
            assert area["ci95"][0] < area["value"] < area["ci95"][1]


def test_the_interval_of_nauc_by_hand():
    # clip a: repaired, nothing lost; clip b: not repaired, lost.
    # aa: gain 1, drop 0: area 1; ab: gain .5, drop .5: beyond the budget, 0; bb: 0
    runs = Runs(
        joint_conflict=[False, False],
        joint_aligned=[True, True],
        conflict=[[True, False]],
        aligned=[[True, False]],
        conflict_clips=["a", "b"],
        aligned_clips=["a", "b"],
    )
    assert repair.nauc(runs, 5) == {"value": 0.0, "n": 4, "ci95": near([0.0, 1.0])}


def test_draws_without_conflict_or_aligned_items_are_left_out():
    # only draws with both clips are defined, and they all give gain 1, drop 0
    runs = Runs([False], [True], [[True]], [[True]], conflict_clips=["a"], aligned_clips=["b"])
    assert repair.nauc(runs, 5) == {"value": 1.0, "n": 2, "ci95": [1.0, 1.0]}


def test_items_of_one_clip_are_drawn_together():
    joint, repaired, clips = [False] * 100, [[i < 50 for i in range(100)]], [i // 10 for i in range(100)]
    by_item = repair.nauc(Runs(joint, joint, repaired, [joint]), 5)["ci95"]
    by_clip = repair.nauc(Runs(joint, joint, repaired, [joint], clips, clips), 5)["ci95"]
    assert by_clip[1] - by_clip[0] > 1.8 * (by_item[1] - by_item[0])


def test_runs_without_items_or_settings():
    assert repair.nauc(Runs([], [True], [[]], [[True]]), 5) == {"value": None, "n": 1, "ci95": None}
    assert repair.nauc(Runs([], [], [], []), 5) == NOTHING
    assert repair.nauc(Runs([True], [True], [], []), 5)["value"] == 0.0
    with pytest.raises(ValueError, match="no item"):
        Runs([], [True], [[]], [[True]]).gains()


def test_runs_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 settings on conflict items, 1 on aligned"):
        Runs([True], [True], [[True], [True]], [[True]])
    with pytest.raises(ValueError, match="each of the 2 joint"):
        Runs([True, True], [True], [[True]], [[True]])
    with pytest.raises(ValueError, match="one of the two sets"):
        Runs([True], [True], [[True]], [[True]], conflict_clips=["a"])


def test_selection_by_hand():
    assert repair.select(GAINS, DROPS) == Selection(index=0, feasible=3, tried=4)
    assert repair.select(GAINS, DROPS, budget_points=10).index == 2
    assert repair.select(GAINS, DROPS, budget_points=1).index == 1


def test_selection_ties_go_to_the_smaller_drop_then_to_the_first():
    assert repair.select([0.3, 0.3, 0.3], [0.03, 0.01, 0.01]).index == 1
    assert repair.select([0.3, 0.1 + 0.2], [0.01, 0.02]).index == 0  # 0.30000000000000004 is no better


def test_no_feasible_setting_is_said():
    assert repair.select([0.9, 0.8], [0.2, 0.06]) == Selection(index=None, feasible=0, tried=2)
    assert repair.select([], []) == Selection(index=None, feasible=0, tried=0)


def test_the_macro_area_is_the_mean_of_the_benchmarks_areas():
    one = repair.Runs([False, False], [True, True], [[True, False]], [[True, True]], ["a", "b"], ["a", "b"])
    other = repair.Runs([False] * 4, [True], [[True] * 4], [[True]], list("abcd"), ["a"])
    assert repair.nauc(one, 5)["value"] == 0.5
    assert repair.nauc(other, 5)["value"] == 1.0
    found = repair.macro_nauc([one, other], 5)
    assert found["value"] == 0.75
    assert found["n"] == 9
    assert repair.macro_nauc([one], 5) == repair.nauc(one, 5)


def test_the_macro_of_a_benchmark_without_conflict_items_is_undefined():
    one = repair.Runs([False], [True], [[True]], [[True]])
    empty = repair.Runs([], [True], [[]], [[True]])
    assert repair.macro_nauc([one, empty], 5) == {"value": None, "n": 3, "ci95": None}


def test_the_frontier_of_runs_is_that_of_their_gains_and_drops():
    for seed in range(5):
        runs = make_runs(seed)
        for budget in (0, 2.5, 5, 10):
            best = repair.best_gain(runs, budget)
            assert best["value"] == near(repair.frontier(runs.gains(), runs.drops(), budget))
            assert best["n"] == 400
            assert best["ci95"][0] <= best["value"] <= best["ci95"][1]
        assert repair.best_gain(runs, 10)["ci95"][0] < repair.best_gain(runs, 10)["ci95"][1]


def test_the_interval_of_the_frontier_by_hand():
    # as for nAUC. Clip a: repaired, nothing lost; clip b: not repaired, lost.
    # aa: gain 1, drop 0: 1; ab: gain .5, drop .5: beyond 5 points, 0; bb: gain 0, drop 1: beyond, 0
    joint = {"joint_conflict": [False, False], "joint_aligned": [True, True]}
    clips = {"conflict_clips": ["a", "b"], "aligned_clips": ["a", "b"]}
    runs = Runs(conflict=[[True, False]], aligned=[[True, False]], **joint, **clips)
    assert repair.best_gain(runs, 5) == {"value": 0.0, "n": 4, "ci95": near([0.0, 1.0])}
    # within 50 points: aa 1, ab .5 (its own budget is within), bb 0
    assert repair.best_gain(runs, 50) == {"value": 0.5, "n": 4, "ci95": near([0.0, 1.0])}
    # a setting that harms and is within every budget: the frontier of each draw may be negative
    worse = Runs([True, False], [True, True], [[False, False]], [[True, True]], ["a", "b"], ["a", "b"])
    assert repair.best_gain(worse, 5) == {"value": -0.5, "n": 4, "ci95": near([-1.0, 0.0])}
    assert repair.best_gain(Runs([True], [True], [], []), 5)["value"] == 0.0
    assert repair.best_gain(Runs([], [], [], []), 5) == NOTHING


def test_the_macro_frontier_is_the_mean_of_the_benchmarks_frontiers():
    one = repair.Runs([False, False], [True, True], [[True, False]], [[True, True]], ["a", "b"], ["a", "b"])
    other = repair.Runs([False] * 4, [True], [[True] * 4], [[True]], list("abcd"), ["a"])
    found = repair.macro_best_gain([one, other], 5)
    assert (found["value"], found["n"]) == (0.75, 9)
