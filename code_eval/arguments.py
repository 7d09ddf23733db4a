"""Arguments of the tests that the code has changed in place, in strict mode: when the tests keep theirs.

What the code does to its copy of a list is done to the tests' own, so that functions which work in place can be tested.
But some tests use an argument once more as the measure of the answer, and would hold for any answer of code that has
emptied or overwritten it:

    assert f(xs) == sorted(xs)                  in the same comparison, after the call
    assert all(x in f(xs) for x in xs)          in the loop that calls the code
    result = f(xs)
    for x in xs: assert x in result             in a later loop, over what is empty now
    assert result == sorted(xs)                 or as a later measure of what is empty now

There, the tests keep what they had. Their text is parsed only when the code has changed an argument, which is rare.
"""

import ast
import collections
import functools
import types
from collections.abc import Iterable
from typing import Any

STATEMENTS = (ast.For, ast.AsyncFor)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
MEASURES = {"sorted", "sum", "set", "frozenset", "Counter"}  # which say something even of what is empty
EMPTY = {"set", "frozenset", "list", "tuple", "dict", "Counter"}  # the names in an expression that is constant
CONSUMERS = {"all", "any", "enumerate", "filter", "iter", "map", "reversed", "zip"}  # loop over their arguments
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef)
OPERATORS = {"assertIn": ast.In, "assertNotIn": ast.NotIn}  # that methods of unittest stand for
CONTAINERS = (list, tuple, dict, set, bytearray, collections.deque)
PLACES = (ast.Name, ast.Attribute, ast.Subscript)  # what an argument can be named by

tree_of = functools.lru_cache(1)(ast.parse)


def use_of(text: str, frame: types.FrameType | None, mine: object, theirs: object, answered: bool) -> str:
    """What the tests, of this text, which called the code in `frame`, do with an argument that the code has changed.

    mine: the argument as the tests have it
    theirs: what the code has made of it
    answered: whether the code has returned something as well, which may be measured by the argument

    Returns "kept" if they keep it as it was, "named" if they have a name for it, and "" if nobody will see it again.
    """
    empty, named = is_emptied(mine, theirs), False
    while frame:
        if frame.f_code.co_filename == "<tests>":
            tree, line = tree_of(text), frame.f_lineno
            names = {ast.dump(ast.Name(name, ast.Load())) for name, value in frame.f_locals.items() if value is mine}
            for call in calls_at(tree, line):
                names |= {ast.dump(argument) for argument in arguments_of(call) if can_be(argument, frame, mine)}
            if is_compared(tree, line, names, empty) or runs_over(tree, line, names):
                return "kept"
            if empty and (will_run_over(tree, line, names) or (answered and will_measure(tree, line, names))):
                return "kept"
            named |= bool(names)
        frame = frame.f_back
    return "named" if named else ""


def can_be(argument: ast.expr, frame: types.FrameType, mine: object) -> bool:
    """Whether an argument in the text, of a call in `frame`, can be `mine`."""
    if isinstance(argument, ast.Name):
        return frame.f_locals.get(argument.id, frame.f_globals.get(argument.id, mine)) is mine
    return isinstance(argument, PLACES)


def is_emptied(before: Any, after: Any) -> bool:
    """Whether a container, or one in the same place of it, had items and has none any more."""
    if type(before) is not type(after) or not isinstance(before, CONTAINERS):
        return False
    if len(after) == 0:
        return len(before) > 0
    if isinstance(before, dict):
        return any(is_emptied(before[key], after[key]) for key in before.keys() & after.keys())
    return isinstance(before, (list, tuple)) and any(map(is_emptied, before, after))


def is_compared(tree: ast.AST, line: int, names: set[str], empty: bool) -> bool:
    """Whether a comparison in this line makes something of one of `names` after it has passed it to a function.

    `f(xs) == sorted(xs)` and `f(xs) in xs` do. `f(xs) == xs` does not: it may ask whether the function works in place,
    unless nothing is left in there.
    """
    for node in ast.walk(tree):
        if not is_at(node, line):
            continue
        sides = sides_of(node)
        if isinstance(node, ast.Compare):
            operators = [None, *map(type, node.ops)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            operators = [OPERATORS.get(node.func.attr)] * len(sides)
        else:
            continue
        given = [any(mentions(a, names) for call in calls_in(side) for a in arguments_of(call)) for side in sides]
        uses = [
            is_made_of(side, names) or (counts(operator, empty) and mentions(side, names))
            for side, operator in zip(sides, operators, strict=True)
        ]
        if any(given) and any(uses[given.index(True) + 1 :]):
            return True
    return False


def counts(operator: type | None, empty: bool) -> bool:
    """Whether an argument itself, on the right of this operator, is what the answer is measured by."""
    return operator is ast.In or (empty and operator is not ast.NotIn)


def is_made_of(side: ast.expr, names: set[str]) -> bool:
    """Whether an expression computes something from one of `names`, and is not just its value."""
    if isinstance(side, (ast.Tuple, ast.List, ast.Set)):
        return any(is_made_of(item, names) for item in side.elts)
    return ast.dump(side) not in names and mentions(side, names)


def runs_over(tree: ast.AST, line: int, names: set[str]) -> bool:
    """Whether a loop takes its items from one of `names` while the code is called in this line."""
    for node in ast.walk(tree):
        for part in looped_over(node) if is_at(node, line) else ():
            inner = arguments_of(part) if isinstance(part, ast.Call) and is_consumer(part, CONSUMERS) else [part]
            if any(ast.dump(one) in names for one in inner):
                return True
    return False


def will_run_over(tree: ast.AST, line: int, names: set[str]) -> bool:
    """Whether something behind this line, in the same function, asserts nothing where one of `names` is empty.

    These are loops and `all(...)`; what a comprehension makes may be compared with an empty list.
    """
    for node in behind(tree, line):
        loops = isinstance(node, STATEMENTS) or (isinstance(node, ast.Call) and is_consumer(node, {"all"}))
        if loops and any(mentions(part, names) for part in looped_over(node)):
            return True
    return False


def will_measure(tree: ast.AST, line: int, names: set[str]) -> bool:
    """Whether something behind this line, in the same function, makes a measure of one of `names`.

    What is compared with a constant asks whether the function works in place: `sum(xs) == 0`. A length is a measure
    only where it is compared with something else.
    """

    def is_measure(node: ast.AST, among: set[str]) -> bool:
        if not isinstance(node, ast.Call) or not is_consumer(node, among):
            return False
        return any(ast.dump(argument) in names for argument in arguments_of(node))

    answered: set[ast.expr] = set()
    for node in behind(tree, line):
        sides = sides_of(node)
        for side in sides:
            if is_measure(side, {*MEASURES, "len"}):
                if not all(map(is_said, (other for other in sides if other is not side))):
                    return True
                answered.add(side)
    return any(is_measure(node, MEASURES) and node not in answered for node in behind(tree, line))


def sides_of(node: ast.AST) -> list[ast.expr]:
    """What is compared by a comparison, or by a method such as assertEqual."""
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr[:6] == "assert":
        return node.args
    return []


def is_said(side: ast.expr) -> bool:
    """Whether an expression is made of constants, such as `[]`, `set()` or `2 + 1`."""
    return all(part.id in EMPTY for part in ast.walk(side) if isinstance(part, ast.Name))


def behind(tree: ast.AST, line: int) -> Iterable[ast.AST]:
    """What stands behind this line, in the same function."""
    scopes = [node for node in ast.walk(tree) if isinstance(node, SCOPES) and is_at(node, line)]
    return (node for node in ast.walk(scopes[-1] if scopes else tree) if getattr(node, "lineno", 0) > line)


def looped_over(node: ast.AST) -> list[ast.expr]:
    """What a loop, a comprehension or a function such as `all` takes its items from."""
    if isinstance(node, STATEMENTS):
        return [node.iter]
    if isinstance(node, COMPREHENSIONS):
        return [generator.iter for generator in node.generators]
    return node.args if isinstance(node, ast.Call) and is_consumer(node, CONSUMERS) else []


def is_consumer(call: ast.Call, names: set[str]) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in names


def is_at(node: ast.AST, line: int) -> bool:
    return getattr(node, "lineno", line + 1) <= line <= (getattr(node, "end_lineno", None) or 0)


def calls_at(tree: ast.AST, line: int) -> Iterable[ast.Call]:
    return (node for node in calls_in(tree) if is_at(node, line))


def calls_in(node: ast.AST) -> Iterable[ast.Call]:
    return (part for part in ast.walk(node) if isinstance(part, ast.Call))


def arguments_of(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(keyword.value for keyword in call.keywords)]


def mentions(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(part, PLACES) and ast.dump(part) in names for part in ast.walk(node))
