"""How LiveCodeBench judges a program. The text of this file is sent to the sandbox and runs there.

Tests are published as JSON in a pickle, compressed, in base64. They are unpickled here, where a pickle that somebody
tampered with can do no harm, by an unpickler that knows only plain types.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import io
import json
import os
import pickle
import signal
import sys
import threading
import time
import types
import zlib
from decimal import Decimal
from typing import Any

SECONDS = 6  # of CPU time for a test; LiveCodeBench: 6 on the clock, which would fail programs on a busy machine
PATIENCE = 3  # seconds on the clock for each of these
SHOWN = 60  # characters of a value in the message of a failure

# What LiveCodeBench imports for every program, in its order: `from builtins` restores pow and open.
STAR = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json"
)
PRELUDE = "".join(f"from {name} import *\n" for name in [*STAR.split(), "builtins", "typing"])
PRELUDE += f"import {', '.join(STAR.split())}\nsys.setrecursionlimit(50000)\n"


class PlainUnpickler(pickle.Unpickler):
    """Reads pickles of Python's plain types; rejects those that name a class or a function."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"the tests name {module}.{name}")


def read_tests(path: str, offset: int) -> list[dict[str, str]]:
    """The tests (`input`, `output`) of the problem whose line in `path` begins at byte `offset`, public ones first."""
    with open(path, "rb") as file:
        file.seek(offset)
        row = json.loads(file.readline())
    hidden = row["private_test_cases"]
    if not hidden.lstrip().startswith("["):
        hidden = PlainUnpickler(io.BytesIO(zlib.decompress(base64.b64decode(hidden)))).load()
    return json.loads(row["public_test_cases"]) + json.loads(hidden)


def judge(answer: str, path: str, offset: int, function: str | None) -> None:
    """Raises AssertionError for the first test that `answer` fails; any other exception comes from the answer."""
    program = compile(answer, "<answer>", "exec", dont_inherit=True)
    tests = read_tests(path, offset)
    assert tests, "the problem has no tests"
    run = (lambda test: judge_output(program, test)) if function is None else calls_of(program, function)
    for number, test in enumerate(tests):
        try:
            run(test)
        except AssertionError as error:
            raise AssertionError(f"test {number + 1} of {len(tests)}: {error}") from None


# ---- functional tests call a method ----


def calls_of(program, function: str):
    """The function that calls `function` of the program with the arguments of a test, one per line, and compares."""

    def too_long(*_):
        raise AssertionError(f"more than {SECONDS} s")

    sys.stdout = sys.stderr = io.StringIO()  # solutions may print, too
    signal.signal(signal.SIGPROF, too_long)
    # As in LiveCodeBench, the answer is not the main module: a block for that may ask for an input, and there is none.
    module = sys.modules["answer"] = types.ModuleType("answer")
    names = module.__dict__
    exec(PRELUDE, names)
    exec(program, names)
    method = getattr(names["Solution"](), function) if "Solution" in names else names[function]

    def run(test):
        arguments = [json.loads(line) for line in test["input"].split("\n")]
        expected = json.loads(test["output"])
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        value = method(*arguments)
        signal.setitimer(signal.ITIMER_PROF, 0)
        value = list(value) if isinstance(value, tuple) else value
        assert value == expected, f"{value!r:.{SHOWN}} instead of {expected!r:.{SHOWN}}"

    return run


# ---- stdin tests give the program an input, and compare what it prints ----


def judge_output(program, test) -> None:
    """Runs the program in a process of its own, with the test's input as its standard input."""
    with open("input", "w") as file:
        file.write(test["input"])
    for name in ("output", "error"):
        open(name, "w").close()
    child = os.fork()
    if not child:
        run_alone(program)
    status = wait(child)
    with open("error") as file:
        assert status == 0, file.read() or ended(status)
    with open("output", errors="replace") as file:
        printed = file.read()
    assert same(printed, test["output"]), f"{printed[:SHOWN]!r} instead of {test['output'][:SHOWN]!r}"


def run_alone(program) -> None:
    """Runs in the child, which exits with status 0 if the program ends well or by sys.exit. Does not return."""
    status = 1
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # SIGPROF ends the process
        os.dup2(os.open("input", os.O_RDONLY), 0)
        os.dup2(os.open("output", os.O_WRONLY), 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # which is not compared, and does not count as output
        sys.stdin, sys.stdout = os.fdopen(0), os.fdopen(1, "w")
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(PRELUDE, names)
        with contextlib.suppress(SystemExit):
            exec(program, names)
        # As at the end of an interpreter: the other threads, and what was registered for the end, may still print.
        threading._shutdown()  # type: ignore
        atexit._run_exitfuncs()
        sys.stdout.flush()
        status = 0
    except BaseException as error:
        with open("error", "w") as file:
            file.write(f"{type(error).__name__}: {error}"[:200])
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """The wait status of the child, which is killed if it takes too long on the clock."""
    deadline = time.monotonic() + PATIENCE * SECONDS
    pause = 0.0005
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return status
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGPROF, -signal.SIGKILL):
        return f"more than {SECONDS} s"
    return f"ended by signal {-code}" if code < 0 else f"exit status {code}"


def same(printed: str, expected: str) -> bool:
    """Whether two outputs agree line by line, without spaces at the ends, and with numbers compared as numbers."""
    got, wanted = ([line.strip() for line in text.strip().split("\n")] for text in (printed, expected))
    return len(got) == len(wanted) and all(map(same_line, got, wanted))


def same_line(got: str, wanted: str) -> bool:
    if got == wanted:
        return True
    try:
        return [Decimal(word) for word in got.split()] == [Decimal(word) for word in wanted.split()]
    except ArithmeticError:  # a word that is not a number
        return False
