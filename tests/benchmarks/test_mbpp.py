"""MBPP: the published layout, with content of our own."""

from types import SimpleNamespace

import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.harness import selection
from tests.benchmarks.tools import problems_of
from tests.helpers import write_rows

TREE = {
    "task_id": 367,
    "text": "Write a function to tell whether a node has no child.",
    "code": "class Node:\r\n  child = None\r\ndef is_leaf(node):\r\n  return node.child is None",
    "test_setup_code": "root = Node()",
    "test_list": ["assert is_leaf(root)"],
}
TABS = "class Node:\n    child = None\n\ndef is_leaf(node):\n    if node:\n\t\treturn node.child is None"


def test_a_file_with_another_set_of_problems_is_said(tmp_path, capsys):
    file = str(write_rows(tmp_path / "mbpp.jsonl", [TREE]))
    choice = SimpleNamespace(benchmark="mbpp-sanitized", data=file, start_date=None, end_date=None)
    assert len(selection.problems_of(load_benchmark("mbpp-sanitized"), file, choice)) == 1
    assert "has 1 problems of mbpp-sanitized, which was published with 257" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "style"),
    [
        pytest.param(TREE["code"], "solution", id="the setup uses the code"),
        pytest.param(TREE["code"], "completion", id="so it does in what is kept of a completion"),
        pytest.param(f"```python\n{TREE['code']}", "completion", id="a completion may open a code block"),
        pytest.param(TABS, "completion", id="tabs go with spaces"),
    ],
)
def test_a_right_answer_passes(tmp_path, outcomes, answer, style):
    benchmark, (problem,) = problems_of(tmp_path, "mbpp", TREE)
    assert (problem.task_id, problem.entry_point) == ("Mbpp/367", "is_leaf")
    assert outcomes(benchmark, (problem, answer, style)) == ["passed"]


def test_the_model_sees_the_text_and_the_first_test(tmp_path):
    row = TREE | {"test_list": ["assert is_leaf(root)", "assert hidden"]}
    benchmark, (problem,) = problems_of(tmp_path, "mbpp", row)
    for prompt in (benchmark.completion_prompt(problem), benchmark.chat_prompt(problem)):
        assert "has no child." in prompt and "assert is_leaf(root)" in prompt and "hidden" not in prompt


def test_results_are_of_the_test_split(tmp_path):
    rows = [TREE | {"task_id": n} for n in (1, 11, 510, 511)]
    assert [p.task_id for p in problems_of(tmp_path, "mbpp", *rows)[1]] == ["Mbpp/11", "Mbpp/510"]
    assert len(problems_of(tmp_path, "mbpp-full", *rows)[1]) == 4
