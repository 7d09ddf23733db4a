"""Variables of tests that have the name of a built-in function get another one: `list = Stack()` would take `list` away
from the code, which runs in the same program, and from other tests."""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Collection, Iterable

from selfalign.data.loops import Replacing

BUILTINS = frozenset(dir(builtins))
SCOPES = (  # what has variables of its own
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
)


def shadowed_by(body: Iterable[ast.AST], names: Collection[str]) -> frozenset[str]:
    """The names of built-in functions that statements give to variables, but for the `names` of the code. Those of a
    function or comprehension in them do not count: outside of it, they take the name away from nothing."""
    nodes, stored = list(body), set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            stored.add(node.id)
        if not isinstance(node, SCOPES):
            nodes += ast.iter_child_nodes(node)
    return frozenset(stored & BUILTINS - set(names))


def renamed(body: list[ast.stmt], shadowed: Collection[str]) -> list[ast.stmt]:
    """Statements in which the variables `shadowed` have other names."""
    values: dict[str, ast.expr] = {name: ast.Name(f"{name}_", ast.Load()) for name in shadowed}
    return [_Renaming(values).visit(copy.deepcopy(statement)) for statement in body] if shadowed else body


class _Renaming(Replacing):
    """Leaves a name alone where a function or comprehension has a variable of this name itself."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, SCOPES):
            return super().generic_visit(node)
        inside = list(ast.walk(node))
        own = {each.arg for each in inside if isinstance(each, ast.arg)}
        own |= {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
        outer, self.values = self.values, {name: value for name, value in self.values.items() if name not in own}
        try:
            return super().generic_visit(node)
        finally:
            self.values = outer
