"""Any module may be the first that a user's script imports."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "module", ["rlcomm.trainers.grpo", "rlcomm.trainers.sft", "rlcomm.stages.run", "rlcomm.evaluation.runner"]
)
def test_a_module_can_be_imported_first(module):
    """Without `torchvision_ops` before them TRL and transformers do not import beside torch for the CPU."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
