"""Tests one by one: how many of them pass, where one that fails does not end the others."""

import __future__

import ast
import os
import types
from collections.abc import Callable, Iterable

from .assertions import has_tests, unittest_counts, what_runs
from .messages import COUNTS

FUTURES = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
PREPARATIONS = (*DEFINITIONS, ast.Import, ast.ImportFrom)


def statements_of(tests: types.CodeType, text: str, main: bool) -> list[tuple[types.CodeType, bool]]:
    """The statements of tests, compiled from `text`, each with whether it tests something."""
    flags = tests.co_flags & FUTURES
    tree = ast.parse(text)
    definitions: list[ast.stmt] = [s for s in tree.body if isinstance(s, PREPARATIONS)]

    def code_of(*statements: ast.stmt) -> types.CodeType:
        module = ast.Module(list(statements), [])
        return compile(module, "<tests>", "exec", flags, dont_inherit=True)

    found = []
    for statement in tree.body:
        for part in [statement] if main else what_runs(statement):
            # Such as `assert f(2) == 4`, or a call of a function that asserts something.
            counts = not isinstance(part, PREPARATIONS) and (
                isinstance(part, ast.Assert) or has_tests(code_of(*definitions, part))
            )
            found.append((code_of(part), counts))
    return found if any(counts for _, counts in found) else [(tests, True)]


def run_each(
    statements: list[tuple[types.CodeType, bool]],
    names: dict,
    report: Callable[[int, int], object],
    is_over: Callable[[BaseException], bool],
    run: Callable[[types.CodeType, dict], object] = exec,
) -> None:
    """Runs all statements, whichever of the tests among them fail, and then raises what the first failure raised.

    A statement that is no test ends the others when it fails. `report` is told, after each test, how many have passed
    and how many there are; the tests that unittest runs in one statement are told apart. An error that `is_over` is how
    tests end themselves, as scripts do.
    """
    passed, total = 0, number_of(statements)
    failure: BaseException | None = None
    for code, counts in statements:
        unittest_counts.clear()
        good = True
        try:
            run(code, names)
        except BaseException as error:
            if not is_over(error):
                good, failure = False, failure or error
                if not counts:
                    raise failure from None
        if counts:
            ran = [(p, t) for p, t in unittest_counts if t] or [(int(good), 1)]
            passed, total = passed + sum(p for p, _ in ran), total - 1 + sum(t for _, t in ran)
            report(passed, total)
    if failure:
        raise failure


def reporter(file: int, write: Callable = os.pwrite) -> Callable[[int, int], object]:
    """What writes the counts to the report in a file of texts."""
    return lambda passed, tests: write(file, COUNTS.pack(passed, tests), 0)


def number_of(statements: Iterable[tuple[types.CodeType, bool]]) -> int:
    """How many of the statements test something."""
    return sum(counts for _, counts in statements)
