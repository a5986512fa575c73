"""Decoders over next-token logits: the same decisions as over candidate scores, refused as early."""

import math

import pytest
import torch

from rlcomm.decoding import grids
from rlcomm.decoding.decoders import READS, choose, token_rule
from rlcomm.utils.errors import UserError


def logits(branches: int, rows: int = 40, words: int = 7) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return [2 * torch.randn(rows, words, generator=source) for _ in range(branches)]


@pytest.mark.parametrize("decoder", READS)
def test_every_setting_chooses_tokens_as_it_chooses_candidates(decoder):
    given = logits(len(READS[decoder]))
    decided = set()
    for settings in grids.GRIDS[decoder]:
        scores = token_rule(decoder, settings)(given)
        assert scores.shape == given[0].shape
        assert scores.dtype == torch.float32
        rows = [dict(zip(READS[decoder], row, strict=True)) for row in zip(*given, strict=True)]
        expected = [
            choose(decoder, {name: one.tolist() for name, one in row.items()}, settings).prediction
            for row in rows
        ]
        assert scores.argmax(-1).tolist() == expected
        decided.add(tuple(expected))
    if len(grids.GRIDS[decoder]) > 1:
        assert len(decided) > 1  # settings do reach the rule


def test_by_hand():
    # gacl, alpha = 0.5: the mean of the log-probabilities; cad's preset a = 0.5, and a, b set instead
    joint, other = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.1, 0.9]]).log()
    mixed = token_rule("gacl")([joint, other])
    assert mixed.tolist() == [pytest.approx([math.log(0.075) / 2, math.log(0.225) / 2], abs=1e-6)]
    assert torch.equal(token_rule("greedy")([joint]), joint)
    assert torch.equal(token_rule("bias_awareness")([other]), other)
    assert torch.allclose(token_rule("cad")([joint, other]), 1.5 * joint - 0.5 * other)
    cut = token_rule("cad", {"a": 1.0, "b": 0.5})([joint, other])
    assert cut[0, 0] == pytest.approx(float(2 * joint[0, 0] - other[0, 0]))
    assert cut[0, 1] == -math.inf


@pytest.mark.parametrize("decoder", READS)
def test_a_token_ruled_out_of_every_branch_stays_out(decoder):
    given = logits(len(READS[decoder]))
    for one in given:
        one[:, 2] = -math.inf
    for settings in grids.GRIDS[decoder]:
        scores = token_rule(decoder, settings)(given)
        assert (scores[:, 2] == -math.inf).all()
        assert not scores.isnan().any()


def test_gacl_has_nothing_to_say_where_the_joint_branch_has_not():
    joint, evidence = logits(2, rows=3)
    joint[1] = math.nan
    scores = token_rule("gacl", {"lam": 1.0, "tau": 0.0})([joint, evidence])
    assert (scores[1] == -math.inf).all()
    assert scores[[0, 2]].isfinite().all()


@pytest.mark.parametrize(
    ("decoder", "settings", "message"),
    [
        ("beam", None, "decoder 'beam' is unknown"),
        ("gacl", {"alpha_max": 2.0}, "alpha_max is 2.0"),
        ("gacl", {"score_norm": "zscore"}, "score_norm is 'zscore'"),
        ("cad", {"a": -1.0}, "strength a is -1.0"),
        ("vcd", {"b": 0.0}, "plausibility b is 0.0"),
        ("avcd", {"gate": -1.0}, "entropy gate is -1.0"),
    ],
)
def test_settings_are_refused_before_the_first_token(decoder, settings, message):
    with pytest.raises(UserError, match=message):
        token_rule(decoder, settings)
