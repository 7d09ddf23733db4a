"""Step 6: executions -> instructions. One passing response for each task becomes an example to train on.

Paper: section 2.3. Of the samples of a task that passed their tests one is drawn at random. Table 9 compares this with
other strategies: a random response whether it passes or not (61.6 HumanEval+), a failing one (57.9), a passing one
(65.2).

    python select.py ./executions ./instructions

Columns in:  id, task_id, instruction, response, passed

Columns out: those, and

    messages    the example as a chat: [{"role": "user", ...}, {"role": "assistant", ...}]
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
else:
    from selfalign.options import StepOptions

from dataclasses import dataclass
from typing import Any, Literal

COLUMNS = {"messages": [{"role": str, "content": str}]}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step; the defaults are the paper's."""

    strategy: Literal["passes", "failures", "random", "random-subset"] = "passes"
    """Which samples to draw from (Table 9): those that passed, those that did not, or all; `failures` and
    `random-subset` give as many examples as `passes` would, so that the data is of equal size."""


def choose(samples: list[dict[str, Any]], strategy: str, seed: int) -> list[int]:
    """Positions of the chosen samples, at most one for each task.

    `samples` has `id`, `task_id` and `passed` of each. A draw depends on the seed and the ids alone, so neither the
    order of the rows nor the other tasks change it.
    """
    from selfalign.steps import content_id

    def draw(candidates: list[int]) -> dict[str, int]:
        """One of each task's candidates: the one whose hash is lowest."""
        chosen: dict[str, tuple[str, int]] = {}
        for position in candidates:
            sample = samples[position]
            lot = content_id(seed, sample["id"]), position
            chosen[sample["task_id"]] = min(chosen.get(sample["task_id"], lot), lot)
        return {task: position for task, (_, position) in chosen.items()}

    wanted = {"passes": (True,), "failures": (False,), "random": (True, False), "random-subset": (True, False)}[
        strategy
    ]
    chosen = draw([i for i, sample in enumerate(samples) if sample["passed"] in wanted])
    tasks = sorted(chosen, key=lambda task: content_id(seed, task))
    if strategy in ("failures", "random-subset"):
        tasks = tasks[: len({sample["task_id"] for sample in samples if sample["passed"]})]
    return sorted(chosen[task] for task in tasks)


def to_messages(sample: dict[str, Any]) -> dict[str, Any]:
    """The sample as a chat of one turn."""
    turns = (("user", sample["instruction"]), ("assistant", sample["response"]))
    return sample | {"messages": [{"role": role, "content": content} for role, content in turns]}


def main(options: Options) -> None:
    """Draw one response for each task, from those that the strategy allows."""
    import dataclasses

    from selfalign.options import UserError
    from selfalign.steps import read_input, run_step

    executions = read_input(options, "id", "task_id", "instruction", "response", "passed")
    samples = executions.rows.select_columns(["id", "task_id", "passed"]).to_list()
    chosen = choose(samples, options.strategy, options.seed)
    if not chosen:
        raise UserError(f"{options.input} has no sample that --strategy {options.strategy} could choose")
    passed = sum(sample["passed"] for sample in samples)
    run_step(
        options,
        dataclasses.replace(executions, rows=executions.rows.select(chosen)),
        to_messages,
        COLUMNS,
        dropped={"did_not_pass": len(samples) - passed, "not_drawn": passed - len(chosen)}
        if options.strategy == "passes"
        else {"not_drawn": len(samples) - len(chosen)},
    )


if __name__ == "__main__":
    from selfalign.options import run_script

    run_script(main, Options, __doc__)
