"""The class `Benchmark`: where its problems come from, how a model is asked, and which programs judge its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from code_eval.sandbox import Program, Result

Row = dict[str, Any]
Style = Literal["completion", "chat", "solution"]
"""What an answer is: the continuation of `completion_prompt`, a Markdown reply to `chat_prompt`, or the whole code."""
FIRST_ANSWER = "first answer"
"""In the `checks` of a row, the name of the outcome of an answer that was revised."""
RunPrograms = Callable[[Sequence[Program]], list[Result]]
"""Returns the results of programs in order, which run one at a time in a sandbox that is otherwise idle."""


class Ask(Protocol):
    """Asks the model: `await ask(prompt)` is its completion, with the benchmark's `chat_prefix` before it.

    `prompt` is what a base model continues, or what the user of a chat model says. The completion ends before the first
    of the strings in `stop`, by default the benchmark's own.
    """

    def __call__(self, prompt: str, stop: Sequence[str] | None = None) -> Awaitable[str]: ...


@dataclass(frozen=True)
class Problem:
    """A problem: what is asked, a solution that passes, and the tests.

    If a function is asked for, `prompt` is its signature and docstring, and `canonical_solution` its body. `timeout` is
    in CPU seconds, for a problem that needs more than the others. `extra` holds what only this benchmark has.
    """

    task_id: str
    prompt: str
    entry_point: str = ""
    canonical_solution: str = ""
    test: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
    timeout: float = 0.0


class Benchmark(ABC):
    """A benchmark. Its file defines one subclass, which overrides whatever differs from the defaults here."""

    # The problems
    dataset: str = ""
    """`org/name@revision` on the Hub, where `{variant}` stands for the variant; several are separated by commas. Empty
    if the problems come with a Python package."""
    variants: ClassVar[tuple[str | None, ...]] = (None,)
    """Names of its sets of problems, each a benchmark of its own; None is the benchmark without a suffix."""
    releases: ClassVar[Sequence[str]] = ()
    """Names of the published states of its problems, which `--release` chooses from; empty if there is but one."""
    release: str = ""
    """The one that `problems` reads from the Hub; the class has the default."""
    note: str | None = None
    """What a reader of the results must know, if anything."""

    # Decoding
    samples: int = 1  # per problem
    temperature: float = 0.0  # paper, section 3: greedy
    top_p: float | None = None
    max_new_tokens: int = 512  # EvalPlus
    completion_stop: Sequence[str] = ()
    """Strings before which the answer of a base model ends."""
    chat_prefix: str = ""
    """How the answer of a chat model begins: sent with the prompt, and part of the answer that is judged."""
    chat_stop: Sequence[str] = ()
    """Strings before which the answer of a chat model ends."""

    # The sandbox
    timeout: float = 10.0  # CPU seconds
    memory: int = 1 << 30  # bytes
    disk: int = 64 << 20  # bytes of files, which are in memory
    language: str = "python"
    """Of the programs: "python", or "javascript", which the `node` on the PATH runs."""
    preload: Sequence[str] | None = None
    """Modules that workers import once, beside those of the sandbox; None: only those of the sandbox."""
    environment: Mapping[str, str] = {}
    perf_event: str | None = None
    """What is counted for the programs of `measure`, where it can be (see code_eval.sandbox.Sandbox)."""
    requirements: str = ""
    """Name of the file in selfalign/benchmarks/requirements with the packages of its era that the programs need:
    `python -m selfalign.benchmarks.harness.environment` installs them. Empty if this project's packages do."""
    pythons: Sequence[str] = ("3.10", "3.11")
    """Versions of Python for which these packages were published, the best first."""
    download: str = ""
    """Code that fetches what an environment needs besides packages, with its folder in `sys.argv[1]`."""

    def __init__(self, variant: str | None = None) -> None:
        self.variant = variant
        self.dataset = self.dataset.format(variant=variant)

    @classmethod
    def family(cls) -> str:
        """What the names of all its variants begin with: the name of its file, with hyphens for underscores."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    @classmethod
    def why_not(cls, variant: str) -> str:
        """Why it has no such variant, where somebody may look for it; "" if nothing is known of it."""
        return ""

    @abstractmethod
    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order, from `data` (a Hub dataset or a file), by default from `dataset`.

        If they have dates, `extra["date"]` is one in ISO's format, and `--start-date` and `--end-date` choose by it.
        """

    def published(self) -> int | None:
        """How many problems were published under this name, if another number in a file is likely another set."""
        return None

    @abstractmethod
    def completion_prompt(self, problem: Problem) -> str:
        """What a base model continues."""

    @abstractmethod
    def chat_prompt(self, problem: Problem) -> str:
        """What the user of an instruction-tuned model asks."""

    def reference_prompt(self, problem: Problem) -> str:
        """What the paper's reference implementation asks, where it measures this benchmark; else `chat_prompt`."""
        return type(self).chat_prompt(self, problem)  # self.chat_prompt may be this very method by now

    def ask_as_the_reference(self) -> None:
        """From now on, ask chat models as the paper's reference implementation does, which begins their answers."""
        self.chat_prompt = self.reference_prompt
        self.chat_prefix, self.chat_stop = "```python", ("\n```\n",)

    def beginning(self, problem: Problem) -> str:
        """How the answer of a chat model begins, which is given to it."""
        return self.chat_prefix

    async def answer(self, problem: Problem, ask: Ask, style: Style) -> str:
        """The answer to a problem; a benchmark that needs several requests for one answer overrides this."""
        return await ask(self.chat_prompt(problem) if style == "chat" else self.completion_prompt(problem))

    async def revise(self, problem: Problem, answer: str, verdict: Row, ask: Ask, style: Style) -> str | None:
        """A second answer, after `answer` has failed; None keeps the first. Given samples are not revised.

        `verdict` has the columns `outcome` and `detail` of the first answer.
        """
        return None

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The code of an answer, and its tests."""
        raise NotImplementedError(f"{type(self).__name__} defines neither program nor checks")

    def checks(self, problem: Problem, answer: str, style: Style) -> dict[str, Program]:
        """The programs of an answer by name; it passes when all of them do. Unnamed ones are not reported."""
        return {"": self.program(problem, answer, style)}

    def read_only(self, problems: Iterable[Problem]) -> list[str]:
        """Files that the programs may read."""
        return []

    def scores(self, rows: Sequence[Row], problems: Mapping[str, Problem]) -> dict[str, float]:
        """Scores besides pass@k, in [0, 1], by name.

        `rows` are those that benchmark.py writes, with `checks` as {name: outcome} and `measured` from `measure`;
        `problems` are by task id. The bootstrap calls this a thousand times, with the rows of a problem repeated as
        often as it was drawn, so it should be quick.
        """
        return {}

    def measure(self, rows: Sequence[Row], problems: Mapping[str, Problem], run: RunPrograms) -> dict[str, Row]:
        """Measurements of rows after all were judged (`code` is what was judged): {row id: {name: value}}."""
        return {}

    def measure_by_cpu_time(self, reason: str) -> None:
        """From now on, `measure` does without `perf_event`; `reason` is why it can't be counted, "" if it could be."""
        self.perf_event = None


def pass_rates(rows: Iterable[Mapping[str, Any]], groups: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """pass@1 of each group: the mean over the group's problems, all of which have the same number of samples.

    `rows` have `task_id` and `passed`; `groups` are task ids by the group's name, and may overlap. Groups without rows
    are left out.
    """
    names: dict[str, list[str]] = {}
    for name, tasks in groups.items():
        for task in tasks:
            names.setdefault(task, []).append(name)
    passed: dict[str, list[bool]] = {name: [] for name in groups}
    for row in rows:
        for name in names.get(row["task_id"], ()):
            passed[name].append(row["passed"])
    return {name: sum(verdicts) / len(verdicts) for name, verdicts in passed.items() if verdicts}


def pass_rates_by(rows: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem], key: str) -> dict[str, float]:
    """pass@1 of the problems that share a value of `extra[key]`, by this value."""
    groups: dict[str, list[str]] = {}
    for task_id, problem in problems.items():
        groups.setdefault(problem.extra[key], []).append(task_id)
    return pass_rates(rows, groups)
