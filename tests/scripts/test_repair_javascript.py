"""repair.py for JavaScript: what the model is asked, what it is told of a failure, and what becomes of its answers."""

import pytest
import yaml

from code_eval.sandbox import Program, Sandbox
from selfalign.code.javascript_feedback import feedback_of, telling
from selfalign.code.markdown import javascript_code
from selfalign.options import PROMPTS
from tests.fakes.server import simulated
from tests.helpers import load_script, read_rows, write_rows
from tests.scripts.test_repair import answering

EXAMPLES = yaml.safe_load((PROMPTS / "javascript" / "repairs.yaml").read_text())
TESTS = "assert.strictEqual(double(3), 6);\nassert.strictEqual(double(5), 10);"


def block(code):
    return f"```javascript\n{code}\n```"


def step(name, source, output, **options):
    script = load_script(name)
    script.main(script.Options(input=str(source), output=str(output), **options))


def test_a_failure_becomes_a_conversation(tmp_path):
    row = {
        "id": "a",
        "task_id": "t",
        "instruction": "Write `double`.",
        "response": block("const double = (x) => x + 3;"),
        "tests": block(TESTS),
        "language": "javascript",
        "passed": False,
        "outcome": "failed",
        "detail": "AssertionError",
        "error": None,
    }
    source = write_rows(tmp_path / "in.jsonl", [row])
    right, cheat = "const double = (x) => x + x;", "const double = (x) => [6, 10][[3, 5].indexOf(x)];"
    with simulated(answering([f"It has to add.\n\n{block(right)}", f"These.\n\n{block(cheat)}"])) as server:
        step("repair", source, tmp_path / "repairs", endpoint=(server.url,), sandboxes=1)
        asked = [body["inputs"] for body in server.bodies if "## Example" in body["inputs"]]
    assert all("`assert.strictEqual(double(5), 10)` fails: its first value is 8" in text for text in asked)
    assert not [text for text in asked if "ython" in text]
    assert sorted(str(one["error"]) for one in read_rows(tmp_path / "repairs")) == ["None", "hard_coded"]
    step("execute", tmp_path / "repairs", tmp_path / "mended", sandboxes=1, mutants=0)
    step("select", tmp_path / "mended", tmp_path / "chosen", decontaminate=(), report=False)
    (kept,) = read_rows(tmp_path / "chosen")
    assert kept["messages"][3]["content"] == f"It has to add.\n\n{block(right)}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["instruction"].split("`")[1])
def test_a_worked_example_says_what_its_tests_say(example):
    """Its attempt fails with exactly this feedback, and what it is mended to passes."""
    tests = javascript_code(example["tests"])
    with Sandbox(workers=1, language="javascript") as sandbox:
        programs = [Program(javascript_code(example["attempt"]), telling(tests), timeout=0.5)]
        failing, passing = sandbox.run([*programs, Program(javascript_code(example["response"]), tests)])
    said = feedback_of(failing.outcome, failing.detail).replace("more than 0.5 s", "more than 10 s")
    assert said == example["feedback"] and passing.passed
