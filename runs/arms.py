"""Equal arms of an experiment: as many examples for each way to select, and of the same tasks where they have them.

    python -m runs.arms ./small/passes/selected ./small/passes/instructions --size 40

Each arm takes the first --size of its examples in an order of the tasks that is random, and the same for all arms, so
that each is a random sample of its examples. Failures are paired with passes: --tasks-of names the examples of another
arm, whose tasks come first.

Columns in:  id, task_id, and whatever select.py writes
Columns out: the same
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field, replace

from selfalign.ids import content_id
from selfalign.options import OPERATIONAL, Count, StepOptions, run_script
from selfalign.runner.source import open_source, read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Removed, Table

# Arm -> what select.py is told, and how the arm is called in a sentence.
ARMS = {
    "random": (("--strategy", "random-subset"), "a random sample, whether it passes or not (self-distillation)"),
    "failures": (("--strategy", "all-failures"), "a sample that fails its own tests"),
    "passes": (("--strategy", "passes"), "a sample that passes its own tests (the paper)"),
    "agreed": (
        ("--strategy", "consensus", "--support", "outputs-and-assertions", "--min-support", "0.5"),
        "a sample that others agree with by outputs and assertions, whether it passes or not",
    ),
    "supported": (
        ("--strategy", "passes", "--min-support", "0.5"),
        "a sample that passes, and half of the others compute the same",
    ),
    "consensus": (("--strategy", "consensus"), "a sample that computes what most do, whether it passes or not"),
}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    size: Count
    """Examples to draw; all of them if there are fewer."""

    tasks_of: str | None = field(default=None, metadata=OPERATIONAL)
    """Dataset whose tasks come before others."""


def drawn(task_ids: list[str], size: int, seed: int, before: Set[str] = frozenset()) -> list[int]:
    """The positions, ascending, of the first `size` tasks: those in `before`, then the others, both in the random order
    that all arms share."""

    def place(position: int) -> tuple[bool, str]:
        return task_ids[position] not in before, content_id(seed, task_ids[position])

    return sorted(sorted(range(len(task_ids)), key=place)[:size])


def main(options: Options) -> None:
    """Draw the examples, and write them as they are."""
    source = read_input(options, "id", "task_id")
    first = open_source(options.tasks_of, token=options.hf_token).rows["task_id"][:] if options.tasks_of else ()
    positions = drawn(source.rows["task_id"][:], options.size, options.seed, before={*first})
    # Progress is recorded by position among the drawn rows, so another draw is another run.
    pin = source.pin | {"drawn": content_id(*positions)}
    table = Table(replace(source, rows=source.rows.select(positions), pin=pin), lambda row: row, {})
    run_step(options, table, removed=Removed({"beyond_the_size": len(source) - len(positions)}), title="equal_arms")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
