"""The format filters of step 6 for JavaScript: the rules of filters.py under the same names, on tree-sitter's trees."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selfalign.code.javascript import (
    DECLARATIONS,
    FUNCTION_VALUES,
    REFERENCES,
    VARIABLES,
    declarators_of,
    is_import,
    names_defined,
    nodes_of,
    text_of,
    tree_of,
)
from selfalign.code.markdown import javascript_code
from selfalign.data.filters import MARK, MAX_CHARACTERS, MAX_INSTRUCTION_WORDS, UNFINISHED
from selfalign.data.filters import failed_filter as failed_filter_of_python
from selfalign.data.javascript_seeds import imports_of
from selfalign.data.languages import language_of

if TYPE_CHECKING:
    from tree_sitter import Node

UNFINISHED_COMMENT = re.compile(MARK + r"|(?i:^[/*\s]{0,8}(todo|fixme)\b)", re.MULTILINE)
NOT_IMPLEMENTED = re.compile(r"\bnot (yet )?implemented\b", re.IGNORECASE)
# What asserts, by the first and the last parts of the name that is called: assert(...), assert.equal(...), t.assert,
# t.assert.equal(...).
ASSERTING = re.compile(r"^(assert|expect|should)\w*|(^|\.)(assert\w*(\.\w+)?|rejects|throws)$")


@dataclass(frozen=True)
class JavascriptSample:
    """A sample whose Markdown and JavaScript are parsed. The attributes are those of `ParsedSample`; the tree of what
    does not parse is None."""

    instruction: str
    response: str
    too_long: bool
    code: str | None
    tests: str | None
    code_tree: Node | None
    tests_tree: Node | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> JavascriptSample:
        """The sample in a row with `instruction`, `response` and `tests`."""
        texts = [row[part] or "" for part in ("response", "tests")]
        too_long = max(map(len, texts)) > MAX_CHARACTERS
        code, tests = (None, None) if too_long else map(javascript_code, texts)
        trees = [None if text is None else tree_of(text) for text in (code, tests)]
        return cls(row["instruction"] or "", texts[0], too_long, code, tests, *trees)


def is_finished(sample: JavascriptSample) -> bool:
    """Nothing in the response says that code is still to be written."""
    nodes = list(nodes_of(sample.code_tree)) if sample.code_tree else []
    return not (
        UNFINISHED.search(sample.response[:MAX_CHARACTERS])
        or any(UNFINISHED_COMMENT.search(text_of(node)) for node in nodes if node.type == "comment")
        or any(NOT_IMPLEMENTED.search(text_of(node)) for node in nodes if node.type == "throw_statement")
    )


def has_no_stub(sample: JavascriptSample) -> bool:
    """No top-level function has an empty body."""
    statements = sample.code_tree.named_children if sample.code_tree else []
    functions = [node for node in statements if node.type in DECLARATIONS and node.type != "class_declaration"]
    for statement in statements:
        values = (
            [d.child_by_field_name("value") for d in declarators_of(statement)] if statement.type in VARIABLES else []
        )
        functions += [value for value in values if value and value.type in FUNCTION_VALUES]
    bodies = [body for function in functions for body in function.children_by_field_name("body")]
    return not any(
        body.type == "statement_block" and all(child.type == "comment" for child in body.named_children)
        for body in bodies
    )


def tests_assert(sample: JavascriptSample) -> bool:
    """The tests throw, or call something like assert.equal, console.assert or expect, or a function that they take from
    the module assert, on more than a constant."""
    if sample.tests_tree is None:
        return False
    modules = {name: module.removeprefix("node:") for name, (_, module) in imports_of(sample.tests_tree).items()}
    for node in nodes_of(sample.tests_tree):
        if node.type == "throw_statement":
            return True
        called = node.child_by_field_name("function") if node.type == "call_expression" else None
        arguments = node.child_by_field_name("arguments")
        name = text_of(called) if called else ""
        if arguments and (ASSERTING.search(name) or modules.get(name.split(".")[0]) in ("assert", "assert/strict")):
            constant = [a.type in ("true", "number", "string") for a in arguments.named_children]
            if not all(constant[:1]) or (len(constant) > 1 and not all(constant)):
                return True
    return False


def tests_run(sample: JavascriptSample) -> bool:
    """The tests do something: they are more than imports and definitions."""
    return any(map(_acts, sample.tests_tree.named_children if sample.tests_tree else ()))


def _acts(statement: Node) -> bool:
    if statement.type in VARIABLES:
        values = [declarator.child_by_field_name("value") for declarator in declarators_of(statement)]
        return any(value and not is_import(value) and value.type not in (*FUNCTION_VALUES, "class") for value in values)
    if statement.type == "expression_statement":
        return statement.named_children[0].type != "string"  # "use strict"
    return statement.type not in (*DECLARATIONS, "import_statement", "comment", "empty_statement")


def tests_call_the_code(sample: JavascriptSample) -> bool:
    """The tests use something that the response defines and that they do not define themselves; `typeof` is no use."""
    if sample.code_tree is None or sample.tests_tree is None:
        return False
    names = names_defined(sample.code_tree) - names_defined(sample.tests_tree)
    if re.search(r"\bexports\b", sample.code or ""):
        names |= {"module", "exports"}
    return any(
        node.type in REFERENCES and text_of(node) in names and not _is_inspected(node)
        for node in nodes_of(sample.tests_tree)
    )


def _is_inspected(name: Node) -> bool:
    """Whether this is the operand of `typeof`."""
    return name.parent is not None and name.parent.type == "unary_expression" and text_of(name.parent)[:6] == "typeof"


def assertions_alone(tests: str) -> list[str] | None:
    """The assertions of tests that have nothing else but imports, [] if they have; None if they do not parse."""
    root = tree_of(tests)
    if root is None:
        return None
    statements = [s for s in root.named_children if s.type not in ("comment", "empty_statement") and _acts(s)]
    calls = [
        s.named_children[0].child_by_field_name("function") for s in statements if s.type == "expression_statement"
    ]
    are_assertions = len(calls) == len(statements) and all(c and ASSERTING.search(text_of(c)) for c in calls)
    defines = any(s.type in DECLARATIONS for s in root.named_children)
    return [text_of(s) for s in statements] if are_assertions and not defines else []


# The names are those of FILTERS.
JAVASCRIPT_FILTERS: dict[str, Callable[[JavascriptSample], bool]] = {
    "too_long": lambda sample: not sample.too_long,
    "no_code_block": lambda sample: sample.code is not None,
    "no_test_block": lambda sample: sample.tests is not None,
    "long_instruction": lambda sample: len(sample.instruction.split()) <= MAX_INSTRUCTION_WORDS,
    "does_not_compile": lambda sample: sample.code_tree is not None and sample.tests_tree is not None,
    "unfinished_code": is_finished,
    "stub": has_no_stub,
    "no_assertion": tests_assert,
    "tests_not_run": tests_run,
    "tests_do_not_call": tests_call_the_code,
}


def failed_filter(row: dict[str, Any], skip: Collection[str] = ()) -> str | None:
    """The first filter that a row in either language does not pass, or None.

    `row` has `instruction`, `response` and `tests`, and perhaps `language`.
    """
    if language_of(row) != "javascript":
        return failed_filter_of_python(row, skip)
    sample = JavascriptSample.of(row)
    return next((name for name, passes in JAVASCRIPT_FILTERS.items() if name not in skip and not passes(sample)), None)
