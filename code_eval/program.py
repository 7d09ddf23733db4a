"""What happens in a program's own process: it is compiled, run, and says how it ended.

Everything here shares its process with code that nobody trusts: a program that wants to can find the verdict's pipe and
write to it. In the mode "isolated" that is a known limit (see SECURITY.md). In the mode "strict" the code has a process
of its own, and can only answer calls with plain data; the verdict is written where the tests run, out of its reach.
"""

import ast
import base64
import builtins
import errno
import gc
import importlib
import json
import linecache
import math
import opcode
import os
import sys
import types

VERDICT, CHANNEL, TESTS = 3, 4, 5  # descriptors: the outcome; strict: between code and tests, the tests' text
DETAIL_LIMIT = 300  # characters of a detail
MESSAGE_LIMIT = 64 << 20  # bytes of one answer in strict mode
LARGE_INTEGER = 4000  # digits above which json would refuse an integer (sys.int_info.default_max_str_digits)
ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "tf": "tensorflow"}  # names of modules

# How a program can end as far as its own process knows; the rest is seen from outside.
FAILURES = (
    "failed",
    "error",
    "syntax_error",
    "no_tests",
    "out_of_memory",
    "output_limit",
    "too_many_processes",
)
OUTCOMES = ("passed", *FAILURES)

# The last resort of a verdict, taken before any program can replace them.
_write, _leave, _read = os.write, os._exit, os.read


# ---- isolated: code and tests in one process ----


def run(program: dict, verdict: int = VERDICT) -> None:
    """Runs code, then tests; "passed" is written after the last statement of the tests. Does not return."""

    def body() -> str:
        parts = [compiled(program[name], name) for name in ("code", "tests") if program[name] is not None]
        text = program["tests" if len(parts) > 1 else "code"]
        tested = has_tests(parts[-1] if program["main"] else without_main_block(parts[-1], text))
        if not tested and "doctest" not in text:
            return "no_tests"
        module = main_module(program)
        for part in parts[:-1]:
            exec(part, module.__dict__)
        return run_last(parts[-1], text, tested, module.__dict__)

    conclude(body, verdict)


def run_last(code: types.CodeType, text: str, tested: bool, names: dict) -> str:
    """Runs the tests, which are `tested` if they can reach an assertion; else doctest must find examples."""
    examples = let_doctest_fail() if "doctest" in text else []
    exec(code, names)
    return "passed" if tested or any(examples) else "no_tests"


def compiled(text: str, name: str) -> types.CodeType:
    try:
        return compile(text, f"<{name}>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError) as error:  # null bytes, lone surrogates, depth
        raise Claim("syntax_error", describe(error)) from None


def conclude(body, verdict: int, tell=None, write=_write, leave=_leave, getpid=os.getpid) -> None:
    """Writes "ready", and then the outcome and its detail, one a line; `tell` takes the detail. Does not return."""
    write(verdict, b"ready\n")
    judge = getpid()
    outcome, detail = "error", ""
    try:
        gc.enable()
        outcome = body()
    except BaseException as error:
        outcome, detail = classify(error)
    finally:
        if getpid() != judge:
            leave(0)  # a fork that the program made and let run on
        message = detail[:DETAIL_LIMIT].encode("utf-8", "replace")
        if tell:
            tell(message)
            message = b""
        write(verdict, outcome.encode("utf-8", "replace") + b"\n" + message)
        leave(0)


def main_module(program: dict) -> types.ModuleType:
    """The module that a program is; `dataclasses`, `pickle` and `unittest` look for it in sys.modules."""
    module = types.ModuleType("__main__" if program["main"] else "__program__")
    if program["main"]:  # what a script has beyond that; `inspect` finds its text, `import` what it wrote beside itself
        sys.path.append("/tmp")
        module.__dict__.update(__builtins__=builtins, __file__="<code>")
        linecache.cache["<code>"] = (len(program["code"]), None, program["code"].splitlines(True), "<code>")
    sys.modules["__main__"] = sys.modules[module.__name__] = module
    sys.argv = ["program.py"]
    return module


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
    name = type(error).__name__
    try:
        lines = str(error).strip().splitlines()
    except BaseException:
        return name
    return f"{name}: {lines[-1]}" if lines else name


class Claim(Exception):
    """Claim(outcome, detail): an outcome that is not "passed"."""


# ---- is anything tested at all? ----

ASSERTS = {opcode.opmap["LOAD_ASSERTION_ERROR"], opcode.opmap["RAISE_VARARGS"]}
LOAD_NAME, STORE_NAME, EXTENDED_ARG = (opcode.opmap[name] for name in ("LOAD_NAME", "STORE_NAME", "EXTENDED_ARG"))
CO_NEWLOCALS = 2  # a function's code
COLLECTORS = {"unittest", "globals", "locals", "vars", "dir", "getmembers", "modules", "__dict__"}  # find tests by name


def has_tests(code: types.CodeType) -> bool:
    """Whether `code` can reach an assertion: `assert`, `raise`, or a call such as `self.assertEqual`.

    A function counts when something loads its name, or looks for names when its own begins with "test"; so a test that
    nobody calls is none, and neither is an assertion of a constant, which the compiler removes. Read off the bytecode:
    30 microseconds where a syntax tree takes 300.
    """
    loaded = loaded_names(code)
    collected = not COLLECTORS.isdisjoint(loaded)

    def reaches(code: types.CodeType) -> bool:
        if not ASSERTS.isdisjoint(code.co_code[::2]):
            return True
        if any(name.startswith("assert") or name == "raises" for name in code.co_names):
            return True
        return any(reaches(c) for c in code.co_consts if isinstance(c, types.CodeType) and is_run(c))

    def is_run(code: types.CodeType) -> bool:
        name = code.co_name
        if name[0] == "<" or not code.co_flags & CO_NEWLOCALS:
            return True  # a lambda, a comprehension; the body of a class
        return name in loaded or (collected and name.startswith(("test", "runTest")))

    return reaches(code)


def without_main_block(code: types.CodeType, text: str) -> types.CodeType:
    """What `code`, compiled from `text`, runs where `__name__` is not "__main__"."""
    if "__main__" not in text:
        return code
    tree = ast.parse(text)
    tree.body = [part for statement in tree.body for part in what_runs(statement)]
    return compile(tree, "<tests>", "exec", dont_inherit=True)


def what_runs(statement: ast.stmt) -> list[ast.stmt]:
    """`statement`, or of `if __name__ == "__main__":`, either way round, what comes after `else:`."""
    if isinstance(statement, ast.If) and isinstance(statement.test, ast.Compare):
        left, (operator, *_), (right, *_) = statement.test.left, statement.test.ops, statement.test.comparators
        sides = {getattr(side, "id", getattr(side, "value", None)) for side in (left, right)}
        if isinstance(operator, ast.Eq) and sides == {"__name__", "__main__"}:
            return statement.orelse
    return [statement]


def loaded_names(code: types.CodeType) -> set[str]:
    """Names that `code` and the functions in it read."""
    names = set(code.co_names)
    if not code.co_flags & CO_NEWLOCALS:
        # The code of a module or a class stores its names too: those that it only stores do not count.
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


def let_unittest_fail() -> None:
    """Makes unittest's runner fail, which only tells; and `unittest.main`, which ends in sys.exit whatever happened."""
    import unittest

    def judge(result):
        if not result.wasSuccessful():
            tracebacks = [text for _, text in [*result.failures, *result.errors]] or ["AssertionError: it succeeded"]
            raise Claim("failed", tracebacks[0].strip().splitlines()[-1])
        if not result.testsRun:
            raise Claim("no_tests", "unittest found none")

    def run(self, test, run=unittest.TextTestRunner.run):
        result = run(self, test)
        judge(result)
        return result

    class Main(unittest.TestProgram):
        def runTests(self):
            self.exit = False
            super().runTests()
            judge(self.result)

    unittest.TextTestRunner.run, unittest.main = run, Main


def let_doctest_fail() -> list[int]:
    """Makes doctest's runner fail, which only tells; what it returns will hold the number of examples of each run."""
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


# ---- strict: the code's process ----


def serve_code(program: dict, channel: int = CHANNEL) -> None:
    """Runs the code, then answers calls of its functions until the tests' process is gone. Does not return."""
    module = main_module(program)
    try:
        gc.enable()
        exec(compiled(program["code"], "code"), module.__dict__)
        send(channel, {"loaded": True})
    except BaseException as error:
        send(channel, {"claim": classify(error)})
        _leave(0)
    while True:
        try:
            answer = answer_call(receive(channel), module.__dict__)
        except EOFError:
            _leave(0)
        except BaseException as error:
            answer = {"raised": [*nearest(error), describe(error), classify(error)[0]]}
        send(channel, answer)


def answer_call(request: dict, names: dict) -> dict:
    if "names" in request:
        return {"names": {name: present(names[name]) for name in request["names"] if name in names}}
    arguments, keywords = decode(request["arguments"]), decode(request["keywords"])
    value = names[request["name"]](*arguments, **keywords)
    answer = {"value": encode(value)}
    after = encode(arguments)
    if after != request["arguments"]:
        answer["arguments"] = after  # a function that works in place
    return answer


def nearest(error: BaseException) -> tuple:
    """The names of an exception's class and of Python's own nearest to it, and its arguments if they are plain."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        return type(error).__name__, kind.__name__, encode(list(error.args))
    except Exception:  # whatever `args` is
        return type(error).__name__, kind.__name__, [describe(error).partition(": ")[2]]


def present(value) -> dict:
    """What the tests' process is told about a name."""
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__}
    if callable(value):
        return {"callable": True}
    try:
        return {"value": encode(value)}
    except TypeError:
        return {}


# ---- strict: the tests' process ----


def run_tests(program: dict, verdict: int = VERDICT, channel: int = CHANNEL, text: int = TESTS) -> None:
    """Runs the tests with proxies in the place of what the code defined. Does not return.

    The tests come in a file in memory, and the detail goes back behind them: the worker reads neither, because code
    that is run later, in a fork of the worker, could find in its memory what was expected of it.
    """
    size = os.fstat(text).st_size

    def body() -> str:
        tests = os.pread(text, size, 0).decode("utf-8", "surrogatepass")
        code = compiled(tests, "tests")
        tested = has_tests(code if program["main"] else without_main_block(code, tests))
        if not tested and "doctest" not in tests:
            return "no_tests"
        first = receive(channel)
        if "claim" in first:
            raise failure(*first["claim"])
        module = main_module(program)
        module.__dict__.update(fetch(channel, free_names(code)))
        return run_last(code, tests, tested, module.__dict__)

    conclude(body, verdict, tell=lambda detail: os.pwrite(text, detail, size))


def free_names(code: types.CodeType) -> list[str]:
    """What the tests use without defining it. The code is asked for these names only, and never for one of Python's own
    or for an assertion: it cannot replace what judges it.
    """
    names = loaded_names(code) - set(dir(builtins))
    return sorted(name for name in names if not name.startswith(("__", "assert")))


def fetch(channel: int, names: list[str]) -> dict:
    """The code's `names`: proxies for functions, copies of plain data, our own imports of the same modules."""
    send(channel, {"names": names})
    found = {}
    for name, answer in receive(channel)["names"].items():
        if name not in names:
            raise Claim("error", f"An answer that nobody asked for: {name[:DETAIL_LIMIT]}")
        if answer.get("callable"):
            found[name] = proxy(channel, name)
        elif "value" in answer:
            found[name] = decode(answer["value"])
        elif answer.get("module") in (name, ALIASES.get(name)):
            found[name] = importlib.import_module(answer["module"])
    return found


def proxy(channel: int, name: str):
    def call(*arguments, **keywords):
        sent = encode(list(arguments))
        send(channel, {"name": name, "arguments": sent, "keywords": encode(keywords)})
        answer = receive(channel)
        if "raised" in answer:
            raise same_error(*answer["raised"])
        after = decode(answer.get("arguments", []))
        if isinstance(after, list):
            for mine, theirs in zip(arguments, after, strict=False):
                replace_contents(mine, theirs)
        return decode(answer["value"])

    call.__name__ = call.__qualname__ = name
    return call


ENDS_OF_ITERATION = (StopIteration, StopAsyncIteration)


def same_error(name: str, nearest: str, arguments, description: str, outcome: str) -> Exception:
    """What the code raised, as one of Python's own exceptions or a class below it, so that tests of errors work.

    Not one that ends an iteration: `all(map(check, cases))` would be true of the cases before it, or of none.
    """
    kind = getattr(builtins, str(nearest), None)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ENDS_OF_ITERATION):
        try:
            return (kind if name == nearest else type(name, (kind,), {}))(*[decode(argument) for argument in arguments])
        except Exception:  # some take other arguments than they keep
            pass
    return failure(outcome, description)


def failure(outcome, detail) -> Claim:
    """What the code says of itself: any failure that it likes, and nothing else."""
    return Claim(outcome if outcome in FAILURES else "error", str(detail))


def replace_contents(mine, theirs) -> None:
    """What the code did to an argument, done to ours, where both are of one kind that can be changed."""
    if type(mine) is not type(theirs):
        return
    if type(mine) is list:
        mine[:] = theirs
    elif type(mine) in (dict, set):
        mine.clear()
        mine.update(theirs)


# ---- strict: plain data on a pipe ----


def send(channel: int, message: dict) -> None:
    body = json.dumps(message).encode()
    data = memoryview(len(body).to_bytes(4, "little") + body)
    while data:
        data = data[_write(channel, data) :]


def receive(channel: int) -> dict:
    size = int.from_bytes(_receive_exactly(channel, 4), "little")
    if size > MESSAGE_LIMIT:
        raise Claim("error", f"An answer of {size} bytes; {MESSAGE_LIMIT} are allowed.")
    message = json.loads(_receive_exactly(channel, size))
    if not isinstance(message, dict):
        raise Claim("error", "An answer that is none.")
    return message


def _receive_exactly(channel: int, size: int) -> bytes:
    parts = []
    while size:
        part = _read(channel, min(size, 1 << 20))
        if not part:
            raise EOFError("The other process ended.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def encode(value):
    """Plain data as JSON that keeps the types: exactly None, bool, int, float, complex, str, bytes, list, tuple, dict,
    set and frozenset, nested; numpy's numbers become Python's. Raises TypeError for everything else.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if value.bit_length() < LARGE_INTEGER * 3 else {"integer": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if kind in (bytes, bytearray):
        return {kind.__name__: base64.b64encode(value).decode()}
    if kind is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        return encode(value.item() if value.ndim == 0 else value.tolist())
    raise TypeError(f"strict mode passes plain data between code and tests, not {kind.__name__!r}")


CONTAINERS = {"tuple": tuple, "set": set, "frozenset": frozenset}


def decode(value):
    """The inverse of `encode`. What comes out is of Python's own types, whatever the other side sent."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in CONTAINERS:
        return CONTAINERS[kind](decode(item) for item in content)
    if kind == "dict":
        return {decode(k): decode(v) for k, v in content}
    if kind == "integer":
        return int(content, 16)
    if kind == "float":
        return float(content)
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "bytearray":
        return bytearray(base64.b64decode(content))
    if kind == "complex":
        return complex(*map(float, content))
    raise ValueError(f"no plain data: {kind!r}")
