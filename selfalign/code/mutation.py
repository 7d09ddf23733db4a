"""How strong are the tests of a response? Programs that are almost the same but wrong, which its tests should notice.

Mutation testing (DeMillo, Lipton and Sayward, "Hints on test data selection", 1978): good tests notice most small
changes to a program. Changes here preserve the types of values where possible, since any test that calls a program
notices that it crashes, which says nothing about the test.

`mutants` gives programs with one such change each, `stubbed` a program in which nothing that the response defines does
anything, and `echoing` one in which everything hands back what it is given. All are text; the sandbox runs them.
"""

from __future__ import annotations

import ast
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

from selfalign.code.parsing import compiles, parsed, unparsed

Nodes = Iterator[ast.AST]
Change = TypeVar("Change")


class Mutant(NamedTuple):
    """A program with one change: the `kind` of change (the name of an operator below), and the whole `code`."""

    kind: str
    code: str


# ---- operators: what may replace a node ----

OTHER_OPERATOR: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
OPPOSITE: dict[type, type] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
NEIGHBOUR: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
SEQUENCES = (ast.JoinedStr, ast.List, ast.ListComp, ast.Tuple)


def arithmetic(node: ast.AST) -> Nodes:
    """a + b -> a - b, and so on; not where strings or lists are obviously joined."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)):
        operands = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
        if not any(map(_is_sequence, operands)):
            yield _like(node, op=OTHER_OPERATOR.get(type(node.op), type(node.op))())


def comparison(node: ast.AST) -> Nodes:
    """a == b -> a != b, a < b -> a >= b, and so on."""
    yield from _compared(node, OPPOSITE)


def boolean(node: ast.AST) -> Nodes:
    """a and b -> a or b; not a -> a."""
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand


def condition(node: ast.AST) -> Nodes:
    """if a -> if not a, also in loops and comprehensions; not where another operator negates the condition."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp)) and not _negated_elsewhere(node.test):
        yield _like(node, test=_negation(node.test))
    if isinstance(node, ast.comprehension):
        for i, test in enumerate(node.ifs):
            if not _negated_elsewhere(test):
                yield _like(node, ifs=[*node.ifs[:i], _negation(test), *node.ifs[i + 1 :]])


def constant(node: ast.AST) -> Nodes:
    """True -> False, "text" -> "", 0.5 -> 1.5; `off_by_one` changes integers."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield ast.Constant(not node.value)
        elif isinstance(node.value, str):
            yield ast.Constant("" if node.value else "_")
        elif isinstance(node.value, bytes):
            yield ast.Constant(b"" if node.value else b"_")
        elif isinstance(node.value, (float, complex)):
            yield ast.Constant(node.value + 1)


def off_by_one(node: ast.AST) -> Nodes:
    """1 -> 2 and 1 -> 0; a < b -> a <= b, and so on; range(n) -> range(n - 1); a[:n] -> a[:n - 1]."""
    yield from _compared(node, NEIGHBOUR)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield ast.Constant(node.value + 1)
        yield ast.Constant(node.value - 1)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and node.args:
        end = min(1, len(node.args) - 1)
        yield _like(node, args=[*node.args[:end], _one_less(node.args[end]), *node.args[end + 1 :]])
    if isinstance(node, ast.Slice):
        for field in ("upper", "lower"):
            if bound := getattr(node, field):
                yield _like(node, **{field: _one_less(bound)})


def returned(node: ast.AST) -> Nodes:
    """return a -> return type(a)(): the empty value of its type, or zero. Functions in `stubbed` programs return None,
    and other operators change constants."""
    if isinstance(node, ast.Return) and node.value and not isinstance(node.value, ast.Constant):
        kind = ast.Call(ast.Name("type", ast.Load()), [node.value], [])
        yield ast.Return(ast.Call(kind, [], []))


def deleted(node: ast.AST) -> Nodes:
    """Statements without which the others still run, such as calls, loops, branches without else, reassignments."""
    change = isinstance(node, (ast.Assign, ast.AnnAssign)) and _reassigns(node)
    branch = isinstance(node, ast.If) and not node.orelse
    call = isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await))
    if change or branch or call:
        yield ast.Pass()
    if isinstance(node, (ast.AugAssign, ast.For, ast.While, ast.Raise, ast.Break, ast.Continue, ast.Delete)):
        yield ast.Pass()


OPERATORS: dict[str, Callable[[ast.AST], Nodes]] = {
    operator.__name__: operator
    for operator in (arithmetic, comparison, boolean, condition, constant, off_by_one, returned, deleted)
}


def _compared(node: ast.AST, others: dict[type, type]) -> Nodes:
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in others:
                yield _like(node, ops=[*node.ops[:i], others[type(op)](), *node.ops[i + 1 :]])


def _is_sequence(node: ast.AST) -> bool:
    """Whether this is obviously not a number: other operators would merely raise TypeError."""
    return isinstance(node, SEQUENCES) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))


def _negated_elsewhere(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Constant)
        or (isinstance(test, ast.Compare) and len(test.ops) == 1)
        or (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not))
    )


def _negation(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _one_less(value: ast.expr) -> ast.expr:
    if isinstance(value, ast.Constant) and type(value.value) is int:
        return ast.Constant(value.value - 1)
    return ast.BinOp(value, ast.Sub(), ast.Constant(1))


def _reassigns(node: ast.Assign | ast.AnnAssign) -> bool:
    """Whether every target exists before: it is an item, or a name or attribute that the value itself contains.
    Without the first assignment to a name, the next statement would merely raise NameError."""
    if node.value is None:
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    targets = [n for target in targets for n in (target.elts if isinstance(target, ast.Tuple) else [target])]
    read = {_name(n) for n in ast.walk(node.value)}
    return all(isinstance(n, ast.Subscript) or (_name(n) and _name(n) in read) for n in targets)


def _name(node: ast.AST) -> str | None:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _like(node: ast.AST, **changed: Any) -> ast.AST:
    """`node` with some fields changed."""
    return type(node)(**{name: getattr(node, name, None) for name in node._fields} | changed)


# ---- the mutants of a program ----

# Nothing inside of these is changed: tests of values have no reason to notice.
LEFT_ALONE = (ast.Import, ast.ImportFrom, ast.Assert, ast.Global, ast.Nonlocal)
FIELDS_LEFT_ALONE = {"annotation", "returns", "decorator_list", "bases", "format_spec", "exc"}


class Site(NamedTuple):
    """A place in a syntax tree: a field of a node (given as its attributes by name), or an item of a list."""

    container: Any
    key: Any

    def put(self, node: ast.AST) -> ast.AST:
        """Put `node` there, and return what it replaces."""
        before, self.container[self.key] = self.container[self.key], node
        return before


def mutants(code: str, count: int, draws: random.Random) -> list[Mutant]:
    """At most `count` mutants of a program, drawn evenly from all kinds; they differ from it and from each other.

    There are fewer if there is less to change, and none if the program does not parse.
    """
    tree = parsed(code)
    text = unparsed(tree) if tree else None
    if tree is None or text is None:
        return []
    sites = list(_sites(tree))
    changes = {
        kind: [(site, other) for site, node in sites for other in operator(node)]
        for kind, operator in OPERATORS.items()
    }
    return draw_mutants(changes, lambda change: _with_change(tree, *change), text, count, draws)


def draw_mutants(
    changes: Mapping[str, list[Change]],
    changed: Callable[[Change], str | None],
    original: str,
    count: int,
    draws: random.Random,
) -> list[Mutant]:
    """At most `count` mutants, one of each kind of change in turn, in a random order.

    `changed` gives the program with a change, or None if there is no such program; one that is the `original`, or was
    there before, does not count.
    """
    queues, seen, found = list(changes.items()), {original}, list[Mutant]()
    draws.shuffle(queues)
    for _, queue in queues:
        draws.shuffle(queue)
    while queues and len(found) < count:
        kind, queue = queues.pop(0)
        while queue:
            text = changed(queue.pop())
            if text is not None and text not in seen:
                seen.add(text)
                found.append(Mutant(kind, text))
                queues.append((kind, queue))
                break
    return found


def _with_change(tree: ast.Module, site: Site, other: ast.AST) -> str | None:
    """The program with `other` at `site`, or None if that does not compile. Afterwards the tree is as it was."""
    before = site.put(other)
    text = unparsed(tree)
    site.put(before)
    return text if text is not None and compiles(text) else None


def _sites(tree: ast.Module) -> Iterator[tuple[Site, ast.AST]]:
    """The places where something may be changed, and what is there. Examples of use are left alone: tests do not see
    what a response does at its top level, except for assignments and definitions."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        parent = waiting.pop()
        for field, value in ast.iter_fields(parent):
            if field in FIELDS_LEFT_ALONE or (field == "keywords" and isinstance(parent, ast.ClassDef)):
                continue
            several = isinstance(value, list)
            for site in [Site(value, i) for i in range(len(value))] if several else [Site(vars(parent), field)]:
                node = site.container[site.key]
                if not isinstance(node, ast.AST) or isinstance(node, LEFT_ALONE) or _is_text(node):
                    continue
                if parent is tree and isinstance(node, (ast.Expr, ast.If, ast.For, ast.While, ast.With, ast.Try)):
                    continue
                yield site, node
                waiting.append(node)


def _is_text(node: ast.AST) -> bool:
    """Whether this statement is a docstring, or shows something to a reader."""
    value = node.value if isinstance(node, ast.Expr) else None
    called = value.func if isinstance(value, ast.Call) else None
    return isinstance(value, ast.Constant) or (isinstance(called, ast.Name) and called.id == "print")


# ---- stubs ----


def replace_by_stubs(names: dict, echo: bool = False, imported: list | None = None) -> None:
    """Remove the effects of everything that a program defines, after it has run; `names` are its globals, and
    `imported` those that it imported, if that is known.

    Its functions and methods return None, or with `echo` their first argument (generators yield nothing), and the
    values that it computed are gone. Making an instance gives a new, empty object each time: two None would be equal,
    and the tests of a singleton or a named tuple would pass. Imported functions and modules stay. This text runs in the
    sandbox, so it uses nothing around it.
    """
    import contextlib
    import enum
    import functools
    import inspect

    def stub(function, place=0):
        async def waits(*arguments, **keywords):
            return None

        def yields(*arguments, **keywords):
            yield from ()

        def returns(*arguments, **keywords):
            return arguments[place] if echo and place < len(arguments) else None

        if inspect.iscoroutinefunction(function):
            return waits
        return yields if inspect.isgeneratorfunction(function) else returns

    def makes(*arguments, **keywords):
        return object()

    def empty(kind):
        if kind in emptied:
            return
        emptied.append(kind)
        has_fields_only = "__annotations__" in vars(kind) and not any(map(inspect.isfunction, vars(kind).values()))
        if has_fields_only and kind.__bases__ != (object,) and not issubclass(kind, BaseException):
            with contextlib.suppress(Exception):
                kind.__new__ = makes  # what it does is in its base: a model of pydantic's
        for name, member in list(vars(kind).items()):
            if name == "__new__" or (name == "__call__" and issubclass(kind, type)):
                other = makes
            elif isinstance(member, (staticmethod, classmethod)):
                other = type(member)(stub(member.__func__, isinstance(member, classmethod)))
            elif isinstance(member, property):
                other = property(stub(member.fget, 1), stub(member.fset, 2))  # pyright: ignore[reportArgumentType]
            elif inspect.isfunction(member):
                other = stub(member, 99 if name.startswith("__") else 1)  # after self; __init__ returns None
            elif isinstance(member, type):
                if member.__module__ == own:
                    empty(member)
                continue
            elif name.startswith("__") or inspect.isdatadescriptor(member):
                continue
            else:
                other = None
            with contextlib.suppress(Exception):  # its metaclass may forbid it
                setattr(kind, name, other)

    own, emptied = names["__name__"], []
    for name, value in list(names.items()):
        if name.startswith("__") or inspect.ismodule(value):
            continue
        if isinstance(value, type) and not isinstance(value, enum.EnumMeta):
            if value.__module__ == own:
                empty(value)
            elif imported is not None and name not in imported:  # what make_dataclass gives
                del names[name]
        elif not callable(value) or isinstance(value, type):
            del names[name]
        else:
            its_own = getattr(value, "__module__", None) == own or isinstance(value, functools.partial)
            if its_own or (imported is not None and name not in imported):  # f = math.sqrt, f = numpy.vectorize(g)
                names[name] = stub(value)


# Read only once, since that takes a millisecond.
REPLACEMENT = inspect.getsource(replace_by_stubs)


def stubbed(code: str) -> str:
    """The program `code`, at the end of which nothing that it defines does anything. Tests that still pass are
    vacuous: they assert what is true whatever the response does."""
    return _stubbed(code, echo=False)


def echoing(code: str) -> str:
    """The same, but for functions and methods that return their first argument. Tests that still pass have no input
    that the response changes: `assert strip_tags("text") == "text"`."""
    return _stubbed(code, echo=True)


def _stubbed(code: str, echo: bool) -> str:
    # However it ends: code may leave by sys.exit(), as scripts do, and its tests run nevertheless.
    call = f"replace_by_stubs(globals(), {echo}, {_imported(code)})"
    return f"{REPLACEMENT}\ntry:\n    exec({code!r}, globals())\nfinally:\n    {call}\n"


def _imported(code: str) -> list[str] | None:
    """The names that a program imports; None if these can't be known."""
    tree = parsed(code)
    imports = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))] if tree else []
    names = sorted({(alias.asname or alias.name).partition(".")[0] for node in imports for alias in node.names})
    return None if tree is None or "*" in names else names
