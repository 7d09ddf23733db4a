"""Our own results beside the paper's: scores that benchmark.py wrote, and facts about the datasets of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from selfalign.benchmarks.evalperf import win_rates
from selfalign.errors import UserError, warn
from selfalign.report.paper import Cell, PaperTable, system_of
from selfalign.runner.source import open_source
from selfalign.statistics import mean_over_trainings

TRAININGS = "seed-*"  # folders of a system that was trained several times


class OurValue(NamedTuple):
    """Our value for a cell, in the unit of the table, with its 95 % interval and its results.json if it has them."""

    value: float
    interval: tuple[float, float] | None = None
    result: Mapping[str, Any] = {}


class Results:
    """The results in the places that the user names: folders of results, and single ones as SYSTEM=PATH.

    UserError if there is no such folder, if PATH holds no result, or if there is no such system.
    """

    def __init__(self, places: Iterable[str]) -> None:
        self.folders: list[Path] = []
        self.system_folders: dict[str, Path] = {}
        self.files: dict[tuple[str, str], Path] = {}  # results.json by system and benchmark
        for place in places:
            system, equals, path = place.partition("=")
            if equals:
                self._add(system, Path(path).expanduser())
            else:
                self.folders.append(Path(place).expanduser())
        if missing := [str(folder) for folder in self.folders if not folder.is_dir()]:
            raise UserError(f"there is no folder {', '.join(missing)}, from which results were to be read")

    def _add(self, system: str, path: Path) -> None:
        """Take `path` for a result of `system`, or for the folder of all its results. The first of several counts."""
        system_of(system)
        if any(path.glob("*/results.json")) or any(path.glob(f"{TRAININGS}/*/results.json")):
            self.system_folders.setdefault(system, path)
            return
        file = path / "results.json" if path.is_dir() else path
        self.files.setdefault((system, _read_result(file, required=True).get("benchmark", "")), file)

    def find(self, system: str, path: str) -> Path | None:
        """The file at `path` in the folder of a system, from the first place that has it."""
        return next((file for folder in self._folders_of(system) if (file := folder / path).is_file()), None)

    def _folders_of(self, system: str) -> list[Path]:
        folders = [self.system_folders[system]] if system in self.system_folders else []
        return folders + [folder / system for folder in self.folders]

    def result(self, system: str, benchmark: str) -> dict[str, Any]:
        """The results.json of a system on a benchmark, {} if there is none; the mean if it was trained several times,
        in folders seed-0, seed-1 and so on."""
        file = self.files.get((system, benchmark)) or self.find(system, f"{benchmark}/results.json")
        if file:
            return _read_result(file)
        for folder in self._folders_of(system):
            found = [_read_result(file) for file in sorted(folder.glob(f"{TRAININGS}/{benchmark}/results.json"))]
            if found := [result for result in found if result]:
                return mean_over_trainings(found)
        return {}

    def run(self, system: str, step: str) -> dict[str, Any] | None:
        """The run.json of a step of the system, or of the data that it was trained on, and its `folder`.

        None if there is none, or if the step is not complete: its counts and seconds are those of a part.
        """
        owners = filter(None, (system, system_of(system).data))
        file = next((file for owner in owners if (file := self.find(owner, f"{step}/run.json"))), None)
        run = json.loads(file.read_text()) if file else {}
        return run | {"folder": file.parent} if file and run.get("complete", True) else None

    def value_of(self, cell: Cell) -> OurValue | None:
        """Our value for a cell, None if there is none; of several benchmarks the best."""
        if cell.fact:
            value = fact_of(self, cell.system, cell.fact)
            return None if value is None else OurValue(value)
        found = [ours for name in cell.benchmarks if (ours := self._score(cell, name))]
        return max(found, key=lambda ours: ours.value, default=None)

    def _score(self, cell: Cell, benchmark: str) -> OurValue | None:
        result = self.result(cell.system, benchmark)
        score = result.get("scores", {}).get(cell.score)
        if score is None:
            return None
        interval = result.get("intervals", {}).get(cell.score)
        return OurValue(100 * score, (100 * interval[0], 100 * interval[1]) if interval else None, result)


def _read_result(file: Path, required: bool = False) -> dict[str, Any]:
    """A results.json as benchmark.py writes it. If it is something else: UserError if `required`, otherwise a warning
    and {}."""
    try:
        result = json.loads(file.read_text())
        return result if isinstance(result["scores"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if required:
            raise UserError(f"{file} is not a results.json of benchmark.py: {error!r}") from None
        warn(f"{file} is left out: it is not a results.json of benchmark.py")
        return {}


def our_values(table: PaperTable, results: Results) -> list[dict[str, OurValue]]:
    """Our values for each row of a table, by column; columns that we have nothing for are absent."""
    found = []
    for row in table.cells:
        ours = {column: value for column, cell in row.items() if not cell.mean_of and (value := results.value_of(cell))}
        for column, cell in row.items():
            if cell.mean_of and all(part in ours for part in cell.mean_of):
                ours[column] = OurValue(sum(ours[part].value for part in cell.mean_of) / len(cell.mean_of))
        found.append(ours)
    for column, rates in win_rates_of(table, results).items():
        for row, ours in zip(table.cells, found, strict=True):
            if (rate := rates.get(row[column].system)) is not None:
                ours[column] = OurValue(100 * rate)
    return found


def win_rates_of(table: PaperTable, results: Results) -> dict[str, dict[str, float]]:
    """For each column of win rates: how often each system beats the others of the table that we have results for."""
    rates = {}
    for column, cell in table.cells[0].items():
        if cell.score == "win_rate":
            found = {row[column].system: results.result(row[column].system, cell.benchmarks[0]) for row in table.cells}
            rates[column] = win_rates({system: result for system, result in found.items() if result})
    return rates


def _pass_rate(run: dict[str, Any]) -> float:
    passed = open_source(str(run["folder"]), columns=("passed",)).rows["passed"]
    return 100 * sum(passed) / len(passed)


# For columns with a `fact`: the steps of whose runs it is one, and how it follows from their run.json files.
FACTS: dict[str, tuple[tuple[str, ...], Callable[..., float]]] = {
    "seeds": (("concepts",), lambda run: float(run["rows_in"])),
    "rows": (("instructions",), lambda run: float(run["rows_out"])),
    "pass_rate": (("instructions",), _pass_rate),  # percent of the examples whose response passed its tests
    "generation_minutes": (  # from seeds to executed responses
        ("concepts", "tasks", "responses", "executions"),
        lambda *runs: sum(run["seconds"] for run in runs) / 60,
    ),
}


def fact_of(results: Results, system: str, name: str) -> float | None:
    """A fact about the data or the training of a system, in the unit of the table; None if we don't have it."""
    if name == "training_minutes":  # as experiments/recipe.sh records them
        file = results.find(system, "training_seconds")
        return float(file.read_text()) / 60 if file else None
    steps, value = FACTS[name]
    runs = [results.run(system, step) for step in steps]
    return value(*runs) if all(runs) else None
