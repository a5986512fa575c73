"""Breaks rlcomm in one place at a time and looks whether the suite notices: 40 faults, a test named for each.

    python launch/studies/faults/run.py                 all that results.json does not know yet
    python launch/studies/faults/run.py --only NAME ...  these, again
    python launch/studies/faults/run.py --again         all, again

The faults are in faults.py: a piece of code that stands once in the package, what it becomes, and the test
that must fail. Each is put into a copy of the working tree, so that nothing here changes. The tests are run
once without a fault first: one that fails by itself catches nothing.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parents[3]
RESULTS = Path(__file__).with_name("results.json")
PARTS = ("rlcomm", "tests", "recipes", "launch", "pyproject.toml", "README.md")
QUIET = {
    "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


def place(fault: Fault, root: Path) -> Path:
    """The one file of the package that holds the fault's old text."""
    found = [path for path in sorted((root / "rlcomm").rglob("*.py")) if fault.old in path.read_text("utf-8")]
    times = sum(path.read_text("utf-8").count(fault.old) for path in found)
    if times != 1:
        sys.exit(f"{fault.name}: its old text stands {times} times in the package; mend faults.py")
    return found[0]


def key(fault: Fault) -> str:
    """Tells a fault from an earlier form of it."""
    return hashlib.sha256("\0".join((fault.old, fault.new, fault.test)).encode()).hexdigest()[:12]


def failed(tree: Path, tests: list[str]) -> tuple[int, set[str], str]:
    """pytest's exit code, the tests that failed without their parameters, and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider", "--timeout=600", *tests],
        cwd=tree, env={**os.environ, **QUIET, "PYTHONPATH": str(tree)}, capture_output=True, text=True,
    )  # fmt: skip
    return done.returncode, set(re.findall(r"^FAILED (\S+?::\w+)", done.stdout, re.MULTILINE)), done.stdout


def try_one(fault: Fault, tree: Path) -> dict:
    """Puts the fault in, runs its test, takes the fault out again."""
    path = place(fault, tree)
    good = path.read_text("utf-8")
    compile(good.replace(fault.old, fault.new), str(path), "exec")  # a fault that is no code shows nothing
    path.write_text(good.replace(fault.old, fault.new), "utf-8")
    start = time.monotonic()
    try:
        code, names, said = failed(tree, [fault.test])
    finally:
        path.write_text(good, "utf-8")
    caught = code == 1 and fault.test.split("[")[0] in names
    if not caught:
        print(said[-1500:])
    return {
        "key": key(fault), "caught": caught, "file": str(path.relative_to(tree)), "test": fault.test,
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these faults, whether known or not")
    parser.add_argument("--again", action="store_true", help="all faults, whether known or not")
    options = parser.parse_args()
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    wanted = [fault for fault in FAULTS if not options.only or fault.name in options.only]
    if options.only and len(wanted) < len(set(options.only)):
        sys.exit(f"no fault is called {', '.join(set(options.only) - {fault.name for fault in wanted})}")
    for fault in FAULTS:
        place(fault, ROOT)
    if not (options.only or options.again):
        wanted = [fault for fault in wanted if known.get(fault.name, {}).get("key") != key(fault)]
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        tree = Path(folder)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / part)
        if wanted:
            code, names, said = failed(tree, sorted({fault.test for fault in wanted}))
            if code:
                print(said[-3000:])
                sys.exit(f"without a fault these fail already: {', '.join(sorted(names)) or 'see above'}")
        for fault in wanted:
            known[fault.name] = try_one(fault, tree)
            print(f"{'caught' if known[fault.name]['caught'] else 'MISSED':7} {fault.name}", flush=True)
            kept = {fault.name: known[fault.name] for fault in FAULTS if fault.name in known}
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
    missed = [fault.name for fault in FAULTS if not known.get(fault.name, {}).get("caught")]
    print(
        f"{len(FAULTS) - len(missed)} of {len(FAULTS)} caught", *(f"not: {name}" for name in missed), sep="\n"
    )
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
