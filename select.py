"""Step 6: executions -> instructions. One passing response for each task becomes an example to train on.

Paper: section 2.3 and appendix C.1. Of the samples of a task that passed their tests one is drawn at random, what
repeats another is dropped, and half of the instructions that can show some of the tests do. Table 9 compares this with
other strategies: a random response whether it passes or not (61.6 HumanEval+), a failing one (57.9), a passing one
(65.2).

    python select.py ./executions ./instructions
    python select.py ./executions ./instructions --choose agreement --sandboxes 8

Columns in:  id, task_id, instruction, response, tests, passed; vacuous, mutation_score and outcome if they are there

Columns out: those, and

    messages      the example as a chat: [{"role": "user", ...}, {"role": "assistant", ...}]
    shown_tests   the tests that the chat's instruction shows, null if it shows none

Beside these rows, the output has two further configurations:

    preferences   prompt, chosen (passing) and rejected (failing, of similar length) as chats, from the same task:
                  id, task_id, chosen_id, rejected_id, and where they come from
    rejected      the rows that a rule dropped: all columns, the rule as `reason`, as `kept_id` the id of the row that
                  stays where this one repeats it, and as `contamination` the benchmark's item that it matches

The rules, in this order, each counted: FILTERS of selfalign/data/filters.py, `vacuous` and `weak_tests`; then, of the
chosen samples, `contaminated`, and SAME and SIMILAR of selfalign/data/selection.py. What --choose agreement finds out
is kept in OUTPUT-agreement.
"""

from __future__ import annotations

if __name__ == "select":
    # This file has the name of a module of the standard library. Where the project's folder is on the path, `import
    # select` (in selectors, and so in subprocess and asyncio) finds this one: hand over the real one. What follows is
    # then only defined, never used.
    import os
    import sys
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    # The real one is no select.py: this leaves out other copies of the project too, such as the one a shard runs from.
    elsewhere = [entry for entry in sys.path if not os.path.exists(os.path.join(entry, "select.py"))]
    spec = PathFinder.find_spec("select", elsewhere)
    if spec is None or spec.loader is None:
        raise ImportError("the standard library's select is not on sys.path")
    sys.modules["select"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["select"])
    StepOptions: type = object
    DecontaminationOptions: type = type("DecontaminationOptions", (), {})
    SandboxOptions: type = type("SandboxOptions", (), {})
    OPERATIONAL = {}
else:
    from selfalign.options import (
        OPERATIONAL,
        Count,
        DecontaminationOptions,
        Positive,
        SandboxOptions,
        Share,
        StepOptions,
    )

import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from random import Random

    from selfalign.code.contamination import Decontaminator, Match
    from selfalign.data.selection import Sample
    from selfalign.runner.source import Source

NEEDED = ("id", "task_id", "instruction", "response", "tests", "passed")
CHAT = [{"role": str, "content": str}]
LINEAGE = ("seed_id", "concepts_id", "category", "difficulty", "repository", "path", "license")
COLUMNS = {"messages": CHAT, "shown_tests": str}
PREFERENCE_COLUMNS = {
    **{name: str for name in ("id", "task_id", "chosen_id", "rejected_id")},
    **{name: CHAT for name in ("prompt", "chosen", "rejected")},
}
REJECTED_COLUMNS = {"reason": str, "kept_id": str, "contamination": str}

WANTED = {"passes": (True,), "failures": (False,), "random": (True, False), "random-subset": (True, False)}
SUBSETS = ("failures", "random-subset")  # as many examples as `passes` gives (Table 9)
# The form that tests must have to be shown in an instruction (paper, C.1; the numbers are the reference's): assertions
# alone, of which the first few are shown, or a block that is short as a whole. An instruction that speaks of tests or
# gives an example stays as it is.
MAX_SHOWN_ASSERTIONS = MAX_SHOWN_LINES = 5
SHOWS_ALREADY = re.compile(r"\bassert|\btests?\b|\bfor example\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Options(DecontaminationOptions, SandboxOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    strategy: Literal["passes", "failures", "random", "random-subset"] = "passes"
    """Which samples to choose from (Table 9): those that passed, those that did not, or all; `failures` and
    `random-subset` give as many examples as `passes` would, so that the data is of equal size."""

    choose: Literal["random", "agreement", "shortest", "strongest-tests"] = "random"
    """Which sample of a task: any (paper, 2.3); the one that ends as most others do on the tests of all; the shortest
    response; the highest mutation_score. Ties are drawn."""

    skip: tuple[str, ...] = ()
    """Rules to leave out, such as same_names near_code."""

    min_mutation_score: Share | None = None
    """Least share of a response's mutants that its tests must notice (off in the paper); needs mutation_score."""

    test_in_instruction: float = 0.5
    """Probability with which an instruction shows tests that have the form for it (paper, C.1); 0 switches it off."""

    timeout: Positive = 10.0
    """For --choose agreement: processor seconds that a program may use."""

    memory: Count = 1024
    """For --choose agreement: MiB that a program may use."""

    report: bool = field(default=True, metadata=OPERATIONAL)
    """Write report.html and its figures beside the data: what was chosen, what was not, and why."""


def check(options: Options, columns: list[str]) -> None:
    """UserError if the options contradict each other or the columns of the input."""
    from selfalign.data.filters import FILTERS
    from selfalign.data.selection import SAME, SIMILAR
    from selfalign.errors import UserError

    rules = (*FILTERS, *SAME, *SIMILAR)
    if unknown := [rule for rule in options.skip if rule not in rules]:
        raise UserError(f"--skip {unknown[0]} is no rule that can be left out; these are: {', '.join(rules)}")
    if not 0 <= options.test_in_instruction <= 1:
        raise UserError(f"--test-in-instruction {options.test_in_instruction} is no probability from 0 to 1")
    if options.choose == "agreement" and options.strategy != "passes":
        raise UserError("--choose agreement is among samples that passed: it needs --strategy passes")
    scored = {"--min-mutation-score": options.min_mutation_score is not None}
    scored["--choose strongest-tests"] = options.choose == "strongest-tests"
    if any(scored.values()) and "mutation_score" not in columns:
        wanted = next(option for option, is_wanted in scored.items() if is_wanted)
        raise UserError(f"{options.input} has no column mutation_score, which {wanted} needs")


def broken_rule(sample: Sample, row: dict[str, Any], options: Options) -> str | None:
    """The first rule that a sample breaks by itself, or None."""
    from selfalign.data.filters import failed_filter

    if rule := failed_filter(row, options.skip):
        return rule
    if sample.vacuous:
        return "vacuous"
    weakest = options.min_mutation_score
    if weakest is not None and sample.passed and (sample.mutation_score or 0.0) < weakest:
        return "weak_tests"
    return None


def choose(samples: list[Sample], seed: int, costs: dict[str, float]) -> list[Sample]:
    """One sample of each task, in the order of their positions: that of the least cost (by id), by lot where they tie.

    A lot depends on the seed and the id alone, so neither the order of the rows nor the other tasks change it.
    """
    from selfalign.ids import content_id

    chosen: dict[str, tuple[tuple[float, str], Sample]] = {}
    for sample in samples:
        entry = (costs.get(sample.id, 0.0), content_id(seed, sample.id)), sample
        chosen[sample.task_id] = min(chosen.get(sample.task_id, entry), entry)
    return sorted(sample for _, sample in chosen.values())


def costs_of(samples: list[Sample], executions: Source, options: Options) -> dict[str, float]:
    """What `--choose` keeps low, by id."""
    from selfalign.data.agreement import agreements
    from selfalign.data.selection import tasks_of

    if options.choose == "shortest":
        rows = executions.read([sample.position for sample in samples], ["id", "response"], "lengths")
        return {row["id"]: len(row["response"]) for _, row in rows}
    if options.choose == "strongest-tests":
        return {sample.id: -(sample.mutation_score or 0.0) for sample in samples}
    if options.choose == "agreement":
        several = [positions for positions in tasks_of(samples).values() if len(positions) > 1]
        shares = agreements(
            options, executions, several, options.sandboxes, timeout=options.timeout, memory=options.memory << 20
        )
        return {id: -share for id, share in shares.items()}
    return {}


@dataclass
class Selection:
    """The chosen samples; those that a rule dropped, with the columns that say why; and how many samples were left out
    for which reason, in this order."""

    chosen: list[Sample]
    rejected: dict[Sample, dict[str, str | None]]
    dropped: dict[str, int]


def contamination(row: dict[str, Any], decontaminator: Decontaminator | None) -> Match | None:
    """The benchmark's item that the instruction or the response matches."""
    if decontaminator is None:
        return None
    return decontaminator.match(row["instruction"]) or decontaminator.match(row["response"])


def select(
    executions: Source,
    samples: list[Sample],
    options: Options,
    strategy: str,
    decontaminator: Decontaminator | None = None,
) -> Selection:
    """Of the samples that the strategy wants, those that break no rule; of these one for each task; of these those that
    are of no benchmark and repeat no other."""
    from selfalign.data.filters import FILTERS
    from selfalign.data.selection import SAME, SIMILAR, repeats
    from selfalign.ids import content_id

    wanted = {sample.position: sample for sample in samples if sample.passed in WANTED[strategy]}
    columns, rejected = ("id", "instruction", "response", "tests"), {}

    def reject(sample: Sample, reason: str, kept_id: str | None = None, matched: Match | None = None) -> None:
        why = (reason, kept_id, str(matched) if matched else None)
        rejected[sample] = dict(zip(REJECTED_COLUMNS, why, strict=True))

    for position, row in executions.read(sorted(wanted), columns, "filters"):
        if rule := broken_rule(wanted[position], row, options):
            reject(wanted[position], rule)
    usable = [sample for sample in wanted.values() if sample not in rejected]

    drawn = choose(usable, options.seed, costs_of(usable, executions, options))
    rows = []
    for position, row in executions.read([sample.position for sample in drawn], columns, "decontamination"):
        if match := contamination(row, decontaminator):
            reject(wanted[position], "contaminated", matched=match)
        else:
            rows.append(row)
    clean = [sample for sample in drawn if sample not in rejected]
    lots = [content_id(options.seed, sample.id) for sample in clean]
    for i, (rule, other) in repeats(rows, lots, options.skip).items():
        reject(clean[i], rule, kept_id=clean[other].id)

    by_rule = Counter(why["reason"] for why in rejected.values())
    unwanted = {"passes": "did_not_pass", "failures": "passed"}.get(strategy, "unwanted")
    dropped = {unwanted: len(samples) - len(wanted)}
    dropped |= {rule: by_rule[rule] for rule in (*FILTERS, "vacuous", "weak_tests")}
    dropped |= {"not_drawn": len(usable) - len(drawn)}
    dropped |= {rule: by_rule[rule] for rule in ("contaminated", *SAME, *SIMILAR)}
    return Selection([sample for sample in clean if sample not in rejected], rejected, dropped)


def subset(selection: Selection, size: int, seed: int) -> Selection:
    """As many of the chosen samples as `size` says; which tasks they are for is drawn."""
    from selfalign.ids import content_id

    drawn = sorted(selection.chosen, key=lambda sample: content_id(seed, sample.task_id))[:size]
    dropped = selection.dropped | {"not_in_subset": len(selection.chosen) - len(drawn)}
    return replace(selection, chosen=sorted(drawn), dropped=dropped)


def tests_to_show(instruction: str, tests: str, probability: float, draws: Random) -> str | None:
    """The tests that an instruction is to show (paper, C.1), or None: the lot says no, or they have not the form."""
    import ast

    from selfalign.data.filters import parsed

    shown, assertions = draws.random() < probability, draws.randint(1, MAX_SHOWN_ASSERTIONS)
    tree = parsed(tests)
    if not shown or tree is None or SHOWS_ALREADY.search(instruction):
        return None
    text = tests.strip()
    if all(isinstance(node, ast.Assert) for node in tree.body):
        lines = tests.split("\n")
        sources = dict.fromkeys("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in tree.body)  # each once
        text = "\n".join(list(sources)[:assertions])
    return text if text and len(text.splitlines()) <= MAX_SHOWN_LINES and "```" not in text else None


def instruction_with(instruction: str, tests: str | None) -> str:
    """The instruction, and the tests that it shows."""
    return f"{instruction}\n\nThe code has to pass these tests:\n\n```python\n{tests}\n```" if tests else instruction


def chat(role: str, content: str) -> list[dict[str, str]]:
    """A chat of one turn."""
    return [{"role": role, "content": content}]


def to_example(row: dict[str, Any], options: Options) -> dict[str, Any]:
    """A chosen row as an example to train on."""
    from selfalign.code.markdown import python_code
    from selfalign.ids import draws_of

    draws = draws_of(options.seed, row["id"])
    shown = tests_to_show(row["instruction"], python_code(row["tests"]) or "", options.test_in_instruction, draws)
    question = chat("user", instruction_with(row["instruction"], shown))
    return row | {"messages": question + chat("assistant", row["response"]), "shown_tests": shown}


def to_preference(row: dict[str, Any], failure: dict[str, Any]) -> dict[str, Any]:
    """A chosen row and a failure at the same task as a preference; the prompt shows no tests, which are the chosen
    one's."""
    from selfalign.ids import content_id

    return {
        "id": content_id(row["id"], failure["id"]),
        "task_id": row["task_id"],
        "chosen_id": row["id"],
        "rejected_id": failure["id"],
        "prompt": chat("user", row["instruction"]),
        "chosen": chat("assistant", row["response"]),
        "rejected": chat("assistant", failure["response"]),
        **{name: row[name] for name in LINEAGE if name in row},
    }


def failures_beside(
    chosen: list[Sample],
    executions: Source,
    samples: list[Sample],
    options: Options,
    decontaminator: Decontaminator | None,
) -> dict[str, dict[str, Any]]:
    """By the id of what was chosen, the row of the failure that goes with it, if there is one."""
    from selfalign.data.selection import pairs_with_failures
    from selfalign.ids import content_id

    ids = {sample.position: sample.id for sample in chosen}
    pairs = pairs_with_failures(executions, samples, ids.keys(), lambda id: content_id(options.seed, id), options.skip)
    rows = executions.read(sorted(pairs.values()), ("id", "response"))
    clean = {failure: row for failure, row in rows if not (decontaminator and decontaminator.match(row["response"]))}
    return {ids[success]: clean[failure] for success, failure in pairs.items() if failure in clean}


def main(options: Options) -> None:
    """Choose one response for each task, from those that the strategy allows and that break no rule; drop what is of a
    benchmark or repeats another; show tests in some of the instructions; pair what is left with failures."""
    from selfalign.code.contamination import decontaminator_of, record_of
    from selfalign.data.selection import read_samples
    from selfalign.errors import UserError
    from selfalign.ids import content_id
    from selfalign.report.page import write_report
    from selfalign.runner.steps import Table, read_input, run_step

    executions = read_input(options, *NEEDED)
    check(options, executions.rows.column_names)
    decontaminator = decontaminator_of(options)
    samples, unusable = read_samples(executions)
    selection = select(executions, samples, options, options.strategy, decontaminator)
    if options.strategy in SUBSETS:
        passes = select(executions, samples, options, "passes", decontaminator)
        selection = subset(selection, len(passes.chosen), options.seed)
    dropped = unusable | selection.dropped
    if not selection.chosen:
        why = ", ".join(f"{n} {rule}" for rule, n in dropped.items() if n)
        raise UserError(f"{options.input} has no sample that --strategy {options.strategy} could choose ({why})")
    failures = failures_beside(selection.chosen, executions, samples, options, decontaminator)
    paired = [sample for sample in selection.chosen if sample.id in failures]
    reasons = {sample.id: why for sample, why in selection.rejected.items()}

    # What is done is known by its number among these: another selection is another run.
    of_tables = [selection.chosen, paired, sorted(selection.rejected)]
    pin = executions.pin | {"selection": content_id(*([sample.id for sample in some] for some in of_tables))}
    examples, with_failure, rejected = (
        replace(executions, rows=executions.rows.select([sample.position for sample in some]), pin=pin, needs=())
        for some in of_tables
    )
    lineage = {name: str for name in LINEAGE if name in executions.rows.column_names}
    run_step(
        options,
        examples,
        lambda row: to_example(row, options),
        COLUMNS,
        dropped=dropped,
        decontamination=record_of(decontaminator, filter(None, (why["contamination"] for why in reasons.values()))),
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
    from selfalign.options import run_script

    run_script(main, Options, __doc__)
