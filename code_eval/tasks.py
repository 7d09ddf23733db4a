"""A program on its way through the sandbox: what to run, how it ended, and who waits for it."""

import contextlib
import os
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace

from .messages import COUNTS, DETAIL_LIMIT, REMARK_BITS, REMARKS, REPORT_SIZE, Job, detail_in, file_of


@dataclass(frozen=True)
class Program:
    """Code to be judged and the tests that judge it, compiled separately; `tests=None`: both are in `code`.

    `timeout`: seconds of CPU time; None: the sandbox's.
    `count`: whether the tests go on after one that failed, so that the result says how many of them passed. A test is a
        statement of the tests that tests something, such as an `assert`, or a test that unittest runs.
    """

    code: str
    tests: str | None = None
    timeout: float | None = None
    count: bool = False


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
    tests_passed, tests: how many of how many, if the program was to `count` them
    remarks: in strict mode, what the tests did that holds for some wrong answers, which no sandbox can tell:
        "helpers": they called more than one function of the code, of which one may judge what another returns
        "nan": the code returned a NaN, which is neither large nor small
        "arguments": the code changed an argument of theirs and returned something as well, which they may compare
    """

    index: int
    passed: bool
    outcome: str
    detail: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory: int = 0
    tests_passed: int = 0
    tests: int = 0
    remarks: tuple[str, ...] = ()


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
    patient: bool = True  # see Job
    future: "Future[Result]" = field(default_factory=Future)
    retries: int = 0
    avoid: object = None  # the worker on which it failed
    _files: list[int] = field(default_factory=list)  # what the worker was given: the last one has the report

    def job(self, number: int) -> tuple[Job, list[int]]:
        """The message to a worker, which will know the program by `number`, and the descriptors that go with it."""
        self.close_files()
        program = self.program
        texts = [program.code] if program.tests is None else [program.code, program.tests]
        sizes: list[int] = []
        for parts in [[text] for text in texts] if self.strict else [texts]:
            file, found = file_of(*parts)
            self._files.append(file)
            sizes += found
        tests = None if program.tests is None else sizes[1]
        limits = (self.timeout, self.wall)
        job = Job(number, sizes[0], tests, *limits, self.main, self.strict, program.count, self.patient)
        return job, self._files

    def close_files(self) -> None:
        while self._files:
            os.close(self._files.pop())

    def finish(self, result: Result) -> None:
        """Sets the result, completed by the report that the program's process has left, and makes it printable."""
        if self._files:
            report = os.pread(self._files[-1], REPORT_SIZE, 0)
            passed, tests = COUNTS.unpack_from(report)
            (bits,) = REMARK_BITS.unpack_from(report, COUNTS.size)
            remarks = tuple(name for number, name in enumerate(REMARKS) if bits >> number & 1 and self.strict)
            detail = result.detail or detail_in(report)
            result = replace(result, detail=detail, tests_passed=passed, tests=tests, remarks=remarks)
            self.close_files()
        with contextlib.suppress(InvalidStateError):  # cancelled in the meantime
            self.future.set_result(replace(result, detail=printable(result.detail)[:DETAIL_LIMIT]))

    def fail(self, error: BaseException) -> None:
        self.close_files()
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)

    def cancel(self) -> None:
        self.close_files()
        self.future.cancel()


def printable(text: str) -> str:
    """Text without what would command a terminal, such as the escape sequences of ANSI."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)
