"""LiveCodeBench, self-repair: code generation with a second attempt at each answer that fails.

The model is shown the problem, its answer and what went wrong: the input of the first test that failed, what was
expected, and what the program did. It may answer once more, and pass@1 is that of the last answers; the score
`first_answers` is that of the first ones. `benchmark.py --first-answers FOLDER` repairs the answers in FOLDER, the
output of a run of livecodebench, as LiveCodeBench does. Otherwise the model first answers as there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from selfalign.benchmarks.harness.benchmark import FIRST_ANSWER, Ask, Problem, Row, Style
from selfalign.benchmarks.harness.functions import first_python_block
from selfalign.benchmarks.harness.livecodebench_judge import read_tests
from selfalign.benchmarks.livecodebench import LiveCodeBench

SHOWN = 300  # characters of an input or an output; LiveCodeBench shows both ends of longer ones
FAULT = re.compile(r"AssertionError: test (\d+) of \d+: (.*)", re.DOTALL)
WRONG = re.compile(r"(.*) instead of ", re.DOTALL)


class LiveCodeBenchRepair(LiveCodeBench):
    async def revise(self, problem: Problem, answer: str, verdict: Row, ask: Ask, style: Style) -> str:
        code = (first_python_block(answer) if style == "chat" else answer).strip("\n")
        # The tests of a problem may be many megabytes, and other requests go on meanwhile.
        fault = await asyncio.to_thread(fault_of, problem, verdict)
        if style == "chat":
            return await ask(f"{self.chat_prompt(problem)}\n\n{REPAIR.format(code=code, fault=fault)}")
        prompt = self.completion_prompt(problem)
        return await ask(f"{prompt}{code}\n```\n\n### Fault\n\n{fault}\n\n### Corrected Python solution\n\n```python\n")

    def scores(self, rows: Sequence[Row], problems: Mapping[str, Problem]) -> dict[str, float]:
        """Those of code generation, and the share of first answers that passed; given samples have none."""
        scores = super().scores(rows, problems)
        if any(FIRST_ANSWER in row["checks"] for row in rows):
            # One that was unfinished has failed, and was not revised.
            first_passed = [row["passed"] and FIRST_ANSWER not in row["checks"] for row in rows]
            scores["first_answers"] = sum(first_passed) / len(rows)
        return scores


REPAIR = """This answer was given, and it is wrong:

```python
{code}
```

{fault}

Say in two or three sentences what is wrong with it. Then write the whole program once more, corrected, in one code \
block of the same form."""


def fault_of(problem: Problem, verdict: Row) -> str:
    """What the model is told of the test that failed: its input, the expected output, and what the program did."""
    detail = verdict["detail"] or verdict["outcome"]
    found = FAULT.match(detail)
    # The unpickler knows only plain types, so that reading the tests is harmless here, too.
    tests = read_tests(problem.extra["path"], problem.extra["offset"]) if found else []
    if not found or not 0 < int(found[1]) <= len(tests):  # the answer may say whatever it likes
        return f"It failed: {detail}"
    test, said = tests[int(found[1]) - 1], found[2]
    wrong = WRONG.match(said)
    if said.startswith("more than "):
        did = f"The program took too long: {said}."
    elif wrong:
        did = f"The {'value' if problem.entry_point else 'output'} of the program: {wrong[1]}"
    else:
        did = f"The program ended with an error: {said}"
    return f"Input: {shortened(test['input'])}\nExpected: {shortened(test['output'])}\n{did}"


def shortened(text: str) -> str:
    """A text of SHOWN characters at most, with both of its ends."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} ... {text[-SHOWN // 2 :]}"
