"""Problems in the layouts of EvalPlus, with content of our own."""

HEAD = """import numpy as np

def assertion(out, exp, atol):
    assert out == exp

"""
SCRIPT = "inputs = {inputs}\nresults = {results}\nfor i, (inp, exp) in enumerate(zip(inputs, results)):\n    {call}\n"


def script(call, inputs, results):
    """A test in the Hub's layout of MBPP+."""
    return HEAD + SCRIPT.format(inputs=inputs, results=results, call=call)


def check(call, inputs, results):
    """A test in the Hub's layout of HumanEval+."""
    body = SCRIPT.format(inputs=inputs, results=results, call=call).replace("\n", "\n    ")
    return f"{HEAD}\ndef check(candidate):\n    {body.rstrip()}\n"


SQUARES = {
    "task_id": "Mbpp/8",
    "prompt": '"""\nWrite a function to square the numbers of a list.\nassert square([2]) == [4]\n"""\n',
    "entry_point": "square",
    "canonical_solution": "\ndef square(xs):\n  return [x**2 for x in xs]\n",
    "base_input": [[[1, 2]]],
    "plus_input": [[[-3]], [[]]],
    "atol": 0,
}
SQUARES_ON_HUB = {
    "task_id": 8,
    "code": SQUARES["canonical_solution"],
    "prompt": "Write a function to square the numbers of a list.",
    "test_imports": [],
    "test_list": ["assert square([2]) == [4]"],
    "test": script("assertion(square(*inp), exp, 0)", [[[1, 2]], [[-3]], [[]]], [[1, 4], [9], []]),
}
DOUBLE = {
    "task_id": "HumanEval/900",
    "entry_point": "double",
    "prompt": 'def double(x):\n    """Twice x."""\n',
    "canonical_solution": "    return 2 * x\n",
    "base_input": [[1]],
    "plus_input": [["ab"]],
    "atol": 0,
}
DOUBLE_ON_HUB = {name: DOUBLE[name] for name in ("task_id", "entry_point", "prompt", "canonical_solution")}
DOUBLE_ON_HUB["test"] = check("assertion(candidate(*inp), exp, 0)", [[1], ["ab"]], [2, "abab"])
