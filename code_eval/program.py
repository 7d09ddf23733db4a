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
from .messages import Job
from .verdict import VERDICT, Claim, conclude, describe


def run(job: Job, verdict: int = VERDICT) -> None:
    """Runs code, then tests; "passed" is written after the last statement of the tests. Does not return."""

    def body() -> str:
        code = compiled(job.code, "code")
        if job.tests is None:
            return run_tests(code, job.code, job, lambda: main_module(job).__dict__)
        tests = compiled(job.tests, "tests")

        def names_from_code() -> dict:
            module = main_module(job)
            exec(code, module.__dict__)
            return module.__dict__

        return run_tests(tests, job.tests, job, names_from_code)

    conclude(body, verdict)


def run_tests(tests: types.CodeType, text: str, job: Job, names: Callable[[], dict]) -> str:
    """Runs the tests, compiled from `text`, with the names that they find; the outcome if nothing is raised.

    Nothing is run, and `names` is not called, if the tests cannot test anything: no assertion of theirs can be reached,
    and there are no examples for doctest.
    """
    tested = has_tests(tests if job.main else without_main_block(tests, text))
    if not tested and "doctest" not in text:
        return "no_tests"
    found = names()
    examples = let_doctest_fail() if "doctest" in text else []
    exec(tests, found)
    return "passed" if tested or any(examples) else "no_tests"


def compiled(text: str, name: str) -> types.CodeType:
    try:
        return compile(text, f"<{name}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError) as error:  # null bytes, lone surrogates, depth
        raise Claim("syntax_error", describe(error)) from None


def main_module(job: Job) -> types.ModuleType:
    """The module that a program is; `dataclasses`, `pickle` and `unittest` look for it in sys.modules."""
    module = types.ModuleType("__main__" if job.main else "__program__")
    if job.main:  # what else a script has: its text for `inspect`, and `import` of the files that it writes
        sys.path.append("/tmp")
        module.__dict__.update(__builtins__=builtins, __file__="<code>")
        linecache.cache["<code>"] = (len(job.code), None, job.code.splitlines(True), "<code>")
    sys.modules["__main__"] = sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    return module
