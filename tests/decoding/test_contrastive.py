"""Contrastive decoding by hand; each test names its trap."""

import math

import pytest
import torch

from rlcomm.decoding import contrastive, grids
from rlcomm.decoding.contrastive import PRESETS, Contrast, avcd, contrast, entropy
from rlcomm.decoding.gacl import Settings
from rlcomm.utils.errors import UserError

INF = math.inf


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def near(value):
    return pytest.approx(value, abs=1e-9)


def test_the_contrast_by_hand():
    # 1.5 * (2, 1, 0) - 0.5 * (3, -1, 0)
    assert contrast(row(2, 1, 0), row(3, -1, 0), a=0.5).tolist() == near([1.5, 2.0, 0.0])


def test_the_cut_is_taken_on_the_full_scores_before_the_contrast():
    # log 0.1 = -2.303: full scores under 2 - 2.303 = -0.303 go, though the contrast likes the last one most
    result = contrast(row(2, 1, -0.3, -0.31), row(2, 1, 0, -50), a=1.0, b=0.1)
    assert result.tolist() == near([2.0, 1.0, -0.6, -INF])


def test_a_score_exactly_at_the_cut_stays():
    full = row(0.0, math.log(0.5))
    assert contrast(full, row(0, 0), a=0.0, b=0.5).tolist() == near([0.0, math.log(0.5)])
    assert contrast(full, row(0, 0), a=0.0, b=0.51).tolist() == near([0.0, -INF])


def test_b_of_one_keeps_only_the_best_and_its_ties():
    assert contrast(row(1, 1, 0), row(0, 5, 0), a=1.0, b=1.0).tolist() == near([2.0, -3.0, -INF])


def test_a_of_zero_is_plain_decoding_to_the_bit():
    full = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(contrast(full, torch.full_like(full, math.nan), a=0.0), full)


def test_rows_are_cut_by_their_own_best():
    full = torch.stack([row(0, -1), row(5, 0)])
    result = contrast(full, torch.zeros_like(full), a=1.0, b=0.1)
    assert result[0].tolist() == near([0.0, -2.0])
    assert result[1].tolist() == near([10.0, -INF])


def test_what_the_full_input_rules_out_stays_out():
    result = contrast(row(1, -INF, -INF, 0), row(0, -INF, 0, -INF), a=1.0)
    assert result.tolist() == near([2.0, -INF, -INF, INF])


def test_a_constant_added_to_a_branch_decides_nothing():
    generator = torch.Generator().manual_seed(1)
    full, reference = torch.randn(2, 50, 7, generator=generator, dtype=torch.float64)
    raw = contrast(full, reference, a=1.0, b=0.1)
    normed = contrast(full.log_softmax(-1), reference.log_softmax(-1), a=1.0, b=0.1)
    assert torch.equal(raw.argmax(-1), normed.argmax(-1))
    assert torch.equal(raw.isinf(), normed.isinf())
    assert not torch.equal(raw.argmax(-1), full.argmax(-1))


def test_presets_by_hand():
    assert {name: (p.a, p.b) for name, p in PRESETS.items()} == {
        "vcd": (1.0, 0.1),
        "cad": (0.5, None),
        "aad": (0.5, None),
        "acd": (0.5, None),
        "icd": (1.0, 0.1),
    }


def test_entropy_by_hand():
    assert entropy(row(0, 0, 0, 0)).item() == near(math.log(4))
    assert entropy(row(3, 3, -INF)).item() == near(math.log(2))
    assert entropy(row(0, -INF)).item() == 0.0
    assert entropy(torch.zeros(2, 3)).shape == (2,)


def test_avcd_by_hand():
    # L = (0, 0, -1): p = (.4223, .4223, .1554), H = 1.0168 nats, gated; a = 0.5: 3 L - L12 + L1 + L2
    result = avcd(row(0, 0, -1), row(2, 0, 0), row(1, 0, 0), row(0, 1, 0), b=None)
    assert result.tolist() == near([-1.0, 1.0, -3.0])
    # a = 1: 4 L - 2 L12 + L1 + L2
    result = avcd(row(0, 0, -1), row(2, 0, 0), row(1, 0, 0), row(0, 1, 0), a=1.0, b=None)
    assert result.tolist() == near([-3.0, 1.0, -4.0])


def test_avcd_cuts_to_minus_infinity():
    # log 0.2 = -1.609: the last is implausible; the released code's -1e-4 would make it the argmax here
    full = row(-1.0, -1.0, -3.0)
    result = avcd(full, row(0, 0, 0), row(-1, -2, 0), row(-1, -2, 0))
    assert result.tolist() == near([-5.0, -7.0, -INF])
    assert result.argmax().item() == 0


def test_avcd_leaves_confident_rows_alone_and_uncut():
    # two equal scores: ln 2 = 0.693 nats, gated; (3, 0): 0.191 nats, plain, though b = 0.2 would cut its 0
    full = torch.stack([row(0, 0), row(3, 0)])
    one = torch.ones_like(full)
    result = avcd(full, row(1, 0).expand(2, 2), one, one)
    assert result[0].tolist() == near([1.0, 2.0])
    assert result[1].tolist() == [3.0, 0.0]
    everywhere = avcd(full, row(1, 0).expand(2, 2), one, one, gate=0.0)
    assert everywhere[1].tolist() == near([10.0, -INF])


def test_the_gate_includes_its_threshold():
    full = row(0, 0)
    at = entropy(full).item()
    zero, other = row(0, 0), row(1, 0)
    assert avcd(full, zero, other, zero, gate=at).tolist() == near([1.0, 0.0])
    assert avcd(full, zero, other, zero, gate=at + 1e-9).tolist() == [0.0, 0.0]


def test_avcd_keeps_what_the_full_input_rules_out():
    full = row(0, 0, -INF)
    assert avcd(full, full, full, full, b=None).tolist() == near([0.0, 0.0, -INF])


def test_half_precision_is_raised():
    half = torch.tensor([1.0, 0.0], dtype=torch.float16)
    assert contrast(half, half, a=0.5).dtype == torch.float32
    assert avcd(half, half, half, half).dtype == torch.float32


@pytest.mark.parametrize(
    ("a", "b", "named"),
    [
        (-0.1, None, "strength a is -0.1"),
        (math.nan, None, "strength a is nan"),
        (INF, None, "strength a is inf"),
        (1.0, 0.0, "plausibility b is 0.0"),
        (1.0, 1.1, "plausibility b is 1.1"),
    ],
)
def test_settings_that_cannot_work(a, b, named):
    with pytest.raises(UserError, match=named):
        Contrast("x", a=a, b=b, source="")
    with pytest.raises(UserError, match=named):
        contrast(row(0, 0), row(0, 0), a, b)
    with pytest.raises(UserError, match=named):
        avcd(row(0, 0), row(0, 0), row(0, 0), row(0, 0), a, b)


def test_a_negative_gate_and_different_shapes_are_refused():
    with pytest.raises(UserError, match=r"gate is -0\.5"):
        avcd(row(0, 0), row(0, 0), row(0, 0), row(0, 0), gate=-0.5)
    with pytest.raises(ValueError, match=r"\(2,\), \(3,\)"):
        contrast(row(0, 0), row(0, 0, 0), a=1.0)
    with pytest.raises(ValueError, match=r"\(1, 1, 2\)"):
        contrast(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), a=1.0)


def test_the_grids_are_of_the_stated_size_and_can_be_used():
    assert grids.settings_tried("gacl") == 12
    assert [grids.settings_tried(name) for name in ("aad", "acd", "cad", "vcd", "icd", "avcd")] == [7] * 6
    assert grids.settings_tried("greedy") == grids.settings_tried("ignore_text") == 1
    assert {(Settings(**s).lam, Settings(**s).tau) for s in grids.GRIDS["gacl"]} == {
        (lam, tau) for lam in (0.5, 1.0, 1.25, 2.0) for tau in (0.5, 1.0, 1.5)
    }
    for setting in grids.GRIDS["aad"]:
        contrast(row(0, 0), row(0, 0), **setting)
    for setting in grids.GRIDS["avcd"]:
        avcd(row(0, 0), row(0, 0), row(0, 0), row(0, 0), **setting)
    assert {s["b"] for s in grids.GRIDS["vcd"]} == {0.1}  # the cut stays while the strength is tuned
    assert {s["b"] for s in grids.GRIDS["aad"]} == {None}
    assert [s["a"] for s in grids.GRIDS["acd"]] == [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0]
    assert set(contrastive.PRESETS) < set(grids.GRIDS)
    with pytest.raises(UserError, match="'beam' has no grid"):
        grids.settings_tried("beam")
