"""What a repair in JavaScript shares with its tests: the literals that `repairs.py` looks for in Python's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from selfalign.code.javascript import nodes_of, tree_of
from selfalign.data.javascript_inputs import arguments_of, claim_of, expression_of, normal
from selfalign.data.javascript_observing import is_literal

if TYPE_CHECKING:
    from tree_sitter import Node

LITERALS = ("string", "number", "array", "object", "unary_expression")
COMMON = {"0", "1", "2", "-1", '""', "[]", "{}"}  # that much code has


def literals_in(code: str) -> set[str]:
    """The literals of a program that are not COMMON, written in one way."""
    root = tree_of(code)
    return {text for node in nodes_of(root) if (text := _literal(node))} if root else set()


def pairs_in(tests: str) -> Iterator[tuple[set[str], str]]:
    """For each assertion that a call gives a literal: the literals among the call's arguments, and that one."""
    root = tree_of(tests)
    for statement in nodes_of(root) if root else ():
        claim = claim_of(statement) if statement.type == "expression_statement" else None
        if claim and not claim.thrown and claim.claimed and claim.claimed not in COMMON and is_literal(claim.claimed):
            inputs = {text for argument in arguments_of(expression_of(claim.node)) if (text := _literal(argument))}
            if inputs:
                yield inputs, claim.claimed


def _literal(node: Node) -> str | None:
    """A literal as `normal` writes it; None for anything else, and for what is COMMON."""
    if node.type not in LITERALS:
        return None
    text = normal(node)
    return text if text not in COMMON and is_literal(text) else None
