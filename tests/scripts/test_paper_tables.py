"""The published numbers against sums typed from the paper, and what paper_tables.py makes of results."""

import csv
import io
import json
import re
import subprocess
import sys

import pytest
import tyro

from selfalign.errors import UserError
from tests.helpers import ROOT, load_script

script = load_script("paper_tables")
TABLES = {n: script.load_table(str(n)) for n in range(1, 13)}


# The data -------------------------------------------------------------------------------------------------------------


SHAPES = {1: (19, 2), 2: (9, 3), 3: (9, 6), 4: (6, 3), 5: (9, 2), 6: (9, 8), 7: (9, 4), 8: (5, 6), 9: (4, 3)}
SHAPES |= {10: (3, 1), 11: (4, 2), 12: (5, 4)}


@pytest.mark.parametrize(("table", "rows", "columns"), [(n, *shape) for n, shape in SHAPES.items()])
def test_every_row_and_column_of_the_paper_is_there(table, rows, columns):
    assert len(TABLES[table].cells) == rows and {len(cells) for cells in TABLES[table].cells} == {columns}


def test_only_what_the_authors_did_not_run_has_no_number():
    missing = [(c.table, c.text) for t in TABLES.values() for r in t.cells for c in r.values() if c.published is None]
    assert missing == [("table08", "not run")] * 6


# Added up from the text of the paper, not from the files. The columns of Tables 3, 6 and 7 that are not here must agree
# with their averages, see below.
TOTALS = {
    1: {"HumanEval+": 1171.1, "MBPP+": 1173.5},
    2: {"2023-09-01": 164.0, "2023-07-01": 168.6, "2023-05-01": 170.4},
    3: {"Avg": 343.8, "Tool use": 513},
    4: {"DPS (%)": 476.1, "pass@1 (%)": 370.0, "Win rate (%)": 299.6},
    5: {"Class-level": 197.0, "Method-level": 422.5},
    6: {"Avg": 330.5},
    7: {"Avg": 327.2},
    8: {"Itself": 184.7, "StarCoder2-3B": 84.2, "Llama-3-8B": 131.7, "StarCoder2-15B": 190.8}
    | {"DeepSeek-Coder-33B": 261.6, "CodeQwen1.5-7B": 268.2},
    9: {"Data size": 74_500, "Execution pass rate": 148.3, "Pass@1": 246.3},
    10: {"Pass@1": 189.0},
    11: {"Dataset size": 4 * 74_000, "Pass@1": 253.7},
    12: {"Seeds": 5 * 37_000, "Produced data": 69_000, "Generation": 115 * 60, "Fine-tuning": 426},
}


@pytest.mark.parametrize(("table", "column"), [(n, column) for n, totals in TOTALS.items() for column in totals])
def test_columns_add_up(table, column):
    found = sum(cells[column].published or 0 for cells in TABLES[table].cells)
    assert found == pytest.approx(TOTALS[table][column])


@pytest.mark.parametrize("table", [3, 7])
def test_averages_are_the_means_of_their_columns(table):
    for cells in TABLES[table].cells:
        average, *parts = [cell.published for cell in cells.values()]
        assert average == pytest.approx(sum(parts) / len(parts), abs=0.051), cells["Avg"].row


def test_the_average_of_ds1000_is_that_of_its_1000_problems():
    problems = {"Pandas": 291, "NumPy": 220, "Matplotlib": 155, "TensorFlow": 45, "SciPy": 106, "Sklearn": 115}
    problems["PyTorch"] = 1000 - sum(problems.values())
    for cells in TABLES[6].cells:
        mean = sum(n * cells[library].published for library, n in problems.items()) / 1000
        assert cells["Avg"].published == pytest.approx(mean, abs=0.11), cells["Avg"].row


def test_a_models_own_data_beat_those_of_the_next_stronger_one():
    """The paper's reading of Table 8: the diagonal beats the cell to its right."""
    columns = ["StarCoder2-3B", "Llama-3-8B", "StarCoder2-15B", "DeepSeek-Coder-33B", "CodeQwen1.5-7B"]
    gains = [
        cells[own].published - cells[right].published
        for cells, own, right in zip(TABLES[8].cells, columns, columns[1:], strict=False)
    ]
    assert gains == pytest.approx([1.3, 2.5, 2.5, 3.7])


def test_the_headline_gains():
    plus = {cells["HumanEval+"].row: cells["HumanEval+"].published for cells in TABLES[1].cells}
    ours = plus["SelfCodeAlign-CQ-7B"]
    assert ours - plus["CodeQwen1.5-7B-Base"] == pytest.approx(21.4)
    assert ours - plus["CodeQwen1.5-7B-OctoPack"] == pytest.approx(16.5)


def test_one_system_has_one_score_in_all_tables():
    scores = {}
    for table in TABLES.values():
        for cell in (cell for cells in table.cells for cell in cells.values()):
            if cell.benchmarks and cell.published is not None:
                scores.setdefault((cell.system, cell.benchmarks, cell.score), set()).add(cell.published)
    assert all(len(values) == 1 for values in scores.values()), {k: v for k, v in scores.items() if len(v) > 1}


def test_every_system_has_an_entry_and_every_command_a_script():
    for table in (*TABLES.values(), *map(script.load_table, ("starcoder2_instruct", "small", "quickstart"))):
        systems = {cell.system for cells in table.cells for cell in cells.values()}
        assert systems >= {name for pair in table.compare for name in pair}
        for command in (script.recipe_of(system)["command"] for system in systems):
            assert command is None or (ROOT / command.split()[1]).is_file(), command


# Ours beside them -----------------------------------------------------------------------------------------------------

OURS, OCTOPACK = "selfcodealign-cq-7b", "octopack-cq-7b"


def add_result(folder, system, benchmark, passed, **more):
    """What benchmark.py writes, from verdicts by task."""
    (folder / system / benchmark).mkdir(parents=True)
    result = {"benchmark": benchmark, "model": "m", "intervals": {"pass@1": [0.5, 0.7]}}
    result |= {
        "scores": {"pass@1": sum(passed) / len(passed)},
        "by_problem": {f"t{i}": p for i, p in enumerate(passed)},
    }
    (folder / system / benchmark / "results.json").write_text(json.dumps(result | more))


@pytest.fixture
def results(tmp_path):
    add_result(tmp_path, OURS, "humanevalplus", [True] * 120 + [False] * 80)
    add_result(tmp_path, OCTOPACK, "humanevalplus", [True] * 60 + [False] * 140)
    return tmp_path


@pytest.fixture
def printed(capsys):
    """The function from arguments to what is printed."""

    def printed(*arguments):
        capsys.readouterr()
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
    found = script.ours_of(TABLES[4], script.Results([str(tmp_path)]))
    assert [ours["Win rate (%)"].value for ours in found if ours] == [50, 0, 100]


def test_a_missing_run_shows_its_command_and_one_that_is_there_does_not(results, printed):
    text = printed(results, "--tables", "1")
    assert "bash experiments/base_models.sh codeqwen1.5-7b\n" in text
    assert "bash experiments/octopack.sh\n" in text, "MBPP+ is missing"
    add_result(results, OCTOPACK, "mbppplus", [True])
    assert "bash experiments/octopack.sh\n" not in printed(results, "--tables", "1")


def test_csv_has_a_line_for_every_number(results, printed):
    lines = list(csv.DictReader(io.StringIO(printed(results, "--format", "csv"))))
    assert len(lines) == sum(len(cells) for name in script.table_names() for cells in script.load_table(name).cells)
    line = next(line for line in lines if (line["system"], line["column"]) == (OURS, "HumanEval+"))
    assert (float(line["published"]), float(line["ours"]), float(line["difference"])) == (67.1, 60.0, -7.1)


def test_latex_escapes_what_is_special(results, printed):
    text = printed(results, "--format", "latex", "--tables", "1", "4")
    assert text.count(r"\begin{tabular}") == 3 and r"DPS (\%)" in text and "60.0 [50.0, 70.0] (-7.1)" in text


def test_the_best_of_three_kinds_of_generation_counts(tmp_path):
    for name, passed in {"holistic": [True, False], "incremental": [True, True], "compositional": [False]}.items():
        add_result(tmp_path, OURS, f"classeval-{name}", passed)
    table = TABLES[5]
    ours = script.ours_of(table, script.Results([str(tmp_path)]))[-1]
    assert ours["Class-level"].value == 100.0 and "Method-level" not in ours


def test_an_average_waits_for_all_its_sets(tmp_path):
    sets = ["difficult", "creative", "subtle", "combine"]
    for name in sets:
        add_result(tmp_path, OURS, f"evoeval-{name}", [True, False])
    assert "Avg" not in script.ours_of(TABLES[3], script.Results([str(tmp_path)]))[-1]
    add_result(tmp_path, OURS, "evoeval-tool_use", [True])
    assert script.ours_of(TABLES[3], script.Results([str(tmp_path)]))[-1]["Avg"].value == pytest.approx(60)


def test_sizes_and_times_come_from_the_datasets(tmp_path):
    data = tmp_path / "data" / "llama-3-8b-37k"
    for step in ("concepts", "tasks", "responses", "executions", "instructions"):
        (data / step).mkdir(parents=True)
        (data / step / "run.json").write_text(json.dumps({"rows_in": 37_000, "rows_out": 11_234, "seconds": 5400}))
    ours = script.ours_of(TABLES[12], script.Results([str(tmp_path)]))[0]
    assert [ours[c].value for c in ("Seeds", "Produced data", "Generation")] == [37_000, 11_234, 360]
    assert script.our_text(TABLES[12].cells[0]["Generation"], ours["Generation"]) == "6.0h"


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
        (("--tables", "14"), "no table 14"),
        (("octopack-cq-7b=results.json",), "is no results.json"),
        (("no-such={}",), "no system no-such"),
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


def test_drawing_and_reading_are_not_imported_for_help():
    code = "import sys, paper_tables; sys.exit(bool({'matplotlib', 'pandas', 'datasets', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
