"""Every decoder on hand-worked candidate scores."""

import math

import pytest

from rlcomm.decoding import grids
from rlcomm.decoding.decoders import READS, branches, choose
from rlcomm.utils.errors import UserError

# Two candidates: the joint input is for the first by ln 3, the same audio for the second by ln 9.
JOINT, AUDIO = [math.log(0.75), math.log(0.25)], [math.log(0.1), math.log(0.9)]


def test_branches_are_read_once_and_every_decoder_has_a_grid():
    assert branches(["greedy", "gacl", "cad", "aad"]) == ("joint", "evidence", "no_audio")
    assert set(READS) == set(grids.GRIDS)
    with pytest.raises(UserError, match="decoder 'beam' is unknown"):
        branches(["beam"])


def test_gacl_takes_the_audio_where_it_is_sure():
    scores = {"joint": JOINT, "evidence": AUDIO}
    assert choose("greedy", scores).prediction == 0
    # margin ln 9 > tau: R = 1, alpha = 0.5: the mix is (ln 0.75 + ln 0.1)/2 < (ln 0.25 + ln 0.9)/2
    found = choose("gacl", scores)
    assert (found.prediction, found.gate, found.reliability, found.alpha) == (1, True, 1.0, 0.5)
    assert found.scores == pytest.approx([math.log(0.075) / 2, math.log(0.225) / 2], abs=1e-9)
    assert choose("gacl", scores, {"lam": 0.1}).prediction == 0
    assert choose("gacl", scores, {"alpha_max": 0.0}).prediction == 0


def test_contrasts_push_away_from_their_reference():
    # aad, a = 0.5: 1.5 ln 0.75 - 0.5 ln 0.99 against 1.5 ln 0.25 - 0.5 ln 0.01: the second wins by 0.64
    scores = {"joint": JOINT, "no_audio": [math.log(0.99), math.log(0.01)]}
    found = choose("aad", scores)
    first, second = (1.5 * math.log(p) - 0.5 * math.log(q) for p, q in ((0.75, 0.99), (0.25, 0.01)))
    assert found.scores == pytest.approx([first, second], abs=1e-9)
    assert found.prediction == 1
    assert choose("aad", scores, {"a": 0.0}).prediction == 0
    # the cut keeps what has at least b of the best: 0.25 < 0.5 * 0.75
    assert choose("aad", scores, {"b": 0.5}).prediction == 0
    # avcd, entropy of (0.75, 0.25) = 0.56 < 0.6: L as it is; gate 0: (2 + 1) L - L12 + L1 + L2
    scores = {
        "joint": JOINT,
        "no_media": [math.log(0.99), math.log(0.01)],
        "no_video": AUDIO,
        "no_audio": AUDIO,
    }
    assert choose("avcd", scores).prediction == 0
    found = choose("avcd", scores, {"gate": 0.0})
    worked = [3 * j - m + 2 * a for j, m, a in zip(JOINT, scores["no_media"], AUDIO, strict=True)]
    assert found.scores == pytest.approx(worked, abs=1e-9)
    assert found.prediction == 1


def test_a_prompt_is_decided_by_its_own_branch():
    assert choose("ignore_text", {"joint": JOINT, "ignore_text": AUDIO}).prediction == 1


def test_without_its_branch_a_decoder_leaves_the_joint_answer_and_says_so():
    for decoder in READS:
        found = choose(decoder, {"joint": JOINT})
        assert found.prediction == 0
        assert found.applies is (decoder == "greedy")
    assert choose("greedy", {"joint": []}).prediction is None
    assert choose("gacl", {"joint": [float("nan"), 0.0], "evidence": AUDIO}).prediction is None


def test_scores_that_differ_by_a_constant_decide_alike():
    moved = {"joint": [score - 7 for score in JOINT], "noisy_video": [3.0, 1.0]}
    plain = {"joint": JOINT, "noisy_video": [1.0, -1.0]}
    assert choose("vcd", moved).scores == pytest.approx(choose("vcd", plain).scores, abs=1e-9)
