"""A small world to diagnose: four real clips in the official formats, muted with control, and two texts."""

from pathlib import Path

import pytest

from rlcomm.data.media import MediaSettings
from rlcomm.evaluation import catalog
from tests.evaluation import fake_world

MEDIA = MediaSettings(fps=2.0)
BENCHMARKS = ["avconfuse_muted", "mcr_aqa"]


@pytest.fixture(scope="session")
def diagnosed_world(tmp_path_factory) -> Path:
    """A data folder: two muted rows, two control rows, two rows of MCR-BENCH."""
    return fake_world.build_real(tmp_path_factory.mktemp("diagnosed"), fps=2.0)


@pytest.fixture
def sets(diagnosed_world) -> list[catalog.Set]:
    return catalog.open_sets(diagnosed_world, BENCHMARKS)
