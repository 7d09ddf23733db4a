"""select.py --strategy consensus, as a command: right solutions are kept though their own tests are wrong."""

import pytest

from tests.helpers import read_rows, run, run_json, run_well, write_rows

TASKS = {
    "triple": ("number", ["number * 3", "number + number + number", "3 * number", "number ** 3"]),
    "last_word": ("text", ["text.split()[-1]", "text.rsplit(None, 1)[-1]", "text", "text[::-1]"]),
    "noise": ("number", ["number + 1", "number + 2", "number + 3", "number + 4"]),
}
INPUTS = {"triple": ["2", "5", "-1"], "last_word": ["'a b'", "'one two three'", "'c d e f'"], "noise": ["1", "2", "3"]}


def rows():
    """Four samples of each task; the tests of all state wrong outputs, so that none passes."""
    for task, (argument, bodies) in TASKS.items():
        tests = "\n".join(f"assert {task}({value}) == 'wrong'" for value in INPUTS[task])
        for number, body in enumerate(bodies):
            yield {
                "id": f"{task}{number}",
                "task_id": task,
                "instruction": f"Write a function {task}({argument}) as the name says, for the task {task}.",
                "response": f"Here it is.\n\n```python\ndef {task}({argument}):\n    return {body}\n```",
                "tests": f"```python\n{tests}\n```",
                "passed": False,
                "outcome": "failed",
                "detail": "AssertionError",
                "license": "MIT",
            }


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("consensus")
    executions = write_rows(folder / "executions.jsonl", list(rows()))
    run_well("select", executions, folder / "out", "--strategy", "consensus", "--skip", "near_instruction")
    return folder


def test_what_most_samples_do_is_kept(selected):
    kept = {row["task_id"]: row for row in read_rows(selected / "out")}
    assert kept.keys() == {"triple", "last_word"}, "the samples of `noise` do not agree"
    assert kept["triple"]["id"] in {"triple0", "triple1", "triple2"}
    assert kept["last_word"]["id"] in {"last_word0", "last_word1"}


def test_the_tests_state_what_was_agreed_on(selected):
    tests = {row["task_id"]: row["tests"] for row in read_rows(selected / "out")}
    assert tests["triple"] == "```python\nassert triple(2) == 6\nassert triple(5) == 15\nassert triple(-1) == -3\n```"
    assert "assert last_word('one two three') == 'three'" in tests["last_word"]


def test_how_its_own_tests_ended_is_not_said_of_a_row_with_other_tests(selected):
    assert {(row["passed"], row["detail"]) for row in read_rows(selected / "out")} == {(True, None)}


def test_the_funnel_and_the_preferences_know_who_disagreed(selected):
    run = run_json(selected / "out")
    assert run["counts"]["not_agreed_on"] == 7 and run_json(selected / "out-consensus")["counts"]["no_consensus"] == 4


def test_the_same_command_does_nothing_again(selected):
    before = {path: path.stat().st_mtime_ns for path in selected.rglob("*.parquet")}
    executions = selected / "executions.jsonl"
    run_well("select", executions, selected / "out", "--strategy", "consensus", "--skip", "near_instruction")
    assert {path: path.stat().st_mtime_ns for path in selected.rglob("*.parquet")} == before


def test_a_mutation_score_of_other_tests_is_not_asked_for(tmp_path):
    executions = write_rows(tmp_path / "executions.jsonl", [row | {"mutation_score": 1.0} for row in rows()])
    options = ("--strategy", "consensus", "--min-mutation-score", "0.5")
    result = run("select", executions, tmp_path / "out", *options)
    assert result.returncode == 2 and "--min-mutation-score" in result.stderr


def test_assertions_of_others_count_if_asked_for(tmp_path):
    """Most samples double instead of tripling, and most suites claim what the others compute."""
    bodies = ["number * 2", "number + number", "2 * number", "number * 3", "3 * number"]
    samples = [row for row in rows() if row["task_id"] == "triple"]
    asserted = "```python\nassert triple(2) == 6\nassert triple(5) == 15\n```"
    for number, body in enumerate(bodies):
        code = f"```python\ndef triple(number):\n    return {body}\n```"
        samples.append(samples[0] | {"id": f"s{number}", "response": code, "tests": asserted})
    executions = write_rows(tmp_path / "executions.jsonl", samples[4:])
    run_well("select", executions, tmp_path / "out", "--strategy", "consensus")
    (kept,) = read_rows(tmp_path / "out")
    assert kept["id"] in {"s0", "s1", "s2"}
    options = ("--strategy", "consensus", "--support", "outputs-and-assertions", "--min-support", "0.6")
    run_well("select", executions, tmp_path / "with", *options)
    (kept,) = read_rows(tmp_path / "with")
    assert kept["id"] in {"s3", "s4"} and kept["support"] == (1 / 4 + 1) / 2
    refused = run("select", executions, tmp_path / "out", *options[:4])
    assert refused.returncode == 2 and "support" in refused.stderr, "another rule is another run"


def test_support_is_refused_where_nothing_asks_for_it(tmp_path):
    executions = write_rows(tmp_path / "executions.jsonl", list(rows()))
    result = run("select", executions, tmp_path / "out", "--support", "outputs-and-assertions")
    assert result.returncode == 2 and "--min-support" in result.stderr
