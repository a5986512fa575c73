"""The differ of `launch/studies/golden.py` sees what changed.

The files themselves are compared by hand: another kind of CPU rounds another way, and a suite that must be
green everywhere cannot hold them to 1e-6.
"""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[1] / "launch" / "studies" / "golden.py"
_spec = importlib.util.spec_from_file_location("golden", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
golden = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(golden)


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
