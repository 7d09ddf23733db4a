"""Functions and classes as flat lists of tokens, by which code is recognised in other clothes.

The tokens of a definition stay the same when its names, comments, docstrings, annotations or formatting change. A token
is a string, or a number in the place of a name that the code itself defines: names are numbered in the order in which
they appear, so `def f(a): return a` and `def g(b): return b` have the same tokens.
"""

from __future__ import annotations

import ast
from typing import Any

from selfalign.code.markdown import code_blocks
from selfalign.code.parsing import DEFINITIONS, FUNCTIONS, drop_docstrings, parsed

Tokens = list[str | int]

# Fields of syntax trees that hold types, or that only repeat what other fields say.
IGNORED_FIELDS = {"annotation", "returns", "type_comment", "ctx", "kind", "type_params", "simple"}


def tokens_in_text(text: str) -> list[Tokens]:
    """The tokens of every definition in a text, nested ones too: it is either Python or Markdown with code blocks."""
    if definitions := tokens_in_code(text, nested=True):
        return definitions
    if "```" not in text and "~~~" not in text:
        return []
    return [tokens for block in code_blocks(text) for tokens in tokens_in_code(block.code, nested=True)]


def tokens_in_code(code: str, nested: bool = False) -> list[Tokens]:
    """The tokens of each function and class of `code`, including those inside of others if `nested`."""
    tree = parsed(code)
    if not tree:
        return []
    outside = {node.name for node in tree.body if isinstance(node, DEFINITIONS)}
    assignments = (node for node in tree.body if isinstance(node, ast.Assign))
    outside |= {target.id for node in assignments for target in node.targets if isinstance(target, ast.Name)}
    drop_docstrings(tree)
    nodes = ast.walk(tree) if nested else tree.body
    try:
        return [_Tokenizer(node, outside).tokens for node in nodes if isinstance(node, DEFINITIONS)]
    except (RecursionError, ValueError):  # the latter of numbers with more digits than Python writes
        return []


class _Tokenizer:
    """Turns the syntax tree of a definition into `tokens`; names defined `outside` of it are numbered as well."""

    def __init__(self, definition: ast.AST, outside: set[str]) -> None:
        self.tokens: Tokens = []
        self._names, self._attributes = _names_defined(definition)
        self._names |= outside
        self._numbers: dict[str, int] = {}
        self._add(definition)

    def _add_name(self, name: str | None, defined: set[str], mark: str = "") -> None:
        """`mark` keeps attributes and keywords apart from variables of the same name."""
        if name in defined:
            self.tokens.append(self._numbers.setdefault(f"{mark}{name}", len(self._numbers)))
        else:
            self.tokens.append(f"{mark}{name}")

    def _add(self, node: Any) -> None:
        """Add the tokens of a node, or of the value of any field of a node."""
        if isinstance(node, list):
            for child in node:
                self._add(child)
            self.tokens.append(";")
        elif isinstance(node, ast.Name):
            self._add_name(node.id, self._names)
        elif isinstance(node, ast.Constant):
            self.tokens.append(repr(node.value))
        elif isinstance(node, ast.arg):
            self._add_name(node.arg, self._names)
        elif isinstance(node, ast.Attribute):
            self._add(node.value)
            self._add_name(node.attr, self._attributes, ".")
        elif isinstance(node, ast.AnnAssign):
            if node.value:  # the same as an assignment without the annotation
                self.tokens.append("Assign")
                self._add([node.target])
                self._add(node.value)
        elif isinstance(node, ast.Call):
            self._add_call(node)
        elif isinstance(node, ast.AST):
            self.tokens.append(type(node).__name__)
            for field in node._fields:
                if field not in IGNORED_FIELDS:
                    self._add(getattr(node, field, None))
        elif isinstance(node, str):
            self._add_name(node, self._names)
        elif node is not None:
            self.tokens.append(repr(node))

    def _add_call(self, node: ast.Call) -> None:
        """Keywords are names of the code itself only where it calls one of its own functions."""
        self.tokens.append("Call")
        self._add(node.func)
        self._add(node.args)
        own = isinstance(node.func, ast.Name) and node.func.id in self._names
        for keyword in node.keywords:
            self._add_name(keyword.arg, self._names if own else set(), "" if own else "=")
            self._add(keyword.value)
        self.tokens.append(";")


def _names_defined(definition: ast.AST) -> tuple[set[str], set[str]]:
    """The names, and the attributes and methods, that a definition defines anywhere inside of it."""
    names, attributes = set(), set()
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            attributes |= {child.name for child in node.body if isinstance(child, FUNCTIONS)}
        elif isinstance(node, (*FUNCTIONS, ast.ExceptHandler)) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.alias) and node.asname:
            names.add(node.asname)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
    return names, attributes
