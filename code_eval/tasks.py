"""A program on its way through the sandbox: what to run, how it ended, and who waits for it."""

import contextlib
import os
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace

from .messages import DETAIL_LIMIT, Job


@dataclass(frozen=True)
class Program:
    """Code to be judged and the tests that judge it, compiled separately; `tests=None`: both are in `code`.

    `timeout`: seconds of CPU time; None: the sandbox's.
    """

    code: str
    tests: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Result:
    """How one program ended.

    index: its position in what was given to `run`, or the number of `submit`s before it
    passed: the last statement of the tests ran, and nothing went wrong
    outcome: passed, failed (an assertion), error, timeout (wall), cpu_limit, out_of_memory, output_limit,
        too_many_processes, syntax_error, no_tests, killed (by a signal), sandbox_error (not the program's fault)
    detail: the last line of the error, at most 300 characters
    cpu_seconds, wall_seconds: of the program and all that it started and waited for
    peak_memory: bytes, of the largest process or, if higher, of all together as seen every 50 ms
    """

    index: int
    passed: bool
    outcome: str
    detail: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory: int = 0


@dataclass(eq=False)
class Task:
    """A program on its way, with its limits in seconds and the future that receives its result.

    The future stays pending until the result is there, so that it can be cancelled while the program runs.
    """

    program: Program
    index: int
    timeout: float
    wall: float
    main: bool
    strict: bool
    future: "Future[Result]" = field(default_factory=Future)
    retries: int = 0
    avoid: object = None  # the worker on which it failed
    _tests: int = -1  # strict mode: the descriptor of a file in memory, and the bytes of the tests in it
    _size: int = 0

    def job(self, number: int) -> Job:
        """The message to a worker, which will know the program by `number`."""
        tests = None if self.strict else self.program.tests
        return Job(number, self.program.code, tests, self.timeout, self.wall, self.main, self.strict)

    def open_tests(self) -> int:
        """Strict mode: a file in memory with the tests, which the worker hands on unread."""
        if self._tests < 0:
            text = (self.program.tests or "").encode("utf-8", "surrogatepass")
            self._tests, self._size = os.memfd_create("tests"), len(text)
            with open(self._tests, "wb", closefd=False) as file:
                file.write(text)
        return self._tests

    def close_tests(self) -> str:
        """Closes the file of the tests, if there is one; the detail that the tests' process has written behind them."""
        if self._tests < 0:
            return ""
        detail = os.pread(self._tests, 4 * DETAIL_LIMIT, self._size)
        os.close(self._tests)
        self._tests = -1
        return detail.decode("utf-8", "replace")[:DETAIL_LIMIT]

    def finish(self, result: Result) -> None:
        """Sets the result; in strict mode, the tests' process may have left its detail."""
        if detail := self.close_tests():
            result = replace(result, detail=result.detail or detail)
        with contextlib.suppress(InvalidStateError):  # cancelled in the meantime
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        self.close_tests()
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)

    def cancel(self) -> None:
        self.close_tests()
        self.future.cancel()
