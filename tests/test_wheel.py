"""An installed rlcomm, outside the clone: its wheel carries recipes and launch configurations.

The wheel is built from the source distribution, without network and without a build of its own environment;
the dependencies are those of the environment that runs the tests.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from rlcomm.utils.shipped import shipped

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("rlcomm", "recipes", "launch", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: Path) -> str:
    """What a command prints; it sees nothing of the clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def built(kind: str, source: Path) -> Path:
    """What `pip` or `build` would make of a source tree: an `sdist`, a `wheel` or an `editable` wheel."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}('dist'))"
    return source / "dist" / run(sys.executable, "-c", code, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the clone, since building leaves folders behind."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    """Built from the unpacked source distribution."""
    folder = tmp_path_factory.mktemp("unpacked")
    shutil.unpack_archive(built("sdist", source), folder)
    [unpacked] = folder.iterdir()
    return built("wheel", unpacked)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment that has the wheel and, by their path alone, the dependencies of this one.

    A folder that a .pth names is searched, but its own .pth files are not read: an editable rlcomm of this
    environment does not get in.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        wheel,
        cwd=folder,
    )
    site = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    )
    heavy = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(heavy)) + "\n")
    where = run(python, "-c", "import rlcomm; print(rlcomm.__file__)", cwd=folder).strip()
    assert Path(where).parent.parent == site
    return folder / "bin"


def test_a_wheel_carries_what_the_package_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if not name.endswith("/")}
    recipes = {str(Path("rlcomm") / path.relative_to(ROOT)) for path in (ROOT / "recipes").rglob("*.yaml")}
    launch = {f"rlcomm/launch/{path.name}" for path in (ROOT / "launch").glob("*.yaml")}
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "rlcomm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package | recipes | launch | {"rlcomm/launch/constraints.txt", "rlcomm/launch/srun.sh"} <= inside
    assert not [name for name in inside if "studies" in name or name.endswith(("install.sh", "test.sh"))]


def test_an_editable_install_finds_them_in_the_clone(source):
    """And has no second copy that would go stale."""
    with zipfile.ZipFile(built("editable", source)) as archive:
        assert not [name for name in archive.namelist() if "recipes" in name or "launch" in name]
    assert shipped("recipes/orchestra") == ROOT / "recipes" / "orchestra"


def test_recipes_are_copied_out_of_it_and_launched_by_its_configurations(installed, tmp_path):
    run(installed / "rlcomm", "recipes", "copy", "qwen2_5_omni_3b", cwd=tmp_path)
    written = {path.name for path in (tmp_path / "recipes" / "qwen2_5_omni_3b").iterdir()}
    assert written == {path.name for path in (ROOT / "recipes" / "qwen2_5_omni_3b").iterdir()}
    code = "from rlcomm.stages.pipeline import launcher; print(launcher('launch/zero2.yaml')[-3])"
    found = run(installed / "python", "-c", code, cwd=tmp_path).splitlines()[-1]
    assert Path(found).read_text() == (ROOT / "launch" / "zero2.yaml").read_text()


def test_the_quickstart_runs_to_its_table(installed, tmp_path):
    said = run(installed / "rlcomm", "quickstart", "--tiny", cwd=tmp_path)
    table = said.splitlines()[-10:]
    for stage in ("Base (direct)", "Warm-up", "Step-RR", "Ans-CO"):
        assert any(line.startswith(stage) for line in table), said[-2000:]
    run_folder = tmp_path / "runs" / "quickstart"
    assert said.rstrip().endswith("runs/quickstart/report.html")
    assert (run_folder / "report.html").is_file()
    assert set(json.loads((run_folder / "summary.json").read_text())["stages"]) >= {"base", "ans_co"}
