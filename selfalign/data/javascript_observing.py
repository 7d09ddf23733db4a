"""What JavaScript gives for inputs: what `observing.py` does for Python, by node.

Two outputs are the same if `assert.deepStrictEqual` says so: NaN is NaN, -0 is not 0, and undefined is not null; the
order of an object's properties, and of the items of a Map or Set, does not matter. Only plain values count: primitives
but symbols, arrays without holes, objects without a class, Map, Set and Date. What else there is equals nothing:
functions, instances of classes, errors, cyclic values, and promises, for which the tests have to wait. A fraction that
is the whole output counts to nine digits, as in Python.

An exception is an output only where a test asks whether there is one, as `assert.throws` does; whichever it is counts,
except for a ReferenceError, which names what is not there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from selfalign.code.javascript import nodes_of, text_of, tree_of
from selfalign.code.javascript_mutation import javascript_stubbed
from selfalign.data.inputs import Input
from selfalign.data.observing import MAX_OUTPUT, SEEN

# What runs after a sample's code. `written` gives a plain value as source that the sandbox's messages do not change:
# there is no space in it but single ones, and nothing that is not printed.
OBSERVE = r"""
const AsyncFunction = (async () => {}).constructor;
const text = (value) => JSON.stringify(value).replace(/ (?= )/g, "\\x20").replace(/[\p{C}\p{Z}]|[^\0-\uffff]/gu,
  (sign) => (sign === " " ? sign : "\\u{" + sign.codePointAt(0).toString(16) + "}"));
const named = (key) => (/^([A-Za-z_$][\w$]*|0|[1-9]\d{0,8})$/.test(key) ? key : text(key));
const isObject = (value) => Object.prototype.toString.call(value) === "[object Object]";
const around = (items) => (items.length ? "{ " + items.join(", ") + " }" : "{}");

function written(value, sorted, above = []) {
  if (value === null || ["undefined", "boolean"].includes(typeof value)) return String(value);
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : String(value);
  if (typeof value === "bigint") return value + "n";
  if (typeof value === "string") return text(value);
  const inner = (item) => written(item, sorted, [...above, value]);
  const listed = (items) => "[" + (sorted ? items.sort() : items).join(", ") + "]";
  const plain = typeof value === "object" && !above.includes(value) && !Object.getOwnPropertySymbols(value).length;
  const kind = plain && Object.getPrototypeOf(value), keys = plain ? Object.keys(value) : [];
  if (kind === Array.prototype && keys.length === value.length && keys.every((key, place) => key === String(place)))
    return "[" + value.map(inner).join(", ") + "]";
  if (kind === Map.prototype && !keys.length)
    return "new Map(" + listed([...value].map(([key, item]) => "[" + inner(key) + ", " + inner(item) + "]")) + ")";
  if (kind === Set.prototype && !keys.length) return "new Set(" + listed([...value].map(inner)) + ")";
  if (kind === Date.prototype && !keys.length && !isNaN(value)) return "new Date(" + value.getTime() + ")";
  const known = kind === null || (kind === Object.prototype && isObject(value));
  if (!known || keys.includes("__proto__")) throw new TypeError("no plain value");
  const pairs = keys.map((key) => named(key) + ": " + inner(value[key]));
  return around((kind ? [] : ["__proto__: null"]).concat(sorted ? pairs.sort() : pairs));
}

// The output, in a list: a promise for which the call does not wait stays one.
async function evaluated([setup, call, thrown]) {
  const [value] = await new AsyncFunction("assert", `{\n${setup}\nreturn [\n${call}\n];\n}`)(assert);
  if (!thrown) {
    if (value instanceof Promise) value.catch(() => {});
    return [value];
  }
  try {
    const given = value();
    if (value instanceof AsyncFunction) await given;
    else if (given instanceof Promise) given.catch(() => {});
  } catch (error) {
    if (error instanceof ReferenceError) throw error;
    return [true];
  }
  return [false];
}

async function mark(input) {
  try {
    const [value] = await evaluated(input), isFraction = Number.isFinite(value) && !Number.isInteger(value);
    const seen = isFraction ? value.toPrecision(9) : written(value, true);
    return require("crypto").createHash("sha256").update(seen).digest("hex").slice(0, 8);
  } catch {
    return "-";
  }
}
"""
# What stands in the source of a plain value.
LITERAL = {
    *("program", "expression_statement", "parenthesized_expression", "array", "object", "pair", "new_expression"),
    *("arguments", "string", "string_fragment", "escape_sequence", "number", "unary_expression", "identifier"),
    *("property_identifier", "true", "false", "null", "undefined"),
}
NAMES = {"NaN", "Infinity", "Map", "Set", "Date"}
FRACTION = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
NEAR = 1e-7  # of a fraction, by which a test lets it differ: more than those do that are the same to nine digits


def observing(inputs: Sequence[Input]) -> str:
    """Tests that tell the mark of the output of each input: "-" where there is none, or no plain value."""
    return (
        f"{OBSERVE}\nconst marks = [];\nfor (const each of {json.dumps(list(map(_parts, inputs)))}) "
        f"marks.push(await mark(each));\nassert.fail({json.dumps(SEEN)} + marks.join(' '));\n"
    )


def showing(each: Input) -> str:
    """Tests that tell the output of one input as source; nothing where it is long, or reads back as something else, or
    where no exception was asked for."""
    asked = "output === true" if each.thrown else "true"
    return (
        f"{OBSERVE}\nconst [output] = await evaluated({json.dumps(_parts(each))}), shown = written(output, false);\n"
        f"assert({asked} && shown.length <= {MAX_OUTPUT}, 'not stated');\n"
        "assert.deepStrictEqual(new Function('return ' + shown)(), output);\n"
        f"assert.fail({json.dumps(SEEN)} + shown);\n"
    )


def _parts(each: Input) -> tuple[str, str, bool]:
    return each.setup, each.call, each.thrown


def is_literal(text: str) -> bool:
    """Whether a text is the source of a plain value, as `written` writes it."""
    root = tree_of(f"({text})")
    return root is not None and all(
        node.type in LITERAL and (node.type != "identifier" or text_of(node) in NAMES)
        for node in nodes_of(root)
        if node.is_named
    )


def stating(each: Input, output: str) -> str:
    """A test that an input gives an output; in a block of its own if it needs statements."""
    test = _assertion(each, output)
    if not each.setup:
        return test
    lines = f"{each.setup}\n{test}"
    if "`" not in lines:  # spaces in a template would be part of it
        lines = "\n".join(f"  {line}" for line in lines.split("\n"))
    return f"{{\n{lines}\n}}"


def _assertion(each: Input, output: str) -> str:
    if each.thrown:
        return (
            f"await assert.rejects({each.call});" if each.call.startswith("async") else f"assert.throws({each.call});"
        )
    if FRACTION.fullmatch(output) and not float(output).is_integer():
        near = math.floor(math.log10(max(abs(float(output)) * NEAR, 1e-300)))
        difference = f"{each.call} {'+' if output[0] == '-' else '-'} {output.lstrip('-')}"
        return f"assert(Math.abs({difference}) < 1e{near});"
    deep = output.startswith(("[", "{", "new "))
    return f"assert.{'deepStrictEqual' if deep else 'strictEqual'}({each.call}, {output});"


def joined(tests: Sequence[str]) -> str:
    """Tests as one program."""
    return "\n".join(['const assert = require("assert");\n', *tests]) if tests else ""


def stubs_of(code: str) -> list[str]:
    """Programs that do nothing, which tests that test something do not accept; none if the code does not parse."""
    stub = javascript_stubbed(code)
    return [] if stub is None else [stub]
