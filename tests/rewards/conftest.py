import pytest

import rlcomm.utils.torchvision_ops  # noqa: F401  # before any test imports TRL or sentence-transformers
from rlcomm.rewards.embed import Embedder


@pytest.fixture(scope="session")
def minilm() -> Embedder:
    """The packaged MiniLM, loaded once for all tests of this folder."""
    return Embedder("minilm", device="cpu")


@pytest.fixture
def fresh(minilm: Embedder) -> Embedder:
    """The loaded model behind an empty cache and counters at zero."""
    embedder = Embedder.__new__(Embedder)
    embedder.__dict__.update(minilm.__dict__, _cache=type(minilm._cache)(), model_calls=0, texts_embedded=0)
    return embedder


class StubEmbedder:
    """An embedder with known cosines, for examples one can work out by hand.

    Cosines by pair of texts; the order of the two does not matter. It remembers what it is asked for.
    """

    def __init__(self, cosines: dict[tuple[str, str], float]) -> None:
        self.cosines = cosines
        self.asked: list[tuple[str, str, str | None]] = []
        self.prefetched: list[list[tuple[str, str | None]]] = []

    def similarity(self, text: str, other: str, instruction: str | None = None) -> float:
        self.asked.append((text, other, instruction))
        return self.cosines[(text, other)] if (text, other) in self.cosines else self.cosines[(other, text)]

    def prefetch(self, pairs) -> None:
        self.prefetched.append(list(pairs))


@pytest.fixture
def stub() -> type[StubEmbedder]:
    return StubEmbedder
