"""Lines of rlcomm per room, at the commit before the rooms and now, as the table of tests/README.md.

Run as `python launch/studies/lines.py [COMMIT]`; COMMIT is 94a2126, the last one before the rooms.
"""

import collections
import subprocess
import sys
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "utils", "llm_api", "steps", "data", "omni", "rewards", "config", "reference", "trainers", "decoding",
    "evaluation", "reports", "diagnostics", "export", "stages", "doctor", "bench", "orchestra", "cli",
)  # fmt: skip
# Where the files of that commit lie today that were not yet in a folder of their room's name.
MOVED = {
    "utils": "child errors files journal processes torchvision_ops zero3",
    "llm_api": "endpoint",
    "data": "vocabulary",
    "config": "recipe",
    "reference": "hearer remote_hearer reference",
    "reports": "evaluation/blind evaluation/conflict_charts evaluation/conflict_report evaluation/page "
    "evaluation/report diagnostics/charts diagnostics/patching_charts diagnostics/probes_charts "
    "diagnostics/report",
    "export": "export hub model_card",
    "doctor": "doctor machine memory peak",
    "bench": "bench bench_step",
    "orchestra": "data/orchestra omni/nano miniature stages/quickstart",
    "cli": "cli",
}
HOME = {old: room for room, names in MOVED.items() for old in names.split()}


def room(name: str, moved: dict[str, str]) -> str:
    """The room of "data/media.py"; "rlcomm itself" for what lies in none."""
    path = PurePosixPath(name).with_suffix("")
    for part in (path, *path.parents):
        if str(part) in moved:
            return moved[str(part)]
    return path.parts[0] if path.parts[0] in ROOMS else "rlcomm itself"


def counted(files: dict[str, str], moved: dict[str, str]) -> dict[str, tuple[int, int]]:
    """Room -> (lines, files)."""
    lines: collections.Counter[str] = collections.Counter()
    number: collections.Counter[str] = collections.Counter()
    for name, text in files.items():
        where = room(name, moved)
        lines[where] += text.count("\n")
        number[where] += 1
    return {where: (lines[where], number[where]) for where in (*ROOMS, "rlcomm itself")}


def at(commit: str) -> dict[str, str]:
    """The package's sources at a commit."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    names = [n for n in git("ls-tree", "-r", "--name-only", commit, "rlcomm").split() if n.endswith(".py")]
    return {name.removeprefix("rlcomm/"): git("show", f"{commit}:{name}") for name in names}


def main() -> None:
    package = ROOT / "rlcomm"
    now = {str(p.relative_to(package)): p.read_text("utf-8") for p in package.rglob("*.py")}
    before, after = counted(at(sys.argv[1] if sys.argv[1:] else "94a2126"), HOME), counted(now, {})
    print("| room | lines before | files | lines now | files |\n|---|--:|--:|--:|--:|")
    for where in before:
        print(f"| {where} |", " | ".join(f"{n:,}" for n in (*before[where], *after[where])), "|")
    total = [sum(column) for part in (before, after) for column in zip(*part.values(), strict=True)]
    print("| **all** |", " | ".join(f"{n:,}" for n in total), "|")


if __name__ == "__main__":
    main()
