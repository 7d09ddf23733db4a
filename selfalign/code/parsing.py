"""Untrusted Python as syntax trees: whatever the text, nothing here raises an exception or prints a warning."""

from __future__ import annotations

import ast
import warnings

# What ast.parse, ast.unparse and compile raise for some texts: null bytes, lone surrogates, expressions nested too
# deeply, numbers with too many digits.
CODE_ERRORS = (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
BRANCHES = (
    ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.comprehension, ast.ExceptHandler, ast.match_case
)  # fmt: skip


def parsed(code: str) -> ast.Module | None:
    """The syntax tree of `code`, or None if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes
            return ast.parse(code)
    except CODE_ERRORS:
        return None


def unparsed(tree: ast.AST) -> str | None:
    """A syntax tree as code, always formatted in the same way; None if it is nested too deeply."""
    try:
        return ast.unparse(tree)
    except CODE_ERRORS:
        return None


def branches_in(tree: ast.AST) -> int:
    """How many conditions, loops, comprehensions, handlers and cases a syntax tree has."""
    return sum(isinstance(node, BRANCHES) for node in ast.walk(tree))


def compiles(code: str | ast.Module) -> bool:
    """Whether Python accepts `code`. Not all code that parses compiles: `return` may be outside of a function."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `assert (x, y)`
            compile(code, "<code>", "exec", dont_inherit=True)
    except CODE_ERRORS:
        return False
    return True


def drop_docstrings(tree: ast.AST) -> None:
    """Remove the docstrings from a syntax tree; a body that held nothing else becomes `pass`."""
    for node in ast.walk(tree):
        if isinstance(node, (*DEFINITIONS, ast.Module)):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])


def code_without_comments(code: str) -> str:
    """`code` without comments and docstrings, always formatted in the same way; what does not parse stays as it is."""
    tree = parsed(code)
    if tree is None:
        return code
    drop_docstrings(tree)
    plain = unparsed(tree)
    return code if plain is None else plain
