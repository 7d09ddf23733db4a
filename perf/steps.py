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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


# Prints, as the last line, JSON of the peaks of memory in MiB (ru_maxrss would start from the peak of the process that
# started this one; `anonymous` is read ten times a second) and of the CPU seconds so far.
MEASURED = """
import json, resource, sys, threading, time
def kilobytes(name):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name)))
peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, kilobytes("RssAnon"))
        time.sleep(0.1)
threading.Thread(target=watch, daemon=True).start()
{work}
used = resource.getrusage(resource.RUSAGE_SELF)
cpu = used.ru_utime + used.ru_stime
print(json.dumps({{"resident": kilobytes("VmHWM") / 1024, "anonymous": peak / 1024, "cpu": cpu}}))
"""


def write_input(path: Path, rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = "def f{0}(x):\n    return x + {0}  # a function that adds a number to its argument"
    table = pa.table({"id": [f"{i:016x}" for i in range(rows)], "content": [text.format(i) for i in range(rows)]})
    pq.write_table(table, path, row_group_size=10_000)


def measure(name: str, rows: int, environment: dict[str, str], work: str, *arguments: str) -> None:
    """Print the time and the peak memory of a process that does `work`, Python code, to `rows` rows."""
    started = time.perf_counter()
    command = [sys.executable, "-c", MEASURED.format(work=work), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr or f"exit status {done.returncode}")
    seconds, found = time.perf_counter() - started, json.loads(done.stdout.splitlines()[-1])
    print(
        f"{name:28} {seconds:7.1f} s {found['cpu']:7.1f} s {rows / seconds:10,.0f} rows/s "
        f"{1e6 * found['cpu'] / rows:7.1f} us per row {found['anonymous']:7.0f} MiB {found['resident']:7.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--hub", action="store_true", help="write to a Hub and not to a folder")
    options = parser.parse_args()
    rows = options.rows
    with tempfile.TemporaryDirectory() as folder, LocalHub() as hub:
        source = f"{folder}/in.parquet"
        write_input(Path(source), rows)
        environment = hub.environment(Path(folder) / "home") | {"PYTHONPATH": str(ROOT)}
        if options.hub:
            kind, ours, theirs, peer = "hub", "org/ours", "org/map", "map + push_to_hub"
        else:
            kind, ours, theirs, peer = "folder", f"{folder}/ours", f"{folder}/map", "map + to_parquet"
            environment["HF_HUB_OFFLINE"] = "1"
        print(f"{rows:,} rows; {os.cpu_count()} cores; load average {os.getloadavg()[0]:.1f}")
        print(f"{'':28} {'wall':>9} {'CPU':>9} {'':>17} {'CPU':>18} {'anonymous':>11} {'resident':>11}")
        measure(f"selfalign, {kind}", rows, environment, SELFALIGN, source, ours)
        measure("  again, when it is done", rows, environment, SELFALIGN, source, ours)
        measure(peer, rows, environment, MAP, source, theirs, kind)


if __name__ == "__main__":
    main()
