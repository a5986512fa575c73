"""`rlcomm diagnose` on two processes gives the bytes of one."""

import pytest
import torch

from rlcomm.cli import main
from rlcomm.diagnostics.run import PARTS
from tests.diagnostics.conftest import BENCHMARKS
from tests.stages.conftest import on_two_processes


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the launched ones have
    yield
    torch.set_num_threads(before)


@pytest.mark.distributed
def test_two_processes_give_the_bytes_of_one(diagnosed_world, nano_folder, tmp_path, one_thread):
    """With as many threads each: sums of floats end otherwise in another order."""
    words = [
        "diagnose", "recipes/orchestra/diagnose.yaml", "--model_name_or_path", str(nano_folder),
        "--eval_data", str(diagnosed_world), "--benchmarks", ",".join(BENCHMARKS),
        "--which", ",".join(PARTS), "--disable_tqdm", "true",
    ]  # fmt: skip
    assert main([*words, "--output_dir", str(tmp_path / "one")]) == 0
    on_two_processes(*words, "--output_dir", str(tmp_path / "two"))
    for name in ("diagnosis.json", "diagnosis.html", *(f"{part}.jsonl" for part in PARTS)):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    assert not (tmp_path / "two" / "measured").exists()
