"""The tests of EvalPlus (arXiv:2305.01210): how outputs are compared, and the two layouts of its data.

On the Hub, and in files named OriginFmt, a problem has a `test`: a script with inputs, expected outputs and a loop over
them. In the releases of EvalPlus it has `base_input` and `plus_input`, and the expected outputs come from running the
canonical solution. Both become the same script here, which compares outputs as EvalPlus' evaluator does. The scripts on
the Hub differ from the evaluator in these problems:

    HumanEval/32        the script passes the arguments of its check in the wrong order, so that no solution passes; nor
                        does any pass the evaluator (0.3.1), which does not record that an input passed. Fixed here
    Mbpp/737, 787, 794  the script compares and does not assert, so that every solution passes
    Mbpp/164, 295, 558, 581    the evaluator accepts a second reading of the task
    Mbpp/249            the evaluator compares the outputs as sets
    all                 for the evaluator, a float never equals a list, nor do lists of different lengths
"""

from __future__ import annotations

import base64
import marshal
from typing import Any

from selfalign.benchmarks.harness.functions import SILENCE, script_beside

MARSHAL_VERSION = 4  # which all versions of Python since 3.4 read
# Functions whose outputs are compared in another way.
AS_SETS = (  # Mbpp/2, 7, 111, 140, 232, 249, 579, 769
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
)  # fmt: skip
IS_FOUND = ("check_str", "text_match_three", "text_starta_endb")  # Mbpp/737, 787, 794: a match object, or a bool
ORACLES = {
    # Mbpp/164: whether the sums of divisors are equal; the canonical solution contradicts the text, so anything passes.
    "are_equivalent": "return True",
    # Mbpp/295: the sum of divisors of a prime number, without itself, may be 0.
    "sum_div": "return out == 0",
    # Mbpp/581: surface of a square pyramid, where the height is that of the pyramid, not of its sides.
    "surface_Area": """base, height = arguments
    slant = ((base / 2) ** 2 + height**2) ** 0.5
    return abs(out - round(base**2 + 2 * base * slant)) <= tolerance""",
    # Mbpp/558: distance of two numbers digit by digit, with the shorter one padded with zeros.
    "digit_distance_nums": """first, second = map(str, arguments)
    width = max(len(first), len(second))
    pairs = zip(first.zfill(width), second.zfill(width))
    return out == sum(abs(int(a) - int(b)) for a, b in pairs)""",
}
ZERO_OF_POLYNOMIAL = """
def _judge(out, expected, tolerance, arguments):
    (coefficients,) = arguments
    assert abs(sum(c * float(out) ** i for i, c in enumerate(coefficients))) <= 1e-4
"""  # HumanEval/32: any zero is right

COMPARE = """
def _judge(out, expected, tolerance, arguments):
    import numpy
    if out == expected:
        return
    several = isinstance(expected, (list, tuple)) and len(expected) > 0
    floats = all(isinstance(e, float) for e in expected) if several else isinstance(expected, float)
    tolerance = tolerance or (1e-6 if floats else 0)
    assert tolerance, f"{out!r:.100} instead of {expected!r:.100}"
    assert type(out) is type(expected)
    if isinstance(expected, (list, tuple)):
        assert len(out) == len(expected)
    assert numpy.allclose(out, expected, rtol=1e-7, atol=tolerance), f"{out!r:.100} instead of {expected!r:.100}"
"""
COMPARE_SETS = """
def _judge(out, expected, tolerance, arguments):
    assert set(out) == set(expected), f"{out!r:.100} instead of {expected!r:.100}"
"""
COMPARE_FOUND = """
def _judge(out, expected, tolerance, arguments):
    expected = expected if isinstance(expected, bool) else expected is not None
    assert (out if isinstance(out, bool) else out is not None) == expected
"""
COMPARE_OR = """
_judge_exactly = _judge

def _accepts(out, tolerance, arguments):
    {}

def _judge(out, expected, tolerance, arguments):
    if not _accepts(out, tolerance, arguments):
        _judge_exactly(out, expected, tolerance, arguments)
"""


def comparison(entry_point: str) -> str:
    """The definition of `_judge(out, expected, tolerance, arguments)`, which asserts that the output is right."""
    if entry_point in AS_SETS:
        return COMPARE_SETS
    if entry_point in IS_FOUND:
        return COMPARE_FOUND
    if entry_point == "find_zero":
        return ZERO_OF_POLYNOMIAL
    return COMPARE + (COMPARE_OR.format(ORACLES[entry_point]) if entry_point in ORACLES else "")


def is_of_evalplus(test: str) -> bool:
    """Whether a script is in the Hub's layout: inputs, and a loop over them."""
    return "inputs = " in test and "for i, " in test


def hub_script(test: str, entry_point: str) -> str:
    """The script of the Hub's layout with our comparison. HumanEval+'s defines `check`; MBPP+'s calls `entry_point`.

    A test that is not in the form of EvalPlus' scripts stays as it is.
    """
    if not is_of_evalplus(test):
        return test
    start = test.rfind("for i, ")
    data, loop = test[:start].rstrip(" "), test[start:]
    tolerance = loop.rstrip().rstrip(")").rpartition(", ")[2] if "assertion(" in loop else "0"
    indent = "    " if "def check(" in test else ""
    function = "candidate" if indent else entry_point
    if "zip(inputs, results)" in loop:
        pairs, expected = "_arguments, _expected in zip(inputs, results)", ""
    else:  # the expected outputs are too large to be stored
        pairs, expected = "_arguments in inputs", "_expected = ref_func(*_copy.deepcopy(_arguments)); "
    body = f"{expected}_judge({function}(*_arguments), _expected, {tolerance}, _arguments)"
    loop = f"{indent}with _silence:\n{indent}    for {pairs}: {body}\n"
    return f"import copy as _copy\n{SILENCE}{comparison(entry_point)}\n{data}\n{loop}"


def release_script(row: dict[str, Any], inputs: list[Any]) -> str:
    """The same script from a row of EvalPlus' releases and its `inputs`, in the types that the function takes."""
    source = row["prompt"] + row["canonical_solution"]
    # As bytes and not as code: some are megabytes, which take seconds to compile, and to copy.
    data = base64.b64encode(marshal.dumps(inputs, MARSHAL_VERSION)).decode()
    judge = f"import binascii as _b, marshal as _m\n{comparison(row['entry_point'])}_data = _b.a2b_base64('{data}')\n"
    pairs = "zip(_m.loads(_data), _m.loads(_data))"
    return script_beside(source, row["entry_point"], judge, pairs, f"{row['atol']}, _arguments")
