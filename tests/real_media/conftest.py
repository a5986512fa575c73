"""Fixtures of recorded media; every test of this folder is marked `real_media`.

The media are fetched once into build/real_media by fetch.py (by hand, or by the first test that asks for
them) and the tests are skipped with the reason where they cannot be had.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _module(name):
    """A neighbour of this file, without making `fetch` or `gcompris` a top-level name."""
    full = f"real_media_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, HERE / f"{name}.py")
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.real_media)


@pytest.fixture(scope="session")
def fetched():
    """(folder of the fetched media, {what cannot be had: why})."""
    fetch = _module("fetch")
    return fetch.FOLDER, fetch.fetch()


@pytest.fixture(scope="session")
def gcompris_clips(fetched, tmp_path_factory):
    """Clips of one or two recorded instruments, their stems, and muted variants: see gcompris.RealClips.

    Built once a session (about three seconds). Use `.rows` (a JSON Lines file of samples, with muted ones) to
    train, and `.confused` as a data folder for evaluation. Do not change the files.
    """
    folder, missing = fetched
    if "instruments" in missing:
        pytest.skip(f"gcompris-qt-data cannot be had: {missing['instruments']}")
    pytest.importorskip("resvg_py", reason="resvg-py draws the instruments")
    return _module("gcompris").build(
        folder / _module("fetch").INSTRUMENTS, tmp_path_factory.mktemp("gcompris")
    )


@pytest.fixture(scope="session")
def band_video(fetched):
    """Path of the live-band video of iscc-samples: 60 s, 176 x 144, 24 fps, H.264 + AAC at 22,050 Hz.

    Do not change the file.
    """
    folder, missing = fetched
    if "band" in missing:
        pytest.skip(f"iscc-samples cannot be had: {missing['band']}")
    return folder / _module("fetch").BAND
