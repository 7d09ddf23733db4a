"""Do ClassEval's published solutions pass here? Whole, and put together again from their methods by each strategy.

    python -m tests.verdicts.classeval [ClassEval_data.json] [--python env/bin/python] [--strategies holistic]

Prints classes, test classes and methods that pass, the time, and each class that does not with what it says.
"""

import argparse
import asyncio
import textwrap
import time
from collections.abc import Awaitable, Callable
from typing import Any

from code_eval.sandbox import Program, Sandbox
from selfalign.benchmarks import load_benchmark, records


def oracle(methods: list[dict[str, Any]], style: str) -> Callable[..., Awaitable[str]]:
    """A model that knows the published methods, and writes one after the other."""
    remaining = iter(methods)

    async def ask(prompt: str, stop: tuple[str, ...] = ()) -> str:
        lines = next(remaining)["solution_code"].split("\n")
        if style == "chat":
            return "```python\n" + "\n".join(lines) + "\n```"
        head = next(n for n, line in enumerate(lines) if line.lstrip().startswith("def "))
        while not lines[head].rstrip().endswith(":"):
            head += 1
        return "\n" + textwrap.indent(textwrap.dedent("\n".join(lines[head + 1 :])), 8 * " ")

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--python")
    parser.add_argument("--strategies", nargs="+", default=["holistic", "incremental", "compositional"])
    options = parser.parse_args()
    data, faults, runs = options.data, {}, 0
    print("| strategy | style | classes | test classes | methods | seconds |\n|---|---|---:|---:|---:|---:|")
    for strategy in options.strategies:
        benchmark = load_benchmark(f"classeval-{strategy}")
        problems = benchmark.problems(data)
        methods = {row["task_id"]: row["methods_info"] for row in records(data or benchmark.DATASET)}
        for style in ("solution",) if strategy == "holistic" else ("completion", "chat"):
            start, rows, runs = time.perf_counter(), [], runs + 1
            limits = {"timeout": benchmark.TIMEOUT, "memory": benchmark.MEMORY, "python": options.python}
            with Sandbox(workers=2, **limits) as sandbox:
                for problem in problems:
                    answer = problem.canonical_solution
                    if style != "solution":
                        answer = asyncio.run(benchmark.answer(problem, oracle(methods[problem.task_id], style), style))
                    checks = benchmark.checks(problem, answer, style)
                    programs = {
                        name: Program(*code, timeout=problem.extra["timeout"] or None) for name, code in checks.items()
                    }
                    rows.append((problem, {name: sandbox.submit(code) for name, code in programs.items()}))
                results = [(problem, {name: f.result() for name, f in checks.items()}) for problem, checks in rows]
            judged = [
                {
                    "task_id": problem.task_id,
                    "passed": all(result.passed for result in checks.values()),
                    "checks": {name: result.outcome for name, result in checks.items()},
                }
                for problem, checks in results
            ]
            scores = benchmark.scores(judged, {problem.task_id: problem for problem in problems})
            tests = sum(len(row["checks"]) for row in judged)
            alone = sum(len(problem.extra["methods"]) for problem in problems)
            print(
                f"| {strategy} | {style} | {round(scores['class_level'] * len(judged))} of {len(judged)} "
                f"| {round(scores['method_level'] * tests)} of {tests} | {round(scores['methods_alone'] * alone)} of "
                f"{alone} | {time.perf_counter() - start:.1f} |"
            )
            for problem, checks in results:
                if worst := next((result for result in checks.values() if not result.passed), None):
                    said = f"{worst.outcome}: {worst.detail}"
                    faults.setdefault((problem.task_id, problem.entry_point, said), []).append(f"{strategy} {style}")
    print("\n| class | fails with | in |\n|---|---|---|")
    for (task, name, said), where in sorted(faults.items()):
        print(f"| {task} {name} | {said} | {'all' if len(where) == runs else ', '.join(where)} |")


if __name__ == "__main__":
    main()
