"""The evaluator on a real (untrained, tiny) Qwen2.5-Omni thinker and real clips."""

import numpy as np
import pytest

from rlcomm.data.media import MediaSettings
from rlcomm.data.write_media import write_clip
from rlcomm.evaluation import generated
from rlcomm.evaluation.generated import Asking
from tests.evaluation import fake_world as world


@pytest.fixture(scope="module")
def policy():
    from rlcomm.omni.policy import Policy, add_fused_lm_head
    from rlcomm.orchestra.nano import nano_omni, omni_processor, train_tokenizer

    tokenizer = train_tokenizer(["Is there a harp sound? yes no I hear a flute"] * 3, vocab_size=300)
    model = nano_omni(tokenizer)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return Policy(model.train(), omni_processor(tokenizer), "nano")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = world.build(tmp_path_factory.mktemp("real"))
    rng = np.random.default_rng(0)
    for name in world.TRUTH:
        frames = rng.integers(0, 255, (4, 56, 56, 3)).astype(np.uint8)
        hum = np.sin(np.arange(16000) * rng.uniform(0.05, 0.5)).astype(np.float32) * 0.5
        write_clip(str(folder / "clips" / f"{name}.mp4"), frames, 4.0, hum)
    return folder


def test_batches_agree_and_the_picture_matters(policy, folder):
    options = dict(max_new_tokens=4, media=MediaSettings(fps=2.0), progress=False)
    alone = generated.collect(policy, folder, Asking(batch_size=1, **options))
    together = generated.collect(policy, folder, Asking(batch_size=5, **options))
    assert policy.model.training
    margins = {"joint": [], "audio_only": []}
    for one, other in zip(alone, together, strict=True):
        measured = ("margin", "scores")
        assert {k: v for k, v in one.items() if k not in measured} == {
            k: v for k, v in other.items() if k not in measured
        }
        if one["margin"] is not None:
            assert one["margin"] == pytest.approx(other["margin"], abs=1e-4)
            (scores,), (others,) = one["scores"].values(), other["scores"].values()
            assert scores == pytest.approx(others, abs=1e-4)
            margins[one["view"]].append(one["margin"])
    assert len(margins["joint"]) == len(margins["audio_only"]) == 4
    assert np.abs(np.subtract(margins["joint"], margins["audio_only"])).max() > 1e-3
