"""What happens in a program's own process: it is compiled and run, the code first and then the tests.

Everything here shares its process with code that nobody trusts. In strict mode the code has a process of its own: see
strict.py.
"""

import ast
import builtins
import linecache
import os
import sys
import types
from collections.abc import Callable, Sequence

from .assertions import has_tests, let_doctest_fail, what_runs, without_main_block
from .counting import number_of, reporter, run_each, statements_of
from .messages import Job, texts_in
from .verdict import TEXTS, Claim, conclude, describe

EXITS = {"sys.exit", "exit", "quit", "SystemExit"}
RUNNERS_ASK = ("load_tests", "setUpModule", "tearDownModule")  # names in a module that decide what unittest runs


def run(job: Job) -> None:
    """Runs code, then tests; "passed" is written after the last statement of the tests. Does not return."""

    def body() -> str:
        text, *rest = texts_in(TEXTS, [job.code] if job.tests is None else [job.code, job.tests])
        code = compiled(text, "code")
        if not rest:
            return run_tests(code, text, job, lambda: main_module(job, text).__dict__)
        tests = compiled(rest[0], "tests")

        def names_from_code() -> dict:
            module = main_module(job, text, rest[0])
            run_code(code, module.__dict__)
            return module.__dict__

        return run_tests(tests, rest[0], job, names_from_code)

    conclude(body, job.secret)


def run_code(code: types.CodeType, names: dict, getpid=os.getpid) -> None:
    """Runs the code, which may end itself as scripts do: `sys.exit(main())`, without an error. A fork that it makes
    may not: there, the tests would run as well."""
    own = getpid()
    try:
        exec(code, names)
    except SystemExit as error:
        if error.code not in (None, 0) or getpid() != own:
            raise


def run_tests(
    tests: types.CodeType,
    text: str,
    job: Job,
    names: Callable[[], dict],
    # Taken when this module is loaded, before any program can replace them.
    run: Callable[[types.CodeType, dict], object] = exec,
    untraced: Sequence[Callable[[None], object]] = (sys.settrace, sys.setprofile),
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
    for name in RUNNERS_ASK if job.tests is not None else ():
        found.pop(name, None)  # of the code: the tests come later, and define their own
    for stop in untraced:
        stop(None)
    examples = let_doctest_fail() if "doctest" in text else []
    ends = is_last_act if job.tests is None else is_last_call

    def is_over(error: BaseException) -> bool:
        return isinstance(error, SystemExit) and error.code in (None, 0) and ends(error, text)

    if job.count:
        run_each(statements, found, report, is_over)
    else:
        try:
            run(tests, found)
        except SystemExit as error:
            if not is_over(error):
                raise
    return "passed" if tested or any(examples) else "no_tests"


def is_last_act(error: BaseException, text: str) -> bool:
    """Whether an error was raised right in the `if __name__ == "__main__":` block with which a program ends."""
    module = error.__traceback__ and error.__traceback__.tb_next
    last = ast.parse(text).body[-1]
    direct = module is not None and module.tb_next is None and module.tb_lineno >= last.lineno
    return direct and what_runs(last) != [last]


def is_last_call(error: BaseException, text: str) -> bool:
    """Whether an error was raised by a call of `sys.exit` or `exit` with which tests of this text end. What else is in
    their last line may call the code."""
    statement = ast.parse(text).body[-1]
    while isinstance(statement, ast.If) and what_runs(statement) != [statement]:
        statement = statement.body[-1]
    call = statement.value if isinstance(statement, ast.Expr) else getattr(statement, "exc", None)
    if not isinstance(call, ast.Call) or ast.unparse(call.func) not in EXITS:
        return False
    module = error.__traceback__ and error.__traceback__.tb_next
    if module is None or module.tb_lineno < statement.lineno:
        return False
    inside = module.tb_next  # `exit` is written in Python
    return inside is None or (inside.tb_next is None and inside.tb_frame.f_code.co_filename == "<frozen _sitebuiltins>")


def compiled(text: str, name: str) -> types.CodeType:
    try:
        return compile(text, f"<{name}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError) as error:  # null bytes, lone surrogates, depth
        raise Claim("syntax_error", describe(error)) from None


def main_module(job: Job, text: str, tests: str = "") -> types.ModuleType:
    """The module that a program is; `dataclasses`, `pickle` and `unittest` look for it in sys.modules."""
    module = types.ModuleType("__main__" if job.main else "__program__")
    if job.main:  # what else a script has: its text for `inspect`, and `import` of the files that it writes
        sys.path.append("/tmp")
        module.__dict__.update(__builtins__=builtins, __file__="<code>")
        both = f"{text}\n{tests}" if "__main__" in tests else text  # without a main block, they would run there as well
        if "spawn" in both or "forkserver" in both:  # processes that multiprocessing starts anew import it
            module.__dict__["__file__"] = "/tmp/program.py"
            with open("/tmp/program.py", "w", encoding="utf-8", errors="surrogatepass") as file:
                file.write(both)
        for name, lines in {"<code>": text, "<tests>": tests}.items():
            linecache.cache[name] = (len(lines), None, lines.splitlines(True), name)
    sys.modules["__main__"] = sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    return module
