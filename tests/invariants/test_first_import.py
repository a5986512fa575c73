"""Any module may be the first that a user's script imports.

Beside a CPU build of torch, transformers and TRL import only behind `rlcomm.utils.torchvision_ops`; the
tests' own conftest imports it, so that a module without it fails for users alone.
"""

import ast
import importlib
import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import rlcomm

ROOT = Path(rlcomm.__file__).parent
NEEDING = {"transformers", "trl", "peft", "sentence_transformers", "torchvision"}
MODULES = sorted(
    ".".join(("rlcomm", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
)


def imported(module: str) -> list[str]:
    """What a module imports when it is imported, in order, its packages' modules first."""
    path = ROOT.joinpath(*module.split(".")[1:])
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names: list[str] = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names += [name if name in MODULES else node.module for name in inner]
    parents = module.split(".")[:-1]
    return [".".join(parents[:i]) for i in range(2, len(parents) + 1)] + names


def unsafe(module: str, seen: set[str]) -> str | None:
    """The import that comes before `torchvision_ops`; None: none does. `seen` holds what is there already."""
    seen.add(module)
    for name in imported(module):
        if "rlcomm.utils.torchvision_ops" in seen:
            return None
        if name.split(".")[0] in NEEDING:
            return f"{module} imports {name}"
        if name in MODULES and name not in seen and (found := unsafe(name, seen)):
            return found
    return None


@pytest.mark.parametrize("module", MODULES)
def test_torchvision_ops_comes_before_what_needs_it(module):
    assert unsafe(module, set()) is None


@pytest.mark.parametrize("module", ["rlcomm.evaluation.callback", "rlcomm.diagnostics.callback"])
def test_a_callback_needs_nothing_of_ours_imported_before_it(module):
    """In a child that has the libraries, which take ten seconds, and none of our modules."""
    child = os.fork()
    if child == 0:
        try:
            for name in [name for name in sys.modules if name.split(".")[0] == "rlcomm"]:
                del sys.modules[name]
            importlib.import_module(module)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0


@pytest.mark.slow
@pytest.mark.parametrize("module", ["rlcomm.trainers.grpo", "rlcomm.evaluation.callback"])
def test_a_module_can_be_imported_first(module):
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
