"""Reading assertions that a model has written, without running anything."""

from __future__ import annotations

import ast

from selfalign.code.parsing import parsed


def right_side(assertion: str) -> str | None:
    """What follows the "==" in `assert something == expression`; None for anything else."""
    tree = parsed(assertion)
    statement = tree.body[0] if tree and tree.body else None
    if not isinstance(statement, ast.Assert) or not isinstance(test := statement.test, ast.Compare):
        return None
    return ast.get_source_segment(assertion, test.comparators[0]) if isinstance(test.ops[0], ast.Eq) else None
