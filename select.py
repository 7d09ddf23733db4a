"""Step 6: executions -> instructions. One passing response per task becomes a training example.

Paper: section 2.3 and appendix C.1. One of the samples of each task that passed their tests is drawn at random, and
duplicates are dropped. Half of the instructions whose tests have a suitable form show some of them. Table 9 compares
this strategy (65.2 on HumanEval+) with others: a random response, whether it passes or not (61.6), and a failing one
(57.9).

    python select.py ./executions ./instructions
    python select.py ./executions ./instructions --choose agreement --sandboxes 8
    python select.py ./executions ./instructions --min-pass-rate 0.2 --max-pass-rate 0.8

Columns in:  id, task_id, instruction, response, tests, passed; if present, vacuous, mutation_score and outcome

Columns out: those of the input, and

    messages      the example as a chat: [{"role": "user", ...}, {"role": "assistant", ...}]; of a repair (repair.py),
                  four turns: the task, the failing attempt, what its tests say, the explanation and the mended code
    shown_tests   the tests that the instruction shows; null if it shows none
    pass_rate     share of the task's samples that passed, from 0 to 1: how difficult the task is for the model
    judged_samples    number of samples that this is a share of

An input that has a pass_rate already, as instructions have, keeps it.

Besides these rows, the output has two further configurations:

    preferences   prompt, chosen (passing) and rejected (failing, of similar length), from the same task, as chats; also
                  id, task_id, chosen_id, rejected_id, and the lineage
    rejected      the rows that a rule dropped, with all their columns: `reason` is the rule, `kept_id` the id of the
                  row that this one duplicates, `contamination` the benchmark item that it matches

The rules apply in this order, and what each drops is counted. All samples: FILTERS in selfalign/data/filters.py, then
`vacuous`, `weak_tests` (by --min-mutation-score), `few_branches` (by --min-branches), `little_support` (by
--min-support), `too_hard` and `too_easy` (by --min-pass-rate and --max-pass-rate). The chosen samples: `contaminated`,
then SAME and SIMILAR in selfalign/data/duplicates.py. The results of --choose agreement are kept in OUTPUT-agreement,
those of --strategy consensus and --min-support in OUTPUT-consensus.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

if __name__ == "select" and not TYPE_CHECKING:
    # The standard library has a module of this name. Where the project's folder is on the path, `import select` (in
    # selectors, and so in subprocess and asyncio) finds this file, which puts the real module in its own place. The
    # real one is not a select.py, so this also skips other copies of the project, such as the one that a shard runs
    # from. The rest is then defined but never used, with stand-ins for what the class of options needs.
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    spec = PathFinder.find_spec("select", [p for p in sys.path if not os.path.exists(os.path.join(p, "select.py"))])
    sys.modules["select"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["select"])
    LATER, OPERATIONAL, StepOptions = {}, {}, object
    DecontaminationOptions, SandboxOptions = type("", (), {}), type("", (), {})
else:
    from selfalign.data.agreement import agreements
    from selfalign.data.consensus import agreed_executions
    from selfalign.data.conversations import conversation_of, is_repair
    from selfalign.data.decontamination import decontaminator_of, record_of
    from selfalign.data.examples import (
        LINEAGE,
        PREFERENCE_COLUMNS,
        chat,
        failures_beside,
        tests_to_show,
        to_preference,
        with_tests,
    )
    from selfalign.data.languages import code_in, language_of, languages_in
    from selfalign.data.selection import (
        RATE_COLUMNS,
        REJECTED_COLUMNS,
        SKIPPABLE,
        Rules,
        Sample,
        has_pass_rates,
        read_samples,
        select_samples,
        tasks_of,
    )
    from selfalign.errors import UserError
    from selfalign.ids import content_id, draws_of
    from selfalign.options import (
        LATER,
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

    strategy: Literal["passes", "failures", "all-failures", "random", "random-subset", "consensus"] = "passes"
    """Which samples to choose from (Table 9): those that passed, those that failed, or all. `failures` and
    `random-subset` yield as many examples as `passes` would, so that the datasets are of equal size; `all-failures` and
    `random` do not. `consensus`, which the paper does not have, chooses from the samples that do what most samples of
    the task do, whether their own tests pass or not, and gives them tests that state these outputs."""

    choose: Literal["random", "agreement", "shortest", "strongest-tests"] = "random"
    """Which sample of a task to take: a random one (paper, 2.3), the one that agrees with most others on all of the
    task's tests, the one with the shortest response, or the one with the highest mutation_score. Ties are broken at
    random."""

    skip: tuple[str, ...] = ()
    """Rules to skip, such as same_names near_code."""

    min_mutation_score: Share | None = None
    """Minimum mutation_score, which is the share of a response's mutants that its tests notice. The paper has no such
    rule. The input needs the column mutation_score."""

    min_branches: Count | None = field(default=None, metadata=LATER)
    """Minimum number of conditions, loops, comprehensions, handlers and cases in the code. A minimum of 1 leaves out
    what only calls something. The paper has no such rule."""

    test_in_instruction: Share = 0.5
    """Probability that an instruction shows its tests, if these have a suitable form (paper, C.1); 0 turns this off."""

    shown_tests: Literal["first", "random", "reference"] = field(default="first", metadata=LATER)
    """Which assertions an instruction shows: the first ones, or random ones in random order, which `reference`
    introduces with the words of the paper's reference implementation."""

    min_support: Share | None = field(default=None, metadata=LATER)
    """For --strategy passes and consensus: minimum share of a task's other samples that compute the same outputs, or
    minimum of what else --support says. At 0.5, about two thirds as many tasks keep a sample, and far more of these are
    right (docs/results.md). The paper has no such rule."""

    support: Literal["outputs", "outputs-and-assertions"] = field(default="outputs", metadata=LATER)
    """What supports a sample, for --strategy consensus and --min-support: the share of the task's other samples that
    compute the same outputs, or the mean of this and the share of their assertions that the outputs meet. The second
    finds right samples more often (docs/results.md)."""

    min_pass_rate: Share | None = field(default=None, metadata=LATER)
    """Minimum share of a task's samples that passed. With --max-pass-rate, this chooses tasks by their difficulty for
    the model. The paper has no such rule."""

    max_pass_rate: Share | None = field(default=None, metadata=LATER)
    """Maximum share of a task's samples that passed; 0.99 leaves out those that are always solved."""

    timeout: Positive = 10.0
    """For --choose agreement, --strategy consensus and --min-support: CPU seconds that a program may use."""

    memory: Count = 1024
    """For --choose agreement, --strategy consensus and --min-support: memory that a program may use, in MiB."""

    report: bool = field(default=True, metadata=OPERATIONAL)
    """Write report.html and its figures beside the data. The report shows what was chosen, what was not, and why."""


def check(options: Options, executions: Source) -> None:
    """UserError if the options contradict each other or the columns of the input."""
    columns = executions.rows.column_names
    if unknown := [rule for rule in options.skip if rule not in SKIPPABLE]:
        raise UserError(f"--skip {unknown[0]}: the rules that can be skipped are {', '.join(SKIPPABLE)}")
    if options.choose == "agreement" and options.strategy != "passes":
        raise UserError("--choose agreement compares samples that passed, so it needs --strategy passes")
    if options.min_support is not None and options.strategy not in ("passes", "consensus"):
        raise UserError("--min-support needs --strategy passes or consensus")
    if options.support != "outputs" and options.min_support is None and options.strategy != "consensus":
        raise UserError(f"--support {options.support} needs --strategy consensus or --min-support")
    lowest, highest = options.min_pass_rate, options.max_pass_rate
    if lowest is not None and highest is not None and lowest > highest:
        raise UserError(f"no task has a pass rate of at least {lowest} and of at most {highest}: exchange the two")
    strongest = options.choose == "strongest-tests"
    if strongest or options.min_mutation_score is not None:
        option = "--choose strongest-tests" if strongest else "--min-mutation-score"
        if options.strategy == "consensus":
            raise UserError(f"{option} is about a sample's own tests, which --strategy consensus replaces")
        if "mutation_score" not in columns:
            raise UserError(f"{options.input} has no column mutation_score, which {option} needs")
    if options.choose == "agreement" or options.strategy == "consensus" or options.min_support is not None:
        languages_in(executions)  # all of these have to run


def judged(options: Options, executions: Source) -> tuple[Source, list[Sample], dict[str, int]]:
    """The executions, with the support and the verdicts by consensus that the options ask for; their samples, and why
    how many rows are none."""
    samples, unusable = read_samples(executions)
    by_consensus = options.strategy == "consensus"
    if not by_consensus and options.min_support is None:
        return executions, samples, unusable
    executions = agreed_executions(
        options,
        executions,
        list(tasks_of(samples).values()),
        options.sandboxes,
        timeout=options.timeout,
        memory=options.memory << 20,
        only_support=not by_consensus,
        assertions=options.support == "outputs-and-assertions",
    )
    return executions, *read_samples(executions)


def costs_of(samples: Sequence[Sample], executions: Source, options: Options) -> dict[str, float]:
    """The cost that --choose minimizes, by id."""
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
    """A chosen row as a training example, whose instruction may show some of the tests (paper, C.1)."""
    draws = draws_of(options.seed, row["id"])
    language = language_of(row)
    tests, probability = code_in(row["tests"], language) or "", options.test_in_instruction
    shown = tests_to_show(row["instruction"], tests, probability, draws, options.shown_tests, language)
    question = with_tests(row["instruction"], shown, options.shown_tests, language)
    answered = [*chat("user", question), *chat("assistant", row["response"])]
    messages = conversation_of(row, question) if is_repair(row) else answered
    return row | {"messages": messages, "shown_tests": shown}


def main(options: Options) -> None:
    """Choose one response per task from those that the strategy allows and that break no rule, drop those that match a
    benchmark or duplicate another, show tests in some of the instructions, and pair the rest with failures."""
    executions = read_input(options, *NEEDED)
    check(options, executions)
    options, decontaminator = decontaminator_of(options)
    executions, samples, unusable = judged(options, executions)
    rules = Rules(
        strategy=options.strategy,
        seed=options.seed,
        skip=options.skip,
        min_mutation_score=options.min_mutation_score,
        min_branches=options.min_branches,
        min_support=options.min_support,
        min_pass_rate=options.min_pass_rate,
        max_pass_rate=options.max_pass_rate,
        costs_of=lambda samples: costs_of(samples, executions, options),
        decontaminator=decontaminator,
    )
    selection = select_samples(executions, samples, rules)
    dropped = unusable | selection.dropped
    if not selection.chosen:
        why = ", ".join(f"{n} {rule}" for rule, n in dropped.items() if n)
        raise UserError(f"{options.input} has no sample that --strategy {options.strategy} could choose ({why})")
    failures = failures_beside(selection.chosen, executions, samples, rules)
    paired = [sample for sample in selection.chosen if sample.id in failures]
    # Of the pairs, too, only the first ones: a later run with a larger --max-samples continues after them.
    pairs = sum(sample.id in failures for sample in selection.chosen[: options.max_samples])
    reasons = {sample.id: why for sample, why in selection.rejected.items()}
    counted = {} if has_pass_rates(executions) else RATE_COLUMNS
    rates = {sample.id: {name: getattr(sample, name) for name in counted} for sample in samples}

    # Progress is recorded by position in these tables, so a different selection is a different run.
    tables = [selection.chosen, paired, sorted(selection.rejected)]
    pin = executions.pin | {"selection": content_id(*([sample.id for sample in table] for table in tables))}
    chosen, with_failure, rejected = (
        replace(executions, rows=executions.rows.select([sample.position for sample in table]), pin=pin, needs=())
        for table in tables
    )
    lineage = {field.name: field.type for field in executions.rows.features.arrow_schema if field.name in LINEAGE}
    matches = filter(None, (why["contamination"] for why in selection.rejected.values()))
    run_step(
        options,
        Table(chosen, lambda row: to_example(row, options) | rates[row["id"]], COLUMNS | counted, later={*counted}),
        removed=Removed(dropped, record_of(decontaminator, matches)),
        tables={
            "preferences": Table(
                with_failure,
                lambda row: to_preference(row, failures[row["id"]]),
                PREFERENCE_COLUMNS | lineage,
                carry=False,
                limit=pairs,
            ),
            "rejected": Table(
                rejected,
                lambda row: row | reasons[row["id"]] | rates[row["id"]],
                REJECTED_COLUMNS | counted,
                later={*counted},
            ),
        },
    )
    if options.report and not options.shard:  # a shard sees only its own part of the run
        write_report(options.output, executions, token=options.hf_token)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
