"""Problems of benchmarks as tasks, to audit on them whether a model's own tests pick correct code (audit.py).

    python -m experiments.problem_tasks ./tasks --benchmarks humanevalplus mbppplus
    python -m experiments.problem_tasks ./tasks --benchmarks mbppplus --any-language --draw 50

A task shows a problem's description and the name of the function with its arguments. MBPP's example is left out,
since it is one of the hidden tests. These rows are never to be trained on.

Columns out:  id, benchmark, problem (its id in the benchmark), instruction, category, difficulty, error (null)
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from selfalign.benchmarks import Problem, load_benchmark
from selfalign.benchmarks.harness.functions import FunctionBenchmark
from selfalign.benchmarks.harness.problems import files_by_name, pin_of
from selfalign.code.parsing import FUNCTIONS, parsed
from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.options import LATER, OPERATIONAL, Count, StepOptions, run_script
from selfalign.runner.source import Source
from selfalign.runner.step import run_step
from selfalign.runner.table import Table

COLUMNS: dict[str, type] = dict.fromkeys(
    ("id", "benchmark", "problem", "instruction", "category", "difficulty", "error"), str
)


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    input: Annotated[str, tyro.conf.Suppress] = field(default="", metadata=OPERATIONAL)

    benchmarks: tuple[str, ...] = ("humanevalplus", "mbppplus")
    """Benchmarks of single functions."""

    benchmark_data: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Files to read the problems from instead of the Hub, such as mbppplus=MbppPlus.jsonl.gz."""

    any_language: bool = field(default=False, metadata=LATER)
    """Leave the word Python out, so that the tasks can be solved in any language. Problems that show code in Python are
    left out."""

    draw: Count | None = field(default=None, metadata=LATER)
    """Take only this many problems, drawn at random by --seed. By default, all."""


def signature_of(code: str, name: str) -> str:
    """The head of the function `name` without types: "add(first, second)"."""
    tree = parsed(code)
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS)] if tree else []
    arguments = next((node.args for node in functions if node.name == name), None)
    return f"{name}({', '.join(arg.arg for arg in arguments.args)})" if arguments else name


def instruction_of(problem: Problem) -> str:
    """What the problem asks for, as a task of the pipeline would."""
    if f"def {problem.entry_point}(" in problem.prompt:  # the head of the function, with its docstring
        return f"Complete the Python function `{problem.entry_point}`:\n\n```python\n{problem.prompt.strip()}\n```"
    lines = problem.prompt.strip().strip('"').strip().split("\n")
    text = " ".join(line.strip() for line in lines if not line.lstrip().startswith("assert")).strip()
    return f"{text}\n\nThe function is `{signature_of(problem.canonical_solution, problem.entry_point)}`."


def in_any_language(instruction: str) -> str | None:
    """The task without the word Python; None if it shows code in Python."""
    if "```" in instruction:
        return None
    return re.sub(r"\bpython3? ", "", instruction, flags=re.IGNORECASE)


def main(options: Options) -> None:
    """Write every problem of the benchmarks as a task."""
    import datasets

    data, rows, pin = files_by_name(options.benchmark_data), [], {}
    for name in options.benchmarks:
        benchmark = load_benchmark(name)
        if benchmark.language != "python":
            raise UserError(f"the problems of {name} are not in Python, which tasks are asked for in")
        if not isinstance(benchmark, FunctionBenchmark):
            raise UserError(f"the problems of {name} are not single functions, as tasks are")
        source, pins = pin_of(data.get(name) or benchmark.dataset, options.hf_token)
        pin[name] = ", ".join(pins.values())
        rows += [
            {"benchmark": name, "problem": problem.task_id, "instruction": instruction_of(problem)}
            for problem in benchmark.problems(source)
        ]
    if options.any_language:
        rows = [row | {"instruction": text} for row in rows if (text := in_any_language(row["instruction"]))]
    if options.draw is not None:
        lots = {content_id(options.seed, row["benchmark"], row["problem"]): i for i, row in enumerate(rows)}
        rows = [rows[i] for i in sorted(lots[lot] for lot in sorted(lots)[: options.draw])]
    if not rows:
        raise UserError(f"{', '.join(options.benchmarks)} has no problem without code in Python")

    def task(row: dict[str, Any]) -> dict[str, Any]:
        return row | {
            "id": content_id(row["benchmark"], row["problem"]),
            "category": "function",
            "difficulty": "medium",
            "error": None,
        }

    problems = Source(", ".join(options.benchmarks), pin, datasets.Dataset.from_list(rows), {})
    run_step(options, Table(problems, task, COLUMNS))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
