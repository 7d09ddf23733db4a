"""What a failing program has to say: which assertion failed, and what the value was instead.

`telling` changes tests so that a failing assertion says so itself: the last line of the error is then all that is
needed, and it is what a sandbox hands on of any program. The changed tests are for feedback alone, never for a verdict.
"""

from __future__ import annotations

import ast

from selfalign.code.parsing import parsed, unparsed

MAX_SOURCE, MAX_VALUE = 120, 100  # characters of an assertion, and of a value; together they fit into a detail
TOLD = "AssertionError: told "  # how the detail of a program begins whose tests have told something

# What runs before the tests. A value is written by what the program defines, so anything can happen.
TELL = f"""
def _told_of(source, kind, what=None):
    name = type(what).__name__
    try:
        text = name + ": " + str(what) if kind == "raises" else repr(what)
    except Exception:
        text = "<" + name + ">"
    text = text if len(text) <= {MAX_VALUE} else text[:{MAX_VALUE}] + "..."
    return "told " + source + " " + kind + " " + text
"""
IS, RAISES = "fails: its left side is", "raises"


def telling(tests: str) -> str | None:
    """`tests` whose assertions tell what was wrong; None if they do not parse, or are nested too deeply.

    An assertion inside of `try` or `with` is left as it is: what it raises may be what the tests wait for.
    """
    tree = parsed(tests)
    if tree is None:
        return None
    try:
        tree = _Telling().visit(tree)
        place = next((number for number, node in enumerate(tree.body) if not _comes_first(node)), len(tree.body))
        tree.body[place:place] = ast.parse(TELL).body
        return unparsed(ast.fix_missing_locations(tree))
    except RecursionError:
        return None


def _comes_first(node: ast.stmt) -> bool:
    """Whether it is a docstring or a `from __future__ import`, which count only where they come first."""
    if isinstance(node, ast.ImportFrom):
        return node.module == "__future__"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


class _Telling(ast.NodeTransformer):
    def visit_Try(self, node: ast.Try) -> ast.Try:
        return node

    def visit_With(self, node: ast.With) -> ast.With:
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        source = unparsed(node.test) or ""
        source = f"`assert {source if len(source) <= MAX_SOURCE else source[:MAX_SOURCE] + '...'}`"
        test, value = node.test, ast.Name("_seen", ast.Load())
        if isinstance(test, ast.Compare):
            seen = ast.NamedExpr(ast.Name("_seen", ast.Store()), test.left)
            changed: ast.expr = ast.Compare(seen, test.ops, test.comparators)
            message = _call(source, IS, value)
        else:
            changed, message = test, ast.Constant(f"told {source} fails")
        text = ast.Try(
            body=[ast.Assert(changed, message)],
            handlers=[
                ast.ExceptHandler(ast.Name("AssertionError", ast.Load()), None, [ast.Raise()]),
                ast.ExceptHandler(
                    ast.Name("Exception", ast.Load()),
                    "_error",
                    [ast.Raise(_assertion(_call(source, RAISES, ast.Name("_error", ast.Load()))), ast.Constant(None))],
                ),
            ],
            orelse=[],
            finalbody=[],
        )
        return ast.copy_location(text, node)


def _call(source: str, kind: str, value: ast.expr) -> ast.Call:
    return ast.Call(ast.Name("_told_of", ast.Load()), [ast.Constant(source), ast.Constant(kind), value], [])


def _assertion(message: ast.expr) -> ast.Call:
    return ast.Call(ast.Name("AssertionError", ast.Load()), [message], [])


def feedback_of(outcome: str, detail: str | None, language: str = "Python") -> str:
    """What a model is told of a program that failed, from its outcome and the last line of its error."""
    detail = (detail or "").strip()
    if detail.startswith(TOLD):
        return detail.removeprefix(TOLD)
    if outcome in ("timeout", "cpu_limit"):
        return "The program does not end" + (f": it needs {detail}." if detail else ".")
    if outcome == "syntax_error":
        return f"The program is not valid {language}: {detail}"
    return f"The program ends with {detail or outcome.replace('_', ' ')}"
