"""GACL by hand; each test names its trap."""

import math

import pytest
import torch

from rlcomm.decoding import gacl
from rlcomm.decoding.gacl import BranchStats, Settings, Stats, arbitrate, arbitrate_tokens
from rlcomm.utils.errors import UserError

INF = math.inf
RAW = {"score_norm": "none"}  # scores as written, so the arithmetic can be followed


def near(value):
    return pytest.approx(value, abs=1e-9)


def test_the_equations_by_hand():
    # y_J = 0, y_A = 1: N_out = 1; margin 1.0 - 0.8 = 0.2, R_A = 0.2/0.5 = 0.4; alpha = 0.5 * 0.4 = 0.2
    # s = J + 0.2 (A - J) = (2 - 0.24, 1 + 0, 0 + 0.02)
    result = arbitrate([2.0, 1.0, 0.0], [0.8, 1.0, 0.1], Settings(**RAW))
    assert (result.joint, result.audio, result.gate) == (0, 1, True)
    assert result.margin == near(0.2)
    assert result.reliability == near(0.4)
    assert result.alpha == near(0.2)
    assert result.scores == near((1.76, 1.0, 0.02))
    assert result.prediction == 0  # not far enough


def test_the_margin_is_over_the_audio_branchs_own_second():
    # y_J = 2, which A puts last; A hesitates between 1 and 0, so it is hardly to be relied on
    result = arbitrate([0.0, 1.0, 2.0], [0.8, 1.0, -5.0], Settings(**RAW))
    assert result.margin == near(0.2)
    assert result.reliability == near(0.4)


def test_a_sure_audio_branch_repairs_the_answer():
    # margin 3 > tau: R_A = 1, alpha = 0.5: scores (1.5, 2.0) from (2, 1) and (1, 3) - half-way
    result = arbitrate([2.0, 1.0], [0.0, 3.0], Settings(**RAW))
    assert (result.reliability, result.alpha) == (1.0, 0.5)
    assert result.scores == near((1.0, 2.0))
    assert result.prediction == 1


def test_log_softmax_is_the_default_and_by_hand():
    # J = softmax^-1 (3/4, 1/4), A = (1/4, 3/4): margin ln 3 = 1.0986 > 0.5, alpha = 0.5, the mean of the logs
    joint, audio = [math.log(3.0) + 7, 7.0], [-2.0, math.log(3.0) - 2]
    result = arbitrate(joint, audio)
    assert result.margin == near(math.log(3))
    assert result.scores == near((0.5 * math.log(3 / 16), 0.5 * math.log(3 / 16)))


def test_the_defaults_are_the_papers():
    assert Settings() == Settings(lam=0.5, tau=0.5, alpha_max=1.0, score_norm="log_softmax")


def test_branches_that_agree_are_left_alone():
    result = arbitrate([2.0, 1.0], [9.0, 0.0], Settings(**RAW))
    assert (result.gate, result.alpha, result.prediction) == (False, 0.0, 0)
    assert result.reliability == 1.0  # sure, but of the same answer
    assert result.scores == (2.0, 1.0)


def test_a_tie_at_the_top_of_the_audio_branch_is_no_evidence():
    # y_A = 1, the first of the two at the top, and it is not y_J: the gate is open, the margin 0
    for tau in (0.5, 0.0, -1.0):
        result = arbitrate([2.0, 1.0, 0.0], [0.0, 1.0, 1.0], Settings(tau=tau, **RAW))
        assert (result.audio, result.gate, result.margin) == (1, True, 0.0)
        assert (result.reliability, result.alpha, result.prediction) == (0.0, 0.0, 0)


def test_a_tie_in_the_joint_branch_takes_the_first():
    result = arbitrate([1.0, 1.0], [0.0, 3.0], Settings(**RAW))
    assert (result.joint, result.gate, result.prediction) == (0, True, 1)
    assert arbitrate([1.0, 1.0], [], Settings(**RAW)).prediction == 0


def test_a_tie_after_the_mix_takes_the_first():
    # J (1, 0), A (0, 1), alpha 0.5: (0.5, 0.5)
    result = arbitrate([1.0, 0.0], [0.0, 1.0], Settings(**RAW))
    assert result.scores == near((0.5, 0.5))
    assert result.prediction == 0


@pytest.mark.parametrize("tau", [0.0, -0.5])
def test_tau_of_zero_or_less_asks_for_any_margin(tau):
    result = arbitrate([2.0, 1.0], [0.0, 1e-6], Settings(tau=tau, **RAW))
    assert (result.reliability, result.alpha) == (1.0, 0.5)


def test_one_candidate_is_never_reliable():
    for tau in (0.5, 0.0):
        result = arbitrate([-1.0], [-3.0], Settings(tau=tau, **RAW))
        assert (result.reliability, result.gate, result.alpha) == (0.0, False, 0.0)
        assert (result.prediction, result.margin, result.scores) == (0, None, (-1.0,))


def test_alpha_is_clipped_at_its_bound():
    joint, audio = [2.0, 1.0], [0.0, 3.0]
    assert arbitrate(joint, audio, Settings(lam=2.0, **RAW)).alpha == 1.0
    assert arbitrate(joint, audio, Settings(lam=2.0, alpha_max=0.25, **RAW)).alpha == 0.25
    # lambda 2, R_A = 0.2/0.5: 0.8 is below the bound
    assert arbitrate([2.0, 1.0], [0.8, 1.0], Settings(lam=2.0, **RAW)).alpha == near(0.8)


def test_alpha_of_one_is_the_audio_branch_and_of_zero_the_joint_to_the_bit():
    joint, audio = [0.1, 0.7, 0.2], [0.3, 0.1, 0.4]
    assert arbitrate(joint, audio, Settings(lam=2.0, tau=0.01, **RAW)).scores == tuple(audio)
    assert arbitrate(joint, audio, Settings(alpha_max=0.0, **RAW)).scores == tuple(joint)
    assert arbitrate(joint, audio, Settings(lam=0.0, **RAW)).scores == tuple(joint)


def test_empty_branches():
    nothing = arbitrate([], [])
    assert (nothing.prediction, nothing.alpha, nothing.gate, nothing.reliability) == (None, 0.0, False, 0.0)
    assert nothing.scores == ()
    no_audio = arbitrate([1.0, 2.0], [], Settings(**RAW))
    assert (no_audio.prediction, no_audio.alpha, no_audio.gate) == (1, 0.0, False)
    assert no_audio.scores == (1.0, 2.0)
    no_joint = arbitrate([], [1.0, 2.0])
    assert (no_joint.prediction, no_joint.gate, no_joint.audio) == (None, False, 1)


@pytest.mark.parametrize("broken", [[0.0, math.nan], [math.nan, 0.0], [0.0, INF], [-INF, -INF]])
@pytest.mark.parametrize("score_norm", ["log_softmax", "none"])
def test_a_broken_branch_has_no_answer(broken, score_norm):
    settings = Settings(tau=0.0, score_norm=score_norm)
    result = arbitrate([2.0, 1.0], broken, settings)
    assert (result.prediction, result.audio, result.gate, result.alpha) == (0, None, False, 0.0)
    assert (result.reliability, result.margin) == (0.0, None)
    assert arbitrate(broken, [1.0, 2.0], settings).prediction is None


def test_a_candidate_ruled_out_by_one_branch_stays_out():
    # A rules out 0, so its margin is infinite and it is fully reliable; alpha = 0.5
    result = arbitrate([2.0, 1.0], [-INF, 0.0], Settings(**RAW))
    assert (result.margin, result.reliability, result.alpha) == (INF, 1.0, 0.5)
    assert result.scores == (-INF, 0.5)
    assert result.prediction == 1
    # J rules out A's favourite: 0 < alpha < 1 cannot bring it back, alpha = 1 can
    assert arbitrate([2.0, 1.0, -INF], [0.0, 1.0, 9.0], Settings(**RAW)).prediction == 0
    assert arbitrate([2.0, 1.0, -INF], [0.0, 1.0, 9.0], Settings(lam=1.0, **RAW)).prediction == 2


def test_branches_without_a_common_candidate_are_not_mixed():
    result = arbitrate([0.0, -INF], [-INF, 0.0], Settings(**RAW))
    assert (result.gate, result.alpha, result.prediction) == (True, 0.0, 0)
    assert result.scores == (0.0, -INF)


def test_different_candidates_are_a_programming_error():
    with pytest.raises(ValueError, match="3 candidates"):
        arbitrate([1.0, 2.0, 3.0], [1.0, 2.0])


def test_zscore_by_hand():
    # J: (s - 1) / 2, A: (s - 0) / 0.5
    stats = Stats(joint=BranchStats((1.0,), (2.0,)), audio=BranchStats((0.0,), (0.5,)))
    result = arbitrate([2.0, 1.0], [0.0, 0.1], Settings(score_norm="zscore"), stats)
    # J = (0.5, 0), A = (0, 0.2): margin 0.2, R_A 0.4, alpha 0.2
    assert result.alpha == near(0.2)
    assert result.scores == near((0.4, 0.04))


def test_centre_per_candidate_takes_a_label_prior_away():
    # "yes" is scored 2 higher on dev whatever is heard
    stats = Stats(joint=BranchStats((2.0, 0.0), (1.0, 1.0)), audio=BranchStats((2.0, 0.0), (1.0, 1.0)))
    result = arbitrate([1.0, 0.0], [1.0, 0.0], Settings(score_norm="center"), stats)
    assert result.scores == near((-1.0, 0.0))
    assert result.prediction == 1


def test_a_shift_of_a_branch_decides_nothing():
    # log_softmax, none and a pooled center: one decision (as the docstring claims); zscore is another scale
    generator = torch.Generator().manual_seed(0)
    stats = Stats(joint=BranchStats((3.0,), (0.2,)), audio=BranchStats((-4.0,), (5.0,)))
    zscored_differs = 0
    for _ in range(200):
        joint, audio = (2 * torch.randn(2, 4, generator=generator, dtype=torch.float64)).tolist()
        by_norm = {
            norm: arbitrate(joint, audio, Settings(score_norm=norm), stats)
            for norm in ("log_softmax", "none", "center", "zscore")
        }
        plain = by_norm["none"]
        for norm in ("log_softmax", "center"):
            assert by_norm[norm].prediction == plain.prediction
            assert by_norm[norm].alpha == near(plain.alpha)
        zscored_differs += by_norm["zscore"].prediction != plain.prediction
    assert zscored_differs > 0


def test_statistics_by_hand():
    scores = [[1.0, 4.0], [3.0, -INF]]
    pooled = gacl.fit_stats(scores)  # 1, 4, 3: mean 8/3, variance (25 + 16 + 1)/27
    assert pooled.mean == near((8 / 3,))
    assert pooled.std == near((math.sqrt(42 / 27),))
    each = gacl.fit_stats(scores, per_candidate=True)
    assert each.mean == near((2.0, 4.0))
    assert each.std == near((1.0, 0.0))


def test_statistics_that_cannot_be_fitted_or_used():
    with pytest.raises(UserError, match="empty"):
        gacl.fit_stats([], per_candidate=True)
    with pytest.raises(UserError, match="no finite score"):
        gacl.fit_stats([[-INF], [-INF]])
    with pytest.raises(UserError, match="several lengths"):
        gacl.fit_stats([[1.0], [1.0, 2.0]], per_candidate=True)
    with pytest.raises(UserError, match="none were fitted"):
        arbitrate([1.0, 2.0], [2.0, 1.0], Settings(score_norm="center"))
    with pytest.raises(UserError, match="of 3 candidates and the item has 2"):
        gacl.normalise([1.0, 2.0], "center", BranchStats((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    with pytest.raises(UserError, match="no spread"):
        gacl.normalise([1.0, 2.0], "zscore", BranchStats((0.0,), (0.0,)))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"alpha_max": 1.01}, "alpha_max is 1.01"),
        ({"alpha_max": -0.1}, "alpha_max is -0.1"),
        ({"alpha_max": math.nan}, "alpha_max is nan"),
        ({"lam": -1.0}, "lambda is -1.0"),
        ({"lam": INF}, "lambda is inf"),
        ({"tau": math.nan}, "tau is nan"),
        ({"score_norm": "softmax"}, "score_norm is 'softmax'"),
    ],
)
def test_settings_that_cannot_work(wrong, named):
    with pytest.raises(UserError, match=named):
        Settings(**wrong)


def hard_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Random rows, half of them rounded so that ties occur, and the edges of the list version; (B, 4)."""
    generator = torch.Generator().manual_seed(1)
    joint, audio = torch.randn(2, 400, 4, generator=generator, dtype=torch.float64) * 2
    joint[::2], audio[::2] = joint[::2].round(), audio[::2].round()
    edges = [
        ([2.0, 1.0, 0.0, 0.0], [-INF, 0.0, -INF, -INF]),
        ([2.0, 1.0, -INF, 0.0], [0.0, 1.0, 9.0, 0.0]),
        ([0.0, -INF, -INF, -INF], [-INF, 0.0, 1.0, -INF]),
        ([2.0, 1.0, 0.0, 0.0], [math.nan, 0.0, 9.0, 0.0]),
        ([2.0, 1.0, 0.0, 0.0], [INF, 0.0, 9.0, 0.0]),
        ([2.0, 1.0, 0.0, 0.0], [-INF, -INF, -INF, -INF]),
        ([math.nan, 1.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]),
        ([2.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]),
    ]
    more = torch.tensor(edges, dtype=torch.float64)
    return torch.cat([joint, more[:, 0]]), torch.cat([audio, more[:, 1]])


@pytest.mark.parametrize(
    "settings",
    [Settings(), Settings(lam=2.0, tau=1.5), Settings(lam=1.0, tau=0.0), Settings(lam=2.0, alpha_max=0.3)],
)
def test_tokens_agree_with_the_list_version(settings):
    joint, audio = hard_rows()
    batch = arbitrate_tokens(joint, audio, settings)
    gates = 0
    for i, (row_j, row_a) in enumerate(zip(joint.tolist(), audio.tolist(), strict=True)):
        one = arbitrate(row_j, row_a, settings)
        assert batch.gate[i].item() == one.gate
        assert batch.reliability[i].item() == near(one.reliability)
        assert batch.alpha[i].item() == near(one.alpha)
        if one.prediction is None:
            assert batch.prediction[i].item() == -1
        else:
            assert batch.scores[i].tolist() == near(list(one.scores))
            best = sorted(one.scores)[-2:]
            if best[1] - best[0] > 1e-9:  # a tie that rounding could break either way has no one answer
                assert batch.prediction[i].item() == one.prediction
        gates += one.gate
    assert gates > 100


def test_tokens_equal_greedy_at_alpha_zero_and_the_audio_branch_at_one():
    joint, audio = hard_rows()
    joint, audio = joint[1:400:2], audio[1:400:2]  # no ties, nothing broken
    assert torch.equal(arbitrate_tokens(joint, audio, Settings(alpha_max=0.0)).prediction, joint.argmax(-1))
    throughout = arbitrate_tokens(joint, audio, Settings(lam=1.0, tau=0.0))
    assert torch.equal(throughout.prediction, audio.argmax(-1))
    assert torch.equal(throughout.scores[throughout.gate], audio.log_softmax(-1)[throughout.gate])


def test_tokens_in_half_precision_are_scored_in_float32():
    joint = torch.tensor([[2.0, 1.0]], dtype=torch.bfloat16)
    result = arbitrate_tokens(joint, joint.flip(-1))
    assert result.scores.dtype == torch.float32
    assert result.prediction.tolist() == [0]  # half-way between mirrored branches: a tie, the first


def test_a_vocabulary_of_one_is_never_reliable():
    result = arbitrate_tokens(torch.zeros(2, 1), torch.zeros(2, 1), Settings(tau=0.0))
    assert result.reliability.tolist() == [0.0, 0.0]
    assert result.prediction.tolist() == [0, 0]


def test_tokens_refuse_what_they_cannot_do():
    with pytest.raises(UserError, match="score_norm is 'zscore'"):
        arbitrate_tokens(torch.zeros(1, 2), torch.zeros(1, 2), Settings(score_norm="zscore"))
    with pytest.raises(ValueError, match=r"\(B, V\)"):
        arbitrate_tokens(torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        arbitrate_tokens(torch.zeros(1, 2), torch.zeros(1, 3))
