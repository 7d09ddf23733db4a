"""DS-1000: questions in the published layout (simplified format), with content of our own, judged in the sandbox."""

import pytest

from selfalign.benchmarks import load_benchmark
from tests.benchmarks.tools import in_markdown, problems_of

DS1000 = load_benchmark("ds1000")

# What runs a solution, as in the published contexts; of one question, the solution has to use a function by its name.
CONTEXT = '''
import copy
import {library} as lib
import numpy as np
import tokenize, io


def generate_test_case(test_case_id):
    def define_test_input(test_case_id):
        if test_case_id == 1:
            data = {first}
        if test_case_id == 2:
            data = {second}
        return data

    def generate_ans(data):
        {expected}
        return result

    test_input = define_test_input(test_case_id)
    expected_result = generate_ans(copy.deepcopy(test_input))
    return test_input, expected_result


def exec_test(result, ans):
    try:
        {comparison}
        return 1
    except:
        return 0


exec_context = r"""
{inserted}
"""


def test_execution(solution: str):
    code = exec_context.replace("[insert]", solution)
    for i in range(2):
        test_input, expected_result = generate_test_case(i + 1)
        test_env = {{"test_input": test_input}}
        exec(code, test_env)
        assert exec_test(test_env["result"], expected_result)
'''
USES_WHERE = """

def test_string(solution: str):
    tokens = []
    for token in tokenize.tokenize(io.BytesIO(solution.encode("utf-8")).readline):
        tokens.append(token.string)
    assert "where" in tokens
"""


def row(number, library, prompt, solution, context):
    return {
        "prompt": prompt,
        "reference_code": solution,
        "metadata": {"problem_id": number, "library": library},
        "code_context": context,
    }


PANDAS = row(
    0,
    "Pandas",
    "Problem:\nI have prices in a column and want them doubled in a new one, `twice`.\n\nA:\n<code>\n"
    "import pandas as pd\ndf = pd.DataFrame({'price': [1, 2]})\n</code>\n"
    "df = ... # put solution in this variable\nBEGIN SOLUTION\n<code>\n",
    "df['twice'] = 2 * df['price']",
    CONTEXT.format(
        library="pandas",
        first="lib.DataFrame({'price': [1, 2]})",
        second="lib.DataFrame({'price': [-3, 0]})",
        expected="result = data.assign(twice=2 * data['price'])",
        comparison="lib.testing.assert_frame_equal(result, ans, check_dtype=False)",
        inserted="import pandas as pd\ndf = test_input\n[insert]\nresult = df",
    ),
)
# The solution is the end of a function's body: it has to be indented.
NUMPY = row(
    1,
    "Numpy",
    "Problem:\nWhich positions hold a zero? Use numpy.\n\nA:\n<code>\nimport numpy as np\ndef f(a):\n"
    "    # return the solution in this function\n    ### BEGIN SOLUTION",
    "\n    return np.where(a == 0)[0]",
    CONTEXT.format(
        library="numpy",
        first="lib.array([1, 0, 0])",
        second="lib.array([5])",
        expected="result = lib.flatnonzero(data == 0)",
        comparison="np.testing.assert_array_equal(result, ans)",
        inserted="import numpy as np\na = test_input\ndef f(a):\n[insert]\nresult = f(a)",
    )
    + USES_WHERE,
)
PYTORCH = row(
    2,
    "Pytorch",
    "Problem:\nTurn a tensor into an array.\n\nA:\n<code>\nimport torch\na = ...\n</code>\nresult = ...\n"
    "BEGIN SOLUTION\n<code>\n",
    "result = a.numpy()",
    CONTEXT.format(
        library="torch",
        first="lib.ones(3)",
        second="lib.zeros(2, 2)",
        expected="result = data.numpy()",
        comparison="assert type(result) is np.ndarray\n        np.testing.assert_array_equal(result, ans)",
        inserted="import torch\na = test_input\n[insert]",
    ),
)


@pytest.fixture
def problems(tmp_path):
    return problems_of(tmp_path, "ds1000", PANDAS, NUMPY, PYTORCH)[1]


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


def test_what_follows_the_end_of_a_solution_is_left_out(outcomes, problems):
    published = "df['twice'] = 2 * df['price']\n</code>\nEND SOLUTION\n\nProblem:\nAnother one"
    tags = "<code>\ndf['twice'] = 2 * df['price']\n</code>"
    assert outcomes(DS1000, (problems[0], published, "solution"), (problems[0], tags, "chat")) == ["passed"] * 2


@pytest.mark.parametrize(
    "number, answer, outcome",
    [
        (0, "df['twice'] = df['price']", "failed"),
        (0, "df['twice'] = 2 * df['prize']", "error"),
        (0, "df['twice'] = = 2", "error"),
        (1, "\n    return np.flatnonzero(a == 0)", "failed"),  # right, but not with what was asked for
        (1, "\n    return np.where(a == 1)[0]", "failed"),
        (1, "return np.where(a == 0)[0]", "error"),  # not indented
    ],
)
def test_other_solutions_do_not(outcomes, problems, number, answer, outcome):
    assert outcomes(DS1000, (problems[number], answer, "completion")) == [outcome]


def test_prompts_are_the_published_questions_without_their_solutions(problems):
    for problem in problems:
        assert DS1000.completion_prompt(problem) == problem.prompt
        assert problem.prompt in DS1000.chat_prompt(problem)
        assert problem.canonical_solution.strip() not in DS1000.chat_prompt(problem)


def test_scores_are_by_library(problems):
    rows = [{"task_id": t, "passed": passed} for t, passed in [("0", True), ("0", False), ("1", True), ("2", False)]]
    scores = DS1000.scores(rows, {problem.task_id: problem for problem in problems})
    assert scores == {"Pandas": 0.5, "Numpy": 1.0, "Pytorch": 0.0}
