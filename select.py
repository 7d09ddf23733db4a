"""Step 6: executions -> instructions. One passing response for each task becomes an example to train on.

Paper: section 2.3 and appendix C.1. Of the samples of a task that passed their tests, one is drawn at random. Those
that repeat another are dropped, and half of the instructions that can show some of the tests do so. Table 9 compares
this with other strategies: a random response whether it passes or not (61.6 HumanEval+), a failing one (57.9), a
passing one (65.2).

    python select.py ./executions ./instructions
    python select.py ./executions ./instructions --choose agreement --sandboxes 8

Columns in:  id, task_id, instruction, response, tests, passed; if present, vacuous, mutation_score and outcome

Columns out: all of these, and

    messages      the example as a chat: [{"role": "user", ...}, {"role": "assistant", ...}]
    shown_tests   the tests that the instruction in the chat shows, null if it shows none

The output has two further configurations:

    preferences   pairs from the same task: prompt, chosen (passing) and rejected (failing, of similar length) as chats;
                  id, task_id, chosen_id, rejected_id, and where they come from
    rejected      the rows that a rule dropped: all columns, the rule as `reason`, the id of the row that is kept
                  instead of a duplicate as `kept_id`, and the benchmark's item that a row matches as `contamination`

The rules are applied, and counted, in this order: FILTERS of selfalign/data/filters.py, `vacuous` and `weak_tests`;
then, to the samples chosen, `contaminated`, and SAME and SIMILAR of selfalign/data/duplicates.py. The results of
--choose agreement are kept in OUTPUT-agreement.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

if __name__ == "select" and not TYPE_CHECKING:
    # The standard library has a module of this name. Where the project's folder is on the path, `import select` (in
    # selectors, and so in subprocess and asyncio) finds this file, which puts the real module in its own place. That
    # one is not called select.py, but other copies of the project, such as the one a shard runs from, have this file,
    # too. What follows is then defined but never used, with stand-ins for what the class of options needs.
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("select", [p for p in sys.path if not os.path.exists(os.path.join(p, "select.py"))])
    sys.modules["select"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["select"])
    OPERATIONAL, StepOptions = {}, object
    DecontaminationOptions, SandboxOptions = type("", (), {}), type("", (), {})
else:
    from selfalign.code.markdown import python_code
    from selfalign.data.agreement import agreements
    from selfalign.data.decontamination import decontaminator_of, record_of
    from selfalign.data.examples import chat, instruction_with, tests_to_show
    from selfalign.data.preferences import LINEAGE, PREFERENCE_COLUMNS, failures_beside, to_preference
    from selfalign.data.selection import (
        REJECTED_COLUMNS,
        SKIPPABLE,
        Rules,
        Sample,
        read_samples,
        select_samples,
        tasks_of,
    )
    from selfalign.errors import UserError
    from selfalign.ids import content_id, draws_of
    from selfalign.options import (
        OPERATIONAL,
        Count,
        DecontaminationOptions,
        Positive,
        SandboxOptions,
        Share,
        StepOptions,
        run_script,
    )
    from selfalign.report.page import write_report
    from selfalign.runner.source import Source, read_input
    from selfalign.runner.step import run_step
    from selfalign.runner.table import Removed, Table

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

NEEDED = ("id", "task_id", "instruction", "response", "tests", "passed")
COLUMNS = {"messages": [{"role": str, "content": str}], "shown_tests": str}


@dataclass(frozen=True, kw_only=True)
class Options(DecontaminationOptions, SandboxOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    strategy: Literal["passes", "failures", "random", "random-subset"] = "passes"
    """Which samples to choose from (Table 9): those that passed, those that did not, or all. `failures` and
    `random-subset` give as many examples as `passes` would, so that datasets of equal size are compared."""

    choose: Literal["random", "agreement", "shortest", "strongest-tests"] = "random"
    """Which sample of a task to choose: any (paper, 2.3); the one that agrees with most others when all of them run
    against all tests of the task; the shortest response; or the highest mutation_score. Ties are broken at random."""

    skip: tuple[str, ...] = ()
    """Rules to leave out, such as same_names near_code."""

    min_mutation_score: Share | None = None
    """Smallest share of a response's mutants that its tests must notice (off in the paper); needs mutation_score."""

    test_in_instruction: float = 0.5
    """Probability with which an instruction shows tests, if they have the form for it (paper, C.1)."""

    timeout: Positive = 10.0
    """For --choose agreement: seconds of processor time that a program may use."""

    memory: Count = 1024
    """For --choose agreement: MiB that a program may use."""

    report: bool = field(default=True, metadata=OPERATIONAL)
    """Write report.html and its figures beside the data: what was chosen, what was not, and why."""


def check(options: Options, columns: Sequence[str]) -> None:
    """UserError if the options contradict each other or the columns of the input."""
    if unknown := [rule for rule in options.skip if rule not in SKIPPABLE]:
        raise UserError(f"--skip {unknown[0]} is not a rule that can be left out; these are: {', '.join(SKIPPABLE)}")
    if not 0 <= options.test_in_instruction <= 1:
        raise UserError(f"--test-in-instruction {options.test_in_instruction} is not a probability between 0 and 1")
    if options.choose == "agreement" and options.strategy != "passes":
        raise UserError("--choose agreement compares samples that passed: it needs --strategy passes")
    scored = {
        "--min-mutation-score": options.min_mutation_score is not None,
        "--choose strongest-tests": options.choose == "strongest-tests",
    }
    if "mutation_score" not in columns and (wanted := [option for option, given in scored.items() if given]):
        raise UserError(f"{options.input} has no column mutation_score, which {wanted[0]} needs")


def costs_of(samples: Sequence[Sample], executions: Source, options: Options) -> dict[str, float]:
    """What --choose keeps low, by id."""
    if options.choose == "shortest":
        rows = executions.read([sample.position for sample in samples], ["id", "response"], "lengths")
        return {row["id"]: len(row["response"]) for _, row in rows}
    if options.choose == "strongest-tests":
        return {sample.id: -(sample.mutation_score or 0.0) for sample in samples}
    if options.choose == "agreement":
        several = [positions for positions in tasks_of(samples).values() if len(positions) > 1]
        timeout, memory = options.timeout, options.memory << 20
        shares = agreements(options, executions, several, options.sandboxes, timeout=timeout, memory=memory)
        return {id: -share for id, share in shares.items()}
    return {}


def to_example(row: dict[str, Any], options: Options) -> dict[str, Any]:
    """A chosen row as an example to train on; half of those that can show some of the tests do (paper, C.1)."""
    draws = draws_of(options.seed, row["id"])
    shown = tests_to_show(row["instruction"], python_code(row["tests"]) or "", options.test_in_instruction, draws)
    question = chat("user", instruction_with(row["instruction"], shown))
    return row | {"messages": question + chat("assistant", row["response"]), "shown_tests": shown}


def main(options: Options) -> None:
    """Choose one response for each task, from those that the strategy allows and that break no rule; drop what is of a
    benchmark or repeats another; show tests in some of the instructions; pair what is left with failures."""
    executions = read_input(options, *NEEDED)
    check(options, executions.rows.column_names)
    decontaminator = decontaminator_of(options)
    rules = Rules(
        strategy=options.strategy,
        seed=options.seed,
        skip=options.skip,
        min_mutation_score=options.min_mutation_score,
        costs_of=lambda samples: costs_of(samples, executions, options),
        decontaminator=decontaminator,
    )
    samples, unusable = read_samples(executions)
    selection = select_samples(executions, samples, rules)
    dropped = unusable | selection.dropped
    if not selection.chosen:
        why = ", ".join(f"{n} {rule}" for rule, n in dropped.items() if n)
        raise UserError(f"{options.input} has no sample that --strategy {options.strategy} could choose ({why})")
    failures = failures_beside(selection.chosen, executions, samples, rules)
    paired = [sample for sample in selection.chosen if sample.id in failures]
    reasons = {sample.id: why for sample, why in selection.rejected.items()}

    # A run remembers which rows are done by their number in these tables: another selection is another run.
    tables = [selection.chosen, paired, sorted(selection.rejected)]
    pin = executions.pin | {"selection": content_id(*([sample.id for sample in table] for table in tables))}
    examples, with_failure, rejected = (
        replace(executions, rows=executions.rows.select([sample.position for sample in table]), pin=pin, needs=())
        for table in tables
    )
    lineage = {name: str for name in LINEAGE if name in executions.rows.column_names}
    run_step(
        options,
        Table(examples, lambda row: to_example(row, options), COLUMNS),
        removed=Removed(
            dropped,
            decontamination=record_of(decontaminator, filter(None, (why["contamination"] for why in reasons.values()))),
        ),
        tables={
            "preferences": Table(
                with_failure,
                lambda row: to_preference(row, failures[row["id"]]),
                PREFERENCE_COLUMNS | lineage,
                carry=False,
            ),
            "rejected": Table(rejected, lambda row: row | reasons[row["id"]], REJECTED_COLUMNS),
        },
    )
    if options.report and not options.shard:  # a shard is a part of a run that looks at the whole
        write_report(options.output, executions, token=options.hf_token)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
