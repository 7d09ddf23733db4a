"""Which tests an instruction shows (paper, C.1)."""

import pytest

from selfalign.data import examples
from selfalign.ids import draws_of

SHOWN = [
    ("assert f(1) == 1", "assert f(1) == 1"),
    ("# One.\nassert f(1) == 1\n\nassert f(1) == 1", "assert f(1) == 1"),
    ("assert f(\n    1\n) == 1", "assert f(\n    1\n) == 1"),
    ("x = [1]\nassert f(x) == 1", "x = [1]\nassert f(x) == 1"),
    ("a = 1\nb = 2\nc = 3\nd = 4\ne = 5\nassert f(a) == 1", None),
    ("assert f('```') == 1", None),
    ("", None),
]


def show(tests, instruction="Do it.", probability=1.0, id="a"):
    return examples.tests_to_show(instruction, tests, probability, draws_of(0, id))


@pytest.mark.parametrize(("tests", "shown"), SHOWN)
def test_tests_of_the_form_are_shown(tests, shown):
    assert show(tests) == shown


def test_of_many_assertions_the_first_one_to_five_are_shown():
    tests = [f"assert f({n}) == {n}" for n in range(9)]
    shown = {show("\n".join(tests), id=str(i)) for i in range(50)}
    assert shown == {"\n".join(tests[:n]) for n in range(1, 6)}


def test_random_assertions_can_be_shown():
    tests = [f"assert f({n}) == {n}" for n in range(9)]
    shown = [
        examples.tests_to_show("Do it.", "\n".join(tests), 1.0, draws_of(0, str(i)), "random").split("\n")
        for i in range(50)
    ]
    assert {len(lines) for lines in shown} == {1, 2, 3, 4, 5} and {line for lines in shown for line in lines} == {
        *tests
    }
    assert all(len(set(lines)) == len(lines) for lines in shown)


@pytest.mark.parametrize(
    ("shown", "what"),
    [
        ("assert f(1) == 1", "assertion"),
        ("assert f(1) == 1\nassert f(2) == 2", "assertions"),
        ("x = 1\nassert f(x) == 1", "test case"),
    ],
)
def test_the_reference_introduces_tests_as_what_they_are(shown, what):
    question = examples.with_tests("Do it.", shown, "reference")
    assert question == f"Do it.\n\nYour code should pass the following {what}:\n```python\n{shown}\n```"


@pytest.mark.parametrize("instruction", ["Write a test.", "Do it. For example, f(1) is 1.", "It must assert x."])
def test_an_instruction_that_mentions_tests_or_gives_an_example_shows_none(instruction):
    assert show("assert f(1) == 1", instruction) is None


def test_half_of_the_instructions_show_tests():
    shown = sum(show("assert f(1) == 1", probability=0.5, id=str(i)) is not None for i in range(1000))
    assert 450 < shown < 550
