"""Runs type checkers on functions: does each pass as a file of its own?

    async with TypeChecker("basedpyright") as checker:
        rule = await checker.check(code)      # None, or the rule of its first error

Starting a checker takes longer than checking a function, so one process checks a batch of functions that are asked for
at the same time. Each batch lies in a temporary folder with its own configuration, so that no configuration file of the
machine has any effect. Files are named by numbers, which no import statement can refer to. Still, what basedpyright
infers about unannotated packages can depend on what it has seen before: in reverse order and in smaller batches, 1
function in 400 got another verdict.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from selfalign.errors import UserError

BATCH = 1000  # functions per process: some ten seconds of basedpyright, which takes one second to start
MAX_PROCESSES = 8  # by default: each takes 1 GB, and up to 3 GB if functions use large packages
WORTHWHILE = 100  # functions that justify starting an idle process
DELAY_SECONDS = 0.5  # how long a function waits for others to share its process
BASE_SECONDS, SECONDS_PER_FUNCTION = 60.0, 1.0  # a process that takes longer hangs: usual is a hundredth of that
FAILED = "checker_failed"  # instead of a rule: the checker crashes or hangs when it checks this function
GOOD, BAD = "def f(x: int) -> int:\n    return x\n", "def f(x: int) -> str:\n    return x\n"


class Tool(NamedTuple):
    """How to install and run a type checker, and what it prints: JSON with a list of errors.

    `{python}` in its configuration and arguments stands for the interpreter whose packages it finds.
    """

    install: str
    configuration: dict[str, str]  # file -> content
    arguments: tuple[str, ...]
    errors: str  # the key of the list of errors
    file: str  # the keys of an error's file and rule
    rule: str


# The paper (B) uses Pyright with its own defaults, which basedpyright calls "standard".
_PYRIGHT = (
    {"pyrightconfig.json": '{"include": ["."], "typeCheckingMode": "standard"}'},
    ("--project", "pyrightconfig.json", "--pythonpath", "{python}", "--outputjson"),
    *("generalDiagnostics", "file", "rule"),
)
_PYREFLY = """preset = "default"
project-includes = ["*.py"]
use-ignore-files = false
python-interpreter-path = "{python}"
"""
TOOLS = {
    "basedpyright": Tool("pip install -r requirements.txt", *_PYRIGHT),
    "pyright": Tool("pip install 'pyright[nodejs]'", *_PYRIGHT),
    "pyrefly": Tool(
        "pip install pyrefly==1.4.1",
        {"pyrefly.toml": _PYREFLY},
        ("check", "--config", "pyrefly.toml", "--output-format", "json", "--summary=none"),
        *("errors", "path", "name"),
    ),
}


class TypeChecker:
    """A type checker for one function at a time; to be entered as an async context manager.

    Args:
        name: basedpyright, pyright or pyrefly.
        python: the interpreter whose packages it finds; the running one if None.
        processes: how many run at a time; if None, one per CPU, up to MAX_PROCESSES.
        batch: how many functions a process checks.

    Raises:
        UserError: it is not installed or does not work, or `python` is not an interpreter.
    """

    def __init__(
        self, name: str, *, python: str | None = None, processes: int | None = None, batch: int = BATCH
    ) -> None:
        self.name, self.tool, self.batch = name, TOOLS[name], batch
        self.processes = processes or min(MAX_PROCESSES, os.cpu_count() or 1)
        beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        program, interpreter = shutil.which(name, path=beside), shutil.which(python or sys.executable)
        if not program:
            raise UserError(f"{name} is not installed: {self.tool.install}, or choose another --type-checker")
        # Some checkers silently accept what is not an interpreter, and then find no packages.
        if not interpreter or subprocess.run([interpreter, "-c", "import sys"], capture_output=True).returncode:
            raise UserError(f"{python} is not a Python interpreter")
        self._python = os.path.abspath(interpreter)
        self._command = [program, *(word.format(python=self._python) for word in self.tool.arguments)]
        self.window = batch * (self.processes + 1)  # functions at a time: a batch gathers while others run
        rules, said = asyncio.run(self._run([GOOD, BAD]))
        if rules is None or rules[0] or not rules[1]:
            raise UserError(
                f"{name} does not work here: {said or 'it misses an error, or reports one where there is none'}"
            )

    async def __aenter__(self) -> TypeChecker:
        self._waiting: list[tuple[str, asyncio.Future[str | None]]] = []
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._timer:
            self._timer.cancel()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def check(self, code: str) -> str | None:
        """The rule of the first error in `code`; None if there is none, `FAILED` if the checker cannot check it."""
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((code, answer))
        self._schedule()
        return await answer

    def _schedule(self) -> None:
        """Start processes at once if a whole batch waits, or else soon."""
        if len(self._waiting) >= self.batch:
            self._start()
        elif self._waiting and not self._timer:
            self._timer = asyncio.get_running_loop().call_later(DELAY_SECONDS, self._start)

    def _start(self) -> None:
        """Start as many processes as may run for the functions that wait."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._waiting and len(self._running) < self.processes:
            share = -(-len(self._waiting) // (self.processes - len(self._running)))  # rounded up
            size = min(self.batch, max(WORTHWHILE, share))
            some, self._waiting = self._waiting[:size], self._waiting[size:]
            task = asyncio.ensure_future(self._answer(some))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._schedule()

    async def _answer(self, some: list[tuple[str, asyncio.Future[str | None]]]) -> None:
        try:
            rules = await self._rules([code for code, _ in some])
        except BaseException as error:
            for _, answer in some:
                if not answer.done():
                    answer.set_exception(error) if isinstance(error, Exception) else answer.cancel()
            raise
        for (_, answer), rule in zip(some, rules, strict=True):
            if not answer.done():
                answer.set_result(rule)

    async def _rules(self, codes: list[str]) -> list[str | None]:
        """The rule of each one's first error. If the checker crashes or hangs, the halves are checked separately."""
        rules, _ = await self._run(codes)
        if rules is not None:
            return rules
        if len(codes) == 1:
            return [FAILED]
        middle = len(codes) // 2
        return await self._rules(codes[:middle]) + await self._rules(codes[middle:])

    async def _run(self, codes: list[str]) -> tuple[list[str | None] | None, str]:
        """One process: the rule of each one's first error, or None and its complaint if it gives no result."""
        with tempfile.TemporaryDirectory(prefix="selfalign-types-") as folder:
            for name, text in self.tool.configuration.items():
                Path(folder, name).write_text(text.replace("{python}", self._python))
            for number, code in enumerate(codes):
                Path(folder, f"{number}.py").write_bytes(code.encode())
            output, said = Path(folder, "output"), Path(folder, "said")
            with output.open("wb") as stdout, said.open("wb") as stderr:
                process = await asyncio.create_subprocess_exec(
                    *self._command,
                    cwd=folder,
                    env={k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "PYREFLY_"))},
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=True,  # Ctrl-C does not reach it, and its children can be killed with it
                )
            try:
                await asyncio.wait_for(process.wait(), BASE_SECONDS + SECONDS_PER_FUNCTION * len(codes))
            except asyncio.TimeoutError:
                return None, "it hangs"
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
            printed, complaint = output.read_text(errors="replace"), said.read_text(errors="replace")
        rules: list[str | None] = [None] * len(codes)
        try:
            for error in json.loads(printed)[self.tool.errors]:
                if error["severity"] == "error":
                    number = int(Path(error[self.tool.file]).stem)
                    rules[number] = rules[number] or error.get(self.tool.rule, "syntax")
        except (ValueError, KeyError, TypeError):
            return None, (complaint or printed).strip()[-300:]
        return rules, ""
