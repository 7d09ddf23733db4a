"""DS-1000: questions in the published layout (simplified format), with content of our own, judged in the sandbox."""

import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.ds1000 import question_and_beginning
from tests.benchmarks.tools import in_markdown, problems_of

DS1000 = load_benchmark("ds1000")

# What runs a solution, as in the published contexts; one question asks for a function by its name.
CONTEXT = '''
import {module} as lib
import numpy as np
import tokenize, io

exec_context = r"""
{inserted}
"""


def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for data in ({first}, {second}):
        names = {{"test_input": data}}
        exec(code, names)
        result = names["result"]
        {comparison}
'''
USES_WHERE = """

def test_string(solution: str):
    tokens = [token.string for token in tokenize.tokenize(io.BytesIO(solution.encode("utf-8")).readline)]
    assert "where" in tokens
"""


def row(number, library, prompt, solution, more="", **context):
    """A question; `context` is what CONTEXT leaves open, and `more` follows it."""
    return {
        "prompt": prompt,
        "reference_code": solution,
        "metadata": {"problem_id": number, "library": library},
        "code_context": CONTEXT.format(**context) + more,
    }


ROWS = [
    row(
        *(0, "Pandas"),
        "Problem:\nI have prices in a column and want them doubled in a new one, `twice`.\n\nA:\n<code>\n"
        "import pandas as pd\ndf = pd.DataFrame({'price': [1, 2]})\n</code>\n"
        "df = ... # put solution in this variable\nBEGIN SOLUTION\n<code>\n",
        "df['twice'] = 2 * df['price']",
        module="pandas",
        first="lib.DataFrame({'price': [1, 2]})",
        second="lib.DataFrame({'price': [-3, 0]})",
        comparison="assert list(result['twice']) == list(2 * data['price'])",
        inserted="import pandas as pd\ndf = test_input\n[insert]\nresult = df",
    ),
    row(  # the solution is the end of a function's body: it has to be indented
        *(1, "Numpy"),
        "Problem:\nWhich positions hold a zero? Use numpy.\n\nA:\n<code>\nimport numpy as np\ndef f(a):\n"
        "    # return the solution in this function\n    ### BEGIN SOLUTION",
        "\n    return np.where(a == 0)[0]",
        USES_WHERE,
        module="numpy",
        first="lib.array([1, 0, 0])",
        second="lib.array([5])",
        comparison="np.testing.assert_array_equal(result, lib.flatnonzero(data == 0))",
        inserted="import numpy as np\na = test_input\ndef f(a):\n[insert]\nresult = f(a)",
    ),
    row(
        *(2, "Pytorch"),
        "Problem:\nTurn a tensor into an array.\n\nA:\n<code>\nimport torch\na = ...\n</code>\nresult = ...\n"
        "BEGIN SOLUTION\n<code>\n",
        "result = a.numpy()",
        module="torch",
        first="lib.ones(3)",
        second="lib.zeros(2, 2)",
        comparison="assert type(result) is np.ndarray and (result == data.numpy()).all()",
        inserted="import torch\na = test_input\n[insert]",
    ),
]


@pytest.fixture
def problems(tmp_path):
    return problems_of(tmp_path, "ds1000", *ROWS)[1]


@pytest.mark.parametrize("style", ["completion", "chat", "solution"])
def test_reference_solutions_pass(outcomes, problems, style):
    answers = [p.canonical_solution for p in problems[:2]]
    if style == "chat":
        answers = [in_markdown(answer) for answer in answers]
    assert outcomes(DS1000, *zip(problems, answers, [style] * 2, strict=False)) == ["passed"] * 2


@pytest.mark.slow  # programs import torch
def test_programs_can_use_torch(outcomes, problems):
    cases = [(problems[2], answer, "solution") for answer in ("result = a.numpy()", "result = a")]
    assert outcomes(DS1000, *cases) == ["passed", "failed"]


@pytest.mark.parametrize(
    "number, answer, style, outcome",
    [
        # What follows the end of a solution is left out, and so are the question's tags.
        (0, "df['twice'] = 2 * df['price']\n</code>\nEND SOLUTION\n\nProblem:\nAnother", "solution", "passed"),
        (
            0,
            "df['twice'] = 2 * df['price']\n</code>\n\nProblem:\nAnother\n\nA:\n<code>\nx = 1\n",
            "completion",
            "passed",
        ),
        (0, "<code>\ndf['twice'] = 2 * df['price']\n</code>", "chat", "passed"),
        (0, "It doubles the prices:\n\ndf['twice'] = 2 * df['price']", "chat", "passed"),
        (0, "```python\ndf['twice'] = 2 * df['price']\n```\nThat's it.", "solution", "passed"),
        (1, "Here's the end of the function:\n    return np.where(a == 0)[0]", "chat", "passed"),
        (0, "df['twice'] = df['price']", "completion", "failed"),
        (0, "df['twice'] = 2 * df['prize']", "completion", "error"),
        (0, "df['twice'] = = 2", "completion", "error"),
        (1, "\n    return np.flatnonzero(a == 0)", "completion", "failed"),  # right, but not with what was asked for
        (1, "\n    return np.where(a == 1)[0]", "completion", "failed"),
        (1, "return np.where(a == 0)[0]", "completion", "error"),  # not indented
    ],
)
def test_verdicts(outcomes, problems, number, answer, style, outcome):
    assert outcomes(DS1000, (problems[number], answer, style)) == [outcome]


def test_prompts_are_the_published_questions_without_their_solutions(problems):
    for problem in problems:
        assert DS1000.completion_prompt(problem) == problem.prompt
        assert problem.prompt in DS1000.chat_prompt(problem)
        assert problem.canonical_solution.strip() not in DS1000.chat_prompt(problem)


def test_scores_are_by_library(problems):
    rows = [{"task_id": t, "passed": passed} for t, passed in [("0", True), ("0", False), ("1", True), ("2", False)]]
    scores = DS1000.scores(rows, {problem.task_id: problem for problem in problems})
    assert scores == {"Pandas": 0.5, "Numpy": 1.0, "Pytorch": 0.0}


def test_a_library_of_which_no_problem_was_done_has_no_score(problems):
    assert DS1000.scores([{"task_id": "1", "passed": True}], {p.task_id: p for p in problems}) == {"Numpy": 1.0}


@pytest.mark.parametrize(
    ("prompt", "question", "beginning"),
    [
        pytest.param(
            ROWS[0]["prompt"],
            "I have prices in a column and want them doubled in a new one, `twice`.",
            "```python\nimport pandas as pd\ndf = pd.DataFrame({'price': [1, 2]})\n"
            "# df = ... # put solution in this variable\n# Solution\n",
            id="what is said behind the code becomes a comment",
        ),
        pytest.param(
            "Problem:\nHow?\nA:\n<code>\ndef f(a):\n    # return the solution in this function\n    # b = f(a)\n"
            "    ### BEGIN SOLUTION",
            "How?",
            "```python\ndef f(a):\n    # Solution\n",
            id="a function loses its two comments",
        ),
        pytest.param(
            "x = 1\n# Plot x\n# SOLUTION START\n",
            "Write a solution to the following problem:\n```python\nx = 1\n# Plot x\n```",
            "```python\nx = 1\n# Plot x\n# Solution\n",
            id="a question that is nothing but code",
        ),
    ],
)
def test_the_reference_begins_the_answer_with_the_code_of_the_question(prompt, question, beginning):
    assert question_and_beginning(prompt) == (question, beginning)


def test_an_answer_that_was_begun_is_what_follows_the_beginning(outcomes, problems):
    benchmark = load_benchmark("ds1000")
    benchmark.ask_as_the_reference()
    answers = [
        benchmark.beginning(problems[0]) + code for code in ("df['twice'] = 2 * df['price']\n```\nSo.", "df = 1")
    ]
    assert outcomes(benchmark, *((problems[0], answer, "chat") for answer in answers)) == ["passed", "error"]
