"""Loops over cases that are written out, as tests have them: what each round does, as statements of its own.

`for x, expected in [(1, 2), (2, 3)]: assert f(x) == expected` becomes `assert f(1) == 2` and `assert f(2) == 3`.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Sequence

MOST_ROUNDS = 24  # no task has more inputs
MOST_INSIDE = 1  # other loops in a loop: their rounds multiply

Values = dict[str, ast.expr]


def rounds_of(loop: ast.For, done: Sequence[ast.stmt]) -> list[list[ast.stmt]]:
    """The statements of each round of a loop; none where the cases are not written out, or where a round changes a
    variable of the loop or may leave it.

    A variable of the loop has its value put in its place. An object, or a list that occurs twice, is assigned to it.

    Args:
        loop: over a list, tuple or dictionary, or over `zip`, `enumerate` or `items()` of such; or over a variable.
        done: what was done before it, from which variables have their values.
    """
    nodes = [node for statement in loop.body for node in ast.walk(statement)]
    leaves = any(isinstance(node, (ast.Break, ast.Continue, ast.Return)) for node in nodes)
    if loop.orelse or leaves or sum(isinstance(node, ast.For) for node in nodes) > MOST_INSIDE:
        return []
    values = [_values(loop.target, case) for case in _elements(loop.iter, done)[:MOST_ROUNDS]]
    names = [node for node in nodes if isinstance(node, ast.Name)]
    stored = {name.id for name in names if not isinstance(name.ctx, ast.Load)}
    stored |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    if any(each is None or stored & set(each) for each in values):
        return []
    texts = [node for node in nodes if isinstance(node, ast.JoinedStr)]  # not every value can be written into one
    in_texts = [node.id for text in texts for node in ast.walk(text) if isinstance(node, ast.Name)]
    uses = Counter(name.id for name in names)
    return [_round(loop.body, each, uses, set(in_texts)) for each in values if each]


def _round(body: Sequence[ast.stmt], values: Values, uses: Counter[str], in_texts: set[str]) -> list[ast.stmt]:
    in_place = {
        name: value
        for name, value in values.items()
        if name not in in_texts and (isinstance(value, ast.Constant) or (uses[name] < 2 and not _has_names(value)))
    }
    assigned: list[ast.stmt] = [
        ast.Assign([ast.Name(name, ast.Store())], value) for name, value in values.items() if name not in in_place
    ]
    return assigned + [Replacing(in_place).visit(copy.deepcopy(statement)) for statement in body]


def _elements(node: ast.expr, done: Sequence[ast.stmt]) -> list[ast.expr]:
    """What a loop over an expression takes, as expressions; nothing if they are not written out."""
    node = _written_out(node, done)
    if isinstance(node, (ast.List, ast.Tuple)) and not any(isinstance(each, ast.Starred) for each in node.elts):
        return node.elts
    if isinstance(node, ast.Dict) and None not in node.keys:
        return [key for key in node.keys if key]
    if isinstance(node, ast.Call) and not node.keywords:
        return _elements_of_call(node, done)
    return []


def _elements_of_call(call: ast.Call, done: Sequence[ast.stmt]) -> list[ast.expr]:
    if isinstance(call.func, ast.Name):
        columns = [_elements(argument, done) for argument in call.args]
        if call.func.id == "zip":
            return [_tuple(*row) for row in zip(*columns, strict=False)]
        if call.func.id == "enumerate" and len(columns) == 1:
            return [_tuple(ast.Constant(number), each) for number, each in enumerate(columns[0])]
    elif isinstance(call.func, ast.Attribute) and call.func.attr == "items" and not call.args:
        mapping = _written_out(call.func.value, done)
        if isinstance(mapping, ast.Dict):
            pairs = zip(mapping.keys, mapping.values, strict=True)
            return [_tuple(key, value) for key, value in pairs if key]
    return []


def _tuple(*elements: ast.expr) -> ast.expr:
    return ast.Tuple(list(elements), ast.Load())


def _written_out(node: ast.expr, done: Sequence[ast.stmt]) -> ast.expr:
    """The value of a variable as an expression, if a statement gives it one; any other expression as it is."""
    for number, statement in reversed(list(enumerate(done))):
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(node, ast.Name) and isinstance(statement, ast.Assign) and node.id in names:
            return _written_out(statement.value, done[:number])
    return node


def _values(target: ast.expr, value: ast.expr) -> Values | None:
    """Which variables of a loop have which value; None if a value is not written out."""
    if isinstance(target, ast.Name):
        return {target.id: value}
    if not isinstance(target, (ast.Tuple, ast.List)) or not isinstance(value, (ast.Tuple, ast.List)):
        return None
    if len(target.elts) != len(value.elts):
        return None
    parts = [_values(*pair) for pair in zip(target.elts, value.elts, strict=True)]
    return None if None in parts else {name: each for part in parts if part for name, each in part.items()}


def _has_names(node: ast.expr) -> bool:
    return any(isinstance(each, ast.Name) for each in ast.walk(node))


class Replacing(ast.NodeTransformer):
    """Puts values in the place of variables."""

    def __init__(self, values: Values):
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        value = copy.deepcopy(self.values.get(node.id, node))
        if isinstance(value, ast.Name):
            value.ctx = node.ctx
        return value
