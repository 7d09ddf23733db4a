"""What a failing program in JavaScript has to say: what `feedback.py` is for Python's, with its functions' names."""

from __future__ import annotations

import json
import re

from selfalign.code import feedback
from selfalign.code.feedback import MAX_SOURCE, MAX_VALUE
from selfalign.code.javascript import nodes_of, text_of, tree_of

ASSERTION = re.compile(
    r"(console\.)?assert(\.\w+)*|((not)?(equal|strictEqual|deepEqual|deepStrictEqual)|throws|ok)", re.I
)
EQUATION = re.compile(r"(^|\.)(equal|strictEqual|deepEqual|deepStrictEqual)$")

SPACE = "\u2420"  # stands for a space after another one, since the sandbox's details have single ones only

# What runs before the tests. A thrown value is made by what the program defines, so anything can happen.
TELL = f"""
globalThis._told = (source, compares, error) => {{
  const {{ AssertionError }} = require("assert"), failed = error instanceof AssertionError;
  if (failed && String(error.message).startsWith("told ")) return error;
  let what = " fails", value = "";
  try {{
    if (!failed) {{
      what = " throws ";
      value = error instanceof Error ? error.name + ": " + error.message : error;
    }} else if (compares) {{
      what = " fails: its first value is ";
      value = require("util").inspect(error.actual, {{ breakLength: Infinity, compact: true }});
    }}
    value = String(value).replace(/(?<= ) /g, "{SPACE}");
  }} catch {{
    value = "something that has no text";
  }}
  if (value.length > {MAX_VALUE}) value = value.slice(0, {MAX_VALUE}) + "...";
  return new AssertionError({{ message: "told `" + source + "`" + what + value }});
}};
"""


def telling(tests: str) -> str | None:
    """`tests` whose assertions tell what was wrong; None if they do not parse.

    An assertion inside of `try` is left as it is: what it throws may be what the tests wait for.
    """
    root = tree_of(tests)
    if root is None:
        return None
    inserted: list[tuple[int, str]] = []  # at which byte what goes in
    for statement in nodes_of(root, without=("try_statement",)):
        if statement.type != "expression_statement" or not statement.named_children:
            continue
        node = statement.named_children[0]
        call = node.named_children[0] if node.type == "await_expression" and node.named_children else node
        called = call.child_by_field_name("function") if call.type == "call_expression" else None
        if called and ASSERTION.fullmatch(name := text_of(called)):
            source = re.sub(r"\s*\n\s*", " ", text_of(statement).rstrip(";"))
            source = source if len(source) <= MAX_SOURCE else source[:MAX_SOURCE] + "..."
            source = re.sub("(?<= ) ", SPACE, source)
            told = f"_told({json.dumps(source)}, {json.dumps(bool(EQUATION.search(name)))}, error)"
            inserted += [
                (statement.start_byte, "try { "),
                (statement.end_byte, f" }} catch (error) {{ throw {told}; }}"),
            ]
    text = tests.encode("utf-8", "replace")
    for place, part in sorted(inserted, reverse=True):
        text = text[:place] + part.encode() + text[place:]
    return TELL + text.decode("utf-8", "replace")


def feedback_of(outcome: str, detail: str | None) -> str:
    """What a model is told of a program that failed, from its outcome and the detail."""
    return feedback.feedback_of(outcome, (detail or "").replace(SPACE, " "), "JavaScript")
