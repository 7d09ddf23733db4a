"""LiveCodeBench, code generation (arXiv:2403.07974): contest problems from May 2023 on.

The paper uses the first release, 400 problems up to February 2024: `test.jsonl` of code_generation_lite, 1.25 GB, most
of it hidden tests. Later releases add `test2.jsonl` to `test6.jsonl`: `--release release_v6` has all 1,055 problems up
to April 2025, `--release v6` those of the last file alone, and `--release v5_v6` those of the last two. `--start-date`
and `--end-date` choose by the date of the contest. Files of one's own are separated by commas.

A problem asks for a function (LeetCode), or for a program that reads standard input (AtCoder, Codeforces). Tests stay
in the file until a program in the sandbox reads them. The other scenarios of LiveCodeBench are benchmarks of their own:
livecodebench-repair, livecodebench-execution and livecodebench-test-output.
"""

from __future__ import annotations

import functools
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
from selfalign.benchmarks.harness.problems import check_is_no_pointer, iso_date
from selfalign.errors import UserError, first_line
from selfalign.runner.hub import hub_name, is_hub_id, with_retries

FILES = ("test.jsonl", *(f"test{number}.jsonl" for number in range(2, 7)))
# What LiveCodeBench calls its releases: release_v3 has the first three files, v3 the third, v2_v3 the second and third.
RELEASES = {f"release_v{last}": FILES[:last] for last in range(1, len(FILES) + 1)}
RELEASES |= {f"v{number}": (file,) for number, file in enumerate(FILES, start=1)}
RELEASES |= {f"v{a}_v{b}": FILES[a - 1 : b] for a in range(1, len(FILES)) for b in range(a + 1, len(FILES) + 1)}
START_DATES = ("2023-09-01", "2023-07-01", "2023-05-01")  # paper, Table 2
DIFFICULTIES = ("easy", "medium", "hard")
JUDGE = Path(livecodebench_judge.__file__)
GZIP = b"\x1f\x8b"  # the first bytes of a compressed file
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
    releases, release = tuple(RELEASES), "release_v1"  # paper, Table 2
    samples, temperature, top_p, max_new_tokens = 10, 0.2, 0.95, 2000  # LiveCodeBench's own; the paper does not say
    completion_stop = ("\n```",)
    timeout = 600.0  # for all tests of a problem, each of which has 6
    memory = 4 << 30  # LiveCodeBench

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order, from the Hub dataset or files in the layout of its test.jsonl (not compressed)."""
        problems: dict[str, Problem] = {}
        for path in [path for source in (data or self.dataset).split(",") for path in _files(source, self.release)]:
            before = len(problems)
            for offset, row in _lines(path):
                problem = _problem(row, path, offset)
                if problem.task_id in problems:
                    raise UserError(f"{path} has problem {problem.task_id}, which came before")
                problems[problem.task_id] = problem
            if len(problems) == before:
                raise UserError(f"{path} has no rows")
        return list(problems.values())

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
        """pass@1 of the problems from each of the paper's start dates on, and of each difficulty."""
        groups = {
            f"from {start}": [task for task, problem in problems.items() if problem.extra["date"] >= start]
            for start in START_DATES
        }
        for level in DIFFICULTIES:
            groups[level] = [task for task, problem in problems.items() if problem.extra["difficulty"] == level]
        return pass_rates(rows, {name: tasks for name, tasks in groups.items() if tasks})


def _files(source: str, release: str) -> list[str]:
    """The files with the problems, downloaded if need be; programs must be able to read them."""
    if not is_hub_id(source):
        return [_readable(os.path.abspath(source), source)]
    from huggingface_hub import hf_hub_download

    repo, _, revision = hub_name(source).partition("@")
    paths = []
    for name in RELEASES[release]:
        download = functools.partial(hf_hub_download, repo, name, repo_type="dataset", revision=revision or None)
        try:
            paths.append(_readable(with_retries(download), source))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name} of {source} can't be downloaded: {first_line(error)}") from None
    return paths


def _readable(path: str, source: str) -> str:
    """The path without links; UserError if programs in the sandbox could not read it."""
    path = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise UserError(f"{source} can't be read: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{source} is a folder: name its files, separated by commas")
    check_is_no_pointer(path)
    with open(path, "rb") as file:
        if file.read(len(GZIP)) == GZIP:
            raise UserError(f"{source} is compressed: unpack it first, because the tests are read where they stand")
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
            "date": iso_date(row["contest_date"]),
            "difficulty": row.get("difficulty"),
            "starter_code": row["starter_code"],
        },
    )


def _section(statement: str, head: str) -> str:
    given = f"### Begins with\n\n```python\n{head.strip()}\n```\n\n" if head.strip() else ""
    return f"### Problem\n\n{statement.strip()}\n\n{given}### Python solution\n\n```python\n"
