"""Step-RR with what the frozen towers made of each clip kept in memory."""

import pytest

from rlcomm.cli import main
from rlcomm.omni.towers import Towers
from rlcomm.trainers.metrics_file import read_metrics


def test_kept_embeddings_change_no_result_and_spare_the_towers(recipe, tmp_path, monkeypatch):
    """Trap: a run that goes faster because it hears nothing."""
    computed = []
    real = Towers._compute
    monkeypatch.setattr(Towers, "_compute", lambda *args: computed.append(1) or real(*args))
    assert main(["train", recipe("step_rr", "plain")]) == 0
    assert not computed
    assert main(["train", recipe("step_rr", "kept", cache_encoders_mb=16)]) == 0
    assert 0 < len(computed) <= 2 * 6  # sound and picture of six clips, over four steps of two prompts
    plain, kept = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("plain", "kept"))
    assert len(plain) == len(kept) == 4
    for one, other in zip(plain, kept, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert other["reward"] == pytest.approx(one["reward"])
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
