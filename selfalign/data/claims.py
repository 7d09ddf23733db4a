"""What a statement of Python's tests claims: the call that it makes, and what this should give or raise."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

from selfalign.data.needs import names_stored

# Assertions of unittest: those that compare two values, those that expect one, and those that say something else.
COMPARISONS = {
    *("assertEqual", "assertEquals", "assertIs", "assertListEqual", "assertTupleEqual", "assertDictEqual"),
    *("assertSetEqual", "assertSequenceEqual", "assertMultiLineEqual"),
}
CONSTANTS = {"assertFalse": False, "assertIsNone": None}
MEMBERS = {"assertIn": True, "assertNotIn": False}
OTHERS = {
    *("assertNotEqual", "assertIsNot", "assertIsNotNone", "assertIsInstance", "assertNotIsInstance", "assertGreater"),
    *("assertGreaterEqual", "assertLess", "assertLessEqual", "assertCountEqual"),
}
NEAR = {  # functions that compare with a tolerance
    *("isclose", "allclose", "assert_allclose", "assert_almost_equal", "assert_array_almost_equal"),
    *("assertAlmostEqual", "assertAlmostEquals"),
}
ARRAYS_EQUAL = {  # functions of numpy, torch, numpy.testing and pandas.testing
    *("array_equal", "equal", "assert_array_equal", "assert_equal", "assert_frame_equal", "assert_series_equal"),
}
RAISING = {"raises", "assertRaises", "assertRaisesRegex", "assertRaisesRegexp"}  # of pytest and unittest
MODULES = {"np", "numpy", "torch", "testing"}  # in which these are
FAILING = {"self.fail", "pytest.fail", "fail", "sys.exit", "exit", "quit", "os._exit"}
SEVERAL = {"", "Exception", "BaseException", "AssertionError"}  # names of any exception, or of a failed assertion's


@dataclass(frozen=True)
class Claim:
    """What a statement of a test claims.

    call: what it evaluates
    expected: what that should equal, or the exception that it should raise; None if the statement names neither
    raises: whether an exception is expected
    before: the statements that come before the call, within the statement
    near: the two expressions that `call` compares with a tolerance; what the code gives for one of them says more than
        whether they are near
    """

    call: ast.expr
    expected: ast.expr | None
    raises: bool = False
    before: tuple[ast.stmt, ...] = ()
    near: tuple[ast.expr, ast.expr] | None = None


def claim_of(statement: ast.stmt) -> Claim | None:
    """What a statement claims; None if it claims nothing."""
    if isinstance(statement, ast.Assert):
        return _claim_of_test(statement.test)
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        return _claim_of_call(statement.value)
    if isinstance(statement, ast.Try) and statement.handlers and _expects(statement):
        return _claim_of_block(statement.body, statement.handlers[0].type, bool(statement.orelse))
    if isinstance(statement, ast.With) and (expected := expects_exception(statement)):
        return _claim_of_block(statement.body, expected, True)
    return None


def expects_exception(statement: ast.stmt) -> ast.expr | None:
    """The exception of `with pytest.raises(ValueError):`; None of any other statement."""
    if not isinstance(statement, ast.With) or len(statement.items) > 1:
        return None
    manager = statement.items[0].context_expr
    if not isinstance(manager, ast.Call) or _last_name(manager.func) not in RAISING or not manager.args:
        return None
    return manager.args[0]


def _claim_of_test(test: ast.expr) -> Claim:
    """Of what is asserted."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], (ast.Eq, ast.Is)):
        expected = test.comparators[0]
        if isinstance(expected, ast.Call) and _last_name(expected.func) == "approx":
            return Claim(test.left, None)
        return Claim(test.left, expected, raises=_is_exception(expected))
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return Claim(test.operand, ast.Constant(False))
    return _claim_on_arrays(test) or Claim(test, ast.Constant(True), near=_compared_with_tolerance(test))


def _compared_with_tolerance(test: ast.expr) -> tuple[ast.expr, ast.expr] | None:
    """f(x) and y of `abs(f(x) - y) < 0.1` or `math.isclose(f(x), y)`."""
    if isinstance(test, ast.Call) and _last_name(test.func) in NEAR and len(test.args) > 1:
        return test.args[0], test.args[1]
    distance = test.left if isinstance(test, ast.Compare) and isinstance(test.ops[0], (ast.Lt, ast.LtE)) else None
    if not isinstance(distance, ast.Call) or _last_name(distance.func) != "abs" or not distance.args:
        return None
    difference = distance.args[0]
    if not isinstance(difference, ast.BinOp) or not isinstance(difference.op, ast.Sub):
        return None
    return difference.left, difference.right


def _claim_on_arrays(test: ast.expr) -> Claim | None:
    """Of `numpy.array_equal(f(x), y)`, `torch.equal(f(x), y)` or `(f(x) == y).all()`. A list or a number that stands
    for y is not expected as such: what f gives is an array."""
    if not isinstance(test, ast.Call) or not isinstance(test.func, ast.Attribute):
        return None
    inner = test.func.value
    if test.func.attr == "all" and not test.args and isinstance(inner, ast.Compare) and len(inner.ops) == 1:
        pair = [inner.left, inner.comparators[0]] if isinstance(inner.ops[0], ast.Eq) else []
    else:
        pair = test.args if test.func.attr in ARRAYS_EQUAL and _last_name(inner) in MODULES else []
    if len(pair) != 2:
        return None
    call, expected = pair[::-1] if _is_written_out(pair[0]) else pair
    return Claim(call, None if _is_written_out(expected) else expected)


def _is_written_out(node: ast.expr) -> bool:
    """Whether an expression is a plain value, as the code of a test has it."""
    return not any(isinstance(each, (ast.Call, ast.Name)) for each in ast.walk(node))


def _claim_of_call(call: ast.Call) -> Claim | None:
    """Of a statement that is a call, as unittest's assertions are."""
    name, arguments = _last_name(call.func), call.args
    if name in RAISING:
        return _claim_of_raising(call, 2 if "Regex" in name else 1)
    if not arguments or not isinstance(call.func, ast.Attribute):
        return None
    if name == "assertTrue":
        return _claim_of_test(arguments[0])
    if name in CONSTANTS:
        return Claim(arguments[0], ast.Constant(CONSTANTS[name]))
    if name in MEMBERS and len(arguments) > 1:
        return Claim(ast.Compare(arguments[0], [ast.In()], [arguments[1]]), ast.Constant(MEMBERS[name]))
    if name in COMPARISONS:
        return Claim(arguments[0], arguments[1] if len(arguments) > 1 else None)
    if name in NEAR or name in OTHERS:
        return Claim(arguments[0], None, near=_compared_with_tolerance(call))
    if name.startswith("assert_") and _last_name(call.func.value) in MODULES:
        return _claim_on_arrays(call) or Claim(arguments[0], None)
    return None


def _claim_of_raising(call: ast.Call, callable_at: int) -> Claim | None:
    """Of `assertRaises(ValueError, f, x)`, whose arguments have what is called in this place."""
    if len(call.args) <= callable_at:
        return None
    function, *arguments = call.args[callable_at:]
    called = function.body if isinstance(function, ast.Lambda) else ast.Call(function, arguments, call.keywords)
    return Claim(called, _named(call.args[0]), raises=True)


def _claim_of_block(body: list[ast.stmt], exception: ast.expr | None, must_raise: bool) -> Claim | None:
    """Of statements the last of which should raise an exception.

    `must_raise`: the test fails if none is raised, as it does if a statement that fails comes after them. Without that,
    only a single call and the name of its exception say what is meant: a test may also catch what it does not expect.
    """
    *before, last = [statement for statement in body if not _fails([statement])] or [ast.Pass()]
    call = claim.call if isinstance(last, ast.Assert) and (claim := claim_of(last)) else getattr(last, "value", None)
    expected = _named(exception)
    if not isinstance(call, ast.expr) or not any(isinstance(node, ast.Call) for node in ast.walk(call)):
        return None
    if not must_raise and not _fails(body) and (before or expected is None or isinstance(last, ast.Assign)):
        return None
    return Claim(call, expected, raises=True, before=tuple(before))


def _expects(statement: ast.Try) -> bool:
    """Whether a test may expect the exception that it catches: that is no failure and no way out, nothing takes the
    place of the result, and what comes where none was raised, after `else`, is a failure."""
    caught = statement.handlers[0].body
    replaced = names_stored(statement.body) & names_stored(caught) or isinstance(caught[-1], ast.Return)
    return not _fails(caught) and not replaced and (not statement.orelse or _fails(statement.orelse))


def _fails(body: list[ast.stmt]) -> bool:
    """Whether statements end by saying that a test has failed: `assert False`, `raise AssertionError`, `self.fail()` or
    `sys.exit(1)`."""
    last = body[-1]
    if isinstance(last, ast.Assert):
        return isinstance(last.test, ast.Constant) and not last.test.value
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        return ast.unparse(last.value.func) in FAILING
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
