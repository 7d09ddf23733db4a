"""What the step runner costs per row, compared with datasets' own map at the same work.

    python -m perf.steps --rows 1000000
    python -m perf.steps --hub

The work adds a column to rows of 90 bytes, one by one. `selfalign` writes parts while it runs and can be killed at any
moment; `Dataset.map` writes into its cache, is saved at the end, and starts from the beginning when it is killed. Each
runs in a process of its own, so its peak memory is its own (the anonymous part leaves out the mapped input).

`--hub` does both with a Hub on this machine (tests/fakes/hub.py): our commits against push_to_hub.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from perf.memory import start
from selfalign.options import ROOT
from tests.fakes.hub import LocalHub

ROWS = 1_000_000
SELFALIGN = """
from dataclasses import dataclass
from selfalign.options import StepOptions
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Table
options = StepOptions(input=sys.argv[1], output=sys.argv[2])
run_step(options, Table(read_input(options, "id"), lambda row: row | {"length": len(row["content"])}, {"length": int}))
"""
MAP = """
import datasets
rows = datasets.load_dataset("parquet", data_files=sys.argv[1], split="train")
rows = rows.map(lambda row: {"length": len(row["content"])})
if sys.argv[3] == "hub":
    rows.push_to_hub(sys.argv[2], private=True)
else:
    rows.to_parquet(sys.argv[2] + ".parquet")
"""


def write_input(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = [
        f"def f{i}(x):\n    return x + {i}  # a function that adds a number to its argument" for i in range(rows)
    ]
    table = pa.table({"id": [f"{i:016x}" for i in range(rows)], "content": content})
    pq.write_table(table, path, row_group_size=10_000)


def measure(work: str, arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds on the clock and of the processor, and peak MiB, of a process that does `work`."""
    started = time.perf_counter()
    process = start(work + "\nreport()", arguments, environment)
    said, complaint = process.communicate()
    if process.returncode:
        raise SystemExit(complaint or f"exit status {process.returncode}")
    return {"seconds": time.perf_counter() - started, **json.loads(said.splitlines()[-1])}


def report(name: str, rows: int, found: dict[str, float]) -> None:
    print(
        f"{name:28} {found['seconds']:7.1f} s {found['processor']:7.1f} s {rows / found['seconds']:10,.0f} rows/s "
        f"{1e6 * found['processor'] / rows:7.1f} us a row {found['anonymous']:7.0f} MiB {found['resident']:7.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--hub", action="store_true", help="write to a Hub and not to a folder")
    options = parser.parse_args()
    rows = options.rows
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.parquet"
        write_input(source, rows)
        common = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{folder}/home"}
        common |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT)}
        print(f"{rows:,} rows; {os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
        print(f"{'':28} {'wall':>9} {'processor':>9} {'':>17} {'processor':>16} {'anonymous':>11} {'resident':>11}")
        if options.hub:
            with LocalHub() as hub:
                common = hub.environment(Path(folder) / "home") | {"PYTHONPATH": str(ROOT)}
                report("selfalign to the Hub", rows, measure(SELFALIGN, [str(source), "org/ours"], common))
                report("  again, when it is done", rows, measure(SELFALIGN, [str(source), "org/ours"], common))
                report("map + push_to_hub", rows, measure(MAP, [str(source), "org/map", "hub"], common))
            return
        report("selfalign", rows, measure(SELFALIGN, [str(source), f"{folder}/ours"], common))
        report("  again, when it is done", rows, measure(SELFALIGN, [str(source), f"{folder}/ours"], common))
        report("map + to_parquet", rows, measure(MAP, [str(source), f"{folder}/map", "folder"], common))


if __name__ == "__main__":
    main()
