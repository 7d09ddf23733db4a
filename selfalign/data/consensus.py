"""Consensus: which of a task's samples do what most of them do, whatever their own tests claim.

A model states wrong outputs in its tests more often than it writes wrong code, and one wrong assertion fails a right
solution. Here the tests of a task's samples only give the inputs. Every sample runs on all of them, the output that
most samples give is taken for the right one, and the sample that gives it most often is kept, with tests that state
these outputs. After rStar-Coder (arXiv 2505.21297) and CodeT (arXiv 2207.10397).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from code_eval.sandbox import Result
from selfalign.data.agreement import result_in, samples_of, sandboxes_for
from selfalign.data.dialects import DIALECTS, PYTHON, Dialect
from selfalign.data.inputs import MAX_INPUTS, Input, claims_of, inputs_of
from selfalign.data.languages import programs_of
from selfalign.data.observing import SEEN
from selfalign.data.selection import source_of_tasks
from selfalign.options import StepOptions
from selfalign.runner.source import Source, open_source
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

MAX_TESTS = 6  # of a kept sample
MIN_TESTS = 2  # agreed tests that a task must have
MIN_OUTPUTS = 2  # different ones among these: a function that always returns the same would pass the others
MIN_VOTES = 2  # samples that must give an output before it is taken for right
ENDLESS = ("cpu_limit", "timeout")  # outcomes of programs that do not end
OTHER_HASHES = {"PYTHONHASHSEED": "1"}  # with which Python orders the same set of texts in another way
TASKS_PER_SANDBOX = 2  # at a time, so that no sandbox has to wait


@dataclass(frozen=True)
class Vote:
    """What the samples of a task agree on.

    support: for each sample, the mean over the inputs of the share of the other samples that give the same output
    outputs: for each input, the mark of the output that most samples give; None if fewer than MIN_VOTES give it
    """

    support: list[float]
    outputs: list[str | None]


Run = Callable[[str, str], Awaitable[Result]]  # code and tests of a program -> how it ended


# Outputs --------------------------------------------------------------------------------------------------------------


def observed(detail: str, count: int) -> list[str | None]:
    """The marks in the detail of a program that ran with `observing`; None where there is none."""
    _, told, marks = detail.partition(SEEN)
    found = marks.split() if told else []
    return [None if mark == "-" else mark for mark in found] if len(found) == count else [None] * count


def vote(marks: Sequence[Sequence[str | None]]) -> Vote:
    """Let the samples of a task vote, by the marks of what each gave for each input."""
    by_input = [Counter(filter(None, column)) for column in zip(*marks, strict=True)]
    others = max(1, len(marks) - 1)
    support = [
        sum((votes[mark] - 1) / others for votes, mark in zip(by_input, row, strict=True) if mark) / max(1, len(row))
        for row in marks
    ]
    winners = [votes.most_common(1)[0] if votes else ("", 0) for votes in by_input]
    return Vote(support, [mark if count >= MIN_VOTES else None for mark, count in winners])


async def marks_of(
    codes: Sequence[str], inputs: Sequence[Input], run: Run, dialect: Dialect = PYTHON
) -> list[list[str | None]]:
    """The marks that each program gives for each input; equal programs run once.

    A program that does not end runs once more and leaves the inputs on which it takes long: one of them, which may be
    only in the tests of another sample, would cost it what it gives for all others.
    """
    tests, brief = dialect.observing(inputs), dialect.observing_briefly

    async def seen_of(code: str) -> list[str | None]:
        result = await run(code, tests)
        if result.outcome in ENDLESS and brief is not None and len(inputs) > 1:
            result = await run(code, brief(inputs))
        return observed(result.detail, len(inputs))

    unique = list(dict.fromkeys(codes))
    seen = dict(zip(unique, await asyncio.gather(*map(seen_of, unique)), strict=True))
    return [seen[code] for code in codes]


async def assertions_met(
    codes: Sequence[str],
    claims: Sequence[Sequence[tuple[int, Input]]],
    marks: Sequence[Sequence[str | None]],
    run: Run,
    dialect: Dialect = PYTHON,
) -> list[float]:
    """For each sample, the share of the assertions in the other samples' tests that its outputs meet, from 0 to 1.

    An assertion counts once for each sample that makes it; one whose expected output has no plain value does not count.

    Args:
        codes: of the samples.
        claims: of each sample's tests, see `claims_of`.
        marks: of each sample, see `marks_of`.
        run: runs a program.
        dialect: of all of them.
    """
    expected = list(dict.fromkeys(claim for _, claim in itertools.chain(*claims)))
    blocks = [expected[i : i + MAX_INPUTS] for i in range(0, len(expected), MAX_INPUTS)]
    imports = dialect.imports_for(expected, codes)
    rows = await asyncio.gather(*(marks_of([imports], block, run, dialect) for block in blocks))
    found = dict(zip(expected, itertools.chain(*(row for (row,) in rows)), strict=True))
    stated = [Counter({(number, mark) for number, claim in each if (mark := found[claim])}) for each in claims]
    votes = sum(stated, Counter())
    met = []
    for row, own in zip(marks, stated, strict=True):
        of_others = votes - own
        agreeing = sum(count for (number, mark), count in of_others.items() if row[number] == mark)
        met.append(agreeing / max(1, of_others.total()))
    return met


async def agreed_tests(
    code: str,
    inputs: Sequence[Input],
    marks: Sequence[str | None],
    outputs: Sequence[str | None],
    run: Run,
    dialect: Dialect = PYTHON,
) -> list[str]:
    """Assertions for the inputs on which `code` gives the output that most samples give; at most MAX_TESTS."""
    agreed = [(each, mark) for each, mark, out in zip(inputs, marks, outputs, strict=True) if mark and mark == out]
    chosen = different(agreed)[: 2 * MAX_TESTS]
    results = await asyncio.gather(*(run(code, dialect.showing(each)) for each in chosen))
    tests, shown = [], set()
    for each, result in zip(chosen, results, strict=True):
        _, told, output = result.detail.partition(SEEN)
        if told and dialect.can_be_stated(output) and len(tests) < MAX_TESTS:
            tests.append(dialect.stating(each, output))
            shown.add(output)
    return tests if len(shown) >= MIN_OUTPUTS else []


def different(agreed: Sequence[tuple[Input, str]]) -> list[Input]:
    """Inputs with their outputs' marks, so ordered that different outputs come first, by turns. Of inputs with the same
    call and output, only the one that needs the fewest statements before it stays."""
    shortest: dict[tuple[str, str], Input] = {}
    for each, mark in sorted(agreed, key=lambda pair: len(pair[0].setup)):
        shortest.setdefault((each.call, mark), each)
    by_output: dict[str, list[Input]] = {}
    for each, mark in agreed:
        if shortest[each.call, mark] is each:
            by_output.setdefault(mark, []).append(each)
    turns = itertools.zip_longest(*by_output.values())
    return [each for turn in turns for each in turn if each is not None]


# The step -------------------------------------------------------------------------------------------------------------

COLUMNS = {"id": str, "passed": bool, "outcome": str, "tests": str, "vacuous": bool, "support": float}
KEPT = ("id", "support")  # beside a sample's own tests
OF_OWN_TESTS = ("program", "detail", "seconds")  # what execute.py says of them


@dataclass(frozen=True)
class Poll:
    """What the samples of a task give and claim.

    inputs: what they ran on
    marks: of each sample, what it gave for each input
    outputs: for each input, the mark of the output that most samples give, as in `Vote`
    support: of each sample, as in `Vote`
    met: of each sample, as in `assertions_met`; None if the assertions were not asked for
    """

    inputs: list[Input]
    marks: list[list[str | None]]
    outputs: list[str | None]
    support: list[float]
    met: list[float] | None = None


async def poll(
    programs: Sequence[tuple[str, str]], run: Run, *, assertions: bool = False, dialect: Dialect = PYTHON
) -> Poll:
    """Run the samples of a task, each code and tests, on the inputs of all their tests.

    `assertions`: also find out which of the tests' assertions each sample meets.
    """
    codes = [code for code, _ in programs]
    names = set().union(*map(dialect.definitions_in, codes))
    suites = [list(dialect.inputs_in(tests, names)) for _, tests in programs]
    inputs = inputs_of(suites)
    marks = await marks_of(codes, inputs, run, dialect)
    voted = vote(marks)
    claims = claims_of(suites, inputs)
    met = await assertions_met(codes, claims, marks, run, dialect) if assertions else None
    return Poll(inputs, marks, voted.outputs, voted.support, met)


@dataclass(frozen=True)
class Agreed:
    """What the samples of a task agree on: the tests, as source; whether each sample gives all the outputs that the
    tests state, and passes them; and each sample's support. No tests: they do not agree, or none passes them."""

    tests: list[str]
    passed: list[bool]
    support: list[float]


async def consensus_of(
    programs: Sequence[tuple[str, str]],
    run: Run,
    *,
    assertions: bool = False,
    dialect: Dialect = PYTHON,
    again: Run | None = None,
) -> Agreed:
    """What the samples of a task, each code and tests, agree on.

    The expected outputs are those of the sample with the most support, on the inputs for which most samples give the
    same as it does. With `assertions`, the support is the mean of `Vote.support` and `assertions_met`; the sample with
    the most of it may give what fewer samples do, so that its outputs count where another sample gives the same, and
    the samples that pass are those that give the same as it does for every input.

    `again` runs a program like `run`, but where it orders sets in another way: an output that is different there, such
    as `list(set(words))`, says nothing about the task, and no test states it.
    """
    polled = await poll(programs, run, assertions=assertions, dialect=dialect)
    marks, outputs, support = polled.marks, polled.outputs, polled.support
    if polled.met is not None:
        support = [(by_outputs + met) / 2 for by_outputs, met in zip(support, polled.met, strict=True)]
    best = max(range(len(marks)), key=lambda sample: support[sample])
    if assertions:
        votes = [sum(row[i] == mark for row in marks) for i, mark in enumerate(marks[best])]
        outputs = [mark if count >= MIN_VOTES else None for mark, count in zip(marks[best], votes, strict=True)]
    steady = await steady_outputs(programs[best][0], marks[best], polled.inputs, again, dialect)
    outputs = [output if is_steady else None for output, is_steady in zip(outputs, steady, strict=True)]
    pairs = list(zip(marks[best], outputs, strict=True))
    expected = [i for i, (mark, output) in enumerate(pairs) if steady[i] and (assertions or (mark and mark == output))]
    tests = await agreed_tests(programs[best][0], polled.inputs, marks[best], outputs, run, dialect)
    if len(tests) < MIN_TESTS:
        return Agreed([], [False] * len(marks), support)
    codes = [code for code, _ in programs]
    same = [all(row[i] == marks[best][i] for i in expected) for row in marks]
    meeting = await those_that_pass(itertools.compress(codes, same), dialect.joined(tests), run)
    passed = [is_same and code in meeting for code, is_same in zip(codes, same, strict=True)]
    return Agreed(tests if meeting else [], passed, support)


async def steady_outputs(
    code: str, marks: Sequence[str | None], inputs: Sequence[Input], again: Run | None, dialect: Dialect
) -> list[bool]:
    """Whether a program, whose marks are given, gives each output `again` as well; True for all if there is no such
    run."""
    there = (await marks_of([code], inputs, again, dialect))[0] if again else marks
    return [mark == other for mark, other in zip(marks, there, strict=True)]


async def those_that_pass(codes: Iterable[str], tests: str, run: Run) -> set[str]:
    """The programs among `codes` that pass `tests`. Outputs with the same mark may differ in the last digits of a
    fraction, and code that keeps something between its calls may give another output when it is called again."""
    unique = list(dict.fromkeys(codes))
    results = await asyncio.gather(*(run(code, tests) for code in unique))
    return {code for code, result in zip(unique, results, strict=True) if result.passed}


def agreed_executions(
    options: StepOptions,
    executions: Source,
    tasks: list[list[int]],
    sandboxes: int,
    *,
    timeout: float,
    memory: int,
    only_support: bool = False,
    assertions: bool = False,
) -> Source:
    """The executions judged by consensus instead of by each sample's own tests: a step that writes OUTPUT-consensus.

    `tests`, `passed`, `outcome` and `vacuous` are those of the tests that a task's samples agree on; `outcome` is
    "no_consensus" where they do not. The mutation score, which is of other tests, is left out; `program`, `detail` and
    `seconds` are null.

    Args:
        options: of the script.
        executions: rows with `id`, `response` and `tests`.
        tasks: positions of the samples of each task.
        sandboxes: how many programs run at a time.
        timeout: seconds of processor time for each program.
        memory: bytes for each program.
        only_support: add `support`, and leave the samples' own tests and their verdicts as they are.
        assertions: whether assertions count for the support, see `consensus_of`.

    Raises:
        UserError: programs cannot be isolated here, or are in a language that cannot run.
        SystemExit: as `run_step` does, if tasks stay open.
    """

    async def judged(task: dict[str, Any]) -> Done:
        rows = []
        for language, samples in samples_of(task, executions).items():  # seldom more than one
            run = partial(result_in, opened[language])
            again = partial(result_in, others[language]) if language in others else None
            rows += await _judged(samples, language, run, again, assertions)
        return Done(rows)

    output = options.output.rstrip("/") + "-consensus"
    limits = {"timeout": timeout, "memory": memory}
    with (
        sandboxes_for(executions, sandboxes, **limits) as opened,
        sandboxes_for(executions, sandboxes, **limits, environment=OTHER_HASHES, of=("python",)) as others,
    ):
        run_step(
            dataclasses.replace(options, output=output, max_samples=None),
            Table(source_of_tasks(executions, tasks), judged, COLUMNS, carry=False, count_by="outcome"),
            window=TASKS_PER_SANDBOX * sandboxes,
            title="consensus",
        )
    found = open_source(output, columns=tuple(COLUMNS), token=options.hf_token).rows
    return with_columns(executions, {name: found[name] for name in COLUMNS if not only_support or name in KEPT})


async def _judged(
    samples: list[dict[str, Any]], language: str, run: Run, again: Run | None, assertions: bool
) -> list[dict[str, Any]]:
    """The rows of COLUMNS for a task's samples, which are in one language."""
    dialect = DIALECTS[language]
    programs = [programs_of(row) for row in samples]
    agreed = await consensus_of(programs, run, assertions=assertions, dialect=dialect, again=again)
    tests = dialect.joined(agreed.tests)
    vacuous = None
    if tests:
        code, _ = programs[agreed.passed.index(True)]
        stubs = await asyncio.gather(*(run(stub, tests) for stub in dialect.stubs_of(code)))
        vacuous = any(stub.passed for stub in stubs) if stubs else None
    block = f"```{language}\n{tests}\n```" if tests else None
    return [
        {
            "id": row["id"],
            "passed": passed,
            "outcome": "no_consensus" if not tests else "passed" if passed else "failed",
            "tests": block or row["tests"],
            "vacuous": vacuous,
            "support": support,
        }
        for row, passed, support in zip(samples, agreed.passed, agreed.support, strict=True)
    ]


def with_columns(executions: Source, columns: dict[str, list[Any]]) -> Source:
    """`executions` with these columns in the place of its own, by `id`; null for rows that `columns` does not have.

    With other tests, what is of a sample's own tests goes: the mutation score as a column, and OF_OWN_TESTS as values.
    """
    import datasets

    where = {id: number for number, id in enumerate(columns.pop("id"))}
    order = [where.get(id) for id in executions.rows["id"]]
    there, judged = executions.rows.features, "tests" in columns
    replaced = {*columns, "mutation_score", *OF_OWN_TESTS} if judged else {*columns}
    rows = executions.rows.remove_columns([name for name in executions.rows.column_names if name in replaced])
    new = {name: [None if n is None else values[n] for n in order] for name, values in columns.items()}
    features = {name: datasets.Value(KINDS[COLUMNS[name]]) for name in new}
    for name in OF_OWN_TESTS if judged else ():
        if name in there:
            new[name], features[name] = [None] * len(order), there[name]
    added = datasets.Dataset.from_dict(new, datasets.Features(features))
    return dataclasses.replace(executions, rows=datasets.concatenate_datasets([rows, added], axis=1))


KINDS = {str: "string", bool: "bool", float: "float64"}
