"""Which of the statements before a call in a test it needs: those on its variables, and what concerns all calls."""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Collection, Sequence

from selfalign.code.parsing import FUNCTIONS

NODES_KEPT = 16_384  # whose names and source are remembered: those of a suite are looked at again and again
SEEDING = {"seed", "manual_seed"}


def needed_by(call: ast.expr, done: Sequence[ast.stmt], names: Collection[str]) -> list[ast.stmt]:
    """What of all that was done a call of the code needs: what has to do with the variables in it, or with variables
    that these have to do with; what seeds random numbers, or changes a class of the code; and the imports and functions
    that all this names. The `names` of the code are not imported: tests may import what they test from a file that is
    not there."""
    imported = set().union(*map(_defined_by, done))
    return _needed(call, done, names, [each for each in done if _seeds(each, imported) or _is_for_effect(each, names)])


def needed_without_code(node: ast.expr, done: Sequence[ast.stmt], names: Collection[str]) -> list[ast.stmt]:
    """The same for an expression that is evaluated where there is no code."""
    return _needed(node, done, names, [])


def _needed(
    node: ast.expr, done: Sequence[ast.stmt], names: Collection[str], always: Sequence[ast.stmt]
) -> list[ast.stmt]:
    variables = names_stored([each for each in done if not isinstance(each, FUNCTIONS)])
    wanted = names_in(node).union(*map(names_in, always))
    while True:
        related = [
            each
            for each in done
            if each in always or names_of(each) & wanted & variables or _defined_by(each) & (wanted - set(names))
        ]
        more = wanted.union(*map(names_of, related))
        if more == wanted:
            return _without_overwritten(related, variables)
        wanted = more


def _without_overwritten(body: list[ast.stmt], variables: Collection[str]) -> list[ast.stmt]:
    """Statements without those on a variable that gets another value later, as `result` does in many tests; if one of
    those involves another variable, all of them stay."""
    for number, statement in reversed(list(enumerate(body))):
        if not isinstance(statement, ast.Assign):
            continue
        target = statement.targets[0]
        if isinstance(target, ast.Name) and target.id not in names_in(statement.value):
            before, rest = body[:number], body[number:]
            on_it = [each for each in before if target.id in names_of(each)]
            if all(names_of(each) & set(variables) == {target.id} for each in on_it):
                return _without_overwritten([each for each in before if each not in on_it], variables) + rest
    return body


def _defined_by(statement: ast.stmt) -> set[str]:
    """The names of the modules and functions that a statement imports or defines, which calls do not change."""
    if isinstance(statement, FUNCTIONS):
        return {statement.name}
    return set(names_of(statement)) if isinstance(statement, (ast.Import, ast.ImportFrom)) else set()


def _seeds(statement: ast.stmt, imported: Collection[str]) -> bool:
    """Whether a statement seeds random numbers, as `random.seed(0)` does."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    function = statement.value.func
    return isinstance(function, ast.Attribute) and function.attr in SEEDING and root_of(function) in imported


def _is_for_effect(statement: ast.stmt, names: Collection[str]) -> bool:
    """Whether a test changes a class of the code: `Account.set_rate(0.1)` or `Account.rate = 0.1`. The call of an
    assertion, which `inputs.py` adds, has no place in the source."""
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
        return isinstance(target, ast.Attribute) and root_of(target) in names
    call = statement.value if isinstance(statement, ast.Expr) and hasattr(statement, "lineno") else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and root_of(call.func) in names


def changed_by(node: ast.AST) -> set[str]:
    """The names of what may be another after something that was left out: what it assigns, but for the variables of its
    own loops, and that of which it calls a method outside of assertions."""
    nodes = list(ast.walk(node))
    loops = [each.target for each in nodes if isinstance(each, (ast.For, ast.comprehension))]
    own = {name.id for target in loops for name in ast.walk(target) if isinstance(name, ast.Name)}
    stored = names_stored([each for each in nodes if isinstance(each, ast.stmt)]) - own
    return stored | receivers_in([each for each in nodes if isinstance(each, ast.Expr)])


def receivers_in(nodes: Sequence[ast.AST]) -> set[str]:
    """The names of what methods are called of, modules and classes included."""
    calls = [each.func for node in nodes for each in ast.walk(node) if isinstance(each, ast.Call)]
    return {root_of(function) for function in calls if isinstance(function, ast.Attribute)}


def root_of(node: ast.expr) -> str:
    """`a` of `a.b[0].c`; "" of what begins with no name."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


@functools.lru_cache(NODES_KEPT)
def names_in(node: ast.AST) -> frozenset[str]:
    return frozenset(name.id for name in ast.walk(node) if isinstance(name, ast.Name))


def names_stored(body: Sequence[ast.stmt]) -> set[str]:
    """The variables that statements assign, and the functions that they define."""
    return set().union(*map(_stored_by, body))


@functools.lru_cache(NODES_KEPT)
def _stored_by(statement: ast.stmt) -> frozenset[str]:
    nodes = list(ast.walk(statement))
    variables = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return frozenset(variables | {node.name for node in nodes if isinstance(node, FUNCTIONS)})


@functools.lru_cache(NODES_KEPT)
def names_of(statement: ast.stmt) -> frozenset[str]:
    """The names that a statement uses, assigns, defines or imports."""
    imports = [node for node in ast.walk(statement) if isinstance(node, ast.alias)]
    imported = {(node.asname or node.name).partition(".")[0] for node in imports}
    return names_in(statement) | _stored_by(statement) | imported


@functools.lru_cache(NODES_KEPT)
def source_of(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))
