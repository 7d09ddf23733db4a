"""A step for the tests of the runner: it doubles numbers."""

from dataclasses import dataclass

import datasets

from selfalign.options import StepOptions
from selfalign.runner.source import Source
from selfalign.runner.step import run_step
from selfalign.runner.table import Table

COLUMNS = {"double": int}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    factor: int = 2


def options(folder, **changes):
    return Options(input="numbers", output=str(folder / "out"), **changes)


def numbers(n):
    rows = datasets.Dataset.from_list([{"id": f"{i:06d}", "number": i} for i in range(n)])
    return Source("numbers", {"fingerprint": "numbers"}, rows, {})


def double(row):
    return row | {"double": 2 * row["number"]}


def double_all(folder, rows, function=double, window=1, **changes):
    """Run the step into `folder`/out; `rows` is a source, or how many numbers to double. Returns run.json."""
    source = numbers(rows) if isinstance(rows, int) else rows
    return run_step(options(folder, **changes), Table(source, function, COLUMNS), window=window)


def noting(done):
    """A row function that appends the number of each row that it is called for to `done`."""
    return lambda row: done.append(row["number"]) or double(row)


def never(row):
    raise AssertionError("done twice")
