"""JavaScript as text: its syntax tree by tree-sitter, its top-level functions, and the names that they need.

A tree is of the whole text, with positions in its UTF-8 bytes. Models write the texts, so any text can occur: nothing
here raises an exception, but for `Parser` where tree-sitter is not installed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError

if TYPE_CHECKING:
    from tree_sitter import Node

MAX_CHARACTERS = 1 << 20
FUNCTION_VALUES = ("arrow_function", "function_expression", "generator_function")
DECLARATIONS = ("function_declaration", "generator_function_declaration", "class_declaration")
VARIABLES = ("lexical_declaration", "variable_declaration")
FUNCTIONS = (*FUNCTION_VALUES, "function_declaration", "generator_function_declaration", "method_definition")
BRANCHES = (
    "if_statement", "ternary_expression", "for_statement", "for_in_statement", "while_statement", "do_statement",
    "catch_clause", "switch_case",
)  # fmt: skip
REFERENCES = ("identifier", "shorthand_property_identifier")


def check_parser() -> None:
    """UserError if the packages that parse JavaScript are missing."""
    if not all(map(importlib.util.find_spec, ("tree_sitter", "tree_sitter_javascript"))):
        raise UserError("JavaScript is parsed by tree-sitter, which is missing: pip install -r requirements.txt")


@lru_cache(maxsize=1)
def _parser() -> Any:
    check_parser()
    import tree_sitter
    import tree_sitter_javascript

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_javascript.language()))


def tree_of(code: str) -> Node | None:
    """The syntax tree of a program (its node `program`); None if it does not parse as a whole, or is too long."""
    if len(code) > MAX_CHARACTERS:
        return None
    root = _parser().parse(code.encode("utf-8", "replace")).root_node
    return None if root.has_error else root


def text_of(node: Node) -> str:
    """The text of a node."""
    return (node.text or b"").decode("utf-8", "replace")


def nodes_of(node: Node, *, without: tuple[str, ...] = ()) -> Iterator[Node]:
    """`node` and all nodes below it from the top down, except those below the types in `without`."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        yield one
        if one is node or one.type not in without:
            waiting += reversed(one.children)


def branches_in(root: Node) -> int:
    """How many conditions, loops, handlers and cases a syntax tree has."""
    return sum(node.type in BRANCHES for node in nodes_of(root))


def declarators_of(statement: Node) -> list[Node]:
    """The `name = value` of a declaration with const, let or var."""
    return [child for child in statement.named_children if child.type == "variable_declarator"]


def is_import(value: Node | None) -> bool:
    """Whether a value comes from a module: require("x"), require("x").y, await import("x")."""
    while value and value.type in ("member_expression", "await_expression", "parenthesized_expression"):
        value = value.child_by_field_name("object") or (value.named_children[0] if value.named_children else None)
    called = value.child_by_field_name("function") if value and value.type == "call_expression" else None
    return called is not None and text_of(called) in ("require", "import")


def names_bound(pattern: Node) -> set[str]:
    """The names that a pattern binds: `a`, `{ b, c: d = 1 }`, `[e, ...f]`."""
    names: set[str] = set()
    waiting = [pattern]
    while waiting:
        node = waiting.pop()
        if node.type in ("identifier", "shorthand_property_identifier_pattern"):
            names.add(text_of(node))
        elif node.type in ("assignment_pattern", "object_assignment_pattern"):
            waiting += node.children_by_field_name("left")
        elif node.type == "pair_pattern":
            waiting += node.children_by_field_name("value")
        elif node.type in ("object_pattern", "array_pattern", "rest_pattern", "formal_parameters"):
            waiting += node.named_children
    return names


def names_defined(root: Node) -> set[str]:
    """The functions, classes and variables that a program defines at its top level; imported names are none."""
    names: set[str] = set()
    for statement in root.named_children:
        if statement.type in DECLARATIONS:
            names |= {text_of(name) for name in [statement.child_by_field_name("name")] if name}
        for declarator in declarators_of(statement) if statement.type in VARIABLES else ():
            name = declarator.child_by_field_name("name")
            if name and not is_import(declarator.child_by_field_name("value")):
                names |= names_bound(name)
    return names


def names_of_definitions(root: Node) -> set[str]:
    """The names of a program's top-level functions and classes."""
    names = {
        text_of(n) for s in root.named_children if s.type in DECLARATIONS for n in s.children_by_field_name("name")
    }
    for statement in root.named_children:
        for declarator in declarators_of(statement) if statement.type in VARIABLES else ():
            name, value = (declarator.child_by_field_name(field) for field in ("name", "value"))
            if name and value and value.type in (*FUNCTION_VALUES, "class"):
                names.add(text_of(name))
    return names


def without_comments(code: str) -> str:
    """A program without comments, its tokens always set in the same way; what does not parse stays as it is."""
    root = tree_of(code)
    if root is None:
        return code
    strings = ("string", "template_string", "regex")
    tokens = (n for n in nodes_of(root, without=strings) if n.type in strings or not n.children)
    return " ".join(text_of(token) for token in tokens if token.type != "comment")


# ---- functions of a file --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """A top-level function of a file.

    Attributes:
        name: of the function, or of the variable that holds it.
        node: the function itself.
        source: its statement, without `export`.
        comment: what stands right before it, "" if nothing does.
    """

    name: str
    node: Node
    source: str
    comment: str


def functions_of(root: Node) -> list[Function]:
    """The named top-level functions of a file: declarations, and constants that are functions; exported or not."""
    found = []
    for statement in root.named_children:
        inner = statement
        if statement.type == "export_statement":
            inner = statement.child_by_field_name("declaration")
        if inner is None:
            continue
        node = inner
        if inner.type in VARIABLES:
            several = declarators_of(inner)
            node = several[0].child_by_field_name("value") if len(several) == 1 else None
            name = several[0].child_by_field_name("name") if several else None
        elif inner.type == "expression_statement":  # module.exports = function name() {}
            assigned = inner.named_children[0] if inner.named_children else None
            node = assigned.child_by_field_name("right") if assigned else None
            name = node.child_by_field_name("name") if node else None
            inner = node
        else:
            name = inner.child_by_field_name("name")
        if node and inner and name and name.type == "identifier" and node.type in FUNCTIONS:
            found.append(Function(text_of(name), node, text_of(inner), _comment_before(statement)))
    return found


def _comment_before(statement: Node) -> str:
    """The comment that ends on the line before a statement: one of `/* */`, or a run of `//`."""
    lines: list[str] = []
    below, above = statement, statement.prev_sibling
    while above and above.type == "comment" and below.start_point.row - above.end_point.row == 1:
        text = text_of(above)
        if lines and text.startswith("/*"):
            break
        lines.insert(0, text)
        if text.startswith("/*") or (above.prev_sibling and above.prev_sibling.end_point.row == above.start_point.row):
            break
        below, above = above, above.prev_sibling
    return "\n".join(lines)


def returns_value(function: Node) -> bool:
    """A `return` with a value in the function itself, not in one nested in it; or the body is an expression."""
    body = function.child_by_field_name("body")
    if body is None or body.type != "statement_block":
        return body is not None
    nothing = ("undefined", "null")
    returns = (n for n in nodes_of(body, without=(*FUNCTIONS, "class_body")) if n.type == "return_statement")
    return any(text_of(v) not in nothing for one in returns for v in one.named_children if v.type != "comment")


def has_argument(function: Node) -> bool:
    """Whether a function takes an argument."""
    several = function.child_by_field_name("parameters")
    return bool(function.child_by_field_name("parameter") or (several and several.named_children))


def names_needed(function: Node) -> set[str]:
    """The names that a function uses and does not bind itself, anywhere in it."""
    bound: set[str] = {"arguments"}
    used: set[str] = set()
    for node in nodes_of(function):
        if node.type in REFERENCES:
            used.add(text_of(node))
        elif node.type == "variable_declarator" or node.type in (*DECLARATIONS, *FUNCTION_VALUES, "class"):
            for name in node.children_by_field_name("name"):
                bound |= names_bound(name)
        for field in ("parameters", "parameter"):  # the latter of a catch, too, and of an arrow without parentheses
            for pattern in node.children_by_field_name(field):
                bound |= names_bound(pattern)
        if node.type == "for_in_statement" and node.child_by_field_name("kind"):
            for pattern in node.children_by_field_name("left"):
                bound |= names_bound(pattern)
    return used - bound
