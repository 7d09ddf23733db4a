"""Executions as step 6 reads them."""

import random

TASKS = ("sort", "reverse", "count", "merge", "split", "join", "parse", "rotate")
WORDS = {
    "sort": "Write a function that puts the numbers of a list into ascending order, without changing the list itself.",
    "reverse": "Turn a text around, character by character, so that the last one comes first and the first one last.",
    "count": "How often does each word occur in a sentence? Give a dictionary from the word to its number of places.",
    "merge": "Two dictionaries are given; build a third one with the keys of both, the second one going before.",
    "split": "Cut a sequence into pieces of equal size and return them as a list of lists, the last one maybe shorter.",
    "join": "Glue the given paths to one another with slashes between, taking care of those that are there already.",
    "parse": "Read a line of comma separated values and give back integers wherever a value looks like one of them.",
    "rotate": "Move every element of an array k places to the right; what falls off its end comes in at the start.",
}


def block(code):
    return f"```python\n{code}\n```"


def sample(task, number=0, passed=True, code=None, tests=None, words="", **more):
    """A row of executions; tasks and samples have nothing in common unless it is asked for."""
    draws = random.Random(f"{task}{number}")
    code = code or f"def {task}(x):\n" + "".join(
        f"    {a} = x * {b} + {c}\n" for a, b, c in [("".join(draws.sample("abcdefgh", 5)), draws.random(), number)] * 9
    ) + "    return x"  # fmt: skip
    return {
        "id": f"{task}-{number}",
        "task_id": task,
        "instruction": WORDS[task],
        "response": f"{words or ' '.join(draws.sample(WORDS[task].split(), 9))}\n\n{block(code)}",
        "tests": block(tests or f"assert {task}({number}) == {number}"),
        "passed": passed,
        "outcome": "passed" if passed else "failed",
        "seed_id": f"seed of {task}",
        **more,
    }
