"""CanItEdit: programs to change in the published layout, with content of our own, judged in the sandbox."""

import pytest

from selfalign.benchmarks import load_benchmark
from tests.benchmarks.tools import in_markdown, problems_of

CANITEDIT = load_benchmark("canitedit")


ROWS = [
    {
        "full_name": "3_mean",
        "before": "def mean(values):\n    return sum(values) // len(values)\n",
        "after": "def mean(values):\n    return sum(values) / len(values)\n",
        "tests": "### START TESTS ###\nif True:  # pragma: no cover\n    assert mean([1, 2]) == 1.5\n",
        "instruction_descriptive": "The function `mean` rounds its result down. Make it return the exact mean.",
        "instruction_lazy": "Fix mean.",
        "taxonomy": {"change_kind": "corrective"},
    },
    {
        "full_name": "4_powers",
        "before": "def powers(n):\n    return [2 ** k for k in range(n)]\n",
        "after": "def powers(n):\n    for k in range(n):\n        yield 2 ** k\n",
        "tests": "### START TESTS ###\nif True:  # pragma: no cover\n    assert not isinstance(powers(3), list)\n"
        "    assert list(powers(3)) == [1, 2, 4]\n",
        "instruction_descriptive": "Make `powers` a generator, so that it holds one number at a time.",
        "instruction_lazy": "Save memory.",
        "taxonomy": {"change_kind": "perfective"},
    },
]


@pytest.fixture
def problems(tmp_path):
    return problems_of(tmp_path, "canitedit", *ROWS)[1]


def test_each_program_is_two_tasks_with_the_ids_of_published_results(problems):
    assert [(problem.task_id, problem.prompt) for problem in problems[:2]] == [
        ("3_mean_instruction_descriptive", ROWS[0]["instruction_descriptive"]),
        ("3_mean_instruction_lazy", "Fix mean."),
    ]
    assert len(problems) == 4


@pytest.mark.parametrize("style", ["completion", "chat", "solution"])
def test_the_programs_after_the_change_pass_and_those_before_it_do_not(outcomes, problems, style):
    codes = [p.canonical_solution for p in problems] + [p.extra["before"] for p in problems]
    answers = [in_markdown(code) if style == "chat" else code for code in codes]
    results = outcomes(CANITEDIT, *zip(problems * 2, answers, [style] * 8, strict=True))
    assert [outcome == "passed" for outcome in results] == [True] * 4 + [False] * 4


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("I've changed the division (see below).\n\nThe program:\n{}", "passed"),
        ("```diff\n- //\n+ /\n```\n\n```python\n{}```", "syntax_error"),  # the first block counts
    ],
)
def test_code_is_found_as_by_the_benchmarks_own_script(outcomes, problems, answer, outcome):
    answer = answer.replace("{}", problems[0].canonical_solution)
    assert outcomes(CANITEDIT, (problems[0], answer, "chat")) == [outcome]


def test_prompts_show_the_program_and_the_change_but_no_solution_and_no_tests(problems):
    for problem in problems:
        for prompt in (CANITEDIT.completion_prompt(problem), CANITEDIT.chat_prompt(problem)):
            assert problem.prompt in prompt and problem.extra["before"].strip() in prompt
            assert problem.canonical_solution.strip() not in prompt and "assert" not in prompt


def test_scores_are_by_kind_of_change(problems):
    rows = [{"task_id": p.task_id, "passed": p.task_id == "3_mean_instruction_lazy"} for p in problems]
    scores = CANITEDIT.scores(rows, {problem.task_id: problem for problem in problems})
    assert scores == {"corrective": 0.5, "perfective": 0.0}
