"""verify.py: what a dataset says of itself is checked, and a planted lie of each kind is found."""

import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.ids import content_id
from selfalign.runner.source import open_recorded_input
from tests.data.tools import TASKS, block, sample
from tests.helpers import load_script, run_json, write_rows

STEPS = ("generate_tasks", "sample_responses", "execute")
SHOWN = "Add one.\n\nYour code should pass the following assertion:\n" + block("assert f(1) == 2")


def execution(task):
    """A row that says of itself what is true: the code returns its argument."""
    code, tests = f"def {task}(x):\n    return x", f"assert {task}(1) == 1"
    row = sample(task, code=code, tests=tests, vacuous=False, concepts_id=content_id(task), sample=0)
    row |= {"completion": row["response"], "program": f"{code}\n\n\n{tests}\n", "license": "mit"}
    row["task_id"] = content_id(row["concepts_id"], row["instruction"])
    return row | {"id": content_id(row["task_id"], 0, row["completion"])}


@pytest.fixture
def published(tmp_path):
    """Instructions that select.py chose from executions."""
    folder = tmp_path / "executions"
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([execution(task) for task in TASKS]), folder / "data/train-0.parquet")
    funnel = [{"step": step, "rows_in": 8, "rows_out": 8, "counts": {}} for step in STEPS]
    run = {"step": "execute", "complete": True, "rows_out": 8, "funnel": funnel, "counts": {}, "identity": {}}
    (folder / "run.json").write_text(json.dumps(run))
    script, output = load_script("select"), tmp_path / "out"
    skip = ("near_code", "near_instruction")
    script.main(script.Options(input=str(folder), output=str(output), decontaminate=(), report=False, skip=skip))
    return output


def verified(capsys, name, **options):
    """The exit status and what it prints."""
    script = load_script("verify")
    status = 0
    try:
        script.main(script.Options(dataset=str(name), sandboxes=1, **{"decontaminate": ("humaneval",)} | options))
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().out


def part_of(folder):
    (part,) = folder.glob("data/train-*.parquet")
    return part


def changed(folder, change, named_anew=True):
    """The dataset with one row changed, as a careful forger would: its part gets the right name."""
    part = part_of(folder)
    table = pq.read_table(part)
    rows = table.to_pylist()
    change(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), part)
    if named_anew:
        digest = hashlib.sha256(part.read_bytes()).hexdigest()[:12]
        part.rename(part.with_name(f"train-0000000000-{digest}.parquet"))


def test_what_a_step_wrote_holds(published, capsys):
    status, said = verified(capsys, published)
    assert status == 0 and "100.0% of 8 executed rows agree, 95 % interval 67.6% to 100.0%" in said
    assert "32 of 32 values follow from the content (task_id, id, program, messages)" in said
    assert "not checked" not in said


def test_a_program_without_the_main_block_of_its_response_follows(published, capsys):
    """execute.py leaves that block out."""

    def with_main_block(row):
        row["response"] = row["response"].replace("\n```", '\n\nif __name__ == "__main__":\n    print(1)\n```')
        row["program"] = "\n\n".join(load_script("execute").programs_of(row))

    changed(published, with_main_block)
    _, said = verified(capsys, published)
    assert "messages of row" in said and "program of row" not in said, said


def lies(**columns):
    return lambda row: row.update(columns)


@pytest.mark.parametrize(
    ("change", "named_anew", "wrong"),
    {
        "another content under the same name": (lies(shown_tests="x"), False, "hashes"),
        "another response": (lies(response=block("def f(x):\n    return x")), True, "ids, executions"),
        "another completion": (lies(completion="better"), True, "ids"),
        "another instruction": (lies(instruction="Do something else entirely."), True, "ids"),
        "failing tests": (lies(tests=block("assert 1 == 2")), True, "ids, executions"),
        "another licence": (lies(license="gpl-3.0"), True, "run.json"),
        "a verdict": (lies(passed=False, outcome="failed"), True, "executions"),
    }.values(),
)
def test_a_lie_is_found(published, capsys, change, named_anew, wrong):
    changed(published, change, named_anew)
    status, said = verified(capsys, published)
    assert status == 1 and said.rstrip().endswith(f"wrong are {wrong}"), said


def test_a_licence_that_is_no_text_is_not_counted_and_no_lie(tmp_path, capsys):
    rows = [sample("sort", license=None, repository=["a/b"])]
    script, output = load_script("execute"), tmp_path / "out"
    script.main(script.Options(input=str(write_rows(tmp_path / "rows.jsonl", rows)), output=str(output), sandboxes=1))
    status, said = verified(capsys, output, decontaminate=())
    assert status == 0, said


def test_what_select_rejected_may_be_of_a_benchmark_and_of_other_licences(tmp_path, capsys):
    known = load_benchmark("humaneval").problems()[4].prompt
    rows = [sample("sort", license="mit"), sample("count", license="gpl") | {"instruction": known}]
    script, output = load_script("select"), tmp_path / "out"
    source = str(write_rows(tmp_path / "rows.jsonl", rows))
    script.main(script.Options(input=source, output=str(output), decontaminate=("humaneval",), report=False))
    status, said = verified(capsys, output, config="rejected")
    assert status == 0 and "removed by it (1 rows)" in said, said


def test_instructions_may_be_tasks_again(published, capsys):
    """Their ids, which the new responses have as task_id, are those of samples, and so no hashes of the tasks."""
    run = run_json(published)
    again = [{"step": step, "rows_in": 8, "rows_out": 8, "counts": {}} for step in ("sample_responses", "execute")]
    (published / "run.json").write_text(json.dumps(run | {"step": "execute", "funnel": [*run["funnel"], *again]}))
    changed(published, lambda row: row.update(task_id="x", id=content_id("x", 0, row["completion"])))
    status, said = verified(capsys, published)
    assert status == 0 and "24 of 24 values follow from the content (id, program, messages)" in said, said


def test_rows_that_are_missing_are_found(published, capsys):
    run = run_json(published) | {"rows_out": 9}
    (published / "run.json").write_text(json.dumps(run))
    status, said = verified(capsys, published)
    assert status == 1 and "it says that default has 9 rows, but the parts have 8" in said


def test_an_input_that_has_changed_is_found(published, capsys):
    part = published.parent / "executions/data/train-0.parquet"
    pq.write_table(pq.read_table(part).slice(1), part)
    status, said = verified(capsys, published)
    assert status == 1 and "has changed since" in said


CARD = """---
configs:
- config_name: hard
  data_files: hard.jsonl
- config_name: other
  data_files: train.jsonl
---"""


@pytest.mark.parametrize("selection", [{"split": "test"}, {"config": "hard"}], ids=str)
def test_an_input_that_was_read_from_a_configuration_or_a_split_is_read_there_again(tmp_path, capsys, selection):
    source, script = tmp_path / "in", load_script("execute")
    source.mkdir()
    (source / "README.md").write_text(CARD if "config" in selection else "")
    for name in ("train", "test", "hard"):
        write_rows(source / f"{name}.jsonl", [sample("sort", license="mit")])
    script.main(script.Options(input=str(source), output=str(tmp_path / "out"), sandboxes=1, **selection))
    assert open_recorded_input(str(tmp_path / "out"), run_json(tmp_path / "out")).run == {}
    for files, agreeing in (((), 1), (("test", "hard"), 0)):
        for name in files:
            write_rows(source / f"{name}.jsonl", [sample("count", license="mit")])
        said = verified(capsys, tmp_path / "out", decontaminate=())[1]
        assert f"{agreeing} of 1 inputs are what they were" in said, said


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_seeds_come_from_the_code_in_a_folder_not_from_data_beside_it(tmp_path, capsys, language):
    code, script = tmp_path / "code", load_script("collect_seeds")
    code.mkdir()
    (code / "f.py").write_text('def f(x):\n    """Return x."""\n    return x\n')
    (code / "f.js").write_text("/** Return x as it is. */\nfunction f(x) {\n  return x;\n}\n")
    write_rows(code / "data.json", [{"a": 1}])
    options = {"language": language, "type_checker": "none", "decontaminate": (), "config": "unused"}
    script.main(script.Options(input=str(code), output=str(tmp_path / "out"), **options))
    for output in ("out-candidates", "out"):
        said = verified(capsys, tmp_path / output, decontaminate=())[1]
        assert "1 of 1 inputs are what they were" in said, said
    for file in code.glob("f.*"):
        file.write_text(file.read_text() + "\n")
    assert "has changed since" in verified(capsys, tmp_path / "out-candidates", decontaminate=())[1]


def of_others(number, **columns):
    """A row in the layout of self-oss-instruct-sc2-exec-filter-50k."""
    seed = f"def seed_{number}():\n    return {number}"
    row = {"fingerprint": None, "sha1": hashlib.sha1(seed.encode()).hexdigest(), "seed": seed, "id": number}
    row |= {"response": "Like this:\n\n" + block("def f(x):\n    return x + 1"), "concepts": ["arithmetic"]}
    return row | {"prompt": "Add one.", "instruction": SHOWN if number % 2 else "Add one.", **columns}


def test_the_layout_of_the_papers_forerunner_is_checked_as_far_as_it_goes(tmp_path, capsys):
    rows = [of_others(number) for number in range(10)]
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", rows))
    assert status == 0 and "100.0% of 5 executed rows agree" in said and "5 more of the 10 that were drawn" in said
    assert "10 of 10 values follow from the content (sha1)" in said and "there is no run.json" in said


@pytest.mark.parametrize("lost", ["seed", "sha1"])
def test_a_row_without_a_seed_or_its_hash_says_nothing_of_it(tmp_path, capsys, lost):
    rows = [of_others(1), of_others(3, **{lost: None})]
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", rows))
    assert status == 0 and "1 of 1 values follow from the content (sha1)" in said, said


def test_tests_at_the_end_of_a_response_are_run(tmp_path, capsys):
    response = block("def f(x):\n    return x") + "\n\nTests:\n\n" + block("assert f(1) == 2")
    rows = [of_others(0, response=response), of_others(1), of_others(2, sha1="0" * 40)]
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", rows))
    assert status == 1 and "row 0: passed there, failed here" in said and "sha1 of row 2" in said


def test_the_output_of_a_step_without_responses_is_checked(tmp_path, capsys):
    rows = [{"id": "a", "content": "def f(x):\n    return x"}, {"id": "b", "content": "def g(x):\n    return 2 * x"}]
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", rows))
    assert status == 0 and "2 of 2 rows have nothing of humaneval" in said and "no row says that it passed" in said


def test_responses_that_were_not_executed_yet_claim_nothing(published, capsys):
    folder = published.parent / "executions"
    part = folder / "data/train-0.parquet"
    pq.write_table(pq.read_table(part).drop_columns(["passed", "outcome", "program"]), part)
    assert "no row says that it passed" in verified(capsys, folder)[1]


def test_nothing_to_execute_is_no_success(tmp_path, capsys):
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", [of_others(0)]))
    assert status == 2 and "no row could be executed" in said


def test_tests_of_another_form_are_not_run(tmp_path, capsys):
    rows = [of_others(number, tests=["assert f(1) == 2"]) for number in range(2)]
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", rows))
    assert status == 2 and "2 more of the 2 that were drawn have no tests, or none could be run" in said


def test_benchmark_problems_are_found(tmp_path, capsys):
    asked = {"instruction": load_benchmark("humaneval").problems()[4].prompt}
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", [of_others(1), of_others(2, **asked)]))
    assert status == 1 and "row 2 matches humaneval HumanEval/4" in said


@pytest.mark.parametrize("column", ["attempt", "feedback", "explanation"])
def test_benchmark_problems_are_found_in_the_conversation_of_a_repair(tmp_path, capsys, column):
    repair = {"attempt": "An attempt.", "feedback": "It fails.", "explanation": "It is wrong."}
    repair[column] = load_benchmark("humaneval").problems()[4].prompt
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", [of_others(1, **repair)]))
    assert status == 1 and "row 1 matches humaneval HumanEval/4" in said


def test_a_few_programs_that_depend_on_chance_are_no_lie(tmp_path, capsys):
    rows = [of_others(2 * number + 1) for number in range(150)]
    rows[7] |= {"response": block("def f(x):\n    return x")}
    status, said = verified(capsys, write_rows(tmp_path / "rows.jsonl", rows))
    assert status == 0 and "99.3% of 150 executed rows agree" in said and "executions     149 of 150" in said
