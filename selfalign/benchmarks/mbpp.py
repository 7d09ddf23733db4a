"""MBPP (arXiv:2108.07732): Python functions to write from one sentence and an example of a call.

`mbpp` is the test split (task ids 11 to 510), on which results are reported; `mbpp-sanitized` are those of its problems
that were verified by hand; `mbpp-full` are all 974. As in EvalPlus, the model is shown the text and the first test.
"""

from __future__ import annotations

import ast
from typing import Any

from selfalign.benchmarks import Problem, records
from selfalign.benchmarks._functions import CHAT_PREFIX, CHAT_STOP, code_of, needed_code, spaced, without_preface

__all__ = ["CHAT_PREFIX", "CHAT_STOP", "COMPLETION_STOP", "chat_prompt", "completion_prompt", "problems", "program"]

DATASET = "google-research-datasets/mbpp@main"  # its commit is resolved when a run starts, and recorded
VARIANTS = (None, "sanitized", "full")
TEST_SPLIT = range(11, 511)  # task ids
COMPLETION_STOP = ('\n"""', "\nassert", "\nif __name__", "\nprint(", "\n```")


def problems(data: str | None = None, variant: str | None = None) -> list[Problem]:
    """The problems, in order, from the full or the sanitized layout."""
    config = "sanitized" if variant == "sanitized" else "full"
    split = "train+validation+test+prompt" if variant == "full" else "test"
    rows = records(data or DATASET, config=config, split=split, needs=("task_id", "code", "test_list"))
    rows = sorted(rows, key=lambda row: int(row["task_id"]))
    return [problem_of(row) for row in rows if variant == "full" or int(row["task_id"]) in TEST_SPLIT]


def problem_of(row: dict[str, Any]) -> Problem:
    """A row of either layout. Its setup follows the code, of which it makes use (task ids 367 and 927)."""
    setup = [row.get("test_setup_code") or "", *(row.get("test_imports") or ())]
    test = "\n".join([*setup, *row["test_list"]]).replace("\r\n", "\n")
    return Problem(
        task_id=f"Mbpp/{row['task_id']}",
        prompt=docstring(row.get("text") or row["prompt"], row["test_list"][0]),
        entry_point=entry_point(row["code"], row["test_list"][0]),
        canonical_solution=row["code"].replace("\r\n", "\n"),
        test=test,
        extra={"uses": sorted({n.id for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Name)})},
    )


def docstring(text: str, test: str) -> str:
    """What a base model continues: the task and a test, as the docstring of a module."""
    return f'"""\n{text.strip()}\n{test.strip()}\n"""\n'


def entry_point(code: str, test: str) -> str:
    """The function of `code` that `test` calls; the last one of `code` if that is not to be seen."""
    defined = [n.name for n in ast.parse(code).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    called = {n.id for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Name)}
    return next((name for name in defined if name in called), defined[-1] if defined else "")


def completion_prompt(problem: Problem) -> str:
    """The task as a docstring, and the line break after it: what follows begins at the margin."""
    return problem.prompt.strip() + "\n"


def chat_prompt(problem: Problem) -> str:
    """What a user would ask."""
    text, _, test = problem.prompt.strip().strip('"').strip().partition("\nassert ")
    return (
        f"{text.strip()} Write it in Python and answer with one code block that holds the whole code. It must pass "
        f"this test:\n\n```python\nassert {test.strip()}\n```"
    )


def program(problem: Problem, answer: str, style: str) -> tuple[str, str]:
    """Code and tests of an answer."""
    if style != "solution":
        answer = spaced(answer)
        code = code_of(answer, problem.entry_point) if style == "chat" else problem.prompt + without_preface(answer)
        answer = needed_code(code, problem.entry_point, problem.extra.get("uses", ()))
    return answer, problem.test
