"""The published numbers, checked against sums typed from the paper, and the systems that the tables name."""

import pytest

from selfalign.report.paper import load_table, system_of
from tests.helpers import ROOT

TABLES = {n: load_table(str(n)) for n in range(1, 13)}


def published(table):
    """The rows of a table as its numbers by column, 0 where there is none."""
    return [{column: cell.published or 0.0 for column, cell in cells.items()} for cells in TABLES[table].cells]


SHAPES = {1: (19, 2), 2: (9, 3), 3: (9, 6), 4: (6, 3), 5: (9, 2), 6: (9, 8), 7: (9, 4), 8: (5, 6), 9: (4, 3)}
SHAPES |= {10: (3, 1), 11: (4, 2), 12: (5, 4)}


@pytest.mark.parametrize(("table", "rows", "columns"), [(n, *shape) for n, shape in SHAPES.items()])
def test_every_row_and_column_of_the_paper_is_there(table, rows, columns):
    assert len(TABLES[table].cells) == rows and {len(cells) for cells in TABLES[table].cells} == {columns}


def test_only_what_the_authors_did_not_run_has_no_number():
    missing = [(n, c.text) for n, t in TABLES.items() for row in t.cells for c in row.values() if c.published is None]
    assert missing == [(8, "not run")] * 6


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
    assert sum(row[column] for row in published(table)) == pytest.approx(TOTALS[table][column])


@pytest.mark.parametrize("table", [3, 7])
def test_averages_are_the_means_of_their_columns(table):
    for average, *parts in (row.values() for row in published(table)):
        assert average == pytest.approx(sum(parts) / len(parts), abs=0.051)


def test_the_average_of_ds1000_is_that_of_its_1000_problems():
    problems = {"Pandas": 291, "NumPy": 220, "Matplotlib": 155, "TensorFlow": 45, "SciPy": 106, "Sklearn": 115}
    problems["PyTorch"] = 1000 - sum(problems.values())
    for row in published(6):
        mean = sum(n * row[library] for library, n in problems.items()) / 1000
        assert row["Avg"] == pytest.approx(mean, abs=0.11)


def test_a_models_own_data_beats_that_of_the_next_stronger_one():
    """The paper's reading of Table 8: each cell of the diagonal beats the one to its right."""
    columns = ["StarCoder2-3B", "Llama-3-8B", "StarCoder2-15B", "DeepSeek-Coder-33B", "CodeQwen1.5-7B"]
    gains = [row[own] - row[right] for row, own, right in zip(published(8), columns, columns[1:], strict=False)]
    assert gains == pytest.approx([1.3, 2.5, 2.5, 3.7])


def test_the_headline_gains():
    *_, base, octopack, ours = (row["HumanEval+"] for row in published(1))
    assert (ours - base, ours - octopack) == (pytest.approx(21.4), pytest.approx(16.5))


def test_one_system_has_one_score_in_all_tables():
    scores = {}
    for table in TABLES.values():
        for cell in (cell for cells in table.cells for cell in cells.values()):
            if cell.benchmarks and cell.published is not None:
                scores.setdefault((cell.system, cell.benchmarks, cell.score), set()).add(cell.published)
    assert all(len(values) == 1 for values in scores.values()), {k: v for k, v in scores.items() if len(v) > 1}


def test_every_system_has_an_entry_and_every_command_a_script():
    for table in (*TABLES.values(), *map(load_table, ("starcoder2_instruct", "small", "quickstart", "self_align"))):
        systems = {cell.system for cells in table.cells for cell in cells.values()}
        assert systems >= {name for pair in table.compare for name in pair}
        for command in (system_of(system).command for system in systems):
            assert command is None or (ROOT / command.split()[1]).is_file(), command
