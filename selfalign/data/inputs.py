"""The inputs in the tests of a task's samples: what their assertions call, without what they claim about it."""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import functools
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from code_eval.assertions import what_runs
from selfalign.code.parsing import FUNCTIONS, parsed
from selfalign.data.claims import Claim, claim_of
from selfalign.data.loops import rounds_of
from selfalign.data.shadows import renamed, shadowed_by

MAX_INPUTS = 24  # of a task: what is seen of so many fits into the detail of one sandboxed program
MAX_SOURCE = 1_000  # characters of an input
NAME = re.compile(r"[A-Za-z_]\w*")
NODES_KEPT = 16_384  # whose names and source are remembered: those of a suite are looked at again and again
SEEDING = {"seed", "manual_seed"}
NOT_DONE = (ast.For, ast.While, ast.With, ast.Try, ast.ClassDef)  # which may not end, or catch what went wrong


@dataclass(frozen=True)
class Input:
    """A call that a test makes: the statements before it that it needs, the expression, both as source, and the output
    that the test claims, as source (None where it compares with nothing).

    thrown: `call` is a function, and the output is whether it throws (JavaScript alone).
    claim_setup: the statements before the test that `claimed` needs. With those of `setup`, which call what is tested,
        it could not be evaluated by itself.
    raised: `claimed` is the exception that `call` should raise (Python alone).
    """

    setup: str
    call: str
    claimed: str | None = None
    thrown: bool = False
    claim_setup: str = ""
    raised: bool = False

    @property
    def claim(self) -> Input:
        """What the test claims, as something to be evaluated."""
        return Input(self.claim_setup, self.claimed or "", raised=self.raised)


def inputs_of(suites: Sequence[Sequence[Input]]) -> list[Input]:
    """The inputs of a task's samples, each once, at most MAX_INPUTS, taken by turns from those in each one's tests."""
    by_suite = [list(dict.fromkeys(suite)) for suite in dict.fromkeys(map(tuple, suites))]
    in_turn = (
        some[turn] for turn in range(max(map(len, by_suite), default=0)) for some in by_suite if turn < len(some)
    )
    return list({(found.setup, found.call): found for found in list(in_turn)[::-1]}.values())[::-1][:MAX_INPUTS]


def claims_of(suites: Sequence[Sequence[Input]], inputs: Sequence[Input]) -> list[list[tuple[int, Input]]]:
    """What the inputs in each sample's tests claim about these: the number of the input, and what its output is to
    equal."""
    numbers = {(each.setup, each.call): number for number, each in enumerate(inputs)}
    return [
        [
            (numbers[each.setup, each.call], each.claim)
            for each in suite
            if each.claimed is not None and (each.setup, each.call) in numbers
        ]
        for suite in suites
    ]


def inputs_in(tests: str, names: Collection[str]) -> Iterator[Input]:
    """The inputs in Python's tests, each of which calls one of `names`: what the samples define."""
    tree = parsed(tests)
    with contextlib.suppress(RecursionError):  # nested too deeply, as `1 + 1 + ...` may be
        yield from list(_inputs_of_tests(tree, names)) if tree else ()


def _inputs_of_tests(tree: ast.Module, names: Collection[str]) -> Iterator[Input]:
    top = _around_tests([part for node in tree.body for part in what_runs(node)])
    shadowed = shadowed_by(top, names)
    top = renamed(top, shadowed)
    yield from _inputs_of_block(top, [], names)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            given = frozenset(each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg))
            body = renamed(node.body, (shadowed | shadowed_by(node.body, names)) - given)
            yield from _inputs_of_block(body, [n for n in top if not claim_of(n)], names, given)


def _around_tests(body: list[ast.stmt]) -> list[ast.stmt]:
    """What tests may need of the top of a program: without the tests themselves, and the statements that run them."""
    tests = [
        node
        for node in body
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and node.name.startswith("test"))
    ]
    named = {node.name for node in tests}
    return [node for node in body if node not in tests and not (isinstance(node, ast.Expr) and _names_in(node) & named)]


def _inputs_of_block(
    body: list[ast.stmt], before: list[ast.stmt], names: Collection[str], unknown: Collection[str] = ()
) -> Iterator[Input]:
    """The inputs of one block of statements.

    `unknown`: variables whose values are not known, as those that pytest gives to a test. What needs one of them can't
    be done, and neither can what needs the object of a TestCase, or a variable that a statement which was left out may
    have changed.
    """
    done, lost = list(before), {"self", *unknown}
    for statement in body:
        if isinstance(statement, ast.For):
            for each in rounds_of(statement, done):
                yield from _inputs_of_block(each, done, names, lost)
        elif isinstance(statement, ast.With) and all(_is_subtest(item) for item in statement.items):
            yield from _inputs_of_block(statement.body, done, names, lost)
        claim = claim_of(statement)
        if claim is None:
            if _can_be_done(statement) and not lost & _names_in(statement):
                done.append(statement)
            else:
                lost |= _names_in(statement) & _names_stored([*done, statement])
            continue
        done += [each for each in claim.before if not lost & _names_in(each)]
        call, claimed = (claim.call, claim.expected) if claim.raises else _in_order(claim, done, names)
        if lost & _names_in(call):
            continue
        if claim.near and (found := _input(claim.near, done, names)):
            yield found
        if found := _input(call, done, names):
            if claimed is not None:
                claim_setup = "\n".join(map(_source, _related(claimed, done, names)))
                claims = {"claimed": _source(claimed), "claim_setup": claim_setup, "raised": claim.raises}
                found = dataclasses.replace(found, **claims)
            yield found
        if not claim.raises:
            done.append(ast.Expr(call))  # it may have changed what is called next


def _can_be_done(statement: ast.stmt) -> bool:
    """Whether a statement can stand before a call. A loop can if it is over a range or a list, and tests nothing."""
    if not isinstance(statement, ast.For):
        return not isinstance(statement, NOT_DONE)
    over = statement.iter
    is_range = isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id == "range"
    inside = (node for each in statement.body for node in ast.walk(each))
    ends = not any(isinstance(node, (*NOT_DONE, ast.Assert)) for node in inside)
    return ends and (is_range or isinstance(over, (ast.List, ast.Tuple)))


def _input(call: ast.expr, done: Sequence[ast.stmt], names: Collection[str]) -> Input | None:
    """A call of the code as an input; None of any other call, and of one that is too long."""
    needed = _related(call, done, names)
    if not any(_names_in(node) & set(names) for node in (call, *needed)):
        return None
    if not any(isinstance(node, ast.Call) for part in (call, *needed) for node in ast.walk(part)):
        return None
    setup, text = "\n".join(map(_source, needed)), _source(call)
    return Input(setup, text) if len(setup) + len(text) <= MAX_SOURCE else None


def _is_subtest(item: ast.withitem) -> bool:
    """Whether `with` only names what is tested in it."""
    called = item.context_expr.func if isinstance(item.context_expr, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr == "subTest"


def _in_order(claim: Claim, done: list[ast.stmt], names: Collection[str]) -> tuple[ast.expr, ast.expr | None]:
    """What an assertion evaluates, and what that should equal: some tests put the expected output first.

    `done` is what was done before, and `names` are those of the code.
    """
    left, right = claim.call, claim.expected
    if right is None:
        return left, right
    computed: set[str] = set()  # the variables that hold what the code gives
    for node in done:
        if _names_in(node) & (computed | set(names)):
            computed |= _names_stored([node])

    def computes(node: ast.expr) -> bool:
        called = (each for each in ast.walk(node) if isinstance(each, ast.Call))
        return bool(_names_in(node) & computed) or any(_names_in(call) & set(names) for call in called)

    expected_first = isinstance(left, ast.Constant) or (computes(right) and not computes(left))
    return (right, left) if expected_first else (left, right)


def _related(node: ast.expr, done: Sequence[ast.stmt], names: Collection[str]) -> list[ast.stmt]:
    """What of all that was done an expression needs: what has to do with the variables in it, or with variables that
    these have to do with; what seeds random numbers; and the imports of the names in all that. The `names` of the code
    are not imported: tests may import what they test from a file that is not there."""
    seeds = [each for each in done if _seeds(each)]
    variables, wanted = _names_stored(done), _names_in(node).union(*map(_names_in, seeds))
    while True:
        related = [each for each in done if _names_of(each) & wanted & variables]
        more = wanted.union(*map(_names_of, related))
        if more == wanted:
            break
        wanted = more
    related = _without_overwritten(related, variables) + seeds
    wanted -= set(names)
    return [each for each in done if each in related or (_imports(each) and _names_of(each) & {"*", *wanted})]


def _without_overwritten(body: list[ast.stmt], variables: Collection[str]) -> list[ast.stmt]:
    """Statements without those on a variable that gets another value later, as `result` does in many tests; if one of
    those involves another variable, all of them stay."""
    for number, statement in reversed(list(enumerate(body))):
        if not isinstance(statement, ast.Assign):
            continue
        target = statement.targets[0]
        if isinstance(target, ast.Name) and target.id not in _names_in(statement.value):
            before, rest = body[:number], body[number:]
            on_it = [each for each in before if target.id in _names_of(each)]
            if all(_names_of(each) & set(variables) == {target.id} for each in on_it):
                return _without_overwritten([each for each in before if each not in on_it], variables) + rest
    return body


def _seeds(statement: ast.stmt) -> bool:
    """Whether a statement seeds random numbers, as `random.seed(0)` does."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in SEEDING


def _imports(statement: ast.stmt) -> bool:
    """Whether a statement imports something; what imports everything counts if it is of the standard library."""
    if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
        return statement.module in sys.stdlib_module_names
    return isinstance(statement, (ast.Import, ast.ImportFrom))


def imports_for(claims: Collection[Input], codes: Sequence[str]) -> str:
    """A program with those imports of the samples' code whose names the claims use, as tests may use its `np`; and with
    exceptions that have the names of the samples' own. What can't be imported is left out."""
    wanted = {name for claim in claims for name in NAME.findall(f"{claim.setup}\n{claim.call}")}
    body = [node for code in codes if (tree := parsed(code)) for node in tree.body]
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom)) and _names_of(node) & wanted]
    lines = dict.fromkeys(_source(each) for each in imports if getattr(each, "module", None) != "__future__")
    raised = {claim.call for claim in claims if claim.raised}
    own = dict.fromkeys(node.name for node in body if isinstance(node, ast.ClassDef) and node.name in raised)
    return "\n".join(
        [f"try:\n    {line}\nexcept Exception:\n    pass" for line in lines]
        + [f"class {name}(Exception): pass" for name in own]
    )


@functools.lru_cache(NODES_KEPT)
def _names_in(node: ast.AST) -> frozenset[str]:
    return frozenset(name.id for name in ast.walk(node) if isinstance(name, ast.Name))


def _names_stored(body: Sequence[ast.stmt]) -> set[str]:
    """The variables that statements assign, and the functions that they define."""
    return set().union(*map(_stored_by, body))


@functools.lru_cache(NODES_KEPT)
def _stored_by(statement: ast.stmt) -> frozenset[str]:
    nodes = list(ast.walk(statement))
    variables = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return frozenset(variables | {node.name for node in nodes if isinstance(node, FUNCTIONS)})


@functools.lru_cache(NODES_KEPT)
def _names_of(statement: ast.stmt) -> frozenset[str]:
    """The names that a statement uses, assigns, defines or imports."""
    imports = [node for node in ast.walk(statement) if isinstance(node, ast.alias)]
    imported = {(node.asname or node.name).partition(".")[0] for node in imports}
    return _names_in(statement) | _stored_by(statement) | imported


@functools.lru_cache(NODES_KEPT)
def _source(node: ast.AST) -> str:
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))


def definitions_in(code: str) -> set[str]:
    """The names of the functions and classes that a program defines at its top."""
    tree = parsed(code)
    body = tree.body if tree else []
    return {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
