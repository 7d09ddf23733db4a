"""A summary of a run of the whole chain: the funnel, two of the examples that the model wrote, and pass@1.

python -m runs.summary ./runs/out/quickstart
"""

import json
import sys
from pathlib import Path

from selfalign.runner.card import funnel_table
from selfalign.runner.source import open_source

EXAMPLES = 2


def main(folder: Path, hub: str | None = None) -> None:
    """Print what the run.json and results.json files of the steps in `folder` say; the datasets may be on the Hub."""
    run = json.loads((folder / "after" / "model" / "run.json").read_text())
    print(f"\n{funnel_table(run['funnel'])}\n")
    name = f"{hub}-instructions" if hub else str(folder / "after" / "instructions")
    instructions = open_source(name).rows
    for row in instructions.select(range(min(EXAMPLES, len(instructions)))).to_list():
        source = row.get("path") or "the seeds"  # own seeds may have none
        concepts = ", ".join(row.get("concepts") or ()) or "no concepts"  # with --without-concepts
        print(f"--- {row['category']}, {row['difficulty']}, from {source}: {concepts}")
        print(f"[Instruction]\n{row['instruction']}\n\n[Response]\n{row['response']}\n\n[Tests]\n{row['tests']}\n")
    for when in ("before", "after"):
        results = json.loads((folder / when / "humaneval" / "results.json").read_text())
        low, high = results["intervals"]["pass@1"]
        score = f"{100 * results['scores']['pass@1']:.1f} % ({results['passed']} of {results['problems']}"
        print(f"HumanEval pass@1 {when} fine-tuning: {score}; 95 %: {100 * low:.1f} to {100 * high:.1f})")
    print(f"\nWhat was chosen, what was not, and why: {name}/report.html")
    print(f"The model is in {folder / 'after' / 'model'}: python serve.py --model {folder / 'after' / 'model'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
