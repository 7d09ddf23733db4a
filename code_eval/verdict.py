"""The verdict of a program's own process: what can go wrong, and how the outcome gets to the worker.

The process writes to a socket: "ready" before anything that nobody trusts has run, then a secret of this program and
the outcome. The detail goes into the file of the texts, which the worker does not read. Code that shares the process
can find socket and secret (see SECURITY.md); in strict mode, the code has a process of its own, without either.
"""

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from .messages import DETAIL_AT, DETAIL_LIMIT

VERDICT, TEXTS = 3, 4  # descriptors: the socket, and the file with the texts and the report

# How a program can end as far as its own process knows; the rest is seen from outside.
FAILURES = ("failed", "error", "syntax_error", "no_tests", "out_of_memory", "output_limit", "too_many_processes")
OUTCOMES = ("passed", *FAILURES)


class Claim(Exception):
    """Claim(outcome, detail): an outcome that is not "passed"."""


def conclude(
    body: Callable[[], str],
    secret: str,
    # Taken when this module is loaded, before any program can replace them.
    write=os.write,
    report=os.pwrite,
    leave=os._exit,
    getpid=os.getpid,
) -> None:
    """Runs `body`, writes the outcome that it returns or raises, and ends the process."""
    write(VERDICT, b"ready\n")
    judge = getpid()
    outcome, detail = "error", ""
    try:
        gc.enable()
        outcome = body()
    except BaseException as error:
        if getpid() != judge:
            end_fork(error)
        outcome, detail = classify(error)
    finally:
        if getpid() != judge:
            end_fork(None)
        with contextlib.suppress(OSError):  # the program has closed it, or something else has its number now
            report(TEXTS, detail[:DETAIL_LIMIT].encode("utf-8", "replace"), DETAIL_AT)
        write(VERDICT, f"\n{secret} {outcome}\n".encode("utf-8", "replace"))
        leave(0)


def end_fork(error: BaseException | None, leave: Callable[[int], NoReturn] = os._exit) -> NoReturn:
    """Ends a process that a program forked and that ran on to the end, as an interpreter would: with a status by which
    its parent knows whether it failed, and with what it has printed."""
    status = 0
    try:
        if isinstance(error, SystemExit):
            is_number = error.code is None or isinstance(error.code, int)
            status = int(error.code or 0) if is_number else 1
            if not is_number:
                print(error.code, file=sys.stderr)
        elif error:
            status = 1
            sys.excepthook(type(error), error, error.__traceback__)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        status = status or 1
    leave(status & 255)


def classify(error: BaseException) -> tuple[str, str]:
    """(outcome, detail) of what a program raised; the detail is the last line of its traceback."""
    kind, detail = type(error), describe(error)
    if kind is Claim:
        return error.args
    if issubclass(kind, AssertionError):
        return "failed", detail
    if issubclass(kind, MemoryError):
        return "out_of_memory", detail
    if issubclass(kind, BlockingIOError) or detail.startswith("RuntimeError: can't start new thread"):
        return "too_many_processes", detail
    if issubclass(kind, OSError) and getattr(error, "errno", 0) in (errno.EFBIG, errno.ENOSPC):
        return "output_limit", detail
    return "error", detail


def describe(error: BaseException) -> str:
    """The last line of an error's traceback."""
    name = type(error).__name__
    try:
        lines = str(error).strip().splitlines()
    except BaseException:
        return name
    return f"{name}: {lines[-1]}" if lines else name
