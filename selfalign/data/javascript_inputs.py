"""The inputs in JavaScript's tests: what `inputs.py` finds in Python's, on tree-sitter's trees.

An assertion is one of Node's, such as `assert.deepStrictEqual(f(1), 2)`, `assert(f(1) === 2)` or
`assert.throws(() => f(-1))`, under whatever name it was imported; or one of Jest's and Chai's, such as
`expect(f(1)).toBe(2)`, which do not run here and have inputs all the same. It may stand in a function that takes no
argument, in one that is called on the spot, in `test(...)` or `.then(...)`, in a block or in `try`; of loops, in
`for (const x of cases)` and `cases.forEach((x) => ...)`, where `cases` is an array that is written out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from selfalign.code.javascript import (
    DECLARATIONS,
    FUNCTION_VALUES,
    VARIABLES,
    declarators_of,
    has_argument,
    names_bound,
    names_needed,
    names_of_definitions,
    nodes_of,
    text_of,
    tree_of,
)
from selfalign.data.inputs import MAX_SOURCE, Input
from selfalign.data.javascript_seeds import GLOBALS
from selfalign.data.loops import MOST_INSIDE, MOST_ROUNDS

if TYPE_CHECKING:
    from tree_sitter import Node

EQUAL = {"equal", "strictEqual", "deepEqual", "deepStrictEqual"}
# Those that do not say what the output is.
OPEN = {"notEqual", "notStrictEqual", "notDeepEqual", "notDeepStrictEqual", "match", "doesNotMatch"}
TRUE = {"assert", "assert.ok", "ok", "console.assert", "assert.strict"}
# Whether what they are given throws, and whether they wait for it.
THROWING = {
    "throws": ("true", False),
    "doesNotThrow": ("false", False),
    "rejects": ("true", True),
    "doesNotReject": ("false", True),
}
EXPECTED = {"toBe", "toEqual", "toStrictEqual", "equal", "equals", "eql", "eq"}
EXPECTED_TO_THROW = {"toThrow", "toThrowError", "throw", "throws"}
SAME = {"Object.is", "isDeepStrictEqual", "util.isDeepStrictEqual"}  # a === b, for values of all kinds
SUITES = {"test", "it", "describe", "suite"}  # what calls a function that has tests
KNOWN = GLOBALS | {
    "assert", "clearInterval", "clearTimeout", "exports", "module", "performance", "process", "require", "setImmediate",
    "setInterval", "setTimeout",
}  # fmt: skip
ASSERTS = re.compile(r"\b(assert|expect)\b")
LOOPS = re.compile(r"\bfor\b|\.forEach\b")
CALLS = ("call_expression", "new_expression")
BLOCKS = ("statement_block", "try_statement")
SIMPLE = (*VARIABLES, *DECLARATIONS, "expression_statement")  # statements that can stand before a call


class Claim(NamedTuple):
    """What an assertion evaluates, as a node and as source, and the source of what that should equal, with its node
    unless it is a constant that the assertion does not contain."""

    node: Node
    call: str
    claimed: str | None
    thrown: bool = False
    expected: Node | None = None


class Done(NamedTuple):
    """A statement before a call: its source, and the names that it binds and needs. `lengths` are those of the arrays
    that it writes out, by name."""

    source: str
    bound: frozenset[str]
    needed: frozenset[str]
    lengths: Mapping[str, int] = {}

    @classmethod
    def of(cls, source: str, node: Node, bound: Collection[str] = ()) -> Done:
        return cls(source, frozenset(bound), frozenset(names_needed(node)), _lengths_in(node))


def definitions_in(code: str) -> set[str]:
    """The names of the functions and classes that a program defines at its top."""
    root = tree_of(code)
    return names_of_definitions(root) if root else set()


def inputs_in(tests: str, names: Collection[str]) -> Iterator[Input]:
    """The inputs in JavaScript's tests, each of which calls one of `names`: what the samples define."""
    root = tree_of(tests)
    with contextlib.suppress(RecursionError):  # nested too deeply
        yield from list(_inputs_of_block(root.named_children, [], frozenset(names))) if root else ()


def _inputs_of_block(statements: Sequence[Node], before: list[Done], names: frozenset[str]) -> Iterator[Input]:
    """The inputs of one block of statements; `before` is what was done before it."""
    helpers = [s for s in statements if s.type in DECLARATIONS]  # they may be called before they are declared
    done = before + [each for s in helpers for each in _done_by(s, names)]
    for statement in statements:
        claim = claim_of(statement)
        if claim is None:
            for body, value in _bodies(statement, done):
                yield from _inputs_of_block(body, done + value, names)
            if statement not in helpers:
                done += _done_by(statement, names)
            continue
        setup = _needed(names_needed(claim.node), done, names)
        used = names_needed(claim.node) & names and any(node.type in CALLS for node in nodes_of(claim.node))
        source = "\n".join(each.source for each in setup)
        if (used or any(each.needed & names for each in setup)) and len(source) + len(claim.call) <= MAX_SOURCE:
            related = _needed(names_needed(claim.expected), done, names) if claim.expected else []
            claim_setup = "\n".join(each.source for each in related)
            yield Input(source, claim.call, claim.claimed, claim.thrown, claim_setup)
        if not claim.thrown:
            done.append(Done.of(f"{claim.call};", claim.node))  # it may have changed what is called next


def _done_by(statement: Node, names: frozenset[str]) -> list[Done]:
    """A statement, if it can stand before a call. One that binds a name of the samples would take the place of their
    code: the import of what is tested, or a copy of it."""
    text = text_of(statement)
    bound = set().union(*(names_bound(n) for n in _names_of(statement)))
    if statement.type not in SIMPLE or bound & names or ASSERTS.search(text) or text.startswith("console."):
        return []
    ended = statement.type in DECLARATIONS or text.endswith(";")
    return [Done.of(text if ended else f"{text};", statement, bound)]


def _names_of(statement: Node) -> list[Node]:
    """The names or patterns that a declaration binds."""
    parts = declarators_of(statement) if statement.type in VARIABLES else [statement]
    return [name for part in parts for name in part.children_by_field_name("name")]


def _needed(used: set[str], done: Sequence[Done], names: frozenset[str]) -> list[Done]:
    """What of all that was done has to do with these names, or with names that this has to do with."""
    wanted: set[str] = set()
    chosen: list[Done] = []
    more = used
    while more := more - names - KNOWN - wanted:
        wanted |= more
        chosen = [each for each in done if (each.bound | each.needed) & wanted]
        more = set().union(*(each.bound | each.needed for each in chosen))
    return chosen


def _bodies(statement: Node, done: Sequence[Done]) -> Iterator[tuple[list[Node], list[Done]]]:
    """The blocks in a statement that run once, or once for each of several values, with the value that it is called
    with as a statement before it."""
    node = expression_of(statement)
    if statement.type in BLOCKS:
        yield (statement.child_by_field_name("body") or statement).named_children, []
    elif statement.type == "for_in_statement":
        taken, array = (statement.child_by_field_name(field) for field in ("left", "right"))
        of = statement.child_by_field_name("operator")
        if taken and array and of and text_of(of) == "of":
            yield from _rounds(statement, taken, array, done)
    elif statement.type in VARIABLES or statement.type in DECLARATIONS:
        for part in declarators_of(statement) if statement.type in VARIABLES else [statement]:
            function = part.child_by_field_name("value") or part
            if function.type in (*FUNCTION_VALUES, *DECLARATIONS) and not has_argument(function):
                yield from _body(function)
    elif node.type == "call_expression":
        called = _plain(node.child_by_field_name("function"))
        functions = [argument for argument in arguments_of(node) if argument.type in FUNCTION_VALUES]
        if called and called.type in FUNCTION_VALUES:  # (async () => { ... })()
            yield from _body(called)
        elif called and text_of(called).split(".")[0] in SUITES:
            for function in functions:
                yield from _body(function)
        elif called and functions and (given := called.child_by_field_name("object")):
            taken, name = next(_parameters(functions[0]), None), text_of(called).rpartition(".")[2]
            if name == "then" and taken:
                value = f"const {text_of(taken)} = await {text_of(given)};"
                yield from _body(functions[0], [Done.of(value, given, names_bound(taken))])
            elif name == "forEach" and taken:
                yield from _rounds(functions[0], taken, given, done)


def _rounds(loop: Node, taken: Node, array: Node, done: Sequence[Done]) -> Iterator[tuple[list[Node], list[Done]]]:
    """The body of a loop for each element of an array that is written out, after a statement that gives the element to
    the loop's variable. None if it has more than one loop in it: their rounds multiply."""
    body = loop.child_by_field_name("body")
    if body and len(LOOPS.findall(text_of(body))) > MOST_INSIDE:
        return
    name, bound = text_of(array), names_bound(taken)
    if array.type == "array":
        elements = [(text_of(element), names_needed(element)) for element in _elements(array) or []]
    else:
        length = next((each.lengths[name] for each in reversed(done) if name in each.lengths), 0)
        elements = [(f"{name}[{number}]", {name}) for number in range(length)]
    for element, needed in elements[:MOST_ROUNDS]:
        value = f"const {text_of(taken)} = {element};"
        yield from _body(loop, [Done(value, frozenset(bound), frozenset(needed | names_needed(taken) - bound))])


def _elements(array: Node) -> list[Node] | None:
    """The elements of an array; None if they are not written out."""
    elements = [node for node in array.named_children if node.type != "comment"]
    return None if any(node.type == "spread_element" for node in elements) or ",," in text_of(array) else elements


def _lengths_in(statement: Node) -> dict[str, int]:
    """How long the arrays are that a declaration writes out, by name."""
    lengths = {}
    for part in declarators_of(statement):
        name, value = (part.child_by_field_name(field) for field in ("name", "value"))
        if name and value and value.type == "array" and (elements := _elements(value)) is not None:
            lengths[text_of(name)] = len(elements)
    return lengths


def _body(function: Node, before: Sequence[Done] = ()) -> Iterator[tuple[list[Node], list[Done]]]:
    body = function.child_by_field_name("body")
    if body and body.type != "class_body":
        yield body.named_children if body.type == "statement_block" else [body], list(before)


def _parameters(function: Node) -> Iterator[Node]:
    for field in ("parameter", "parameters"):
        for node in function.children_by_field_name(field):
            yield from node.named_children if node.type == "formal_parameters" else [node]


# ---- assertions -----------------------------------------------------------------------------------------------------


def claim_of(statement: Node) -> Claim | None:
    """What an assertion says; None of any other statement."""
    node = expression_of(statement)
    called, arguments = node.child_by_field_name("function"), arguments_of(node)
    if node.type != "call_expression" or not called:
        return None
    name = text_of(called)
    last = name.rpartition(".")[2]
    if expected := _expected(called):
        return _claim_of_expectation(expected, name, arguments)
    if not arguments:
        return None
    if name in TRUE:
        return _claim_of_test(arguments[0])
    if last in EQUAL:
        return _claim_of_two(*arguments[:2])
    if last in OPEN:
        return Claim(arguments[0], normal(arguments[0]), None)
    if last in THROWING:
        claimed, awaited = THROWING[last]
        return Claim(arguments[0], _waiting(arguments[0]) if awaited else normal(arguments[0]), claimed, thrown=True)
    return None


def _expected(called: Node) -> Node | None:
    """The argument of the `expect` from which a chain such as `expect(f(1)).to.be.equal` begins."""
    if called.type != "member_expression":
        return None
    root = called
    while root.type == "member_expression":
        root = root.child_by_field_name("object") or root.named_children[0]
    function = root.child_by_field_name("function") if root.type == "call_expression" else None
    arguments = arguments_of(root)
    return arguments[0] if function and text_of(function) == "expect" and arguments else None


def _claim_of_expectation(given: Node, chain: str, arguments: list[Node]) -> Claim:
    last = chain.rpartition(".")[2]
    if last in EXPECTED_TO_THROW and given.type in FUNCTION_VALUES:
        return Claim(given, normal(given), "false" if ".not." in chain else "true", thrown=True)
    expected = arguments[0] if last in EXPECTED and len(arguments) == 1 and ".not." not in chain else None
    return Claim(given, normal(given), normal(expected) if expected else None, expected=expected)


def _claim_of_test(test: Node) -> Claim:
    """Of `assert(test)`."""
    test = _plain(test) or test
    operator = test.child_by_field_name("operator")
    if test.type == "binary_expression" and operator and text_of(operator) in ("==", "==="):
        return _claim_of_two(*(side for name in ("left", "right") for side in test.children_by_field_name(name)))
    called = test.child_by_field_name("function")
    if called and text_of(called) in SAME and len(arguments_of(test)) == 2:
        return _claim_of_two(*arguments_of(test))
    negated = test.child_by_field_name("argument") if operator and text_of(operator) == "!" else None
    return Claim(negated, normal(negated), "false") if negated else Claim(test, normal(test), "true")


def _claim_of_two(actual: Node, expected: Node | None = None) -> Claim:
    """Of an equation. What calls nothing is the output, on whichever side it stands."""
    if expected and not _calls(actual) and _calls(expected):
        actual, expected = expected, actual
    return Claim(actual, normal(actual), normal(expected) if expected else None, expected=expected)


def _calls(node: Node) -> bool:
    return any(each.type in CALLS for each in nodes_of(node))


def _waiting(given: Node) -> str:
    """A promise, or a function that returns one, as a function that waits for it."""
    text = normal(given)
    if given.type not in FUNCTION_VALUES:
        return f"async () => {text}"
    if text.startswith("async"):
        return text
    return f"async {text}" if given.type == "arrow_function" else f"async () => ({text})()"


def expression_of(statement: Node) -> Node:
    """What an expression statement consists of, without `await`; any other node as it is."""
    node = statement
    while node.type in ("expression_statement", "await_expression") and node.named_children:
        node = node.named_children[0]
    return node


def _plain(node: Node | None) -> Node | None:
    """A node without parentheses around it."""
    while node and node.type == "parenthesized_expression" and node.named_child_count == 1:
        node = node.named_children[0]
    return node


def arguments_of(call: Node) -> list[Node]:
    """The arguments of a call; none of anything else."""
    arguments = call.child_by_field_name("arguments")
    return [node for node in arguments.named_children if node.type != "comment"] if arguments else []


def normal(node: Node) -> str:
    """The source of an expression, in which quotes and spaces are set in one way, so that equal calls look equal."""
    whole = ("string", "template_string", "regex")
    below = nodes_of(node, without=whole) if node.type not in whole else [node]
    tokens = [n for n in below if (n.type in whole or not n.children) and n.type != "comment"]
    text, end = "", node.start_byte
    source = node.text or b""
    for number, token in enumerate(tokens):
        gap = source[end - node.start_byte : token.start_byte - node.start_byte].decode("utf-8", "replace")
        text += _gap(tokens[number - 1].type, gap, token.type) if number else ""
        written = text_of(token)
        plain = token.type == "string" and not set('"\\') & set(written)
        text += f'"{written[1:-1]}"' if plain else written
        end = token.end_byte
    return text


def _gap(left: str, gap: str, right: str) -> str:
    if "\n" in gap:  # it may end a statement
        return "\n" if "//" in gap or "/*" in gap else gap
    if right in (",", ")", "]") or left in ("(", "["):
        return ""
    if left in (",", ":") or (left == "{" and right != "}") or (right == "}" and left != "{"):
        return " "
    return " " if gap else ""
