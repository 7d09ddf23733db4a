"""What happens in a program's own process: it is compiled and run, the code first and then the tests.

Everything here shares its process with code that nobody trusts. In strict mode the code has a process of its own: see
strict.py.
"""

import builtins
import linecache
import sys
import types
from collections.abc import Callable

from .assertions import has_tests, let_doctest_fail, without_main_block
from .counting import number_of, reporter, run_each, statements_of
from .messages import Job, texts_in
from .verdict import TEXTS, Claim, conclude, describe


def run(job: Job) -> None:
    """Runs code, then tests; "passed" is written after the last statement of the tests. Does not return."""

    def body() -> str:
        text, *rest = texts_in(TEXTS, [job.code] if job.tests is None else [job.code, job.tests])
        code = compiled(text, "code")
        if not rest:
            return run_tests(code, text, job, lambda: main_module(job, text).__dict__)
        tests = compiled(rest[0], "tests")

        def names_from_code() -> dict:
            module = main_module(job, text)
            exec(code, module.__dict__)
            return module.__dict__

        return run_tests(tests, rest[0], job, names_from_code)

    conclude(body, job.secret)


def run_tests(
    tests: types.CodeType,
    text: str,
    job: Job,
    names: Callable[[], dict],
    # Taken when this module is loaded, before any program can replace them.
    run: Callable[[types.CodeType, dict], object] = exec,
) -> str:
    """Runs the tests, compiled from `text`, with the names that they find; the outcome if nothing is raised.

    Nothing is run, and `names` is not called, if the tests cannot test anything: no assertion of theirs can be reached,
    and there are no examples for doctest.
    """
    tested = has_tests(tests if job.main else without_main_block(tests, text))
    if not tested and "doctest" not in text:
        return "no_tests"
    report = reporter(TEXTS)
    statements = statements_of(tests, text, job.main) if job.count else []
    report(0, number_of(statements))  # before anything runs that nobody trusts
    found = names()
    examples = let_doctest_fail() if "doctest" in text else []
    if job.count:
        run_each(statements, found, report)
    else:
        run(tests, found)
    return "passed" if tested or any(examples) else "no_tests"


def compiled(text: str, name: str) -> types.CodeType:
    try:
        return compile(text, f"<{name}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError) as error:  # null bytes, lone surrogates, depth
        raise Claim("syntax_error", describe(error)) from None


def main_module(job: Job, text: str) -> types.ModuleType:
    """The module that a program is; `dataclasses`, `pickle` and `unittest` look for it in sys.modules."""
    module = types.ModuleType("__main__" if job.main else "__program__")
    if job.main:  # what else a script has: its text for `inspect`, and `import` of the files that it writes
        sys.path.append("/tmp")
        module.__dict__.update(__builtins__=builtins, __file__="<code>")
        linecache.cache["<code>"] = (len(text), None, text.splitlines(True), "<code>")
    sys.modules["__main__"] = sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    return module
