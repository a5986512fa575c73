import itertools

import numpy as np
import pytest

from rlcomm.data.vocabulary import listed
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.questions import hear_text
from rlcomm.rewards.omega import MINILM_OMEGA, choose


def heard_sentence(names) -> str:
    return f"I hear {listed(names)}."


def orchestra_groups(instruments) -> list[list[str]]:
    """Every set of one to three instruments as a group of all its orders, and the other sounds."""
    sets = [names for size in (1, 2, 3) for names in itertools.combinations(instruments, size)]
    groups = [[heard_sentence(order) for order in itertools.permutations(names)] for names in sets]
    return groups + [
        [f"I hear {sound}."] for sound in ("wind", "a bird", "rain", "a drill", "thunder", "nothing")
    ]


class Angles:
    """Sentences are angles in degrees in the plane."""

    def encode(self, texts):
        radians = np.radians([float(text) for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_middle_of_the_gap():
    found = choose([["0", "10"], ["60"]], Angles())
    assert found.lowest_same == pytest.approx(np.cos(np.radians(10)))
    assert found.highest_different == pytest.approx(np.cos(np.radians(50)))
    assert found.omega == pytest.approx((found.lowest_same + found.highest_different) / 2)
    assert found.separated == 1


def test_best_compromise_where_there_is_no_gap():
    # 10 of the second group lies nearer to 0 than 30 does: at best one of the two is refused
    found = choose([["0", "30"], ["-10"], ["180"]], Angles())
    assert found.lowest_same < found.highest_different
    assert found.separated < 1


def test_nothing_to_separate_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        choose([["0"], ["60"]], Angles())


def test_the_sentences_are_those_of_orchestra():
    spoken = {
        hear_text(names) for size in (0, 1, 2, 3) for names in itertools.combinations(INSTRUMENTS, size)
    }
    spoken |= {hear_text([], sound) for sound in ("wind", "bird", "rain", "drill", "thunder")}
    assert spoken <= {sentence for group in orchestra_groups(INSTRUMENTS) for sentence in group}


def test_minilm_omega_separates_every_set_of_instruments(minilm):
    groups = orchestra_groups(INSTRUMENTS)
    assert sum(map(len, groups)) == 8 + 56 + 336 + 6
    found = choose(groups, minilm)
    assert found.separated == 1
    assert found.omega == pytest.approx(MINILM_OMEGA, abs=1e-3)
    # the constant itself, with room for another machine's rounding
    assert found.highest_different + 5e-4 < MINILM_OMEGA < found.lowest_same - 5e-4


def test_minilm_omega_separates_what_is_seen_as_well(minilm):
    """Witnessed AVC compares "I see ..." sentences, alphabetical as everybody in Orchestra says them."""
    sets = [names for size in (1, 2, 3) for names in itertools.combinations(INSTRUMENTS, size)]
    said = [heard_sentence(sorted(names)).replace("hear", "see") for names in sets] + ["I see something."]
    vectors = minilm.encode(said)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -1)
    assert cosine.max() + 5e-4 < MINILM_OMEGA
