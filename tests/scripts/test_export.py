"""export.py: what each format gets, what is refused, and that a folder is there as a whole or not at all.

The round trips through verifiers and Harbor, which the project does not depend on, were run by hand (docs/export.md).
"""

import json
import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import yaml

from selfalign.errors import UserError
from tests.data.tools import block
from tests.helpers import load_script, read_rows, run_json, write_rows

CODE, TESTS = "def f(x):\n    return 'it''s' if x else \"$HOME \\n\"", "assert f(1)"
FORMATS = ("trl-sft", "trl-grpo", "verifiers", "harbor", "openai", "axolotl", "llama-factory")


def row(number, **columns):
    """An instruction as select.py writes it."""
    response = f"Nr. {number}:\n\n{block(CODE)}"
    asked = f"Write f, {number} ‘ü’."
    messages = [{"role": "user", "content": asked + " Show it."}, {"role": "assistant", "content": response}]
    task = {"id": f"id{number}", "task_id": f"task{number}", "instruction": asked, "response": response}
    return task | {"tests": block(TESTS), "passed": True, "messages": messages} | columns


def pair(number):
    answers = {name: [{"role": "assistant", "content": f"{name} {number}"}] for name in ("chosen", "rejected")}
    return {"id": f"id{number}", "prompt": [{"role": "user", "content": "Q"}], **answers}


def export(folder, to, rows, output="out", **options):
    script = load_script("export")
    source = write_rows(folder / "rows.jsonl", rows)
    script.main(script.Options(input=str(source), output=str(folder / output), to=to, **options))
    return folder / output


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


ROWS = [row(number) for number in range(3)]
CHATS = [each["messages"] for each in ROWS]


def test_trl_gets_prompt_and_completion(tmp_path):
    rows = read_rows(export(tmp_path, "trl-sft", ROWS))
    assert [each["prompt"] + each["completion"] for each in rows] == CHATS
    assert run_json(tmp_path / "out")["complete"]


def test_a_dataset_without_chats_becomes_chats(tmp_path):
    rows = [{name: each[name] for name in ("id", "instruction", "response")} for each in ROWS]
    found = read_rows(export(tmp_path, "trl-sft", rows))[0]
    assert found["prompt"] == [{"role": "user", "content": rows[0]["instruction"]}]


def test_trl_gets_preferences(tmp_path):
    assert read_rows(export(tmp_path, "trl-dpo", [pair(0), pair(1)])) == [pair(0), pair(1)]


def test_the_reward_reads_the_tests_of_a_prompt(tmp_path):
    rows = read_rows(export(tmp_path, "trl-grpo", ROWS))
    assert {each["tests"].strip() for each in rows} == {TESTS}
    assert [each["prompt"] for each in rows] == [chat[:1] for chat in CHATS]


@pytest.mark.parametrize("to", ["openai", "axolotl", "llama-factory"])
def test_files_hold_the_chats_in_order(tmp_path, to):
    out = export(tmp_path, to, ROWS)
    assert [each["messages"] for each in lines(out / "train.jsonl")] == CHATS
    ids = (
        (out / "ids.txt").read_text().split() if to == "openai" else [each["id"] for each in lines(out / "train.jsonl")]
    )
    assert ids == ["id0", "id1", "id2"]
    assert json.loads((out / "source.json").read_text())["rows"] == 3


def test_only_the_last_answer_of_a_chat_is_learnt(tmp_path):
    """The earlier ones of a repair failed."""
    said = ["Q", "wrong", "It fails.", "right"]
    messages = [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, said, strict=True)]
    rows = [row(0, messages=messages), row(1)]
    for to, mark in {"openai": {"weight": 0}, "axolotl": {"train": False}, "llama-factory": {}}.items():
        found, single = (each["messages"] for each in lines(export(tmp_path, to, rows, to) / "train.jsonl"))
        assert found == [messages[0], messages[1] | mark, *messages[2:]] and single == CHATS[1]
    (data,) = yaml.safe_load((tmp_path / "axolotl" / "axolotl.yaml").read_text())["datasets"]
    assert data["message_field_training"] == "train"
    assert yaml.safe_load((tmp_path / "llama-factory" / "llama_factory.yaml").read_text())["mask_history"]


def test_configurations_name_the_file_and_its_columns(tmp_path):
    (data,) = yaml.safe_load((export(tmp_path, "axolotl", ROWS) / "axolotl.yaml").read_text())["datasets"]
    assert (data["path"], data["type"], data["field_messages"]) == ("train.jsonl", "chat_template", "messages")
    about = json.loads((export(tmp_path, "llama-factory", ROWS, "lf") / "dataset_info.json").read_text())["selfalign"]
    assert about["file_name"] == "train.jsonl" and about["columns"] == {"messages": "messages"}


def test_preferences_go_where_they_are_known(tmp_path):
    out = export(tmp_path, "openai", [pair(0)], "openai")
    assert lines(out / "train.jsonl")[0]["preferred_output"] == pair(0)["chosen"]
    config = yaml.safe_load((export(tmp_path, "axolotl", [pair(0)], "axolotl") / "axolotl.yaml").read_text())
    assert config["rl"] == "dpo" and config["datasets"][0]["field_chosen"] == "chosen"
    out = export(tmp_path, "llama-factory", [pair(0)], "lf")
    assert json.loads((out / "dataset_info.json").read_text())["selfalign"]["ranking"]
    assert lines(out / "train.jsonl")[0]["chosen"] == pair(0)["chosen"][0]


def test_a_verifiers_package_compiles_and_has_its_tasks(tmp_path):
    out = export(tmp_path, "verifiers", ROWS)
    compile((out / "selfalign_tasks/taskset.py").read_text(), "taskset.py", "exec")
    (first, *_) = lines(out / "selfalign_tasks/tasks.jsonl")
    assert first["prompt"] == CHATS[0][0]["content"] and first["tests"].strip() == TESTS


def test_the_solution_of_a_harbor_task_is_the_code_to_the_letter(tmp_path):
    out = export(tmp_path, "harbor", ROWS)
    script = (out / "id0/solution/solve.sh").read_text().replace("/app/", f"{tmp_path}/")
    subprocess.run(["bash", "-c", script], check=True)
    assert (tmp_path / "solution.py").read_text() == CODE + "\n"
    assert (
        os.access(out / "id0/tests/test.sh", os.X_OK)
        and (out / "id2/tests/solution_tests.py").read_text() == TESTS + "\n"
    )
    assert (out / "id1/instruction.md").read_text().startswith(CHATS[1][0]["content"])


def test_the_container_of_a_harbor_task_has_the_packages_that_it_imports(tmp_path):
    out = export(tmp_path, "harbor", [row(0), row(1, response=block(f"import numpy as np, re\n{CODE}"))])
    plain, more = ((out / id / "environment/Dockerfile").read_text() for id in ("id0", "id1"))
    assert "pip" not in plain
    assert f"\nRUN pip install --no-cache-dir numpy=={version('numpy')}\n" in more


def test_nothing_is_installed_for_a_module_that_is_not_installed_here(tmp_path):
    optional = "try:\n    import a_module_that_a_model_made_up\nexcept ImportError:\n    pass\nimport __main__"
    out = export(tmp_path, "harbor", [row(0, response=block(f"{optional}\n{CODE}"))])
    assert "pip" not in (out / "id0/environment/Dockerfile").read_text()


def test_a_harbor_task_is_judged_without_the_part_of_the_code_that_waits_for_input(tmp_path):
    code = 'def f(x):\n    return x\n\n\nif __name__ == "__main__":\n    print(f(input()))'
    task = export(tmp_path, "harbor", [row(0, response=block(code))]) / "id0"
    (tmp_path / "solution.py").write_text(code)
    judge = (task / "tests/run_tests.py").read_text()
    judge = judge.replace("/app/", f"{tmp_path}/").replace("/tests/", f"{task}/tests/")
    assert subprocess.run([sys.executable, "-c", judge], stdin=subprocess.DEVNULL).returncode == 0


# ---- what is refused ----


@pytest.mark.parametrize("to", FORMATS)
def test_what_failed_is_not_exported_as_if_it_had_passed(tmp_path, to):
    with pytest.raises(UserError, match="without loss: row id3 did not pass"):
        export(tmp_path, to, [*ROWS, row(3, passed=False)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "rows", "said"),
    [
        ("trl-grpo", [*ROWS, row(3, task_id="task0")], "task task0 has several rows"),
        ("harbor", [row(0, tests="no code")], "tests without a closed Python block"),
        ("trl-grpo", [row(0, tests=None), row(1)], "row id0 has no tests"),
        ("harbor", [row(0, id="a b"), row(1, id="a-b")], "would both become the folder a-b"),
        ("openai", [row(0, messages=[{"role": "tool", "content": "x"}])], "a turn with the role tool"),
        ("trl-sft", [row(0, messages=CHATS[0][:1])], "does not end with an answer"),
        ("harbor", [row(0, messages=[*CHATS[0], *CHATS[0]])], "a chat of several turns"),
        ("openai", [pair(0) | {"prompt": "Q", "chosen": "yes", "rejected": "no"}], "a column prompt that is no list"),
        ("trl-dpo", [pair(0) | {"chosen": "yes"}], "a column chosen that is no list"),
        ("axolotl", [pair(0) | {"chosen": CHATS[0]}], "a column chosen that is not one answer of the assistant"),
        ("openai", [row(0, messages=[{"from": "human", "value": "Q"}])], "a column messages that is no list"),
    ],
)
def test_what_would_be_lost_is_said(tmp_path, to, rows, said):
    with pytest.raises(UserError, match=said):
        export(tmp_path, to, rows)
    assert not (tmp_path / "out").exists()


def test_tests_that_reward_nothing_are_said_or_left_out(tmp_path):
    """Objects don't pass between code and tests in strict mode: every answer would earn 0."""
    made = block("class F:\n    def f(self):\n        return 1"), block("o = F()\nassert o.f() == 1")
    rows = [*ROWS, row(3, response=made[0], tests=made[1], messages=None)]
    with pytest.raises(UserError, match=r"1 of 4 rows give no full reward .* row id3 .*plain data.*--leave-out"):
        export(tmp_path, "trl-grpo", rows)
    assert not (tmp_path / "out").exists()
    assert len(read_rows(export(tmp_path, "trl-grpo", rows, leave_out=True))) == 3
    assert run_json(tmp_path / "out")["dropped"] == [["not_rewarded", 1]]


def test_a_folder_is_not_overwritten_and_the_same_export_does_nothing(tmp_path, capsys):
    out = export(tmp_path, "openai", ROWS)
    export(tmp_path, "openai", ROWS)
    assert "nothing was left to do" in capsys.readouterr().out
    before = (out / "train.jsonl").read_bytes()
    with pytest.raises(UserError, match="exists and holds something else"):
        export(tmp_path, "axolotl", ROWS)
    assert (out / "train.jsonl").read_bytes() == before


def test_an_export_that_was_killed_begins_anew(tmp_path):
    (tmp_path / ".out.begun").mkdir()
    (tmp_path / ".out.begun" / "train.jsonl").write_text("half a l")
    assert len(lines(export(tmp_path, "openai", ROWS) / "train.jsonl")) == 3
    assert not (tmp_path / ".out.begun").exists()
