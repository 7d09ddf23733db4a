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

from selfalign.benchmarks.harness.benchmark import Problem, Row
from selfalign.code.parsing import parsed
from selfalign.errors import UserError, warn

# Runs in the programs' interpreter, whose Python may be older than ours.
QUESTION = """
import importlib.util, json, sys
names, found = json.load(sys.stdin), {}
try:
    from importlib.metadata import packages_distributions, version
    distributions = packages_distributions()
except ImportError:  # before 3.10
    distributions = {}
for name in names:
    if importlib.util.find_spec(name):
        found[name] = version(distributions[name][0]) if name in distributions else ""
print(json.dumps(found))
"""
MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)")


def packages_for(problems: Collection[Problem], python: str | None = None) -> dict[str, str | None]:
    """Versions of the packages that the problems need, None for those that `python` lacks; warns of these."""
    needed = needed_packages(problems)
    packages = dict.fromkeys(sorted(needed)) | installed_packages(needed, python)
    if missing := [name for name, version in packages.items() if version is None]:
        some = ", ".join(f"{name} (imported by {needed[name]} of {len(problems)} problems)" for name in missing)
        warn(f"the programs' Python lacks {some}: answers that need it will fail; --python names another Python")
    return packages


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
