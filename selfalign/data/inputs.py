"""The inputs in the tests of a task's samples: what their assertions call, without what they claim about it."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from code_eval.assertions import what_runs
from selfalign.code.parsing import parsed
from selfalign.data.claims import Claim, claim_of, expects_exception
from selfalign.data.loops import rounds_of
from selfalign.data.needs import (
    changed_by,
    names_in,
    names_of,
    names_stored,
    needed_by,
    needed_without_code,
    receivers_in,
    source_of,
)
from selfalign.data.shadows import renamed, shadowed_by

MAX_INPUTS = 24  # of a task: what is seen of so many fits into the detail of one sandboxed program
MAX_SOURCE = 1_000  # characters of an input
NAME = re.compile(r"[A-Za-z_]\w*")
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
    return [node for node in body if node not in tests and not (isinstance(node, ast.Expr) and names_in(node) & named)]


def _inputs_of_block(
    body: list[ast.stmt], before: list[ast.stmt], names: Collection[str], unknown: Collection[str] = ()
) -> Iterator[Input]:
    """The inputs of one block of statements.

    `unknown`: variables whose values are not known, as those that pytest gives to a test. What needs one of them can't
    be done, and neither can what needs the object of a TestCase, or a variable that a statement which was left out may
    have changed.
    """
    done, lost = list(before), {"self", *unknown}
    for statement in _unrolled(body, done):
        claim = claim_of(statement)
        if claim is None:
            assigned = {node.id for node in getattr(statement, "targets", []) if isinstance(node, ast.Name)}
            uses = statement.value if assigned and isinstance(statement, ast.Assign) else statement
            if _can_be_done(statement) and not lost & names_in(uses):
                done.append(statement)
                lost -= assigned
            elif not expects_exception(statement):
                lost |= changed_by(statement) & names_stored([*done, statement])
            continue
        before_call = [each for each in claim.before if not lost & names_in(each)]
        done += before_call
        call, claimed = _in_order(claim, done, names)
        if lost & names_in(call) or len(before_call) < len(claim.before):
            lost |= receivers_in([call]) & names_stored(done)
            continue
        if claim.near and claimed is not None and (found := _input(_computed(claim.near, done, names), done, names)):
            yield found
        if found := _input(call, done, names):
            if claimed is not None and not lost & names_in(claimed):
                claim_setup = "\n".join(map(source_of, needed_without_code(claimed, done, names)))
                claims = {"claimed": source_of(claimed), "claim_setup": claim_setup, "raised": claim.raises}
                found = dataclasses.replace(found, **claims)
            yield found
        if not claim.raises and any(isinstance(node, ast.Call) for node in ast.walk(call)):
            done.append(ast.Expr(call))  # it may have changed what is called next


def _unrolled(body: list[ast.stmt], done: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, with those of each round of a loop over cases in its place, and those of a subTest. `done` grows
    meanwhile."""
    for statement in body:
        rounds = rounds_of(statement, done) if isinstance(statement, ast.For) else []
        if isinstance(statement, ast.With) and all(_is_subtest(item) for item in statement.items):
            rounds = [statement.body]
        for each in rounds:
            yield from _unrolled(each, done)
        if not rounds:
            yield statement


def _can_be_done(statement: ast.stmt) -> bool:
    """Whether a statement can stand before a call. A loop can if it is over a range or a list, and tests nothing."""
    if not isinstance(statement, ast.For):
        return not isinstance(statement, NOT_DONE)
    over = statement.iter
    is_range = isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id == "range"
    inside = [node for each in statement.body for node in ast.walk(each) if isinstance(node, ast.stmt)]
    ends = not any(isinstance(node, NOT_DONE) or claim_of(node) for node in inside)
    return ends and (is_range or isinstance(over, (ast.List, ast.Tuple, ast.Name)))


def _input(call: ast.expr, done: Sequence[ast.stmt], names: Collection[str]) -> Input | None:
    """A call of the code as an input; None of any other call, and of one that is too long."""
    needed = needed_by(call, done, names)
    if not any(names_in(node) & set(names) for node in (call, *needed)):
        return None
    if not any(isinstance(node, ast.Call) for part in (call, *needed) for node in ast.walk(part)):
        return None
    setup, text = "\n".join(map(source_of, needed)), source_of(call)
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
    if right is None and claim.near:
        return _computed(claim.near, done, names), None
    if right is None or claim.raises or claim.near:
        return left, right
    expected_first = isinstance(left, ast.Constant) or _computed((right, left), done, names) is right
    return (right, left) if expected_first else (left, right)


def _computed(pair: tuple[ast.expr, ast.expr], done: list[ast.stmt], names: Collection[str]) -> ast.expr:
    """That one of two expressions which the code computes; the second one if both do, or none."""
    results: set[str] = set()  # the variables that hold what the code gives
    for node in done:
        if names_in(node) & (results | set(names)):
            results |= names_stored([node])

    def is_computed(node: ast.expr) -> bool:
        called = (each for each in ast.walk(node) if isinstance(each, ast.Call))
        return bool(names_in(node) & results) or any(names_in(call) & set(names) for call in called)

    first, second = pair
    return first if is_computed(first) and not is_computed(second) else second


def imports_for(claims: Collection[Input], codes: Sequence[str]) -> str:
    """A program with those imports of the samples' code whose names the claims use, as tests may use its `np`; and with
    exceptions that have the names of the samples' own. What can't be imported is left out."""
    wanted = {name for claim in claims for name in NAME.findall(f"{claim.setup}\n{claim.call}")}
    body = [node for code in codes if (tree := parsed(code)) for node in tree.body]
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom)) and names_of(node) & wanted]
    lines = dict.fromkeys(source_of(each) for each in imports if getattr(each, "module", None) != "__future__")
    raised = {claim.call for claim in claims if claim.raised}
    own = dict.fromkeys(node.name for node in body if isinstance(node, ast.ClassDef) and node.name in raised)
    return "\n".join(
        [f"try:\n    {line}\nexcept Exception:\n    pass" for line in lines]
        + [f"class {name}(Exception): pass" for name in own]
    )


def definitions_in(code: str) -> set[str]:
    """The names of the functions and classes that a program defines at its top."""
    tree = parsed(code)
    body = tree.body if tree else []
    return {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))}
