"""What `mutation.py` does for Python, for JavaScript: programs with one small change, and stubs.

Changes are edits of the text at places that the syntax tree gives. Their kinds have the names of those for Python.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from selfalign.code.javascript import (
    DECLARATIONS,
    FUNCTION_VALUES,
    VARIABLES,
    declarators_of,
    is_import,
    nodes_of,
    text_of,
    tree_of,
)
from selfalign.code.mutation import Mutant, draw_mutants

if TYPE_CHECKING:
    from tree_sitter import Node


class Edit(NamedTuple):
    """The bytes from `start` to `end` become `text`."""

    start: int
    end: int
    text: str


Edits = Iterator[Edit]

OTHER_OPERATOR = {
    "+": "-", "-": "+", "*": "+", "/": "*", "%": "/", "**": "*", "&": "|", "|": "&", "^": "&", "<<": ">>", ">>": "<<",
    ">>>": "<<", "+=": "-=", "-=": "+=", "*=": "+=", "/=": "*=", "%=": "/=", "**=": "*=", "&=": "|=", "|=": "&=",
    "^=": "&=", "<<=": ">>=", ">>=": "<<=", ">>>=": "<<=", "++": "--", "--": "++",
}  # fmt: skip
OPPOSITE = {"==": "!=", "!=": "==", "===": "!==", "!==": "===", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
NEIGHBOUR = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
BOOLEAN = {"&&": "||", "||": "&&", "&&=": "||=", "||=": "&&="}
OPERATIONS = ("binary_expression", "augmented_assignment_expression", "update_expression")
SEQUENCES = ("string", "template_string", "array")
CONSTANTS = ("string", "number", "true", "false", "null", "undefined")
SLICES = ("slice", "substring", "substr", "splice")
LOOPS = ("for_statement", "for_in_statement", "while_statement", "do_statement")
# The empty value of the same type.
EMPTY = (
    '((v) => Array.isArray(v) ? [] : ({{ number: 0, string: "", boolean: false, bigint: 0n, object: v && {{}} }})'
    "[typeof v] ?? v)({})"
)


def _changed(node: Node | None, text: str) -> Edits:
    if node:
        yield Edit(node.start_byte, node.end_byte, text)


def _operator(node: Node, others: dict[str, str]) -> Edits:
    operator = node.child_by_field_name("operator")
    if operator and text_of(operator) in others:
        yield from _changed(operator, others[text_of(operator)])


def arithmetic(node: Node) -> Edits:
    """a + b -> a - b, and so on; not where an operand is obviously no number. The step of a `for` is left alone."""
    operands = [node.child_by_field_name(side) for side in ("left", "right")]
    step = node.parent and node.parent.type == "for_statement"
    if node.type in OPERATIONS and not step and not any(n and n.type in SEQUENCES for n in operands):
        yield from _operator(node, OTHER_OPERATOR)


def comparison(node: Node) -> Edits:
    """a === b -> a !== b, a < b -> a >= b, and so on."""
    if node.type == "binary_expression":
        yield from _operator(node, OPPOSITE)


def boolean(node: Node) -> Edits:
    """a && b -> a || b; !a -> a."""
    if node.type in OPERATIONS:
        yield from _operator(node, BOOLEAN)
    if node.type == "unary_expression" and node.text and node.text.startswith(b"!"):
        argument = node.child_by_field_name("argument")
        if argument:
            yield from _changed(node, text_of(argument))


def condition(node: Node) -> Edits:
    """if (a) -> if (!(a)), also in loops and a ? b : c; not where another operator negates the condition."""
    if node.type in ("if_statement", "while_statement", "do_statement", "ternary_expression"):
        test = node.child_by_field_name("condition")
        while test and test.type == "parenthesized_expression" and test.named_child_count == 1:
            test = test.named_children[0]
        operator = test and test.child_by_field_name("operator")
        if test and test.type not in CONSTANTS and not (operator and text_of(operator) in {*OPPOSITE, "!"}):
            yield from _changed(test, f"!({text_of(test)})")


def constant(node: Node) -> Edits:
    """true -> false, "text" -> "", 0.5 -> 1.5; `off_by_one` changes integers."""
    if node.type in ("true", "false"):
        yield from _changed(node, "false" if node.type == "true" else "true")
    elif node.type == "string":
        yield from _changed(node, '""' if node.named_child_count else '"_"')
    elif node.type == "number" and not _is_integer(node) and not text_of(node).endswith("n"):
        yield from _changed(node, f"({text_of(node)} + 1)")


def off_by_one(node: Node) -> Edits:
    """1 -> 2 and 1 -> 0; a < b -> a <= b, and so on; a.slice(b, c) -> a.slice(b, c - 1)."""
    if node.type == "binary_expression":
        yield from _operator(node, NEIGHBOUR)
    if node.type == "number" and (_is_integer(node) or text_of(node).endswith("n")):
        unit = "1n" if text_of(node).endswith("n") else "1"
        for sign in "+-":
            yield from _changed(node, f"({text_of(node)} {sign} {unit})")
    if node.type == "call_expression":
        called, arguments = (node.child_by_field_name(field) for field in ("function", "arguments"))
        name = called.child_by_field_name("property") if called else None
        if name and arguments and text_of(name) in SLICES:
            for argument in (n for n in arguments.named_children if n.type != "number"):
                yield from _changed(argument, f"({text_of(argument)}) - 1")


def returned(node: Node) -> Edits:
    """return a -> the empty value of its type, or zero; the same for x => a. Functions of stubs return undefined, and
    other operators change constants."""
    value = None
    if node.type == "return_statement":
        value = next((child for child in node.named_children if child.type != "comment"), None)
    elif node.type == "arrow_function":
        body = node.child_by_field_name("body")
        value = body if body and body.type != "statement_block" else None
    if value and value.type not in (*CONSTANTS, "sequence_expression"):
        yield from _changed(value, EMPTY.format(text_of(value)))


def deleted(node: Node) -> Edits:
    """Statements without which the others still run, such as calls, loops, branches without else, reassignments."""
    branch = node.type == "if_statement" and node.child_by_field_name("alternative") is None
    alone = node.type in (*LOOPS, "throw_statement", "break_statement", "continue_statement")
    if branch or alone or (node.type == "expression_statement" and _can_go(node.named_children[0])):
        yield from _changed(node, ";")


OPERATORS: dict[str, Callable[[Node], Edits]] = {
    operator.__name__: operator
    for operator in (arithmetic, comparison, boolean, condition, constant, off_by_one, returned, deleted)
}


def _is_integer(node: Node) -> bool:
    return text_of(node).isdecimal()


def _can_go(expression: Node) -> bool:
    """A call, a step or a `delete`, or an assignment to what existed before: an item, or a name that its value has."""
    if expression.type in ("call_expression", "await_expression"):
        return _called(expression) != "super"
    if expression.type in ("augmented_assignment_expression", "update_expression", "unary_expression"):
        return True
    left, right = (expression.child_by_field_name(side) for side in ("left", "right"))
    if expression.type != "assignment_expression" or not left or not right:
        return False
    return left.type == "subscript_expression" or any(
        node.type == left.type and text_of(node) == text_of(left) for node in nodes_of(right)
    )


def _called(node: Node) -> str:
    """The name that a call calls: "console.log"; "" of anything else."""
    if node.type == "await_expression" and node.named_children:
        node = node.named_children[0]
    called = node.child_by_field_name("function") if node.type == "call_expression" else None
    return text_of(called) if called else ""


def _is_left_alone(node: Node, parent: Node) -> bool:
    """Whether nothing inside of a node is changed: tests of values have no reason to notice it, or never run it."""
    if node.type in ("import_statement", "class_heritage", "comment", "regex") or node.type == "throw_statement":
        return True
    if node.type == "variable_declarator" and is_import(node.child_by_field_name("value")):
        return True
    if node.type == "expression_statement" and node.named_children:
        inner = node.named_children[0]
        if inner.type == "string" or _called(inner).split(".")[0] in ("console", "assert"):
            return True
    return parent.type == "program" and node.type not in (*DECLARATIONS, *VARIABLES) and not _assigns(node)


def _assigns(statement: Node) -> bool:
    return statement.type == "expression_statement" and statement.named_children[0].type == "assignment_expression"


def _sites(root: Node) -> Iterator[Node]:
    """The places where something may be changed. Examples of use at the top level are left alone."""
    waiting = [root]
    while waiting:
        parent = waiting.pop()
        for node in parent.children:
            if node.type == "throw_statement" and parent.type != "program":
                yield node  # it can go, but its message is not changed
            if not _is_left_alone(node, parent):
                yield node
                waiting.append(node)


def javascript_mutants(code: str, count: int, draws: random.Random) -> list[Mutant]:
    """At most `count` mutants of a program, drawn evenly from all kinds; they differ from it and from each other.

    There are fewer if there is less to change, and none if the program does not parse.
    """
    root = tree_of(code)
    if root is None:
        return []
    source, sites = code.encode("utf-8", "replace"), list(_sites(root))
    edits = {kind: [edit for node in sites for edit in operator(node)] for kind, operator in OPERATORS.items()}

    def with_edit(edit: Edit) -> str | None:
        text = _edited(source, [edit])
        return text if tree_of(text) is not None else None

    return draw_mutants(edits, with_edit, code, count, draws)


def _edited(source: bytes, edits: list[Edit]) -> str:
    """The text with edits that do not overlap."""
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text.encode() + source[end:]
    return source.decode("utf-8", "replace")


# ---- stubs ----


def javascript_stubbed(code: str) -> str | None:
    """The program without what anything that it defines does; None if it does not parse, or is nested too deeply. Tests
    that still pass are vacuous: they assert what is true whatever the response does.

    Functions and methods return undefined (generators yield nothing), values that were computed are undefined, and what
    else stood at the top level is gone. Imports stay.
    """
    root = tree_of(code)
    if root is None:
        return None
    try:
        edits = _stubs_in(root)
    except RecursionError:
        return None
    return _edited(code.encode("utf-8", "replace"), edits)


def _stubs_in(root: Node) -> list[Edit]:
    edits: list[Edit] = []
    for statement in root.named_children:
        if statement.type in DECLARATIONS:
            edits += _stub(statement)
        elif statement.type in VARIABLES:
            for declarator in declarators_of(statement):
                edits += _stub_of_declarator(declarator)
        elif _assigns(statement):
            right = statement.named_children[0].child_by_field_name("right")
            edits += _stub(right) if right else []
        elif statement.type not in ("comment", "import_statement", "hash_bang_line"):
            edits += _changed(statement, ";")
    return edits


def _stub_of_declarator(declarator: Node) -> list[Edit]:
    name, value = (declarator.child_by_field_name(field) for field in ("name", "value"))
    if not name or not value or is_import(value):
        return []
    if name.type == "identifier":
        return _stub(value)
    return list(_changed(value, "[]" if name.type == "array_pattern" else "{}"))


def _stub(node: Node) -> list[Edit]:
    """The edits after which a definition or a value does nothing."""
    body = node.child_by_field_name("body")
    if node.type in ("class_declaration", "class"):
        return [edit for member in body.named_children for edit in _stub_of_member(member)] if body else []
    if node.type in (*FUNCTION_VALUES, *DECLARATIONS, "method_definition"):
        return list(_changed(body, "{}"))
    if node.type == "object":
        several: list[Edit] = []
        for child in node.named_children:
            value = child.child_by_field_name("value") if child.type == "pair" else child
            several += _stub(value) if value and value.type in ("method_definition", *_KEPT_OPEN) else []
            if child.type == "pair" and value and value.type not in ("identifier", *_KEPT_OPEN):
                several += _changed(value, "undefined")
        return several
    if node.type == "identifier" or is_import(node):
        return []
    arguments = node.child_by_field_name("arguments") if node.type == "call_expression" else None
    makes_function = arguments and any(each.type in FUNCTION_VALUES for each in arguments.named_children)
    called = node.child_by_field_name("function")
    is_method = called is not None and called.type == "member_expression"  # list.map((x) => ...) gives a value
    return list(_changed(node, "(() => {})" if makes_function and not is_method else "undefined"))


_KEPT_OPEN = (*FUNCTION_VALUES, "class", "object")  # values of an object that are stubbed inside


def _stub_of_member(member: Node) -> list[Edit]:
    if member.type == "field_definition":
        value = member.child_by_field_name("value")
        return _stub(value) if value else []
    name, body = (member.child_by_field_name(field) for field in ("name", "body"))
    if name and body and text_of(name) == "constructor":
        return list(_changed(body, "{ return Object.create(new.target.prototype); }"))
    return list(_changed(body, "{}"))
