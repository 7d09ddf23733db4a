"""The worked examples in JavaScript: each is complete, its code passes its tests in the sandbox, and its broken twin
does not."""

import re
from collections import Counter

import pytest
import yaml

from code_eval.sandbox import Program, Sandbox
from selfalign.options import PROMPTS
from tests.llm.test_examples import HUMANEVAL_NAMES, HUMANEVAL_NGRAMS, KEYS, word_ngrams

EXAMPLES = yaml.safe_load((PROMPTS / "javascript" / "examples.yaml").read_text(encoding="utf-8"))
PLAIN = yaml.safe_load((PROMPTS / "examples_plain.yaml").read_text(encoding="utf-8"))
PARTS = ("seed", "response", "tests", "broken")


def block(markdown):
    """The code of a text that has one block of it."""
    (code,) = re.findall(r"^```javascript\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    return code


def defined(code):
    """The functions and classes at the top level of a program."""
    return set(re.findall(r"^(?:function|class) (\w+)", code, re.MULTILINE))


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, language="javascript") as sandbox:
        yield sandbox


@pytest.fixture(params=EXAMPLES, ids=lambda example: example["name"])
def example(request):
    return request.param


def test_has_keys_in_order_and_one_block_each(example):
    assert list(example) == KEYS and example["language"] == "javascript"
    assert example["response"].count("```") == example["tests"].count("```") == 2
    assert len(example["instruction"].split()) <= 80
    assert all(len(line) <= 120 for part in PARTS for line in example[part].splitlines())


def test_response_passes_its_tests_and_the_broken_version_fails_an_assertion(example, sandbox):
    tests = block(example["tests"])
    right, wrong = sandbox.run([Program(block(example["response"]), tests), Program(example["broken"], tests)])
    assert right.passed, right
    assert wrong.outcome == "failed" and wrong.detail.startswith("AssertionError"), wrong


def test_seed_is_a_documented_function_that_runs_and_returns_something(example, sandbox):
    seed = example["seed"]
    assert seed.startswith("/**\n * ") and re.search(r"^ *return \S", seed, re.MULTILINE)
    (name,) = defined(seed)
    assert sandbox.submit(Program(seed, f"assert({name}.length > 0)")).result().passed


def test_tests_use_what_the_instruction_names_and_what_the_response_defines(example):
    names = defined(block(example["response"]))
    assert names == defined(example["broken"]) and not names & defined(example["seed"])
    for name in names:
        assert re.search(rf"`{name}\b", example["instruction"]) and re.search(rf"\b{name}\(", block(example["tests"]))


def test_nothing_is_of_humaneval(example):
    names = {name.lower() for part in PARTS for name in defined(example[part])}
    assert not names & {name.replace("_", "").lower() for name in HUMANEVAL_NAMES}
    assert not word_ngrams(example["instruction"]) & HUMANEVAL_NGRAMS


def test_tasks_are_those_of_the_plain_examples():
    def kinds(examples):
        return [(one["name"], one["category"], one["difficulty"]) for one in examples]

    assert kinds(EXAMPLES) == kinds(PLAIN)
    assert len(Counter((category, difficulty) for _, category, difficulty in kinds(EXAMPLES))) == 9
