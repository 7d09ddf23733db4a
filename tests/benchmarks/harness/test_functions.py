"""Benchmarks of single functions: what of an answer is run."""

import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.harness.functions import FunctionBenchmark, code_defining, needed_code, without_sentences

HUMANEVAL = load_benchmark("humaneval")
PROBLEMS = HUMANEVAL.problems()
FIRST = PROBLEMS[0]
HELPED = "import math\nN = 2\ndef help(x):\n    return x * N\ndef f(x):\n    return help(x)\n"
DECORATED = "import functools\n@functools.cache\ndef f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        pytest.param("def f(x):\n    return x\n\ndef g(", "def f(x):\n    return x\n", id="the token limit cut it off"),
        pytest.param(f"M = 3\n{HELPED}assert f(1) == 7\n", HELPED, id="only what the function needs"),
        pytest.param(DECORATED, DECORATED, id="a decorator stays"),
        pytest.param("I can't do that.", "I can't do that.", id="no code stays as it is"),
        pytest.param("def g(x):\n    return x\n", "def g(x):\n    return x\n", id="so does another function"),
    ],
)
def test_what_is_kept_of_code(code, kept):
    assert needed_code(code, "f") == kept


@pytest.mark.parametrize(
    ("answer", "begins"),
    [
        ("First:\n```bash\npip install x\n```\nThen:\n```python\ndef f(x): return x\n```", "def f(x): return x\n"),
        (f"{FunctionBenchmark.chat_prefix}```python\nimport math\n\n\ndef f(x):\n    return x", "import math\n"),
        ("Sure, here it is:\n\nimport math\n\n\ndef f(x):\n    return x", "import math\n"),
        ("# mod\nM = 7\n\ndef f(x): return x % M", "# mod\nM = 7\n"),
        ("```\ndef factorial(n): return 1\n```\nThen:\n```\ndef f(x): return x\n```", "def f(x): return x\n"),
    ],
)
def test_code_begins_where_the_answer_turns_to_python(answer, begins):
    assert code_defining("f", answer).startswith(begins)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("Sure! Here's the code.\n\nIt is short (see below:\nx = 1\n", "x = 1\n"),
        ("In the function:\n    return x\n", "    return x\n"),
        ("x = 1\ny = = 2\n", "x = 1\ny = = 2\n"),
        ("I can't do that.", "I can't do that."),
        ("\ud800:\n", "\ud800:\n"),
    ],
)
def test_sentences_before_the_code_are_left_out(answer, code):
    assert without_sentences(answer) == code


@pytest.mark.parametrize(
    ("answer", "style"),
    [
        pytest.param(
            f"```python\nfrom __future__ import annotations\n\n{FIRST.prompt}{FIRST.canonical_solution}\n```",
            "chat",
            id="future imports come first",
        ),
        pytest.param(FIRST.canonical_solution.replace("    ", "\t"), "completion", id="tabs go with spaces"),
    ],
)
def test_a_right_answer_passes(outcomes, answer, style):
    assert outcomes(HUMANEVAL, (FIRST, answer, style)) == ["passed"]


def test_a_comment_at_the_margin_does_not_end_a_body():
    body = FIRST.canonical_solution.replace("    return False", "#    print(numbers)\n    return False")
    assert body != FIRST.canonical_solution
    assert not [stop for stop in HUMANEVAL.completion_stop if stop in body]


def test_a_solution_is_run_as_it_stands():
    assert HUMANEVAL.program(FIRST, "print(1)", "solution").code == "print(1)"


@pytest.mark.parametrize("style", ["completion", "chat"])
def test_all_canonical_solutions_of_humaneval_pass(style, outcomes):
    answers = [
        p.canonical_solution if style == "completion" else HUMANEVAL.chat_prefix + p.prompt + p.canonical_solution
        for p in PROBLEMS
    ]
    cases = [(problem, answer, style) for problem, answer in zip(PROBLEMS, answers, strict=True)]
    assert len(cases) == 164 and set(outcomes(HUMANEVAL, *cases)) == {"passed"}


def test_an_empty_answer_never_passes(outcomes):
    cases = [(problem, "\n    pass\n", "completion") for problem in PROBLEMS[:40]]
    assert "passed" not in outcomes(HUMANEVAL, *cases)


def test_prompts_hold_no_solution():
    for problem in PROBLEMS:
        assert problem.canonical_solution.strip() not in HUMANEVAL.completion_prompt(problem)
        assert problem.canonical_solution.strip() not in HUMANEVAL.chat_prompt(problem)
