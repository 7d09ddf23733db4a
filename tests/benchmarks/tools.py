"""What the tests of benchmarks share: problems from rows, and answers judged in the real sandbox."""

from selfalign.benchmarks import load_benchmark
from tests.helpers import write_rows


def problems_of(tmp_path, name, *rows):
    """The benchmark `name`, and its problems from a file of `rows`."""
    benchmark = load_benchmark(name)
    return benchmark, benchmark.problems(str(write_rows(tmp_path / f"{name}.jsonl", rows)))


def judged(sandbox, benchmark, cases):
    """The result of each (problem, answer, style): by name where the benchmark names its checks."""
    running = [{name: sandbox.submit(program) for name, program in benchmark.checks(*case).items()} for case in cases]
    results = [{name: future.result() for name, future in checks.items()} for checks in running]
    return [checks.get("", checks) for checks in results]


def solutions(*numbers):
    """Wrong samples of HumanEval's problems of these numbers."""
    return [{"task_id": f"HumanEval/{n}", "solution": "pass"} for n in numbers]


def in_markdown(code):
    return f"This does it:\n\n```python\n{code}\n```\n\nIt was tested."
