"""MBPP (arXiv:2108.07732): Python functions to write from one sentence and an example of a call.

`mbpp` is the test split (task ids 11 to 510), on which results are reported; `mbpp-sanitized` are those of its problems
that were verified by hand; `mbpp-full` are all 974. As in EvalPlus, the model is shown the text and the first test.
"""

from __future__ import annotations

import ast

from selfalign.benchmarks.harness.benchmark import Problem, Row, Style
from selfalign.benchmarks.harness.functions import (
    FunctionBenchmark,
    code_defining,
    needed_code,
    spaced,
    without_preface,
)
from selfalign.benchmarks.harness.problems import records

TEST_SPLIT = range(11, 511)  # task ids
PUBLISHED = {None: 500, "sanitized": 257, "full": 974}  # problems of each variant


class Mbpp(FunctionBenchmark):
    dataset = "google-research-datasets/mbpp@main"  # resolved to a commit when a run starts, and recorded
    variants = (None, "sanitized", "full")
    completion_stop = ('\n"""', "\nassert", "\nif __name__", "\nprint(", "\n```")

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order, from the full or the sanitized layout."""
        config = "sanitized" if self.variant == "sanitized" else "full"
        split = "train+validation+test+prompt" if self.variant == "full" else "test"
        rows = records(data or self.dataset, config=config, split=split, needs=("task_id", "code", "test_list"))
        rows = sorted(rows, key=lambda row: int(row["task_id"]))
        return [_problem(row) for row in rows if self.variant == "full" or int(row["task_id"]) in TEST_SPLIT]

    def published(self) -> int | None:
        return PUBLISHED[self.variant]

    def completion_prompt(self, problem: Problem) -> str:
        """The task as a docstring, and the line break after it: what follows begins at the margin."""
        return problem.prompt.strip() + "\n"

    def chat_prompt(self, problem: Problem) -> str:
        text, _, test = problem.prompt.strip().strip('"').strip().partition("\nassert ")
        return (
            f"{text.strip()} Write it in Python and answer with one code block that holds the whole code. It must pass "
            f"this test:\n\n```python\nassert {test.strip()}\n```"
        )

    def reference_prompt(self, problem: Problem) -> str:
        text, _, test = problem.prompt.strip().strip('"').strip().partition("\nassert ")
        text = text.strip() if text.strip().endswith(".") else f"{text.strip()}."
        return f"{text}\n\nYour code should pass the following assertion:\n```python\nassert {test.strip()}\n```"

    def code(self, problem: Problem, answer: str, style: Style) -> str:
        """The code of an answer: what the function needs, and what the setup of its tests uses."""
        if style == "solution":
            return answer
        answer = spaced(answer)
        if style == "chat":
            code = code_defining(problem.entry_point, answer)
        else:
            code = problem.prompt + without_preface(answer)
        return needed_code(code, problem.entry_point, problem.extra.get("uses", ()))


def _problem(row: Row) -> Problem:
    """A row of either layout. The setup stands after the code, which it uses (task ids 367 and 927)."""
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
    """The function of `code` that `test` calls; the last one of `code` if it calls none of them by name."""
    defined = [n.name for n in ast.parse(code).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    called = {n.id for n in ast.walk(ast.parse(test)) if isinstance(n, ast.Name)}
    return next((name for name in defined if name in called), defined[-1] if defined else "")
