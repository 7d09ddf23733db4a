"""What counts as a copy of a worked example, and what does not."""

import re
from pathlib import Path

import pytest

from selfalign.data.copies import copies, copies_code
from selfalign.llm.prompts import load_examples

PROMPTS = Path(__file__).parents[2] / "prompts"
PLAIN = load_examples(PROMPTS / "examples_plain.yaml")
LONGEST_RUN, CART = PLAIN.pool[:2]
INSTRUCTIONS = [example.instruction for example in PLAIN.pool]
RESPONSES = [example.response for example in PLAIN.pool]

RENAMED = re.sub(r"\bitems\b", "numbers", LONGEST_RUN.response.replace("longest_run", "find_longest_run"))
SAME_TASK_OTHER_CODE = """\
Groups of equal neighbours are made by `groupby`, and the longest of them is taken.

```python
from itertools import groupby

def longest_run(items):
    lengths = [len(list(group)) for _, group in groupby(items)]
    return max(lengths, default=0)
```
"""


@pytest.mark.parametrize(
    "text",
    [CART.instruction, " ".join(CART.instruction.split()), f"{CART.instruction} Return the numbers, one per line."],
    ids=["as it is", "other lines", "with more behind it"],
)
def test_a_task_that_holds_a_worked_example_is_a_copy(text):
    assert copies(text, INSTRUCTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "Write a class `Names`. `add(name)` adds a name, `remove(name)` removes it, and `count()` counts them.",
        f"{CART.instruction} {'It also keeps the price of each item. ' * 9}",
        "",
    ],
    ids=["of the same kind", "much longer", "nothing"],
)
def test_a_task_of_its_own_is_no_copy(text):
    assert not copies(text, INSTRUCTIONS)


@pytest.mark.parametrize(
    "response",
    [LONGEST_RUN.response, RENAMED, RENAMED.replace("max(longest, current)", "max(current, longest)")],
    ids=["as it is", "other names", "a line changed"],
)
def test_code_of_a_worked_example_is_a_copy_whatever_its_names(response):
    assert copies_code(response, RESPONSES)


@pytest.mark.parametrize(
    "response",
    [SAME_TASK_OTHER_CODE, "There is no code here.", "", "```python\ndef f(x):\n    return x\n```"],
    ids=["another solution of the same task", "no code", "nothing", "one line"],
)
def test_code_of_its_own_is_no_copy(response):
    assert not copies_code(response, RESPONSES)


def test_short_code_that_anyone_would_write_is_no_copy():
    responses = [example.response for example in load_examples(PROMPTS / "examples_small.yaml").pool]
    assert not copies_code(min(responses, key=len), responses)


@pytest.mark.parametrize("name", ["examples.yaml", "examples_plain.yaml", "examples_small.yaml"])
def test_worked_examples_are_no_copies_of_each_other(name):
    pool = load_examples(PROMPTS / name).pool
    for number, example in enumerate(pool):
        others = [*pool[:number], *pool[number + 1 :]]
        assert not copies(example.instruction, [other.instruction for other in others])
        assert not copies(example.tests, [other.tests for other in others])
        assert not copies_code(example.response, [other.response for other in others])
