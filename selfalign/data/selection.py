"""The choice of step 6: which samples become examples, and by which rule each of the others is dropped.

Only ids and texts matter: neither the order of the rows nor the number of shards changes what is chosen. Only the
fields of `Sample` are kept in memory for each row; texts are read when they are needed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from selfalign.code.contamination import Decontaminator, Match
from selfalign.data.conversations import CONVERSATION, texts_of
from selfalign.data.duplicates import SAME, SIMILAR, repeated_rows
from selfalign.data.filters import FILTERS
from selfalign.data.javascript_filters import failed_filter
from selfalign.data.languages import branches_of
from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.runner.source import Source

WANTED = {
    "passes": (True,),
    "consensus": (True,),  # passing the tests that a task's samples agree on
    "failures": (False,),
    "all-failures": (False,),
    "random": (True, False),
    "random-subset": (True, False),
}
# How the funnel counts the samples that a strategy does not want.
UNWANTED = {
    "passes": "did_not_pass",
    "consensus": "not_agreed_on",
    "failures": "passed",
    "all-failures": "passed",
}
SUBSETS = ("failures", "random-subset")  # as many examples as `passes` gives (Table 9)
SKIPPABLE = (*FILTERS, "vacuous", *SAME, *SIMILAR)  # rules that can be left out
# What `Rules.broken_by` says of a sample, in its order; what is left out here would be missing in the funnel.
OF_SINGLE_SAMPLES = (*FILTERS, "vacuous", "weak_tests", "few_branches", "little_support", "too_hard", "too_easy")
NO_VERDICT = ("no_tests", "sandbox_error")  # outcomes that say nothing about the response
RATE_COLUMNS = {"pass_rate": float, "judged_samples": int}
REJECTED_COLUMNS = {"reason": str, "kept_id": str, "contamination": str}


class Sample(NamedTuple):
    """A row's position and some of its columns; None for a column that the input does not have.

    `pass_rate` and `judged_samples` are those of its task; `read_samples` counts them if the input does not have them.
    """

    position: int
    id: str
    task_id: str
    passed: bool
    outcome: str | None = None
    vacuous: bool | None = None
    mutation_score: float | None = None
    pass_rate: float | None = None
    judged_samples: int | None = None
    support: float | None = None


def read_samples(executions: Source) -> tuple[list[Sample], dict[str, int]]:
    """The rows that can be samples, and why how many cannot be: an error, a null in a column that is needed, or an
    instruction that is empty, which is counted as if it were null.

    Raises:
        UserError: samples of the same task have different instructions.
    """
    columns = [name for name in (*Sample._fields, "error") if name in executions.rows.column_names]
    if rates_wanted := not has_pass_rates(executions):
        columns = [name for name in columns if name not in RATE_COLUMNS]
    samples, dropped, instructions = [], Counter(), {}
    for position, row in executions.read(None, [*columns, *executions.needs], "reading"):
        null = next((name for name in executions.needs if row[name] is None or _is_empty_task(name, row[name])), None)
        if reason := row.get("error") or (null and f"null_{null}"):
            dropped[reason] += 1
        else:
            instruction = hash(row.get("instruction"))  # which audit.py does not need
            if instructions.setdefault(row["task_id"], instruction) != instruction:
                raise UserError(
                    f"{executions.name} has samples with the task_id {row['task_id']} and different instructions: give "
                    "each task a task_id of its own, since samples with the same one are compared with each other"
                )
            samples.append(Sample(position, **{name: row[name] for name in columns if name != "error"}))
    return (with_pass_rates(samples) if rates_wanted else samples), dict(dropped)


def _is_empty_task(column: str, value: Any) -> bool:
    return column == "instruction" and not value.strip()


def has_pass_rates(executions: Source) -> bool:
    """Whether the input has pass rates, as instructions have, whose tasks have lost most of their samples."""
    feature = executions.rows.features.get("pass_rate")
    if not str(getattr(feature, "dtype", "")).startswith(("float", "int")):
        return False
    rates = executions.rows.data.column("pass_rate")
    return rates.null_count < len(rates)  # all are null where instructions were given new responses


def with_pass_rates(samples: Sequence[Sample]) -> list[Sample]:
    """`samples` with the share of their task's samples that passed, and the number of samples that this is a share of:
    those that were judged at all."""
    judged, passed = Counter(), Counter()
    for sample in samples:
        if sample.outcome not in NO_VERDICT:
            judged[sample.task_id] += 1
            passed[sample.task_id] += sample.passed
    rates = {task: passed[task] / number for task, number in judged.items()}
    return [
        sample._replace(pass_rate=rates.get(sample.task_id), judged_samples=judged[sample.task_id])
        for sample in samples
    ]


def tasks_of(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """The positions of each task's samples; both tasks and samples are in the order of their ids."""
    tasks = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: (sample.task_id, sample.id)):
        tasks[sample.task_id].append(sample.position)
    return dict(tasks)


def source_of_tasks(executions: Source, tasks: list[list[int]], **pin: str) -> Source:
    """A source with a row for each task, whose `positions` are those of its samples in `executions`."""
    import datasets

    rows = datasets.Dataset.from_dict({"positions": tasks})
    return Source(executions.name, executions.pin | {"tasks": content_id(*tasks)} | pin, rows, executions.run)


@dataclass(frozen=True)
class Rules:
    """What decides which samples are chosen.

    Attributes:
        strategy: one of WANTED.
        seed: of all draws.
        skip: rules of SKIPPABLE to leave out.
        min_mutation_score: of samples that passed, the share of mutants that their tests must notice; None: any.
        min_branches: conditions, loops, handlers and so on that the code must have (see `branches_of`); None: any.
        min_support: the share of a task's other samples that must compute what a sample does; None: any.
        min_pass_rate, max_pass_rate: share of a task's samples that must have passed; None: any. A task whose rate is
            not known is left out if one of them is given.
        costs_of: samples -> the cost that their choice minimizes, by id; 0 for those without.
        decontaminator: finds what belongs to a benchmark; None: nothing is looked for.
    """

    strategy: str
    seed: int
    skip: tuple[str, ...] = ()
    min_mutation_score: float | None = None
    min_branches: int | None = None
    min_support: float | None = None
    min_pass_rate: float | None = None
    max_pass_rate: float | None = None
    costs_of: Callable[[Sequence[Sample]], dict[str, float]] = lambda samples: {}
    decontaminator: Decontaminator | None = None

    def broken_by(self, sample: Sample, row: dict[str, Any]) -> str | None:
        """The first rule that a sample breaks by itself, or None."""
        if rule := failed_filter(row, self.skip):
            return rule
        if sample.vacuous and "vacuous" not in self.skip:
            return "vacuous"
        weakest = self.min_mutation_score
        if weakest is not None and sample.passed and (sample.mutation_score or 0.0) < weakest:
            return "weak_tests"
        if self.min_branches is not None and (branches_of(row) or 0) < self.min_branches:
            return "few_branches"
        if self.min_support is not None and (sample.support or 0.0) < self.min_support:
            return "little_support"
        if self.min_pass_rate is not None and (sample.pass_rate is None or sample.pass_rate < self.min_pass_rate):
            return "too_hard"
        if self.max_pass_rate is not None and (sample.pass_rate is None or sample.pass_rate > self.max_pass_rate):
            return "too_easy"
        return None

    def contamination(self, *texts: str) -> Match | None:
        """The benchmark item that one of the texts matches, the first if several do."""
        matches = map(self.decontaminator.match, texts) if self.decontaminator else ()
        return next(filter(None, matches), None)

    def lot(self, id: str) -> str:
        """Decides between equals, by the seed and the id alone."""
        return content_id(self.seed, id)


@dataclass
class Selection:
    """What became of the samples.

    Attributes:
        chosen: by their positions.
        rejected: the samples that a rule dropped -> REJECTED_COLUMNS, which say why.
        dropped: how many samples were left out for each reason, in the order of the rules.
    """

    chosen: list[Sample]
    rejected: dict[Sample, dict[str, str | None]]
    dropped: dict[str, int]


def select_samples(executions: Source, samples: Sequence[Sample], rules: Rules) -> Selection:
    """One sample of each task by the rules; as many as the strategy `passes` gives, if the strategy is a subset."""
    selection = _selected(executions, samples, rules)
    if rules.strategy not in SUBSETS:
        return selection
    size = len(_selected(executions, samples, replace(rules, strategy="passes")).chosen)
    drawn = sorted(selection.chosen, key=lambda sample: rules.lot(sample.task_id))[:size]
    dropped = selection.dropped | {"not_in_subset": len(selection.chosen) - len(drawn)}
    return replace(selection, chosen=sorted(drawn), dropped=dropped)


def _selected(executions: Source, samples: Sequence[Sample], rules: Rules) -> Selection:
    """Takes the samples that the strategy wants and that break no rule, chooses one per task, and drops those that
    match a benchmark or duplicate another."""
    wanted = {sample.position: sample for sample in samples if sample.passed in WANTED[rules.strategy]}
    there, rejected = set(executions.rows.column_names), {}
    columns = ("id", "instruction", "response", "tests", *({"language"} & there))
    learnt = ("instruction", "response", *({"reasoning"} & there))

    def reject(sample: Sample, reason: str, kept_id: str | None = None, contamination: str | None = None) -> None:
        rejected[sample] = dict(zip(REJECTED_COLUMNS, (reason, kept_id, contamination), strict=True))

    for position, row in executions.read(sorted(wanted), columns, "filters"):
        if rule := rules.broken_by(wanted[position], row):
            reject(wanted[position], rule)
    usable = [sample for sample in wanted.values() if sample not in rejected]

    drawn = one_of_each_task(usable, rules)
    rows = []
    positions = [sample.position for sample in drawn]
    for position, row in executions.read(positions, (*columns, *learnt, *({*CONVERSATION} & there)), "decontamination"):
        if match := rules.contamination(*texts_of(row, learnt)):
            reject(wanted[position], "contaminated", contamination=str(match))
        else:
            rows.append(row)
    clean = [sample for sample in drawn if sample not in rejected]
    for i, (rule, other) in repeated_rows(rows, [rules.lot(sample.id) for sample in clean], rules.skip).items():
        reject(clean[i], rule, kept_id=clean[other].id)

    by_rule = Counter(why["reason"] for why in rejected.values())
    dropped = {UNWANTED.get(rules.strategy, "unwanted"): len(samples) - len(wanted)}
    dropped |= {rule: by_rule[rule] for rule in OF_SINGLE_SAMPLES}
    dropped |= {"not_drawn": len(usable) - len(drawn)}
    dropped |= {rule: by_rule[rule] for rule in ("contaminated", *SAME, *SIMILAR)}
    return Selection([sample for sample in clean if sample not in rejected], rejected, dropped)


def one_of_each_task(samples: Sequence[Sample], rules: Rules) -> list[Sample]:
    """The cheapest sample of each task, in the order of their positions; ties are broken at random.

    A draw depends only on the seed and the id, so neither the order of the rows nor the other tasks change it.
    """
    costs = rules.costs_of(samples)

    def rank(sample: Sample) -> tuple[float, str, int]:
        return costs.get(sample.id, 0.0), rules.lot(sample.id), sample.position

    cheapest = {sample.task_id: sample for sample in sorted(samples, key=rank, reverse=True)}  # the last one stays
    return sorted(cheapest.values())
