"""What a statement of Python's tests claims: the call that it makes, and what this should give or raise."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

COMPARISONS = {"assertEqual", "assertEquals", "assertTrue", "assertFalse", "assertIs", "assertListEqual"}
ARRAYS_EQUAL = {  # functions of numpy, torch, numpy.testing and pandas.testing
    *("array_equal", "equal", "assert_array_equal", "assert_equal", "assert_frame_equal", "assert_series_equal"),
}
RAISING = {"raises", "assertRaises", "assertRaisesRegex", "assertRaisesRegexp"}  # of pytest and unittest
SEVERAL = {"", "Exception", "BaseException", "AssertionError"}  # exceptions, or what a wrong output raises as well


@dataclass(frozen=True)
class Claim:
    """What a statement of a test claims.

    call: what it evaluates
    expected: what that should equal, or the exception that it should raise; None if the statement names neither
    raises: whether an exception is expected
    before: the statements that come before the call, within the statement
    """

    call: ast.expr
    expected: ast.expr | None
    raises: bool = False
    before: tuple[ast.stmt, ...] = ()


def claim_of(statement: ast.stmt) -> Claim | None:
    """What a statement claims; None if it claims nothing."""
    if isinstance(statement, ast.Assert):
        return _claim_of_test(statement.test)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return _claim_of_call(statement.value)
    if isinstance(statement, ast.Try) and statement.handlers and not _fails(statement.handlers[0].body):
        return _claim_of_block(statement.body, statement.handlers[0].type, bool(statement.orelse))
    if isinstance(statement, ast.With) and len(statement.items) == 1:
        manager = statement.items[0].context_expr
        if isinstance(manager, ast.Call) and _last_name(manager.func) in RAISING and manager.args:
            return _claim_of_block(statement.body, manager.args[0], True)
    return None


def _claim_of_test(test: ast.expr) -> Claim:
    """Of what is asserted."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Eq, ast.Is)):
        return Claim(test.left, test.comparators[0], raises=_is_exception(test.comparators[0]))
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return Claim(test.operand, ast.Constant(False))
    return _claim_on_arrays(test) or Claim(test, ast.Constant(True))


def _claim_on_arrays(test: ast.expr) -> Claim | None:
    """Of `numpy.array_equal(f(x), y)`, `torch.equal(f(x), y)`, `f(x).equals(y)` or `(f(x) == y).all()`."""
    if not isinstance(test, ast.Call) or not isinstance(test.func, ast.Attribute):
        return None
    inner = test.func.value
    if test.func.attr == "all" and not test.args and isinstance(inner, ast.Compare) and len(inner.ops) == 1:
        return Claim(inner.left, inner.comparators[0]) if isinstance(inner.ops[0], ast.Eq) else None
    if test.func.attr == "equals" and len(test.args) == 1:  # a method of pandas
        return Claim(inner, test.args[0])
    if test.func.attr not in ARRAYS_EQUAL or len(test.args) != 2:
        return None
    call, expected = test.args[::-1] if isinstance(test.args[0], (ast.List, ast.Tuple, ast.Constant)) else test.args
    module = inner.value if isinstance(inner, ast.Attribute) and inner.attr == "testing" else inner
    if _last_name(module) in ("np", "numpy"):  # for which a list equals an array
        expected = ast.Call(ast.Attribute(module, "asarray", ast.Load()), [expected], [])
    return Claim(call, expected)


def _claim_of_call(call: ast.Call) -> Claim | None:
    """Of a statement that is a call, as unittest's assertions are."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else None
    if name in RAISING:
        exception, *others = [*call.args, None][:1] + call.args[2 if "Regex" in name else 1 :]
        if exception is None or not others:
            return None
        function, *arguments = others
        called = function.body if isinstance(function, ast.Lambda) else ast.Call(function, arguments, call.keywords)
        return Claim(called, _named(exception), raises=True)
    if name in ("assertTrue", "assertFalse") and call.args:
        return Claim(call.args[0], ast.Constant(name == "assertTrue"))
    if name in COMPARISONS and call.args:
        return Claim(call.args[0], call.args[1] if len(call.args) > 1 else None)
    return _claim_on_arrays(call) if name in ARRAYS_EQUAL else None


def _claim_of_block(body: list[ast.stmt], exception: ast.expr | None, must_raise: bool) -> Claim | None:
    """Of statements the last of which should raise an exception.

    `must_raise`: the test fails if none is raised, as it does if a statement that fails comes after them. Without that,
    only one statement and the name of its exception say what is meant: a test may also catch what it does not expect.
    """
    *before, last = [statement for statement in body if not _fails([statement])] or [ast.Pass()]
    call = claim.call if isinstance(last, ast.Assert) and (claim := claim_of(last)) else getattr(last, "value", None)
    expected = _named(exception)
    if not isinstance(call, ast.expr) or not any(isinstance(node, ast.Call) for node in ast.walk(call)):
        return None
    if not must_raise and not _fails(body) and (before or expected is None):
        return None
    return Claim(call, expected, raises=True, before=tuple(before))


def _fails(body: list[ast.stmt]) -> bool:
    """Whether statements only say that a test has failed: `assert False`, `raise AssertionError`, `self.fail()`."""
    last = body[-1]
    if isinstance(last, ast.Assert):
        return isinstance(last.test, ast.Constant) and not last.test.value
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return _last_name(last.value.func) == "fail"
    return isinstance(last, ast.Raise)


def _named(exception: ast.expr | None) -> ast.expr | None:
    """The exception that is expected; None if it may be one of several."""
    return exception if exception is not None and _last_name(exception) not in SEVERAL else None


def _is_exception(node: ast.expr) -> bool:
    """Whether an expression is an exception of Python's, or makes one: tests compare with it what should raise it."""
    name = node.func if isinstance(node, ast.Call) else node
    found = getattr(builtins, name.id, None) if isinstance(name, ast.Name) else None
    return isinstance(found, type) and issubclass(found, BaseException)


def _last_name(node: ast.expr) -> str:
    """`c` of `a.b.c`; "" of what is no name."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
