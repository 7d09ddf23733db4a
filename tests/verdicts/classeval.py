"""Do ClassEval's published solutions pass here? As a whole, and put together from their methods by each strategy.

    python -m tests.verdicts.classeval [ClassEval_data.json] [--python env/bin/python] [--strategies holistic]

Prints how many classes, test classes and methods pass, the time, and each class that fails with the reason.
"""

import argparse
import asyncio
import textwrap
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from code_eval.sandbox import Sandbox
from selfalign.benchmarks import Benchmark, Problem, load_benchmark
from selfalign.benchmarks.harness.benchmark import Ask, Row, Style
from selfalign.benchmarks.harness.judging import judge_of, sandbox_for
from selfalign.benchmarks.harness.problems import records


def oracle(methods: list[dict[str, Any]], style: Style) -> Ask:
    """A model that knows the published methods, and writes one after the other."""
    remaining = iter(methods)

    async def ask(prompt: str, stop: Sequence[str] | None = None) -> str:
        lines = next(remaining)["solution_code"].split("\n")
        if style == "chat":
            return "```python\n" + "\n".join(lines) + "\n```"
        head = next(n for n, line in enumerate(lines) if line.lstrip().startswith("def "))
        while not lines[head].rstrip().endswith(":"):
            head += 1
        return "\n" + textwrap.indent(textwrap.dedent("\n".join(lines[head + 1 :])), 8 * " ")

    return ask


async def judged(
    benchmark: Benchmark, problems: list[Problem], methods: dict[str, Any], style: Style, sandbox: Sandbox
) -> list[Row]:
    """The verdicts of the published solutions, with `task_id` and with `checks` by name."""
    judge = judge_of(benchmark, sandbox)

    async def verdict(problem: Problem) -> Row:
        answer = problem.canonical_solution
        if style != "solution":
            answer = await benchmark.answer(problem, oracle(methods[problem.task_id], style), style)
        row = await judge(problem, answer, style)
        return row | {"task_id": problem.task_id, "checks": {c["name"]: c["outcome"] for c in row["checks"]}}

    return await asyncio.gather(*map(verdict, problems))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--python")
    parser.add_argument("--strategies", nargs="+", default=["holistic", "incremental", "compositional"])
    options = parser.parse_args()
    faults, runs = defaultdict(list), 0
    print("| strategy | style | classes | test classes | methods | seconds |\n|---|---|---:|---:|---:|---:|")
    for strategy in options.strategies:
        benchmark = load_benchmark(f"classeval-{strategy}")
        problems = benchmark.problems(options.data)
        by_id = {problem.task_id: problem for problem in problems}
        methods = {row["task_id"]: row["methods_info"] for row in records(options.data or benchmark.dataset)}
        styles: list[Style] = ["solution"] if strategy == "holistic" else ["completion", "chat"]
        for style in styles:
            start, runs = time.perf_counter(), runs + 1
            limits = {"workers": 2, "timeout": benchmark.timeout, "python": options.python}
            with sandbox_for(benchmark, problems, **limits) as sandbox:
                rows = asyncio.run(judged(benchmark, problems, methods, style, sandbox))
            scores = benchmark.scores(rows, by_id)
            totals = {
                "class_level": len(rows),
                "method_level": sum(len(row["checks"]) for row in rows),
                "methods_alone": sum(len(problem.extra["methods"]) for problem in problems),
            }
            counts = " | ".join(f"{round(scores[level] * total)} of {total}" for level, total in totals.items())
            print(f"| {strategy} | {style} | {counts} | {time.perf_counter() - start:.1f} |")
            for row in rows:
                if not row["passed"]:
                    name = f"{row['task_id']} {by_id[row['task_id']].entry_point}"
                    faults[name, f"{row['outcome']}: {row['detail']}"].append(f"{strategy} {style}")
    print("\n| class | fails with | in |\n|---|---|---|")
    for (name, reason), where in sorted(faults.items()):
        print(f"| {name} | {reason} | {'all' if len(where) == runs else ', '.join(where)} |")


if __name__ == "__main__":
    main()
