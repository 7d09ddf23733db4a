"""select.py: which samples become examples, which are dropped and why; and the standard library keeps its `select`."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from selfalign.benchmarks import load_benchmark
from selfalign.errors import UserError
from selfalign.runner.source import open_source, part_prefix
from tests.data.tools import TASKS, WORDS, block, sample
from tests.helpers import ROOT, load_script, read_rows, run_json, run_well, write_rows
from tests.report.test_page import words

BAD = sample("sort", 5, tests="assert 1 == 1")
VERDICTS = {"sort": [True, False, True], "reverse": [False, False], "count": [True], "merge": [False]}
SAMPLES = [sample(task, n, passed) for task, verdicts in VERDICTS.items() for n, passed in enumerate(verdicts)]


def select(folder, samples, output="out", **options):
    """select.py in this process: starting another one takes a second."""
    script = load_script("select")
    source = write_rows(folder / "executions.jsonl", samples)
    settings = {"decontaminate": (), "report": False} | options  # these take their time
    script.main(script.Options(input=str(source), output=str(folder / output), **settings))


def selected(folder, samples, **options):
    """The ids that select.py leaves, and the rule by the id of what it drops."""
    select(folder, samples, **options)
    return {row["id"] for row in table(folder)}, {row["id"]: row["reason"] for row in table(folder, "rejected")}


def refused(folder, samples=SAMPLES, **options):
    """What it says where it does nothing."""
    with pytest.raises(UserError) as error:
        select(folder, samples, **options)
    return str(error.value)


def table(folder, name="default"):
    prefix = part_prefix(name)
    return [row for part in sorted(folder.glob(f"out/{prefix}*")) for row in pq.read_table(part).to_pylist()]


# ---- strategies ----


@pytest.mark.parametrize(
    ("strategy", "tasks"), [("passes", 2), ("random", 4), ("random-subset", 2), ("failures", 2), ("all-failures", 3)]
)
def test_each_task_gives_one_sample_and_subsets_are_as_many_as_passes(tmp_path, strategy, tasks):
    kept, _ = selected(tmp_path, SAMPLES, strategy=strategy)
    assert len({id.split("-")[0] for id in kept}) == len(kept) == tasks
    verdicts = {row["passed"] for row in SAMPLES if row["id"] in kept}
    assert strategy.startswith("random") or verdicts == {strategy == "passes"}


def test_a_task_has_one_instruction(tmp_path):
    """Otherwise, a preference could have the answer to another task as its rejected one."""
    samples = [sample("sort") | {"task_id": 1}, sample("count", 1, passed=False) | {"task_id": 1}]
    assert "task_id 1 and different instructions" in refused(tmp_path, samples)


# ---- rules, benchmarks and duplicates ----


VACUOUS = [sample("sort", n, vacuous=vacuous) for n, vacuous in enumerate([True, None, True])]
ONE_LINE = "def sort(x):\n    return sorted(x)"
ONE_BRANCH = "def sort(x):\n    return sorted(x) if x else []"
FLAT_AND_BRANCHED = [sample("sort", n, code=code) for n, code in enumerate([ONE_LINE, ONE_BRANCH])]
SCORED = [sample("sort", n, mutation_score=score) for n, score in enumerate([0.4, 0.9, None])]


@pytest.mark.parametrize(
    ("rows", "options", "kept", "reasons"),
    {
        "a filter": ([BAD, sample("sort", 1)], {}, {"sort-1"}, {"sort-5": "tests_do_not_call"}),
        "vacuous tests": (VACUOUS, {}, {"sort-1"}, {"sort-0": "vacuous", "sort-2": "vacuous"}),
        "weak tests": (
            SCORED,
            {"min_mutation_score": 0.5},
            {"sort-1"},
            {"sort-0": "weak_tests", "sort-2": "weak_tests"},
        ),
        "no branch": (FLAT_AND_BRANCHED, {"min_branches": 1}, {"sort-1"}, {"sort-0": "few_branches"}),
    }.values(),
)
def test_what_a_rule_drops_leaves_its_task_to_the_others(tmp_path, rows, options, kept, reasons):
    assert selected(tmp_path, rows, **options) == (kept, reasons)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"min_mutation_score": 0.5}, "no column mutation_score, which --min-mutation-score needs"),
        ({"choose": "strongest-tests"}, "no column mutation_score, which --choose strongest-tests needs"),
        ({"choose": "agreement", "strategy": "random"}, "needs --strategy passes"),
        ({"min_support": 0.5, "strategy": "failures"}, "--min-support needs --strategy passes or consensus"),
        ({"skip": ("nonsense",)}, "--skip nonsense: the rules that can be skipped are too_long, "),
        ({"skip": ("weak_tests",)}, "--skip weak_tests: the rules that can be skipped are too_long, "),
    ],
)
def test_options_that_make_no_sense_here_are_said(tmp_path, options, said):
    assert said in refused(tmp_path, **options) and not (tmp_path / "out").exists()


def test_nothing_to_choose_is_said(tmp_path):
    failures = [row for row in SAMPLES if not row["passed"]]
    assert "no sample that --strategy passes could choose (4 did_not_pass)" in refused(tmp_path, failures)
    assert not (tmp_path / "out").exists()


# ---- difficulty ----

# sort: 2 of 3 passed; reverse: none; count: all; merge: 1 of 2 that were judged.
UNJUDGED = sample("merge", 2, passed=False, outcome="no_tests")
RATED = [*SAMPLES, sample("merge", 1), UNJUDGED]


def test_an_example_says_how_many_samples_of_its_task_passed(tmp_path):
    select(tmp_path, RATED)
    found = {row["task_id"]: (round(row["pass_rate"], 2), row["judged_samples"]) for row in table(tmp_path)}
    assert found == {"sort": (0.67, 3), "count": (1.0, 1), "merge": (0.5, 2)}


@pytest.mark.parametrize(
    ("options", "tasks", "reasons"),
    [
        ({"min_pass_rate": 0.6}, {"sort", "count"}, {"merge-1": "too_hard"}),
        ({"max_pass_rate": 0.9}, {"sort", "merge"}, {"count-0": "too_easy"}),
        ({"min_pass_rate": 0.5, "max_pass_rate": 0.5}, {"merge"}, None),
    ],
)
def test_tasks_can_be_chosen_by_their_pass_rates(tmp_path, options, tasks, reasons):
    kept, dropped = selected(tmp_path, RATED, **options)
    assert {id.partition("-")[0] for id in kept} == tasks and reasons in (None, dropped)


def test_the_pass_rates_of_instructions_are_kept_by_a_second_choice(tmp_path):
    """Of each task, only one sample is left there: counted anew, every task would always be solved."""
    select(tmp_path, RATED)
    rows = [{name: row[name] for name in row if name not in ("messages", "shown_tests")} for row in table(tmp_path)]
    select(tmp_path, rows, output="again", max_pass_rate=0.9)
    again = [row for part in (tmp_path / "again/data").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    assert {row["task_id"]: row["judged_samples"] for row in again} == {"sort": 3, "merge": 2}


def test_pass_rates_that_exclude_each_other_are_said(tmp_path):
    assert "at least 0.8 and of at most 0.2" in refused(tmp_path, min_pass_rate=0.8, max_pass_rate=0.2)


def test_what_is_of_a_benchmark_is_dropped_and_the_card_names_the_item(tmp_path):
    problem = load_benchmark("humaneval").problems()[4]
    program, tests = problem.prompt + problem.canonical_solution, "assert mean_absolute_deviation([1.0]) == 0"
    asked = sample("merge") | {"instruction": problem.prompt}
    rows = [sample("sort"), asked, sample("count", code=program, tests=tests)]
    kept, reasons = selected(tmp_path, rows, decontaminate=("humaneval",))
    assert kept == {"sort-0"} and reasons == {"merge-0": "contaminated", "count-0": "contaminated"}
    assert all("humaneval HumanEval/4 (" in row["contamination"] for row in table(tmp_path, "rejected"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Against humaneval (164 problems)" in card and "| humaneval HumanEval/4 (" in card


def test_a_dropped_duplicate_says_which_row_stays(tmp_path):
    twin = sample("count") | {"instruction": WORDS["sort"]}
    kept, reasons = selected(tmp_path, [sample("sort"), twin, sample("merge")])
    (dropped,) = reasons
    assert reasons[dropped] == "same_instruction" and kept == {"sort-0", "count-0", "merge-0"} - {dropped}
    assert {row["kept_id"] for row in table(tmp_path, "rejected")} == kept - {"merge-0"}


def test_neither_the_order_of_the_rows_nor_the_number_of_shards_matters(tmp_path):
    rows = [sample(task, n, passed=n < 3) for task in TASKS for n in range(4)]
    rows += [row | {"id": f"twin of {row['id']}", "task_id": f"twin of {row['task_id']}"} for row in rows[::3]]
    rows += [sample(task, 8, tests="assert 1 == 1") for task in TASKS]
    results = []
    for number, shards in enumerate([1, 1, 3]):
        random.Random(number).shuffle(rows)
        folder = tmp_path / str(number)
        folder.mkdir()
        for shard in range(shards):
            with contextlib.suppress(SystemExit):  # others have rows to do
                select(folder, rows, shard=f"{shard}/{shards}")
        tables = [table(folder, name) for name in ("default", "preferences", "rejected")]
        results.append([sorted(rows, key=lambda row: row["id"]) for rows in tables])
        assert run_json(folder / "out")["complete"]
    assert results[0] == results[1] == results[2]
    assert len(results[0][0]) == len(TASKS) and len(results[0][1]) and len(results[0][2]) > len(TASKS)


# ---- choices ----


@pytest.mark.parametrize("choose", ["shortest", "strongest-tests"])
def test_the_best_sample_is_chosen(tmp_path, choose):
    rows = [sample("sort", n, words="long " * n, mutation_score=1 - n / 10) for n in (3, 1, 2)]
    assert selected(tmp_path, rows, choose=choose)[0] == {"sort-1"}


# execute.py leaves this out, and so do the votes: it waits for input that does not come.
MAIN = 'if __name__ == "__main__":\n    print(sort(input()))'
VOTERS = [
    sample("sort", 0, code="def sort(x):\n    return x", tests="assert sort([2, 1]) == [2, 1]"),
    sample("sort", 1, code=f"def sort(x):\n    return sorted(x)\n\n{MAIN}", tests="assert sort([3, 1]) == [1, 3]"),
    sample("sort", 2, code="def sort(x):\n    return sorted(x)[:9]", tests="assert sort([3, 1, 2]) == [1, 2, 3]"),
    sample("sort", 3, code="def sort(x):\n    return sorted(x)[:2]", tests="assert sort([3, 1]) == [1, 3]"),
    sample("count", 0),
]


@pytest.fixture(scope="module")
def by_agreement(tmp_path_factory):
    """Samples 1 and 2 are right; 0 is wrong and tests for what it does; 3 is wrong where its tests don't look."""
    folder = tmp_path_factory.mktemp("agreement")
    selected(folder, VOTERS, choose="agreement", timeout=1.0)
    return folder


def test_the_sample_that_most_others_agree_with_is_chosen(by_agreement):
    assert {row["id"] for row in table(by_agreement)} & {"sort-1", "sort-2"}


def test_agreement_is_the_share_of_other_samples_and_tests(by_agreement):
    """Tests: 0's, 1's (which are 3's too), 2's. Sample 0 passes its own alone, 1 and 2 pass 1's and 2's, 3 passes 1's.
    So 1 agrees with 2 on three, with 3 on two, with 0 on none: 5 of 9. And 3 with 0 on one: 2 + 2 + 1 of 9."""
    shares = {row["id"]: round(9 * row["agreement"]) for row in read_rows(f"{by_agreement / 'out'}-agreement")}
    assert shares == {"sort-0": 1, "sort-1": 5, "sort-2": 5, "sort-3": 5}


def test_what_was_voted_stays(by_agreement):
    before = {path: path.stat().st_mtime_ns for path in by_agreement.rglob("*.parquet")}
    select(by_agreement, VOTERS, choose="agreement", timeout=1.0)
    assert before == {path: path.stat().st_mtime_ns for path in by_agreement.rglob("*.parquet")}


def test_a_sample_that_few_others_agree_with_is_left_out_and_counted(tmp_path):
    """Of the four samples, each of which passes its own tests, 0 does what no other does."""
    selected(tmp_path, VOTERS, min_support=0.5, timeout=1.0)
    assert {row["id"] for row in table(tmp_path)} <= {"sort-1", "sort-2", "sort-3"}
    reasons = {row["id"]: row["reason"] for row in table(tmp_path, "rejected")}
    assert reasons["sort-0"] == "little_support"
    run, few = run_json(tmp_path / "out"), list(reasons.values()).count("little_support")
    assert run["rows_in"] == len(VOTERS) and run["counts"]["little_support"] == few


# ---- examples ----


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_an_example_is_a_chat_whose_instruction_may_show_tests(tmp_path, probability):
    selected(tmp_path, SAMPLES, test_in_instruction=probability)
    for row in table(tmp_path):
        question, answer = row["messages"]
        assert question["role"] == "user" and answer == {"role": "assistant", "content": row["response"]}
        shown = question["content"].removeprefix(row["instruction"])
        assert block(row["shown_tests"]) in shown if probability else (row["shown_tests"], shown) == (None, "")


# ---- preferences ----


def test_a_preference_is_a_pass_and_a_failure_at_the_same_task(tmp_path):
    kept, _ = selected(tmp_path, SAMPLES)
    (pair,) = table(tmp_path, "preferences")
    assert (pair["task_id"], pair["rejected_id"], pair["seed_id"]) == ("sort", "sort-1", "seed of sort")
    assert pair["chosen_id"] in kept
    assert pair["prompt"] == [{"role": "user", "content": WORDS["sort"]}]
    for part in ("chosen", "rejected"):
        (row,) = (row for row in SAMPLES if row["id"] == pair[f"{part}_id"])
        assert pair[part] == [{"role": "assistant", "content": row["response"]}]


def test_fewer_samples_have_fewer_preferences_and_more_can_follow(tmp_path):
    rows = [sample("sort"), *(sample(task, n, passed=not n) for task in ("reverse", "count") for n in (0, 1))]
    for most, pairs in {1: 0, 2: 1, None: 2}.items():
        select(tmp_path, rows, max_samples=most)
        run, ids = run_json(tmp_path / "out"), {row["id"] for row in table(tmp_path)}
        assert {row["chosen_id"] for row in table(tmp_path, "preferences")} <= ids and len(ids) == (most or 3)
        assert run["complete"] and run["tables"]["preferences"]["rows_out"] == pairs
        assert run["rows_in"] == run["rows_out"] + sum(run["counts"].values())


def test_preferences_keep_the_lineage_whatever_types_it_has(tmp_path):
    lineage = {"difficulty": 3, "category": ["text", "lists"], "repository": None}
    select(tmp_path, [sample("sort", 0, **lineage), sample("sort", 1, passed=False, **lineage)])
    (pair,) = table(tmp_path, "preferences")
    assert {name: pair[name] for name in lineage} == lineage


FAILURES = {
    "much longer": sample("sort", 1, False, words="word " * 400),
    "much shorter": sample("sort", 1, False, code="def sort(x): 0", words="Sorts."),
    "the same code": sample("sort", 1, False) | {"response": "Yes. " + sample("sort")["response"]},
    "unfinished": sample("sort", 1, False) | {"response": sample("sort", 1)["response"] + "\n" + block("# TODO")},
    "without a verdict": sample("sort", 1, False) | {"outcome": "no_tests"},
    "of another task": sample("count", 1, False),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_not_every_failure_makes_a_preference(tmp_path, failure):
    selected(tmp_path, [sample("sort"), failure])
    assert run_json(tmp_path / "out")["tables"]["preferences"]["rows_out"] == 0


def test_the_failure_nearest_in_length_is_taken(tmp_path):
    rows = [sample("sort", n, passed=n == 0) for n in range(4)]
    for row, longer in zip(rows[1:], (30, 20, 10), strict=True):
        row["response"] = f"{row['response']} ".ljust(len(rows[0]["response"]) + longer, "x")
    selected(tmp_path, rows)
    assert [row["rejected_id"] for row in table(tmp_path, "preferences")] == ["sort-3"]


# ---- the output as a whole ----


def test_counts_add_up_and_the_card_shows_them_by_rule(tmp_path):
    bad = [BAD, sample("join") | {"instruction": WORDS["sort"]}]
    lacking = [sample("join", 1) | {"error": "unfinished", "response": None}, sample("merge", 7) | {"tests": None}]
    empty = [sample("split") | {"instruction": ""}, sample("parse") | {"instruction": " \n"}]
    select(tmp_path, [*SAMPLES, *bad, *lacking, *empty])
    run = run_json(tmp_path / "out")
    assert run["rows_in"] == len(SAMPLES) + 6 == run["rows_out"] + sum(run["counts"].values())
    dropped = {"did_not_pass": 4, "not_drawn": 1, "tests_do_not_call": 1, "same_instruction": 1}
    assert run["counts"] == dropped | {"unfinished": 1, "null_tests": 1, "null_instruction": 2}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| did not pass | 4 | 5 |\n| too long | 0 | 5 |" in card and "| rejected | 2 |" in card


def test_a_folder_is_read_as_its_examples(tmp_path):
    """load_dataset(folder), as any user would: the other tables must not be mixed in."""
    run_well("select", write_rows(tmp_path / "executions.jsonl", [*SAMPLES, BAD]), tmp_path / "out")
    assert {row["task_id"] for row in read_rows(tmp_path / "out")} == {"sort", "count"}
    sizes = {name: len(open_source(str(tmp_path / "out"), config=name)) for name in (None, "preferences", "rejected")}
    assert sizes == {None: 2, "preferences": 1, "rejected": 1}


def test_a_configuration_that_is_not_there_is_said(tmp_path):
    select(tmp_path, SAMPLES)
    for name, said in {"pairs": "it has default, preferences, rejected", "rejected": "no rows"}.items():
        with pytest.raises(UserError, match=said):
            open_source(str(tmp_path / "out"), config=name)


def test_another_selection_is_another_run(tmp_path):
    """What is done is known by position: rows that would be chosen otherwise (by another version, say) are refused."""
    selected(tmp_path, SAMPLES)
    path = tmp_path / "out" / "run.json"
    there = json.loads(path.read_text())
    there["identity"]["input"]["selection"] = "of another version"
    path.write_text(json.dumps(there))
    assert "input selection was of another version" in refused(tmp_path)


@pytest.mark.parametrize("flags", [(), ("-S",)], ids=["with our packages", "without"])
@pytest.mark.parametrize(
    "code",
    [
        "import subprocess, asyncio, selectors",
        "import select; select.poll",
        "import select, sys; assert sys.modules['select'] is select and 'Options' not in dir(select)",
        "import multiprocessing as m; p = m.get_context('spawn').Process(target=print); p.start(); p.join(); "
        "assert p.exitcode == 0",
    ],
)
def test_the_standard_library_keeps_its_select_in_the_projects_root(tmp_path, code, flags):
    shutil.copy(ROOT / "select.py", tmp_path)  # as in the copy of the project that a shard runs from
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, *flags, "-c", code], cwd=ROOT, env=environment, check=True)


def test_a_report_lies_beside_the_data_and_shows_what_was_dropped(tmp_path):
    select(tmp_path, [*SAMPLES, BAD], report=True)
    shown = words((tmp_path / "out" / "report.html").read_text())
    dropped = table(tmp_path, "rejected")
    assert dropped and all(row["reason"].replace("_", " ") in shown for row in dropped)
    assert "figures/funnel.png" in (tmp_path / "out" / "README.md").read_text()
    assert len(table(tmp_path)) == len(load_dataset(str(tmp_path / "out"), split="train")), "pictures are no data"


def test_plain_passes_take_what_our_own_rules_drop(tmp_path):
    stub = sample("sort", code="def sort_list(numbers):\n    ...", tests="assert sort_list([1]) is None")
    rows = [stub | {"vacuous": True}, sample("count", tests="assert 1 == 1")]
    kept, _ = selected(tmp_path, rows, skip=("vacuous", "stub", "tests_do_not_call"))
    assert kept == {"sort-0", "count-0"}
