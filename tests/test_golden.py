"""The public commands print and write what they did: `launch/studies/golden.py --check`, part by part."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "launch" / "studies" / "golden.py"
_spec = importlib.util.spec_from_file_location("golden", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """One folder for all parts, so that what several need is made once."""
    return golden.Workspace(tmp_path_factory.mktemp("golden"))


@pytest.mark.slow
@pytest.mark.parametrize("part", golden.PARTS)
def test_as_before(part, workspace):
    found = golden.differences(part, golden.PARTS[part](workspace))
    assert not found, "\n" + "\n".join(found)


def test_a_difference_is_told_with_its_place(tmp_path):
    old = {"printed.txt": "a\nb\n", "results.json": '{"x": {"y": [1.0, 2.0]}, "name": "a"}\n'}
    golden.write("eval_direct", old, tmp_path)
    near = {**old, "results.json": '{"x": {"y": [1.0000005, 2.0]}, "name": "a"}\n'}
    assert golden.differences("eval_direct", near, tmp_path) == []
    new = {"printed.txt": "a\nc\n", "results.json": '{"x": {"y": [1.0, 2.1]}, "name": "a"}\n', "more.txt": ""}
    found = golden.differences("eval_direct", new, tmp_path)
    assert "eval_direct/results.json.x.y[1]: 2.0 -> 2.1" in found
    assert "eval_direct/more.txt: has no golden file" in found
    assert {"    -b", "    +c"} <= set(found)
