"""Do tests test anything? Assertions that can be reached, and test runners that only print what failed."""

import ast
import dis
import opcode
import types
import warnings
from typing import NoReturn

from .verdict import Claim

ASSERTS = {opcode.opmap["LOAD_ASSERTION_ERROR"], opcode.opmap["RAISE_VARARGS"]}
LOAD_NAME, STORE_NAME, EXTENDED_ARG = (opcode.opmap[name] for name in ("LOAD_NAME", "STORE_NAME", "EXTENDED_ARG"))
CO_NEWLOCALS = 2  # a function's code
READ_LOCAL = ("LOAD_FAST", "LOAD_CLOSURE", "LOAD_DEREF", "STORE_FAST_LOAD_FAST")  # how names of such instructions begin
COLLECTORS = {"globals", "locals", "vars", "dir", "getmembers", "modules", "__dict__"}  # find tests by name
RUNNERS = {"main", "run", "debug", "TextTestRunner", "TestProgram"}  # unittest finds them where one of these is called


def has_tests(code: types.CodeType) -> bool:
    """Whether `code` can reach an assertion: `assert`, `raise`, or a call such as `self.assertEqual`.

    A function counts if something loads its name, or if something looks up names and its own begins with "test". So a
    test that nobody calls does not count, and neither does an assertion of a constant, which the compiler removes. Of a
    class whose name is loaded, Python calls the special methods. The bytecode shows this in 30 microseconds; a syntax
    tree would take 300.
    """
    loaded = loaded_names(code)
    run_by_unittest = "unittest" in loaded and not RUNNERS.isdisjoint(loaded)
    collected = run_by_unittest or not COLLECTORS.isdisjoint(loaded)

    def reaches(code: types.CodeType, known: set[str]) -> bool:
        if not ASSERTS.isdisjoint(code.co_code[::2]):
            return True
        if any(name.startswith("assert") or name == "raises" for name in code.co_names):
            return True
        inside = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        if inside and code.co_flags & CO_NEWLOCALS:
            known = known | read_locals(code)
        return any(reaches(c, known) for c in inside if is_run(c, code, known))

    def is_run(code: types.CodeType, around: types.CodeType, known: set[str]) -> bool:
        name = code.co_name
        if name[0] == "<" or not code.co_flags & CO_NEWLOCALS:
            return True  # a lambda, a comprehension; the body of a class
        if name in known or (collected and name.startswith(("test", "runTest"))):
            return True
        return name.startswith("__") and not around.co_flags & CO_NEWLOCALS and around.co_name in known

    return reaches(code, loaded)


def read_locals(code: types.CodeType) -> set[str]:
    """The local variables that a function reads, or lends to the functions inside of it."""
    names: set[str] = set()
    for step in dis.get_instructions(code):
        if step.opname.startswith(READ_LOCAL):
            both = [step.argval] if isinstance(step.argval, str) else step.argval  # an instruction may have two
            names.update(both[step.opname.startswith("STORE") :])  # which writes the first one
    return names


def without_main_block(code: types.CodeType, text: str) -> types.CodeType:
    """What `code`, compiled from `text`, runs where `__name__` is not "__main__"."""
    if "__main__" not in text:
        return code
    tree = ast.parse(text)
    tree.body = [part for statement in tree.body for part in what_runs(statement)]
    return compile(tree, "<tests>", "exec", dont_inherit=True)


def what_runs(statement: ast.stmt) -> list[ast.stmt]:
    """What runs of a statement: of `if __name__ == "__main__":`, in either order, only what comes after `else:`."""
    if isinstance(statement, ast.If) and isinstance(statement.test, ast.Compare):
        left, (operator, *_), (right, *_) = statement.test.left, statement.test.ops, statement.test.comparators
        sides = {getattr(side, "id", getattr(side, "value", None)) for side in (left, right)}
        if isinstance(operator, ast.Eq) and sides == {"__name__", "__main__"}:
            return statement.orelse
    return [statement]


def text_without_main_block(text: str) -> str:
    """The text of code without its top-level `if __name__ == "__main__":`, of which only what stands behind `else:`
    stays. Code that does not parse is left as it is; no text raises or warns."""
    if "__main__" not in text:
        return text
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")  # as Python counts them
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes
            for statement in reversed(ast.parse(text).body):
                if (runs := what_runs(statement)) != [statement]:
                    lines[statement.lineno - 1 : statement.end_lineno] = map(ast.unparse, runs)
                    text = "\n".join(lines)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        pass
    return text


def loaded_names(code: types.CodeType) -> set[str]:
    """The names that `code` and the functions in it read."""
    names = set(code.co_names)
    if not code.co_flags & CO_NEWLOCALS:
        # The code of a module or a class stores names, too: those that it only stores do not count.
        stored, read, argument = set(), set(), 0
        for operation, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
            argument = argument << 8 | low
            if operation == EXTENDED_ARG:
                continue
            if operation == STORE_NAME:
                stored.add(code.co_names[argument])
            elif operation == LOAD_NAME:
                read.add(code.co_names[argument])
            argument = 0
        names -= stored - read
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= loaded_names(constant)
    return names


unittest_counts: list[tuple[int, int]] = []  # of each run of unittest: tests that passed, tests


def let_unittest_fail() -> None:
    """Makes unittest's runner, which only prints failures, and `unittest.main`, which always exits, raise on them."""
    import unittest

    def judge(result):
        skipped = [reason for test, reason in result.skipped if not skips_itself(test)]
        whole = {test for test, _ in result.skipped if not hasattr(test, "test_case")}  # a subtest skips no other
        bad = {getattr(test, "test_case", test) for test, _ in [*result.failures, *result.errors]}
        bad |= {*whole, *result.unexpectedSuccesses}
        unittest_counts.append((max(0, result.testsRun - len(bad)), result.testsRun))
        if not result.wasSuccessful():
            tracebacks = [text for _, text in [*result.failures, *result.errors]] or ["AssertionError: it succeeded"]
            raise Claim("failed", tracebacks[0].strip().splitlines()[-1])
        if skipped:  # what is tested has raised it, and so ended the test before it failed
            raise Claim("failed", f"SkipTest: {skipped[0]}")
        if result.testsRun <= len(whole):
            raise Claim("no_tests", "unittest skipped them all" if result.testsRun else "unittest found none")

    def skips_itself(test) -> bool:
        """Whether a test was skipped by what its own text says: a decorator, or a call of skipTest."""
        case = getattr(test, "test_case", test)  # of a subtest
        method = getattr(case, getattr(case, "_testMethodName", ""), None)
        marked = (getattr(thing, "__unittest_skip__", False) for thing in (type(case), method))
        return any(marked) or getattr(case, "_skipped_itself", False)

    def skip(self, reason) -> NoReturn:
        self._skipped_itself = True
        raise unittest.SkipTest(reason)

    def run(self, test, run=unittest.TextTestRunner.run):
        result = run(self, test)
        judge(result)
        return result

    class Main(unittest.TestProgram):
        def runTests(self):
            self.exit = False
            super().runTests()
            judge(self.result)

    unittest.TextTestRunner.run, unittest.main, unittest.TestCase.skipTest = run, Main, skip


def let_doctest_fail() -> list[int]:
    """Makes doctest's runner, which only prints failures, raise on them.

    The list that is returned gets the number of examples of each run.
    """
    import doctest

    counts = []

    def run(self, test, *arguments, run=doctest.DocTestRunner.run, **keywords):
        result = run(self, test, *arguments, **keywords)
        counts.append(result.attempted)
        if result.failed:
            raise AssertionError(f"{result.failed} of {result.attempted} examples failed in {test.name}")
        return result

    doctest.DocTestRunner.run = run
    return counts
