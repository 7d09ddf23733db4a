"""How well each way to select samples picks correct code, given the verdict of hidden tests on every sample.

A rule takes the samples of one task and says which it would keep. Where it keeps several, one of them is drawn, as
select.py does, so a task counts with the share of its kept samples that are right.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from selfalign.statistics import RESAMPLES, interval_of, wilson_interval

MUTATION_SCORES = (0.5, 0.8, 1.0)
SUPPORTS = (0.25, 0.5, 0.75)
PASS_RATES = (0.25, 0.5)


@dataclass(frozen=True)
class Audited:
    """A sample with what the pipeline knows of it, and whether hidden tests accept it.

    passed: its own tests pass
    vacuous, mutation_score: of its own tests, as execute.py has them (None where they do not pass)
    agreement: with the other passing samples on the tests of all (None where it does not pass)
    support: share of the other samples that give the same outputs (see `selfalign.data.consensus`)
    met: share of the assertions in the other samples' tests that its outputs meet (None if the audit has none)
    length: characters of the response
    right: the hidden tests pass
    outcome, hidden_outcome: how the code ended under its own and under the hidden tests
    accepts_reference: its own tests pass with the benchmark's solution
    rejects_wrong: of the wrong code of the task's other samples, the share that its own tests reject
    """

    passed: bool
    right: bool
    length: int
    outcome: str = ""
    hidden_outcome: str = ""
    accepts_reference: bool | None = None
    rejects_wrong: float | None = None
    vacuous: bool | None = None
    mutation_score: float | None = None
    agreement: float | None = None
    support: float = 0.0
    met: float | None = None


def audited(row: Mapping[str, Any]) -> Audited:
    """What the rules look at in a row that audit.py wrote."""
    return Audited(
        passed=row["passed"],
        right=row["right"],
        length=len(row["response"]),
        vacuous=row["vacuous"],
        mutation_score=row["mutation_score"],
        agreement=row["agreement"],
        support=row["support"],
        met=row.get("assertions_met"),
        outcome=row["outcome"] or ("passed" if row["passed"] else "unknown"),
        hidden_outcome=row["hidden_outcome"],
        accepts_reference=row["accepts_reference"],
        rejects_wrong=row["rejects_wrong"],
    )


def samples_by_task(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Audited]]:
    """The samples of each task, by its id."""
    tasks: dict[str, list[Audited]] = {}
    for row in rows:
        tasks.setdefault(row["task_id"], []).append(audited(row))
    return tasks


Samples = Sequence[Audited]
Rule = Callable[[Samples], Samples]
Merit = Callable[[Audited], float]


def passing(samples: Samples) -> Samples:
    """The samples whose own tests pass."""
    return [sample for sample in samples if sample.passed]


def strong(samples: Samples, least: float = 0.0) -> Samples:
    """The passing samples whose tests are not vacuous and notice at least this share of mutants."""
    return [s for s in passing(samples) if not s.vacuous and (s.mutation_score or 0.0) >= least]


def best(samples: Samples, merit: Merit) -> Samples:
    """The samples of the highest merit."""
    highest = max(map(merit, samples), default=0.0)
    return [sample for sample in samples if merit(sample) == highest]


def by_outputs(sample: Audited) -> float:
    """What select.py takes for the support of a sample."""
    return sample.support


def with_assertions(sample: Audited) -> float:
    """The same, with `--support outputs-and-assertions`."""
    return (sample.support + (sample.met or 0.0)) / 2


def supported(samples: Samples, least: float = 0.0, merit: Merit = by_outputs) -> Samples:
    """The samples with the most support, if it is at least `least`, and more than none."""
    return [s for s in best(samples, merit) if merit(s) > 0 and merit(s) >= least]


def passing_with(samples: Samples, least: float, merit: Merit = by_outputs) -> Samples:
    """The passing samples whose support is at least `least`."""
    return [s for s in passing(samples) if merit(s) >= least]


def often_passing(samples: Samples, least: float) -> Samples:
    """The passing samples of a task, if at least such a share of its samples pass their own tests."""
    kept = passing(samples)
    return kept if kept and len(kept) / len(samples) >= least else []


def rules_at(supports: Sequence[float] = SUPPORTS) -> dict[str, Rule]:
    """The rules; those of consensus also at each minimum in `supports`."""
    return {
        "random": lambda samples: samples,
        "passes": passing,
        "passes, not vacuous": strong,
        **{f"mutation score >= {least}": partial(strong, least=least) for least in MUTATION_SCORES},
        "passes, shortest": lambda samples: best(passing(samples), lambda s: -s.length),
        "passes, strongest tests": lambda samples: best(strong(samples), lambda s: s.mutation_score or 0.0),
        "passes, agreement": lambda samples: best(passing(samples), lambda s: s.agreement or 0.0),
        **{f"passes, pass rate >= {least}": partial(often_passing, least=least) for least in PASS_RATES},
        "passes, consensus": lambda samples: supported(passing(samples)),
        **{f"passes, consensus >= {least}": partial(passing_with, least=least) for least in supports},
        "consensus": supported,
        **{f"consensus >= {least}": partial(supported, least=least) for least in supports},
    }


def rules_with_assertions_at(supports: Sequence[float] = SUPPORTS) -> dict[str, Rule]:
    """Those of consensus that also count whose assertions a sample meets."""
    name, merit = "consensus with assertions", with_assertions
    return {
        **{f"passes, {name} >= {least}": partial(passing_with, least=least, merit=merit) for least in supports},
        name: partial(supported, merit=merit),
        **{f"{name} >= {least}": partial(supported, least=least, merit=merit) for least in supports},
    }


RULES = rules_at()
RULES_WITH_ASSERTIONS = rules_with_assertions_at()


def _of_all(_: Audited) -> bool:
    return True


# Shares of samples: what is counted, and among which samples.
SHARES: dict[str, tuple[Callable[[Audited], float | None], Callable[[Audited], bool]]] = {
    "samples that are right": (lambda s: s.right, _of_all),
    "samples that pass their own tests": (lambda s: s.passed, _of_all),
    "of the samples that pass their own tests, those that are right": (lambda s: s.right, lambda s: s.passed),
    "of the samples that are right, those that pass their own tests": (lambda s: s.passed, lambda s: s.right),
    "samples whose tests accept the benchmark's solution": (lambda s: s.accepts_reference, _of_all),
    "the same, of the samples that pass their own tests": (lambda s: s.accepts_reference, lambda s: s.passed),
    "of the wrong code of other samples, what a sample's tests reject": (
        lambda s: s.rejects_wrong,
        lambda s: s.rejects_wrong is not None,
    ),
    "the same, for the tests of samples that pass them": (
        lambda s: s.rejects_wrong,
        lambda s: s.passed and s.rejects_wrong is not None,
    ),
}


class Score(NamedTuple):
    """A share with its 95 % interval; NaN where nothing was kept."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Audit:
    """What a rule keeps.

    precision: of the tasks with a kept sample, the share where it is right
    recall: of the tasks that some sample solves, the share where the kept one does
    coverage: the share of tasks with a kept sample (the yield)
    gain: precision less that of the rule it is compared with, by a paired bootstrap over tasks
    """

    kept: int
    precision: Score
    recall: Score
    coverage: Score
    gain: Score | None = None


def audit(tasks: Sequence[Samples], rules: Mapping[str, Rule] = RULES, against: str = "passes") -> dict[str, Audit]:
    """Each rule's precision, recall and yield over `tasks`, with intervals by bootstrap over tasks."""
    import numpy as np

    draws = _resampled(len(tasks))
    solvable = np.array([any(sample.right for sample in samples) for samples in tasks], float)
    outcomes = {}
    for name, rule in rules.items():
        chosen = [rule(samples) for samples in tasks]
        kept = np.array([bool(samples) for samples in chosen], float)
        right = np.array([_share_right(samples) for samples in chosen])
        with np.errstate(invalid="ignore", divide="ignore"):
            precision, recall = draws @ right / (draws @ kept), draws @ right / (draws @ solvable)
        outcomes[name] = kept.sum(), precision, recall, draws @ kept / len(tasks)
    baseline = outcomes[against][1]
    return {
        name: Audit(
            int(kept),
            precision=score_of(precision, kept),
            recall=score_of(recall, solvable.sum()),
            coverage=score_of(coverage, len(tasks)),
            gain=None if name == against else score_of(precision - baseline),
        )
        for name, (kept, precision, recall, coverage) in outcomes.items()
    }


def shares(tasks: Sequence[Samples]) -> dict[str, Score]:
    """The SHARES of all samples, with intervals by bootstrap over tasks."""
    import numpy as np

    draws, scores = _resampled(len(tasks)), {}
    for name, (counted, among) in SHARES.items():
        chosen = [[sample for sample in samples if among(sample)] for samples in tasks]
        count = np.array([sum(float(counted(sample) or 0) for sample in samples) for samples in chosen])
        with np.errstate(invalid="ignore", divide="ignore"):
            share = draws @ count / (draws @ np.array([float(len(samples)) for samples in chosen]))
        scores[name] = score_of(share, sum(map(bool, chosen)))
    return scores


def outcomes(tasks: Sequence[Samples]) -> Counter[tuple[str, str]]:
    """How many samples ended how, under their own tests and under the hidden ones."""
    return Counter((sample.outcome, sample.hidden_outcome) for samples in tasks for sample in samples)


def rules_for(tasks: Sequence[Samples], supports: Sequence[float] = SUPPORTS) -> dict[str, Rule]:
    """All rules that these tasks have what is needed for, with consensus at the yield of `passes`."""
    kept = sum(bool(passing(samples)) for samples in tasks)
    rules = rules_at(supports) | {"consensus, at the yield of passes": at_coverage(tasks, kept)}
    if any(sample.met is not None for samples in tasks for sample in samples):
        at_equal = at_coverage(tasks, kept, with_assertions)
        rules |= rules_with_assertions_at(supports)
        rules |= {"consensus with assertions, at the yield of passes": at_equal}
    return rules


def half_of(task_id: str) -> int:
    """Which half of the tasks one belongs to, 0 or 1, whatever the other tasks are."""
    return int(hashlib.sha256(f"half{task_id}".encode()).hexdigest(), 16) % 2


def halves_of(tasks: Mapping[str, Samples]) -> list[list[Samples]]:
    """The samples of the tasks of each half, by their ids."""
    return [[samples for id, samples in tasks.items() if half_of(id) == half] for half in (0, 1)]


def at_coverage(tasks: Sequence[Samples], kept: int, merit: Merit = by_outputs) -> Rule:
    """Consensus that keeps a sample of `kept` tasks, those with the most support: to compare at equal yield."""
    merits = sorted((max(map(merit, samples), default=0.0) for samples in tasks), reverse=True)
    least = merits[min(kept, len(merits)) - 1] if kept else 1.1
    return lambda samples: supported(samples, least, merit)


def _resampled(tasks: int) -> Any:
    """How often each task counts, in each resample: [1 + RESAMPLES, tasks]; in the first, each counts once."""
    import numpy as np

    draws = np.random.default_rng(0).multinomial(tasks, np.full(tasks, 1 / tasks), size=RESAMPLES)
    return np.vstack([np.ones(tasks), draws])


def _share_right(samples: Samples) -> float:
    return sum(sample.right for sample in samples) / len(samples) if samples else 0.0


def score_of(draws: Any, tasks: float = 0.0) -> Score:
    """The first of `draws` is the value itself; the others are resamples. Of a share of `tasks` where all count or none
    does, the interval is Wilson's, since resamples do not differ then. NaN is what nothing is known of."""
    import numpy as np

    value = float(draws[0])
    if tasks and value in (0.0, 1.0):
        return Score(value, *wilson_interval(round(value * tasks), round(tasks)))
    low, high = interval_of(draws[1:]) if np.isfinite(draws[1:]).any() else (np.nan, np.nan)
    return Score(value, low, high)


def audit_table(audits: Mapping[str, Audit], tasks: int) -> str:
    """The audits as a Markdown table, in percent."""
    lines = [
        f"| rule | kept of {tasks} | precision | recall | yield | precision beside `passes` |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, result in audits.items():
        cells = (cell(score) for score in (result.precision, result.recall, result.coverage))
        gain = cell(result.gain, sign="+") if result.gain else ""
        lines.append(f"| {name} | {result.kept} | {' | '.join(cells)} | {gain} |")
    return "\n".join(lines)


def shares_table(scores: Mapping[str, Score]) -> str:
    """The shares of samples as a Markdown table, in percent."""
    return "\n".join(["| share | percent |", "|---|---:|", *(f"| {name} | {cell(s)} |" for name, s in scores.items())])


def outcomes_table(counted: Counter[tuple[str, str]]) -> str:
    """How samples ended under their own tests (rows) and under the hidden ones (columns), as a Markdown table."""
    own, hidden = ([name for name, _ in _totals(counted, i).most_common()] for i in (0, 1))
    lines = [f"| own tests \\ hidden tests | {' | '.join(hidden)} |", "|---|" + "---:|" * len(hidden)]
    lines += [f"| {row} | {' | '.join(str(counted[row, column]) for column in hidden)} |" for row in own]
    return "\n".join(lines)


def _totals(counted: Counter[tuple[str, str]], which: int) -> Counter[str]:
    totals: Counter[str] = Counter()
    for pair, count in counted.items():
        totals[pair[which]] += count
    return totals


def cell(score: Score, sign: str = "") -> str:
    if score.value != score.value:
        return "-"
    return f"{100 * score.value:{sign}.1f} [{100 * score.low:{sign}.1f}, {100 * score.high:{sign}.1f}]"


def share_of(verdicts: Iterable[bool | None]) -> float | None:
    """The share of true verdicts; None where there is none."""
    known = [verdict for verdict in verdicts if verdict is not None]
    return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Half:
    """The rules on one half of the tasks."""

    tasks: int
    rules: Mapping[str, Audit]


@dataclass(frozen=True)
class Figures:
    """All figures of an audit. `halves` are empty if they are not wanted."""

    tasks: int
    rules: Mapping[str, Audit]
    shares: Mapping[str, Score]
    outcomes: Counter[tuple[str, str]]
    halves: Sequence[Half] = ()

    def as_markdown(self) -> str:
        """The tables, in the order of importance."""
        tables = audit_table(self.rules, self.tasks), shares_table(self.shares), outcomes_table(self.outcomes)
        halves = (
            f"The {name} half of the tasks:\n\n{audit_table(half.rules, half.tasks)}"
            for name, half in zip(("first", "second"), self.halves, strict=False)
        )
        return "\n\n".join((*tables, *halves))


def figures_of(tasks: Mapping[str, Samples], supports: Sequence[float] = SUPPORTS, *, halves: bool = False) -> Figures:
    """The figures of the samples of tasks, by the ids of these.

    Args:
        supports: minimum supports at which consensus is looked at.
        halves: also on each half of the tasks that has any.
    """

    def on(some: Sequence[Samples]) -> dict[str, Audit]:
        return audit(some, rules_for(some, supports))

    everything = list(tasks.values())
    parts = [Half(len(half), on(half)) for half in halves_of(tasks) if half] if halves else []
    return Figures(len(tasks), on(everything), shares(everything), outcomes(everything), parts)
