"""What the tests of benchmarks share: answers judged in the real sandbox."""

from code_eval.sandbox import Program


def judged(sandbox, benchmark, cases):
    """The result of each (problem, answer, style): by name where a benchmark has `checks`."""
    answers = [benchmark.checks(*case) if benchmark.checks else {"": benchmark.program(*case)} for case in cases]
    running = [{name: sandbox.submit(Program(*program)) for name, program in checks.items()} for checks in answers]
    verdicts = [{name: future.result() for name, future in checks.items()} for checks in running]
    return verdicts if benchmark.checks else [checks[""] for checks in verdicts]


def in_markdown(code):
    return f"This does it:\n\n```python\n{code}\n```\n\nIt was tested."
