"""LiveCodeBench, code generation (arXiv:2403.07974): 400 contest problems of May 2023 to February 2024.

The paper uses the first release, `test.jsonl` of code_generation_lite: 1.25 GB, most of it hidden tests. A problem asks
for a function (LeetCode), or for a program that reads standard input (AtCoder, Codeforces). Tests stay in the file
until a program in the sandbox reads them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from code_eval.sandbox import Program
from selfalign.benchmarks.harness import livecodebench_judge
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row, Style, pass_rates
from selfalign.benchmarks.harness.functions import first_python_block
from selfalign.errors import UserError, first_line
from selfalign.runner.hub import hub_name, is_hub_id, with_retries

RELEASE = "test.jsonl"  # release_v1
START_DATES = ("2023-09-01", "2023-07-01", "2023-05-01")  # paper, Table 2
JUDGE = Path(livecodebench_judge.__file__)
COLUMNS = ("question_id", "question_content", "contest_date", "starter_code", "metadata", "private_test_cases")

# A worked example of each kind for base models: the problem, and its solution.
EXAMPLES = {
    "stdin": (
        "A shop notes its income of $n$ days. Print the largest income of a day, and the number of that day, counted "
        "from 1; of several such days, the first.\n\nInput: a line with $n$, and a line with $n$ integers.\n\n"
        "Output: the two numbers, with a space between them.",
        "n = int(input())\nincomes = list(map(int, input().split()))\nbest = max(incomes)\n"
        "print(best, incomes.index(best) + 1)",
    ),
    "functional": (
        "You are given a list of integers `heights`. A position is a peak if its value is larger than those of its "
        "neighbours; the two ends have one neighbour each. Return how many peaks there are.",
        "class Solution:\n    def countPeaks(self, heights: List[int]) -> int:\n"
        "        padded = [-math.inf, *heights, -math.inf]\n"
        "        return sum(a < b > c for a, b, c in zip(padded, padded[1:], padded[2:]))",
    ),
}


class LiveCodeBench(Benchmark):
    dataset = "livecodebench/code_generation_lite@0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
    samples, temperature, top_p, max_new_tokens = 10, 0.2, 0.95, 2000  # LiveCodeBench's own; the paper does not say
    completion_stop = ("\n```",)
    timeout = 600.0  # for all tests of a problem, each of which has 6
    memory = 4 << 30  # LiveCodeBench

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order, from the Hub dataset or a file in the layout of its test.jsonl (not compressed)."""
        path = _file(data or self.dataset)
        problems = [_problem(row, path, offset) for offset, row in _lines(path)]
        if not problems:
            raise UserError(f"{path} has no rows")
        return problems

    def read_only(self, problems: Iterable[Problem]) -> list[str]:
        """The file with the tests."""
        return sorted({problem.extra["path"] for problem in problems})

    def completion_prompt(self, problem: Problem) -> str:
        """A worked example of the same kind, the problem, and an open code block."""
        statement, solution = EXAMPLES["functional" if problem.entry_point else "stdin"]
        head = solution[: solution.index("\n", solution.index("def "))] if problem.entry_point else ""
        return (
            f"{_section(statement, head)}{solution}\n```\n\n{_section(problem.prompt, problem.extra['starter_code'])}"
        )

    def chat_prompt(self, problem: Problem) -> str:
        if problem.entry_point:
            how = (
                "Answer with one code block that holds the whole class, which begins like this:\n\n"
                f"```python\n{problem.extra['starter_code'].strip()}\n```"
            )
        else:
            how = (
                "The program reads its input from standard input and prints its result, and nothing else. Answer with "
                "one code block that holds the whole program."
            )
        return f"Solve this problem with a Python program.\n\n{problem.prompt.strip()}\n\n{how}"

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The answer as a string, and what runs it against the tests in the file."""
        code = first_python_block(answer) if style == "chat" else answer
        extra = problem.extra
        call = f"judge(ANSWER, {extra['path']!r}, {extra['offset']}, {problem.entry_point or None!r})"
        return Program(f"ANSWER = {code!r}", f"{JUDGE.read_text()}\n\n{call}")

    def scores(self, rows: Sequence[Row], problems: Mapping[str, Problem]) -> dict[str, float]:
        """pass@1 of the problems from each start date on."""
        starts = {
            f"from {start}": [task for task, problem in problems.items() if problem.extra["date"] >= start]
            for start in START_DATES
        }
        return pass_rates(rows, {name: tasks for name, tasks in starts.items() if tasks})


def _file(data: str) -> str:
    """The file with the problems, downloaded if need be; programs must be able to read it."""
    if is_hub_id(data):
        from huggingface_hub import hf_hub_download

        repo, _, revision = hub_name(data).partition("@")
        try:
            path = with_retries(lambda: hf_hub_download(repo, RELEASE, repo_type="dataset", revision=revision or None))
        except Exception as error:
            raise UserError(f"{RELEASE} of {data} can't be downloaded: {first_line(error)}") from None
    else:
        path = os.path.abspath(data)
    path = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise UserError(f"{data} can't be read: {error.strerror}") from None
    if os.geteuid() == 0 and not mode & stat.S_IROTH:  # programs that root starts run as another user
        raise UserError(f"programs in the sandbox can't read {path}, which holds the tests: run chmod o+r on it")
    return path


def _lines(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file, each with the byte at which its line begins."""
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                missing = [name for name in COLUMNS if name not in row]
            except (ValueError, TypeError) as error:
                raise UserError(f"{path}: line {number} is not JSON ({error})") from None
            if missing:
                raise UserError(f"{path}: line {number} has no {', '.join(missing)}")
            yield offset, row
            offset += len(line)


def _problem(row: Mapping[str, Any], path: str, offset: int) -> Problem:
    return Problem(
        task_id=str(row["question_id"]),
        prompt=row["question_content"],
        entry_point=json.loads(row["metadata"]).get("func_name") or "",
        extra={
            "path": path,
            "offset": offset,
            "date": row["contest_date"][:10],
            "starter_code": row["starter_code"],
        },
    )


def _section(statement: str, head: str) -> str:
    given = f"### Begins with\n\n```python\n{head.strip()}\n```\n\n" if head.strip() else ""
    return f"### Problem\n\n{statement.strip()}\n\n{given}### Python solution\n\n```python\n"
