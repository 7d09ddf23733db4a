"""execute.py as a command: real programs, in the real sandbox."""

import pytest
from helpers import load_script, read_rows, run_json, run_well, write_rows


def sample(id, code, tests="assert f(2) == 3"):
    return {
        "id": id,
        "response": f"Words.\n\n```python\n{code}\n```",
        "tests": f"```python\n{tests}\n```",
        "error": None,
    }


SAMPLES = [
    sample("passed", "def f(x):\n    return x + 1"),
    sample("failed", "def f(x):\n    return x"),
    sample("error", "def f(x):\n    return y"),
    sample("syntax_error", "def f(x)\n    return x"),
    sample("cpu_limit", "def f(x):\n    while True: pass"),
    sample("no_tests", "def f(x):\n    return x", "f(2)"),
    {"id": "unfinished", "response": None, "tests": None, "error": "unfinished"},
]


@pytest.fixture(scope="module")
def executions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("execute")
    run_well("execute", write_rows(folder / "in.jsonl", SAMPLES), folder / "out", "--timeout", "1")
    return folder / "out"


def test_each_sample_ends_as_it_should(executions):
    rows = read_rows(executions)
    assert [(row["id"], row["outcome"]) for row in rows] == [(row["id"], row["id"]) for row in rows]
    assert [row["id"] for row in rows if row["passed"]] == ["passed"]


def test_the_reason_is_kept(executions):
    details = {row["id"]: row["detail"] for row in read_rows(executions)}
    assert "name 'y' is not defined" in details["error"] and details["passed"] is None


def test_what_had_an_error_before_is_counted(executions):
    assert run_json(executions)["counts"]["unfinished"] == 1


def test_the_program_is_code_and_tests(executions):
    program = next(row["program"] for row in read_rows(executions) if row["id"] == "passed")
    assert program == "def f(x):\n    return x + 1\n\n\nassert f(2) == 3\n"


def test_all_python_blocks_of_a_response_run():
    response = "```python\nimport math\n```\nand\n```python\nx = math.pi\n```\n```\noutput\n```"
    code, _ = load_script("execute").program_of(response, "")
    assert code == "import math\n\nx = math.pi\n"
