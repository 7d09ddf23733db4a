"""What paper_tables.py makes of results: our numbers beside the published ones, comparisons, and missing runs."""

import csv
import io
import json
import re

import pytest
import tyro

from selfalign.errors import UserError
from selfalign.report.paper import load_table, table_names
from selfalign.report.results import Results, our_values
from tests.helpers import load_script

script = load_script("paper_tables")
OURS, OCTOPACK = "selfcodealign-cq-7b", "octopack-cq-7b"


def ours_in(folder, table):
    """Our values in a table, by row and column."""
    return our_values(load_table(str(table)), Results([str(folder)]))


def add_result(folder, system, benchmark, passed, **more):
    """Write a results.json as benchmark.py does, from whether each task passed."""
    (folder / system / benchmark).mkdir(parents=True)
    result = {"benchmark": benchmark, "model": "m", "intervals": {"pass@1": [0.5, 0.7]}}
    result["scores"] = {"pass@1": sum(passed) / len(passed)}
    result["by_problem"] = {f"t{i}": p for i, p in enumerate(passed)}
    (folder / system / benchmark / "results.json").write_text(json.dumps(result | more))


@pytest.fixture
def results(tmp_path):
    add_result(tmp_path, OURS, "humanevalplus", [True] * 120 + [False] * 80)
    add_result(tmp_path, OCTOPACK, "humanevalplus", [True] * 60 + [False] * 140)
    return tmp_path


@pytest.fixture
def printed(capsys):
    """A function that runs the script with arguments and returns what it prints."""

    def printed(*arguments):
        script.main(tyro.cli(script.Options, args=list(map(str, arguments))))
        return capsys.readouterr().out

    return printed


def test_ours_stands_below_the_published_number_with_interval_and_difference(results, printed):
    lines = printed(results, "--tables", "1").splitlines()
    ours = lines[1 + next(i for i, line in enumerate(lines) if line.startswith("| SelfCodeAlign-CQ-7B"))]
    assert ours == "| — ours |  | 60.0 [50.0, 70.0] (-7.1) |  |  |  |  |"


def test_two_systems_are_compared_on_the_same_problems(results, printed):
    text = printed(results, "--tables", "1")
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {OURS} | {OCTOPACK} | HumanEval+")]
    published, difference, p, problems = [part.strip() for part in line.split("|")[4:8]]
    assert (published, problems) == ("+16.5", "200")
    assert re.match(r"\+30\.0 \[2\d\.\d, 3\d\.\d\]", difference) and float(p) < 0.001


def test_without_the_outcome_of_each_problem_nothing_is_tested(tmp_path, printed):
    add_result(tmp_path, OURS, "humanevalplus", [True])
    add_result(tmp_path, OCTOPACK, "humanevalplus", [True], by_problem=None)
    assert "problems" not in printed(tmp_path, "--tables", "1")


def test_win_rates_are_among_the_rows_of_the_table(tmp_path):
    for system, dps in {OURS: 90, OCTOPACK: 40, "compared/codeqwen1.5-7b-chat": 60}.items():
        measured = {f"HumanEval/{task}/{n}": {"dps": dps} for task in range(3) for n in range(2)}
        add_result(tmp_path, system, "evalperf", [True], measured=measured)
    found = ours_in(tmp_path, 4)
    assert [ours["Win rate (%)"].value for ours in found if ours] == [50, 0, 100]


def test_a_missing_run_shows_its_command_and_one_that_is_there_does_not(results, printed):
    text = printed(results, "--tables", "1")
    assert "bash experiments/base_models.sh codeqwen1.5-7b\n" in text
    assert "bash experiments/octopack.sh\n" in text, "MBPP+ is missing"
    add_result(results, OCTOPACK, "mbppplus", [True])
    assert "bash experiments/octopack.sh\n" not in printed(results, "--tables", "1")


def test_csv_has_a_line_for_every_number(results, printed):
    lines = list(csv.DictReader(io.StringIO(printed(results, "--format", "csv"))))
    assert len(lines) == sum(len(cells) for name in table_names() for cells in load_table(name).cells)
    line = next(line for line in lines if (line["system"], line["column"]) == (OURS, "HumanEval+"))
    assert (float(line["published"]), float(line["ours"]), float(line["difference"])) == (67.1, 60.0, -7.1)


def test_the_best_of_three_kinds_of_generation_counts(tmp_path):
    for name, passed in {"holistic": [True, False], "incremental": [True, True], "compositional": [False]}.items():
        add_result(tmp_path, OURS, f"classeval-{name}", passed)
    ours = ours_in(tmp_path, 5)[-1]
    assert ours["Class-level"].value == 100.0 and "Method-level" not in ours


def test_an_average_waits_for_all_its_sets(tmp_path):
    sets = ["difficult", "creative", "subtle", "combine"]
    for name in sets:
        add_result(tmp_path, OURS, f"evoeval-{name}", [True, False])
    assert "Avg" not in ours_in(tmp_path, 3)[-1]
    add_result(tmp_path, OURS, "evoeval-tool_use", [True])
    assert ours_in(tmp_path, 3)[-1]["Avg"].value == pytest.approx(60)


def test_sizes_and_times_come_from_the_datasets(tmp_path):
    data = tmp_path / "data" / "llama-3-8b-37k"
    for step in ("concepts", "tasks", "responses", "executions", "instructions"):
        (data / step).mkdir(parents=True)
        (data / step / "run.json").write_text(json.dumps({"rows_in": 37_000, "rows_out": 11_234, "seconds": 5400}))
    ours = ours_in(tmp_path, 12)[0]
    assert [ours[c].value for c in ("Seeds", "Produced data", "Generation")] == [37_000, 11_234, 360]
    assert script.our_text(load_table("12").cells[0]["Generation"], ours["Generation"]) == "6.0h"


def test_a_step_that_is_not_complete_has_no_size_and_no_time_yet(tmp_path):
    folder = tmp_path / "data" / "llama-3-8b-37k" / "instructions"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"rows_out": 100, "complete": False}))
    assert "Produced data" not in ours_in(tmp_path, 12)[0]


def test_one_result_can_be_named(results, printed):
    other = results / OURS / "humanevalplus" / "results.json"
    text = printed(f"base/codeqwen1.5-7b={other}", "--tables", "1")
    assert "| CodeQwen1.5-7B-Base | - | 45.7 |" in text and "60.0 [50.0, 70.0] (+14.3)" in text


def test_the_folder_of_a_system_can_lie_anywhere(tmp_path, printed):
    add_result(tmp_path, "a", "humaneval", [True] * 30 + [False] * 70)
    add_result(tmp_path, "b", "humaneval", [True] * 60 + [False] * 40)
    (tmp_path / "b" / "instructions").mkdir()
    (tmp_path / "b" / "instructions" / "run.json").write_text(json.dumps({"rows_out": 14}))
    folders = (f"quickstart/before={tmp_path}/a", f"quickstart/after={tmp_path}/b")
    text = printed(*folders, "--tables", "quickstart")
    assert "| — ours |  | 30.0 [50.0, 70.0] |" in text and "| — ours | 14 | 60.0 [50.0, 70.0] |" in text
    assert "| quickstart/after | quickstart/before | HumanEval |" in text and "Not run yet" not in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--tables", "14"), "there is no table 14"),
        (("octopack-cq-7b=results.json",), "is not a results.json"),
        (("no-such={}",), "there is no system no-such"),
        (("--figures", "{}"), "results.json can't be made: File exists"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(results, printed, arguments, sentence):
    there = results / OURS / "humanevalplus" / "results.json"
    with pytest.raises(UserError, match=sentence):
        printed(*(argument.format(there) for argument in arguments))


def test_a_damaged_result_is_left_out_and_said(results, capsys):
    (results / OURS / "humanevalplus" / "results.json").write_text('{"scores": ')
    script.main(script.Options(results=(str(results),), tables=("1",)))
    assert "is left out" in capsys.readouterr().err


def test_every_table_is_drawn(results, tmp_path, printed):
    figures = tmp_path / "figures"
    printed(results, "--tables", "1", "8", "--figures", figures)
    assert sorted(path.name for path in figures.iterdir()) == ["table01.png", "table08.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000 for path in figures.iterdir())


def test_a_folder_that_is_not_there_is_refused(tmp_path, printed):
    with pytest.raises(UserError, match=r"there is no folder .*nothere"):
        printed(tmp_path / "nothere")
