"""The threshold omega of ARR, chosen from the sentences it has to tell apart.

A cosine threshold belongs to an embedding model and a way of speaking. The paper's 0.8 (Qwen3-Embedding-0.6B,
free text) is far too low for MiniLM and short sentences: "I hear a cello and a harp." and "I hear a cello, a
guitar and a harp." have cosine 0.98, so at 0.8 nearly any list of instruments would be paid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rlcomm.rewards.embed import Embedder

MINILM_OMEGA = 0.984
"""omega for MiniLM and short sentences that list what is heard ("I hear a drum and a flute.").

Measured over all wordings of all sets of one to three of the eight instruments, and six other sounds: 406
sentences. The two orders of a set are never below 0.9860, two different sets never above 0.9827; 0.984
separates 100 %. tests/rewards/test_omega.py measures it again.
"""


PAPER_OMEGA = 0.8
"""RL-CoMM's, which belongs to Qwen3-Embedding-0.6B."""


def default_omega(embedder: str) -> float:
    """The threshold that belongs to an embedding model, by its name; the paper's for any but MiniLM."""
    return MINILM_OMEGA if embedder == "minilm" else PAPER_OMEGA


@dataclass(frozen=True)
class Threshold:
    """Attributes:
    omega: the threshold: middle of the gap where there is one, else the value with the best balanced
        accuracy.
    lowest_same: lowest cosine of two sentences that mean the same.
    highest_different: highest cosine of two that do not.
    separated: share of the sentences with every sentence of their own group above omega and no other one.
    """

    omega: float
    lowest_same: float
    highest_different: float
    separated: float


def choose(groups: Sequence[Sequence[str]], embedder: "Embedder") -> Threshold:
    """Finds the omega that accepts exactly the sentences that mean the same.

    Args:
        groups: at least two groups; sentences within one group mean the same, those of two groups do not. At
            least one group has two sentences.
        embedder: used without instructions.

    Raises:
        ValueError: there is nothing to separate.
    """
    sentences = [sentence for group in groups for sentence in group]
    label = np.array([index for index, group in enumerate(groups) for _ in group])
    vectors = embedder.encode(sentences)  # (N, D)
    cosine = vectors @ vectors.T  # (N, N)
    same = label[:, None] == label[None, :]
    upper = np.triu(np.ones_like(same), 1)
    alike, unlike = np.sort(cosine[same & upper]), np.sort(cosine[~same & upper])
    if not len(alike) or not len(unlike):
        raise ValueError("a threshold needs two sentences that mean the same and two that do not")
    if alike[0] > unlike[-1]:
        omega = float(alike[0] + unlike[-1]) / 2
    else:
        values = np.unique(np.concatenate([alike, unlike]))
        accepted = 1 - np.searchsorted(alike, values, side="right") / len(alike)  # share of `alike` above
        refused = np.searchsorted(unlike, values, side="right") / len(unlike)
        omega = float(values[np.argmax(accepted + refused)])
    np.fill_diagonal(cosine, np.inf)  # a sentence always accepts itself
    right = ((cosine > omega) == same).all(axis=1)
    return Threshold(omega, float(alike[0]), float(unlike[-1]), float(right.mean()))
