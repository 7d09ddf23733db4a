"""Does a model feed on itself? What the rounds of runs/rounds.py say, as a table, and whether to stop.

    python -m runs.brake ./runs/out/rounds

A model that learns from its own data can drift into whatever its own tests let pass: tests that accept everything, the
same task again and again, solutions that nobody would want. Each round is measured by

    diversity       distinct-4 of the instructions (Li et al. 2016, arXiv 1510.03055): of all runs of four words, the
                    share that differs from the others; over equally many tasks of each round
    vacuous         of the samples that pass, the share whose tests pass even if nothing is done
    mutation score  of the samples that pass, the mean share of small mistakes that their tests notice
    repeats         of the instructions, the share that nearly repeats one of an earlier round (Jaccard similarity of
                    5-word shingles of at least 0.7, as in select.py)
    benchmark       pass@1, compared with the model before the first round, paired by problem

Limits are broken only where the 95 % interval lies beyond them, so that a few odd rows don't stop a good run. The
intervals of samples are by bootstrap over their tasks. Exit status 4 if a limit is broken.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NamedTuple

import tyro

from runs.running import is_complete
from selfalign.code.near_duplicates import near_duplicates, split_words
from selfalign.data.duplicates import NEAR_DUPLICATE
from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.options import Share, run_script
from selfalign.runner.source import open_source
from selfalign.statistics import bootstrap_interval, interval_over_tasks, paired_bootstrap, wilson_interval

NGRAM = 4  # words
PULLED = 4  # exit status
MIN_TASKS = 10  # of a round, before their diversity is judged


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When to stop."""

    min_diversity: Share = 0.7
    """Diversity of the instructions, as a share of that of the first round."""

    max_vacuous: Share = 0.2
    """Share of the passing samples whose tests accept code that does nothing."""

    min_mutation_score: Share = 0.5
    """Mean mutation score of the passing samples."""

    max_repeats: Share = 0.5
    """Share of a round's instructions that nearly repeat one of an earlier round."""


class Value(NamedTuple):
    """A measure with its 95 % interval; an interval of None where it has none."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        interval = "" if self.low is None or self.high is None else f" [{_short(self.low)}, {_short(self.high)}]"
        return f"{_short(self.value)}{interval}"


@dataclass(frozen=True)
class Round:
    """What is known of a round; None for what could not be measured, such as the mutation score without mutants.

    tasks: instructions that the model wrote
    diversity: of equally many tasks of each round
    benchmark: pass@1
    change: of pass@1 since before the first round, paired by problem
    """

    tasks: int
    diversity: Value | None = None
    vacuous: Value | None = None
    mutation_score: Value | None = None
    repeats: Value | None = None
    benchmark: Value | None = None
    change: Value | None = None


def distinct(texts: Sequence[str], n: int = NGRAM) -> float:
    """Distinct-n: how many different runs of n words there are among all of them, from 0 to 1."""
    grams = [tuple(words[i : i + n]) for words in map(split_words, texts) for i in range(len(words) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def repeats_of(texts: Sequence[str], earlier: Sequence[str]) -> int:
    """How many of `texts` nearly repeat one of `earlier`."""
    if not texts or not earlier:
        return 0
    keys = [f"a{n:09}" for n in range(len(earlier))] + [f"b{n:09}" for n in range(len(texts))]  # earlier ones are kept
    kept = near_duplicates([*earlier, *texts], keys, NEAR_DUPLICATE)
    return sum(position < len(earlier) for position in kept[len(earlier) :])


def share(true: int, of: int) -> Value | None:
    """A share with Wilson's interval; None of nothing."""
    return Value(true / of, *wilson_interval(true, of)) if of else None


def mean_of_samples(rows: Sequence[dict[str, Any]], column: str) -> Value | None:
    """The mean of what samples have in a column, or the share of those of which it is true; None of nothing."""
    values: dict[str, list[float]] = {}
    for row in rows:
        if row[column] is not None:
            values.setdefault(row["task_id"], []).append(float(row[column]))
    everything = [value for some in values.values() for value in some]
    return Value(fmean(everything), *interval_over_tasks(values)) if everything else None


def measured(rounds: Sequence[dict[str, Any]], before: dict[str, float] | None = None) -> list[Round]:
    """The measures of all rounds.

    Args:
        rounds: each with `instructions` (of all tasks, as text), `chosen` (of those that became examples), `passing`
            (rows with `task_id`, `vacuous` and `mutation_score`), and `by_problem` (pass@1 by problem; None if not
            measured).
        before: by_problem of the model before the first round.
    """
    size = min((len(one["instructions"]) for one in rounds), default=0)
    found, earlier = [], []
    for one in rounds:
        pairs = one["by_problem"]
        values = list(pairs.values()) if pairs else []
        found.append(
            Round(
                tasks=len(one["instructions"]),
                diversity=Value(distinct(sorted(one["instructions"], key=content_id)[:size])) if size else None,
                vacuous=mean_of_samples(one["passing"], "vacuous"),
                mutation_score=mean_of_samples(one["passing"], "mutation_score"),
                repeats=share(repeats_of(one["chosen"], earlier), len(one["chosen"])) if earlier else None,
                benchmark=_mean(values),
                change=_change(pairs, before) if pairs and before else None,
            )
        )
        earlier += one["chosen"]
    return found


def reasons_to_stop(rounds: Sequence[Round], limits: Limits) -> list[str]:
    """Which limits the last round breaks, each as a clause; [] if none."""
    last, first = rounds[-1], rounds[0]
    reasons = []
    if (vacuous := last.vacuous) and (vacuous.low or 0.0) > limits.max_vacuous:
        reasons.append(
            f"the tests of {_short(vacuous.value)} of the passing samples accept code that does nothing "
            f"(--max-vacuous {limits.max_vacuous})"
        )
    score = last.mutation_score
    if score and score.high is not None and score.high < limits.min_mutation_score:
        reasons.append(
            f"tests notice {_short(score.value)} of small mistakes (--min-mutation-score {limits.min_mutation_score})"
        )
    if last.diversity and first.diversity and min(last.tasks, first.tasks) >= MIN_TASKS:
        left = last.diversity.value / first.diversity.value if first.diversity.value else 1.0
        if left < limits.min_diversity:
            reasons.append(
                f"the diversity of the instructions is down to {_short(left)} of the first round's "
                f"(--min-diversity {limits.min_diversity})"
            )
    if (repeats := last.repeats) and (repeats.low or 0.0) > limits.max_repeats:
        reasons.append(
            f"{_short(repeats.value)} of the instructions nearly repeat those of earlier rounds "
            f"(--max-repeats {limits.max_repeats})"
        )
    if (change := last.change) and change.high is not None and change.high < 0:
        reasons.append(
            f"the benchmark has fallen by {_short(-change.value)} since before the first round, beyond chance"
        )
    return reasons


def sentence(number: int, reasons: Sequence[str]) -> str:
    """Why the rounds end with this one."""
    return f"stopped in round {number}, since the model seems to feed on itself: {'; '.join(reasons)}"


def brake_table(rounds: Sequence[Round], limits: Limits) -> str:
    """The measures of all rounds as a Markdown table, in percent, with the limits."""
    first = rounds[0].diversity
    least = f"at least {_short(limits.min_diversity * first.value)}" if first else ""
    measures = [
        ("tasks", "tasks", ""),
        ("diversity (distinct-4)", "diversity", least),
        ("vacuous tests", "vacuous", f"at most {_short(limits.max_vacuous)}"),
        ("mutation score", "mutation_score", f"at least {_short(limits.min_mutation_score)}"),
        ("repeats of earlier rounds", "repeats", f"at most {_short(limits.max_repeats)}"),
        ("pass@1", "benchmark", ""),
        ("change of pass@1", "change", "not below 0, beyond chance"),
    ]
    numbers = range(1, len(rounds) + 1)
    lines = [f"| | {' | '.join(f'round {n}' for n in numbers)} | limit |", f"|---|{'---:|' * len(rounds)}---|"]
    for title, name, limit in measures:
        values = ("-" if (value := getattr(one, name)) is None else str(value) for one in rounds)
        lines.append(f"| {title} | {' | '.join(values)} | {limit} |")
    return "\n".join(lines)


def _change(now: dict[str, float], before: dict[str, float]) -> Value:
    change = paired_bootstrap(now, before)
    return Value(change["difference"], change["low"], change["high"])


def _mean(values: Sequence[float]) -> Value | None:
    return Value(sum(values) / len(values), *bootstrap_interval(values)) if values else None


def _short(share: float) -> str:
    return f"{100 * share:.1f} %"


# What a folder holds --------------------------------------------------------------------------------------------------


def read_round(folder: Path) -> dict[str, Any]:
    """What `measured` needs of one round, from the outputs of its steps."""

    def rows(name: str, *columns: str) -> list[dict[str, Any]]:
        return [row for _, row in open_source(str(folder / name), columns=columns).read(None, columns)]

    tasks = rows("tasks", "instruction", "error")
    executions = rows("executions", "task_id", "passed", "vacuous", "mutation_score")
    chosen = rows("instructions", "instruction") if is_complete(folder / "instructions") else []
    return {
        "instructions": [row["instruction"] for row in tasks if not row["error"]],
        "chosen": [row["instruction"] for row in chosen],
        "passing": [row for row in executions if row["passed"]],
        "by_problem": by_problem(folder / "humaneval"),
    }


def by_problem(folder: Path) -> dict[str, float] | None:
    """The scores by problem that benchmark.py left in a folder; None if it left none."""
    results = folder / "results.json"
    return json.loads(results.read_text())["by_problem"] if results.exists() else None


def read_rounds(folder: Path, most: int | None = None) -> list[Round]:
    """The measures of the rounds in `folder` whose executions are complete: of the first `most`, or of all.

    Diversity is over as many tasks as the smallest round has, so what follows a round changes its measures.
    """
    rounds = []
    while len(rounds) != most and is_complete((there := folder / f"round-{len(rounds) + 1}") / "executions"):
        rounds.append(read_round(there))
    return measured(rounds, by_problem(folder / "before" / "humaneval"))


@dataclass(frozen=True, kw_only=True)
class Options(Limits):
    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """What runs/rounds.py writes."""


def main(options: Options) -> None:
    """Print the table, and why to stop."""
    rounds = read_rounds(options.folder)
    if not rounds:
        raise UserError(f"{options.folder} holds no round-1 whose executions are complete")
    print(brake_table(rounds, options))
    if reasons := reasons_to_stop(rounds, options):
        print(f"\n{sentence(len(rounds), reasons)}")
        raise SystemExit(PULLED)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
