"""A step for the tests of the runner: it doubles numbers."""

import io
from dataclasses import dataclass, replace

import datasets
import pyarrow.parquet as pq

from selfalign.options import StepOptions
from selfalign.runner.source import Source
from selfalign.runner.step import run_step
from selfalign.runner.table import Table

COLUMNS = {"double": int}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    factor: int = 2


def options(folder, **changes):
    return replace(Options(input="numbers", output=str(folder / "out")), **changes)


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


# On the Hub of the fixture `hub`

REPO = "org/doubles"


def double_on_hub(hub, n=50, function=double, tables=None, **changes):
    wanted = replace(Options(input="numbers", output=REPO, hf_token=hub.token), **changes)
    return run_step(wanted, Table(numbers(n), function, COLUMNS), tables=tables)


def numbers_in(hub, prefix="data/train-", column="number"):
    """A column of the repo's parts, in the order of these."""
    files = hub.files(REPO)
    parts = [pq.read_table(io.BytesIO(files[name])) for name in sorted(files) if name.startswith(prefix)]
    return [number for part in parts for number in part[column].to_pylist()]


def staged(tmp_path):
    return list((tmp_path / "home" / "selfalign").rglob("*.parquet"))
