"""A small world to diagnose: four real clips in the official formats, muted with control, and two texts."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from rlcomm.data.media import MediaSettings, write_clip
from rlcomm.evaluation import catalog

sys.path.append(os.fspath(Path(__file__).parents[1] / "evaluation"))
import fake_world

MEDIA = MediaSettings(fps=2.0)
BENCHMARKS = ["avconfuse_muted", "mcr_aqa"]


@pytest.fixture(scope="session")
def diagnosed_world(tmp_path_factory) -> Path:
    """A data folder: two muted rows, two control rows, two rows of MCR-BENCH."""
    folder = fake_world.build(tmp_path_factory.mktemp("diagnosed"))
    rng = np.random.default_rng(0)
    for name in fake_world.TRUTH:
        frames = rng.integers(0, 255, (4, 56, 56, 3)).astype(np.uint8)
        hum = np.sin(np.arange(32_000) * rng.uniform(0.05, 0.5)).astype(np.float32) * 0.5
        write_clip(str(folder / "clips" / f"{name}.mp4"), frames, 2.0, hum)
    rows = [
        {
            "audio": f"{name}.mp4",
            "gt": gold,
            "neutral": "Which one plays: harp or violin?",
            "faithful": f"A {gold} plays.",
            "adversarial": f"A {other} plays.",
            "irrelevant": "It is late.",
            "options": ["harp", "violin"],
            "adversarial_answer": other,
        }
        for name, gold, other in (("c1", "harp", "violin"), ("c2", "violin", "harp"))
    ]
    (folder / "test" / "mcr").mkdir()
    (folder / "test" / "mcr" / "AQA.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def sets(diagnosed_world) -> list[catalog.Set]:
    return catalog.open_sets(diagnosed_world, BENCHMARKS)
