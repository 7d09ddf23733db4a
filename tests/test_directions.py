"""Imports point one way: from the scripts down to the modules that everything else stands on."""

import ast

import pytest

from tests.helpers import ROOT

# Modules of `selfalign` itself, below its packages.
BASE = {"errors", "ids", "installed", "options", "processes", "models", "reach", "statistics"}
# What each room may import, of the project's own; itself always.
ALLOWED = {
    "base": {"base"},
    "llm": {"base"},
    "code": {"base"},
    "runner": {"base", "llm"},
    "benchmarks": {"base", "llm", "code", "runner"},
    "data": {"base", "code", "runner", "benchmarks"},
    "report": {"base", "code", "runner", "benchmarks", "data"},
    "training": {"base", "code", "runner", "report"},
    "code_eval": set(),
    "server": {"base"},
}
SANDBOX = {"benchmarks", "data"}  # run programs, and so may import code_eval
FILES = [path for room in ("selfalign", "code_eval", "server") for path in sorted((ROOT / room).rglob("*.py"))]


def room_of(module):
    """The room of a module of ours by its dotted name; None if it is not ours."""
    first, _, rest = module.partition(".")
    if first == "selfalign":
        package = rest.partition(".")[0]
        return "base" if package in BASE or not package else package
    if first in ("code_eval", "server", "experiments", "tests", "perf", "runs"):
        return first
    return "scripts" if (ROOT / f"{module}.py").exists() and module != "select" else None


def imported(path):
    """The modules that a file imports anywhere in it, by their full names."""
    package = ".".join(path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module or ''}".strip(".") if node.level else str(node.module)
            yield from (f"{module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    allowed = ALLOWED[room] | {room} | ({"code_eval"} if room in SANDBOX else set())
    wrong = {module for module in imported(path) if (room_of(module) or room) not in allowed}
    assert not wrong, f"{room} may import {', '.join(sorted(allowed))}, and not {', '.join(sorted(wrong))}"


def test_nothing_imports_select_by_name():
    """The standard library's `select` has the name of our script."""
    files = [path for path in ROOT.rglob("*.py") if ".venv" not in path.parts and path != ROOT / "select.py"]
    assert not [path for path in files if "select" in set(imported(path))]


def test_nothing_but_the_sandbox_touches_the_path():
    """Scripts lie in the root and all else runs with `python -m`. Programs in the sandbox have a path of their own."""
    files = [path for path in ROOT.rglob("*.py") if not {".venv", "code_eval"} & set(path.parts)]
    written = [path for path in files if "sys.path." in path.read_text() or "sys.path[" in path.read_text()]
    assert [path.name for path in written if path != ROOT / "tests" / "test_directions.py"] == []
