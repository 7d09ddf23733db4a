"""The packages that a benchmark's programs need, and which of them their interpreter has."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Collection, Iterable

from code_eval.node import find_node
from code_eval.sandbox import SandboxUnavailable
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row
from selfalign.code.parsing import parsed
from selfalign.errors import UserError, warn

COMMAND = "python -m selfalign.benchmarks.harness.environment"
# Runs in the programs' interpreter, whose Python may be older than ours.
QUESTION = """
import importlib.util, json, sys
names, packages, found = json.load(sys.stdin), {}, {}
try:
    from importlib.metadata import distributions
except ImportError:  # before 3.8
    distributions = list
for package in distributions():  # packages_distributions of Python 3.10 knows only those that have a top_level.txt
    modules = (package.read_text("top_level.txt") or "").split() or [file.parts[0] for file in package.files or ()]
    for module in modules:
        packages.setdefault(module.split(".")[0], package)
for name in names:
    if importlib.util.find_spec(name):
        found[name] = packages[name].version if name in packages else ""
print(json.dumps(found))
"""
# What the errors of programs say that would have needed a network.
NO_NETWORK = (
    r"name resolution|Name or service not known|No address associated|Network is unreachable|Max retries exceeded|"
    r"Cannot assign requested address|urlopen error"
)
MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)'")


def packages_for(
    benchmark: Benchmark, problems: Collection[Problem], python: str | None = None, without: Collection[str] = ()
) -> dict[str, str | None]:
    """Versions of the packages that the problems need, None for those that `python` lacks.

    Programs in JavaScript need `node` alone.

    Raises:
        UserError: `python` lacks one that is not in `without`; right answers would fail. There is no node.
    """
    if benchmark.language == "javascript":
        return {"node": _node_version(python)}
    needed = needed_packages(problems)
    packages = dict.fromkeys(sorted(needed)) | installed_packages(needed, python)
    missing = [name for name, version in packages.items() if version is None]
    if lacking := [name for name in missing if name not in without]:
        some = ", ".join(f"{name} (imported by {needed[name]} of {len(problems)} problems)" for name in lacking)
        remedy = f"--allow-missing {' '.join(missing)} scores without"
        if benchmark.requirements:
            name = f"{benchmark.family()}-{benchmark.variant}" if benchmark.variant else benchmark.family()
            remedy = f"`{COMMAND} {name}` makes an environment and prints its Python, for --python; {remedy}"
        raise UserError(f"the programs' Python lacks {some}, so right answers would fail: {remedy}")
    if missing:
        warn(f"the programs' Python lacks {', '.join(missing)}: answers that need it will fail")
    return packages


def _node_version(python: str | None) -> str:
    """The version of the node that runs the programs; UserError if there is none, or if `python` is to run them."""
    if python:
        raise UserError("--python is for benchmarks in Python: the node on the PATH runs this one's programs")
    try:
        answer = subprocess.run([find_node(), "--version"], capture_output=True, text=True, check=True)
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None
    return answer.stdout.strip().removeprefix("v")


def check_missing(rows: Iterable[Row], needed: Iterable[str], without: Collection[str]) -> dict[str, int]:
    """{package: number of samples that failed because it was missing}.

    Raises:
        UserError: one of these is `needed` by the problems and not in `without`: the rows were judged by an environment
            that has changed since.
    """
    missing = missing_packages(rows)
    if wrong := [f"{missing[name]} without {name}" for name in needed if missing.get(name) and name not in without]:
        raise UserError(
            f"samples were judged in an environment that was not complete ({', '.join(wrong)}): judge them again, into "
            "another output"
        )
    return missing


def needed_packages(problems: Iterable[Problem]) -> Counter[str]:
    """How many problems import each package, in their solution or tests; the standard library is left out."""
    return Counter(
        name
        for problem in problems
        for name in _imported(problem.canonical_solution) | _imported(problem.test)
        if name not in sys.stdlib_module_names
    )


def _imported(code: str) -> set[str]:
    tree = parsed(textwrap.dedent(code))  # many solutions are only the body of a function
    nodes = list(ast.walk(tree)) if tree else []
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    # DS-1000's programs are strings in its tests.
    nodes += [
        node
        for text in texts
        if "import " in text and "\n" in text
        for node in ast.walk(parsed(text) or ast.Module([], []))
    ]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level]
    return {name.split(".")[0] for name in names}


def installed_packages(modules: Iterable[str], python: str | None = None) -> dict[str, str]:
    """{package: version} of those packages of `modules` that the interpreter `python` has, by default this one.

    The version is "" if unknown, as for the standard library. UserError if `python` does not run.
    """
    names = sorted({module.split(".")[0] for module in modules})
    if not names:
        return {}
    try:
        answer = subprocess.run(
            [python or sys.executable, "-I", "-c", QUESTION], input=json.dumps(names), text=True, capture_output=True
        )
        return json.loads(answer.stdout)
    except (OSError, ValueError) as error:
        raise UserError(f"--python {python} is not a Python interpreter that runs here: {error}") from None


def missing_packages(rows: Iterable[Row]) -> dict[str, int]:
    """How many samples failed because each package is missing, according to their `detail`."""
    found = (MISSING.search(row["detail"] or "") for row in rows)
    return dict(Counter(match[1] for match in found if match).most_common())


def without_network(rows: Iterable[Row]) -> dict[str, int]:
    """How many samples of each problem failed with an error that says that there is no network, by task id."""
    failed = (row for row in rows if not row["passed"] and re.search(NO_NETWORK, row["detail"] or ""))
    return dict(Counter(row["task_id"] for row in failed))
