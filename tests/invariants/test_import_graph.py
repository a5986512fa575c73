"""The shape of the house: no import goes up, no circle at any level, no file or function grown too long.

The graph is read from the source, so an import counts wherever it stands: at the top, in a function, under
`TYPE_CHECKING`. The lists of what is still to be mended are exact and only shrink: whoever mends an entry
takes it off, and the tests below fail until it is off.
"""

import ast
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "rlcomm"

#: The rooms from the ground up; those of one line may not import each other.
ORDER: tuple[tuple[str, ...], ...] = (
    ("utils",),
    ("llm_api",),
    ("steps",),
    ("data",),
    ("omni",),
    ("rewards",),
    ("config",),
    ("reference",),
    ("trainers",),
    ("decoding",),
    ("evaluation",),
    ("reports",),
    ("diagnostics",),
    ("export",),
    ("stages",),
    ("doctor", "bench"),
    ("orchestra",),
    ("cli",),
    ("__main__",),
)

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
MOST_LONG_FUNCTIONS = 5

#: Functions that stay long, each with the reason why two halves would read worse than the whole.
LONG_WITH_A_REASON: dict[str, str] = {}

KNOWN_UPWARD: set[tuple[str, str]] = set()

KNOWN_CIRCLES: set[tuple[str, ...]] = set()

KNOWN_LONG_FILES: set[str] = {
    "doctor/memory.py",
}

KNOWN_LONG_FUNCTIONS: set[str] = {
    "decoding/branches.py:branch_prompts",
    "decoding/gacl.py:arbitrate",
    "diagnostics/audit.py:audit",
    "evaluation/benchmarks/alme.py:read",
    "evaluation/benchmarks/custom.py:read",
    "evaluation/benchmarks/mcr.py:read",
    "stages/pipeline.py:run_pipeline",
}

Arrow = tuple[str, str]


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module of the package by its name inside it: `omni.encode`, and `omni` for omni/__init__.py."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The package's modules that one module names in an import, anywhere in its source."""
    package = PACKAGE.name
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    here = [part for part in here if part]
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            dotted = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [package, *here[: len(here) - node.level + 1]] if node.level else []
            base += (node.module or "").split(".") if node.module else []
            dotted = [[*base, alias.name] for alias in node.names]
        else:
            continue
        for first, *rest in dotted:
            if first != package:
                continue
            while ".".join(rest) not in known:  # the last name is an attribute of the module before it
                rest = rest[:-1]
            found.add(".".join(rest))
    return found - {name}


@functools.cache
def arrows() -> set[Arrow]:
    """(importer, imported) of every import in the package, but for `rlcomm/__init__`'s lazy public names.

    To import one of those names from inside is an arrow to the top, `""`.
    """
    known = modules()
    return {(name, other) for name, path in known.items() if name for other in imports(name, path, known)}


def room(module: str) -> str:
    return module.split(".")[0]


def circles(edges: Iterable[Arrow]) -> set[tuple[str, ...]]:
    """The sets of nodes that reach each other (strongly connected components of more than one node)."""
    following: dict[str, set[str]] = {}
    for start, end in edges:
        following.setdefault(start, set()).add(end)
        following.setdefault(end, set())

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(following[start])
        while todo:
            node = todo.pop()
            if node not in seen:
                seen.add(node)
                todo.extend(following[node])
        return seen

    reach = {node: reached(node) for node in following}
    return {
        tuple(sorted(other for other in reach[node] if node in reach[other]))
        for node in following
        if node in reach[node]
    }


def circles_at_every_level(edges: set[Arrow]) -> set[tuple[str, ...]]:
    """Circles between the children of every package: the rooms, the modules of a room, those of its folders.

    A package's own `__init__` is one of its children; who imports a name from it draws an arrow to it.
    """
    known = modules()
    found: set[tuple[str, ...]] = set()
    for package in [name for name, path in known.items() if path.name == "__init__.py"]:
        depth = len(package.split(".")) if package else 0

        def child(module: str, package: str = package, depth: int = depth) -> str:
            parts = module.split(".")
            return ".".join(parts[: depth + 1]) if module != package else f"{package}.__init__"

        inside = {
            (child(start), child(end))
            for start, end in edges
            if not package or all(f"{end_}.".startswith(f"{package}.") for end_ in (start, end))
        }
        found |= circles(edge for edge in inside if edge[0] != edge[1])
    return found


def long_functions() -> dict[str, int]:
    """Functions over the limit by `file:Class.name`; lines from `def` to the last, docstring and all."""
    found = {}

    def visit(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                yield f"{prefix}{child.name}", child.end_lineno - child.lineno + 1
            named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            yield from visit(child, f"{prefix}{child.name}." if named else prefix)

    for path in modules().values():
        for name, lines in visit(tree(path), ""):
            if lines > MOST_LINES_OF_A_FUNCTION:
                found[f"{path.relative_to(PACKAGE)}:{name}"] = lines
    return found


def assert_only_known(found: set, known: set, what: str) -> None:
    new, gone = sorted(found - known), sorted(known - found)
    assert not new, f"{what}: {new}"
    assert not gone, f"mended, so take it off this file's list ({what}): {gone}"


def test_every_module_belongs_to_a_room():
    rooms = {name for line in ORDER for name in line}

    assert {room(name) for name in modules() if name} == rooms


def test_no_import_goes_up():
    level = {name: height for height, line in enumerate((*ORDER, ("",))) for name in line}
    upward = {
        (start, end)
        for start, end in arrows()
        if room(start) != room(end) and level[room(end)] >= level[room(start)]
    }

    assert_only_known(upward, KNOWN_UPWARD, "imports of a room above or beside")


def test_no_circle_at_any_level():
    assert_only_known(circles_at_every_level(arrows()), KNOWN_CIRCLES, "modules that import each other")


def test_no_file_is_over_400_lines():
    long = {
        str(path.relative_to(PACKAGE))
        for path in modules().values()
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES_OF_A_FILE
    }

    assert_only_known(long, KNOWN_LONG_FILES, f"files over {MOST_LINES_OF_A_FILE} lines")


def test_at_most_five_functions_are_over_60_lines_each_with_a_reason():
    assert not KNOWN_LONG_FUNCTIONS & set(LONG_WITH_A_REASON)
    assert len(LONG_WITH_A_REASON) <= MOST_LONG_FUNCTIONS
    assert all(len(reason.split()) >= 5 for reason in LONG_WITH_A_REASON.values())

    assert_only_known(
        set(long_functions()),
        KNOWN_LONG_FUNCTIONS | set(LONG_WITH_A_REASON),
        f"functions over {MOST_LINES_OF_A_FUNCTION} lines",
    )


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import rlcomm.omni.encode", {"omni.encode"}),
        ("def f():\n    from rlcomm.omni import encode", {"omni.encode"}),
        ("from rlcomm.omni.encode import encode as e", {"omni.encode"}),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rlcomm.steps import Steps",
            {"steps"},
        ),
        ("from . import sample", {"data.sample"}),
        ("from ..omni.encode import encode", {"omni.encode"}),
        ("import json, torch\nfrom rlcomms import steps", set()),
    ],
)
def test_an_import_is_seen_wherever_and_however_it_is_written(source, seen, tmp_path):
    file = tmp_path / "module.py"
    file.write_text(source)

    assert imports("data.module", file, modules()) == seen


def test_a_circle_is_found_and_a_chain_is_none():
    assert circles({("a", "b"), ("b", "c")}) == set()
    assert circles({("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")}) == {("a", "b", "c")}
