"""Do right JavaScript programs pass, and wrong ones not? Small tasks: a right program, a wrong one, and tests.

    python -m tests.verdicts.javascript             # how many end as they should, and which do not

The tasks stand in javascript.txt. The exit status is 1 if a right program fails or a wrong one passes.
"""

import re
import sys
from pathlib import Path

from code_eval.sandbox import Program, Sandbox

TASKS = Path(__file__).with_name("javascript.txt")
TIMEOUT = 10.0  # seconds of CPU time


def tasks() -> dict[str, tuple[Program, Program]]:
    """(right, wrong) program of each task in javascript.txt, by its name."""
    found = {}
    for part in re.split(r"^#### ", TASKS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, _, text = part.partition("\n")
        code, _, tests = text.partition("\n## tests\n")
        right, _, wrong = code.partition("\n## wrong\n")
        found[name] = Program(right, tests), Program(wrong, tests)
    return found


def main() -> int:
    chosen = tasks()
    programs = [program for pair in chosen.values() for program in pair]
    with Sandbox(workers=2, timeout=TIMEOUT, language="javascript") as sandbox:
        results = list(sandbox.run(programs))
    rights, wrongs = results[::2], results[1::2]
    print(f"right programs: {sum(r.passed for r in rights)} of {len(rights)} pass")
    print(f"wrong programs: {sum(r.passed for r in wrongs)} of {len(wrongs)} pass")
    unexpected = 0
    for name, right, wrong in zip(chosen, rights, wrongs, strict=True):
        if not right.passed:
            print(f"{name}: the right one ends as {right.outcome}: {right.detail}")
        if wrong.passed or wrong.outcome in ("syntax_error", "no_tests", "timeout", "sandbox_error"):
            print(f"{name}: the wrong one ends as {wrong.outcome}: {wrong.detail}")
        unexpected += not right.passed or wrong.passed
    return bool(unexpected)


if __name__ == "__main__":
    sys.exit(main())
