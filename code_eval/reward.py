"""A reward for reinforcement learning: the share of its tests that a completion passes, in the sandbox's strict mode.

    from code_eval.reward import CodeReward
    trainer = GRPOTrainer(model, reward_funcs=CodeReward(), train_dataset=dataset_with_the_columns_prompt_and_tests)

    CodeReward()(completions=["```python\\ndef f(x): return x * x\\n```"], tests=["assert f(2) == 4"])   # [1.0]

None stands for what was never judged: its tests test nothing, the sandbox failed again and again, or the batch ran out
of time. A trainer must not take it for a 0; TRL's leave it out of the baseline and give it no advantage.
"""

import asyncio
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from .assertions import text_without_main_block
from .checks import check_seconds
from .markdown import LABELS, code_in
from .sandbox import Program, Result, Sandbox

AGAIN = 2  # how often a program runs again after the sandbox failed, beside what the sandbox tries itself
NOT_TESTED = ("no_tests", "syntax_error")  # of the tests themselves, where they were not even counted

NO_COLUMNS = {"prompts", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments"}  # TRL's own

Completion = str | Sequence[Mapping[str, Any]]  # text, or messages of which the last one counts


@dataclass(frozen=True)
class Judged:
    """What a completion earned and why.

    reward: from 0 to 1; None: it was never judged
    share: tests passed, from 0 to 1; None as above
    formatted: whether its code stands in a closed Markdown block
    result: how its program ended; None: it had no tests, or the batch ran out of time
    language: of its program
    """

    reward: float | None
    share: float | None
    formatted: bool
    result: Result | None
    language: str = "python"


class CodeReward:
    """A reward function: completions and tests in, numbers from 0 to 1 out, None for what was never judged.

    The code of a completion is what stands in its Python blocks, or all of it where there is no block; what comes
    before `</think>` is left out, and so is `if __name__ == "__main__":`, which may wait for input. Its tests are a
    text or a list of texts, as code or as Markdown. Every statement that tests something counts as one test, whether or
    not those before it pass.

    reward = (1 - format_weight) * share of tests passed + format_weight, if the code stands in a closed block and at
    least one test passes: nothing can be earned by the form alone.

    Where a column `language` says "javascript", node runs a completion. That needs the mode "isolated", in which a
    model can learn to forge a pass, and the tests are not counted: the share is 1 or 0.

    The workers start with the first call, and once more in a fork. `close` ends them, and so does the end of the
    process. Calls from several threads share them.

    Args:
        mode: of the sandbox. In "strict", code cannot reach what judges it.
        workers: programs at a time; None: one for each CPU, divided by the training processes on this machine.
        timeout: CPU seconds of a program; on the clock, it may take three times as long.
        patience: seconds that a batch may take. What was not judged until then gets None, so that no number of endless
            programs holds up a training step for longer.
        format_weight: from 0 to 1, the part of the reward that the form gives.
        column: of the dataset, which has the tests.
        **options: further options of Sandbox, such as on_the_clock=True: endless programs end after `timeout` seconds
            on the clock, and so hold up a step no longer on a busy machine, where right ones may then fail, too.

    Raises:
        ValueError: an option that cannot be; at the first call, "strict" for JavaScript.
        SandboxUnavailable: at the first call, if programs cannot be isolated here.
    """

    def __init__(
        self,
        mode: str = "strict",
        *,
        workers: int | None = None,
        timeout: float = 3.0,
        patience: float = 60.0,
        format_weight: float = 0.1,
        column: str = "tests",
        **options: Any,
    ):
        check_seconds(timeout=timeout, patience=patience)
        if not 0 <= format_weight <= 1:
            raise ValueError(f"format_weight must lie between 0 and 1, and not be {format_weight!r}.")
        self.patience, self.format_weight, self.column = patience, format_weight, column
        self._options = {"mode": mode, "workers": workers or default_workers(), "timeout": timeout, **options}
        self._sandboxes: dict[str, Sandbox] = {}  # by language
        self._pid = 0
        self._lock = threading.Lock()
        self.__name__ = "code_reward"  # under which trainers log it

    def __call__(
        self,
        completions: Sequence[Completion],
        tests: Sequence[str | Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """The reward of each completion. `columns` are what TRL hands on; one of them may have the tests.

        Raises ValueError where there are no tests, or not as many as completions.
        """
        found = self._tests(completions, tests, columns)
        return self._told(self.judge(completions, found, columns.get("language")), columns)

    def judge(
        self,
        completions: Sequence[Completion],
        tests: Sequence[str | Sequence[str] | None],
        languages: Sequence[str | None] | None = None,
    ) -> list[Judged]:
        """What each completion earns, and why. `languages`: of each; by default, Python."""
        spoken = languages_of(completions, languages)
        batch = self._batch(completions, tests, spoken)
        try:
            wait([batch.finished], self.patience)
        finally:
            batch.stop()
        return self._judged(completions, batch, spoken)

    async def judge_async(
        self,
        completions: Sequence[Completion],
        tests: Sequence[str | Sequence[str] | None],
        languages: Sequence[str | None] | None = None,
    ) -> list[Judged]:
        """The same for asyncio. Cancelling it ends the programs."""
        spoken = languages_of(completions, languages)
        for language in dict.fromkeys(spoken or ["python"]):
            await asyncio.to_thread(self._workers, language)  # they may have to start
        batch = self._batch(completions, tests, spoken)
        try:
            await asyncio.wait([asyncio.wrap_future(batch.finished)], timeout=self.patience)
        finally:
            batch.stop()
        return self._judged(completions, batch, spoken)

    def close(self) -> None:
        """Ends the workers; another call starts new ones."""
        with self._lock:
            sandboxes, self._sandboxes = self._sandboxes, {}
        for sandbox in sandboxes.values():
            sandbox.close()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """All but the workers, which belong to this process."""
        return vars(self) | {"_sandboxes": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def _tests(self, completions: Sequence, tests: Sequence | None, columns: dict[str, Any]) -> Sequence:
        found = columns.get(self.column) if tests is None else tests
        if found is None:
            there = ", ".join(sorted(columns.keys() - NO_COLUMNS)) or "none"
            raise ValueError(f"A reward needs tests: there is no column {self.column!r}; the columns are {there}.")
        if isinstance(found, str) or len(found) != len(completions):
            raise ValueError(f"{len(completions)} completions need as many tests, one text or list of texts each.")
        return found

    def _workers(self, language: str = "python") -> Sandbox:
        with self._lock:
            if self._pid != os.getpid():
                self._sandboxes, self._pid = {}, os.getpid()
            if language not in self._sandboxes or self._sandboxes[language].closed:
                self._sandboxes[language] = Sandbox(**self._options, language=language)
            return self._sandboxes[language]

    def _batch(self, completions: Sequence[Completion], tests: Sequence, languages: Sequence[str]) -> "Batch":
        opened = {language: self._workers(language) for language in languages or ["python"]}
        programs = {}
        for number, (completion, test, language) in enumerate(zip(completions, tests, languages, strict=True)):
            texts = [test] if isinstance(test, str) else test or []
            joined = "\n".join(code_in(text, language)[0] for text in texts)
            if joined.strip():
                code, _ = code_in(text_of(completion), language)
                code = text_without_main_block(code) if language == "python" else code
                programs[number] = opened[language], Program(code, joined, count=language == "python")
        return Batch(programs)

    def _judged(self, completions: Sequence[Completion], batch: "Batch", languages: Sequence[str]) -> list[Judged]:
        judged = []
        for number, (completion, language) in enumerate(zip(completions, languages, strict=True)):
            result = batch.results.get(number)
            share = None if result is None else share_of(result, language)
            formatted = code_in(text_of(completion), language)[1]
            form = self.format_weight if share and formatted else 0.0
            reward = None if share is None else (1 - self.format_weight) * share + form
            judged.append(Judged(reward, share, formatted, result, language))
        return judged

    def _told(self, judged: list[Judged], columns: dict[str, Any]) -> list[float | None]:
        """The rewards, after TRL was told what its logs may show."""
        if "log_extra" in columns:
            columns["log_extra"]("outcome", [one.result.outcome if one.result else "not judged" for one in judged])
        if "log_metric" in columns and judged:
            outcomes = [one.result.outcome if one.result and one.share is not None else "not judged" for one in judged]
            for name, kinds in {
                "passed": ["passed"],
                "timeout": ["timeout", "cpu_limit"],
                "not_judged": ["not judged"],
            }.items():
                columns["log_metric"](f"code/{name}", sum(map(outcomes.count, kinds)) / len(judged))
        return [one.reward for one in judged]


class AsyncCodeReward(CodeReward):
    """The same as a coroutine, which TRL runs beside its other reward functions."""

    async def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        completions: Sequence[Completion],
        tests: Sequence[str | Sequence[str] | None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        found = self._tests(completions, tests, columns)
        return self._told(await self.judge_async(completions, found, columns.get("language")), columns)


class Batch:
    """Programs that run together, each in a sandbox; `finished` is set when all are judged or were run often enough."""

    def __init__(self, programs: Mapping[int, tuple[Sandbox, Program]]):
        self.results: dict[int, Result] = {}
        self.finished: Future[None] = Future()
        self._programs = programs
        self._tries = dict.fromkeys(programs, AGAIN)
        self._running: dict[int, Future[Result]] = {}
        self._lock = threading.RLock()
        self._stopped = False
        for number in programs:
            self._start(number)
        self._check()

    def _start(self, number: int) -> None:
        with self._lock:
            if self._stopped:
                return
            sandbox, program = self._programs[number]
            future = self._running[number] = sandbox.submit(program)
        future.add_done_callback(lambda future: self._hear(number, future))

    def _hear(self, number: int, future: "Future[Result]") -> None:
        if future.cancelled():
            return
        if error := future.exception():
            with self._lock:
                if not self.finished.done():
                    self.finished.set_exception(error)
            return
        if future.result().outcome == "sandbox_error" and self._tries[number]:
            self._tries[number] -= 1
            self._start(number)
            return
        with self._lock:
            self.results[number] = future.result()
        self._check()

    def _check(self) -> None:
        with self._lock:
            if len(self.results) == len(self._programs) and not self.finished.done():
                self.finished.set_result(None)

    def stop(self) -> None:
        """Ends what still runs. Raises what broke the sandbox, if something did."""
        with self._lock:
            self._stopped = True
            running = list(self._running.values())
        for future in running:
            future.cancel()
        if self.finished.done():
            self.finished.result()


def format_reward(completions: Sequence[Completion], **_: Any) -> list[float]:
    """1 for each completion whose code stands in a closed Markdown block, 0 for the others.

    For models that do not yet write blocks at all: a reward function of its own, beside CodeReward.
    """
    return [float(code_in(text_of(completion))[1]) for completion in completions]


def share_of(result: Result, language: str = "python") -> float | None:
    """The share of its tests that a program passed; None if nothing was judged."""
    untested = not result.tests and result.outcome in NOT_TESTED
    if language == "javascript" and result.outcome == "syntax_error":  # nothing is counted, and the detail says where
        untested = result.detail.endswith("(tests)")
    if result.outcome == "sandbox_error" or untested:
        return None
    if result.passed:
        return 1.0
    # Where all tests passed and the program did not, something after them failed, which is worth as much as a test.
    return min(result.tests_passed, result.tests - 1) / result.tests if result.tests else 0.0


def languages_of(completions: Sequence[Completion], names: Sequence[str | None] | None) -> list[str]:
    """The language of each completion by the names that are given; whatever is not JavaScript is Python."""
    if names is None:
        return ["python"] * len(completions)
    if isinstance(names, str) or len(names) != len(completions):
        raise ValueError(f"{len(completions)} completions need as many languages.")
    return ["javascript" if str(name).strip().lower() in LABELS["javascript"] else "python" for name in names]


def text_of(completion: Completion) -> str:
    """The text of a completion: of its last message, if it consists of messages."""
    if isinstance(completion, str):
        return completion
    content = completion[-1].get("content") or "" if completion else ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


def default_workers() -> int:
    """One for each CPU that this process may use, divided by the training processes on this machine."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
