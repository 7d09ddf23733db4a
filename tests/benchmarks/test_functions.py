"""The benchmarks of single functions: what is run of an answer, and that their tests judge rightly."""

import itertools
import json

import pytest

from code_eval.sandbox import Program, Sandbox
from selfalign.benchmarks import _functions, evalperf, evoeval, humaneval, humanevalplus, mbpp, mbppplus
from selfalign.benchmarks._evalplus import mended
from tests.helpers import write_rows

PROBLEMS = humaneval.problems()
CANONICAL = PROBLEMS[0].prompt + PROBLEMS[0].canonical_solution


@pytest.fixture(scope="module")
def verdicts():
    """The function from programs to outcomes, in order."""
    with Sandbox(workers=2) as sandbox:

        def judge(programs):
            results = sandbox.run(Program(code=code, tests=tests) for code, tests in programs)
            return [result.outcome for result in sorted(results, key=lambda result: result.index)]

        yield judge


# What is run of an answer ---------------------------------------------------------------------------------------------


def test_a_line_that_the_token_limit_cut_off_is_left_out():
    assert _functions.needed_code("def f(x):\n    return x\n\ndef g(", "f") == "def f(x):\n    return x\n"


def test_what_the_function_needs_is_kept_and_the_rest_is_not():
    code = (
        "import math\nN = 2\nM = 3\ndef help(x):\n    return x * N\ndef f(x):\n    return help(x)\nassert f(1) == 7\n"
    )
    kept = _functions.needed_code(code, "f")
    assert kept == "import math\nN = 2\ndef help(x):\n    return x * N\ndef f(x):\n    return help(x)\n"


def test_decorators_stay_with_their_function():
    code = "import functools\n@functools.cache\ndef f(x):\n    return x\n"
    assert _functions.needed_code(code, "f") == code


@pytest.mark.parametrize("code", ["I can't do that.", "def g(x):\n    return x\n"])
def test_code_without_the_function_stays_as_it_is(code):
    assert _functions.needed_code(code, "f") == code


def test_the_block_that_defines_the_function_counts():
    answer = "First:\n```bash\npip install x\n```\nThen:\n```python\ndef f(x): return x\n```"
    assert _functions.code_of(answer, "f") == "def f(x): return x\n"


@pytest.mark.parametrize("before", [f"{_functions.CHAT_PREFIX}```python\n", "Sure, here it is:\n\n"])
def test_what_stands_before_the_code_is_left_out(before):
    assert _functions.code_of(f"{before}import math\n\n\ndef f(x):\n    return x", "f").startswith("import math\n")


def test_code_before_the_first_definition_stays():
    assert _functions.code_of("# mod\nM = 7\n\ndef f(x): return x % M", "f").startswith("# mod\nM = 7\n")


def test_future_imports_come_first(verdicts):
    answer = f"```python\nfrom __future__ import annotations\n\n{CANONICAL}\n```"
    assert verdicts([humaneval.program(PROBLEMS[0], answer, "chat")]) == ["passed"]


def test_tabs_go_with_the_spaces_of_the_prompt(verdicts, tmp_path):
    body = PROBLEMS[0].canonical_solution.replace("    ", "\t")
    (tree,) = mbpp.problems(str(write_rows(tmp_path / "mbpp.jsonl", [TREE])))
    code = "class Node:\n    child = None\n\ndef is_leaf(node):\n    if node:\n\t\treturn node.child is None"
    programs = [humaneval.program(PROBLEMS[0], body, "completion"), mbpp.program(tree, code, "completion")]
    assert verdicts(programs) == ["passed", "passed"]


def test_a_comment_at_the_margin_does_not_end_a_body():
    body = PROBLEMS[0].canonical_solution.replace("    return False", "#    print(numbers)\n    return False")
    assert body != PROBLEMS[0].canonical_solution
    assert not [stop for stop in _functions.COMPLETION_STOP if stop in body]


def test_a_solution_is_run_as_it_stands():
    assert humaneval.program(PROBLEMS[0], "print(1)", "solution")[0] == "print(1)"


# HumanEval ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["completion", "chat"])
def test_all_canonical_solutions_of_humaneval_pass(style, verdicts):
    chat = humaneval.CHAT_PREFIX + "{}"
    answers = [
        p.canonical_solution if style == "completion" else chat.format(p.prompt + p.canonical_solution)
        for p in PROBLEMS
    ]
    programs = [humaneval.program(p, answer, style) for p, answer in zip(PROBLEMS, answers, strict=True)]
    assert len(programs) == 164 and set(verdicts(programs)) == {"passed"}


def test_an_empty_answer_never_passes(verdicts):
    assert "passed" not in verdicts([humaneval.program(p, "\n    pass\n", "completion") for p in PROBLEMS[:40]])


def test_prompts_hold_no_solution():
    for problem in PROBLEMS:
        assert problem.canonical_solution.strip() not in humaneval.completion_prompt(problem)
        assert problem.canonical_solution.strip() not in humaneval.chat_prompt(problem)


# EvalPlus -------------------------------------------------------------------------------------------------------------

HEAD = """import numpy as np

def assertion(out, exp, atol):
    assert out == exp

"""
SCRIPT = "inputs = {inputs}\nresults = {results}\nfor i, (inp, exp) in enumerate(zip(inputs, results)):\n    {call}\n"


def script(entry_point, inputs, results, call=None):
    """A test of the Hub's layout of MBPP+."""
    call = call or f"assertion({entry_point}(*inp), exp, 0)"
    return mended(HEAD + SCRIPT.format(inputs=inputs, results=results, call=call), entry_point)


def check(candidate_call, inputs, results):
    """A test of the Hub's layout of HumanEval+."""
    body = SCRIPT.format(inputs=inputs, results=results, call=candidate_call).replace("\n", "\n    ")
    return f"{HEAD}\ndef check(candidate):\n    {body.rstrip()}\n"


def test_any_zero_of_the_polynomial_passes_humaneval_32(verdicts):
    """The script on the Hub takes the arguments in the wrong order."""
    test = check("assert _poly(*candidate(*inp), inp) <= 0.0001", [[[-6, 5, -1]]], [2.0])
    test = f"{mended(test, 'find_zero')}\ncheck(find_zero)"
    answers = [f"def find_zero(xs): return {zero}" for zero in (2.0, 3.0, 2.5)]
    assert verdicts((answer, test) for answer in answers) == ["passed", "passed", "failed"]


def test_an_output_that_is_no_match_fails(verdicts):
    """The script on the Hub compares those of Mbpp/737, 787 and 794 without an assertion."""
    test = script("check_str", [["annie"], ["dog"]], [True, False])
    right = "import re\ndef check_str(s): return re.match('[aeiou]', s)"
    answers = [right, "def check_str(s): return True", "def check_str(s): return s[0] in 'aeiou'"]
    assert verdicts((answer, test) for answer in answers) == ["passed", "failed", "passed"]


@pytest.mark.parametrize(
    ("expected", "returned", "passes"),
    [
        (0.1 + 0.2, 0.3, True),
        ([0.1 + 0.2, 1.0], [0.3, 1.0], True),
        ([0.3, 1.0], (0.3, 1.0), False),
        ([0.5, 0.5], [0.5], False),
        ([0.5, 0.5], 0.5000000001, False),
        ([], [1.0], False),
        (3, 3.0000001, False),
        (1, True, True),
    ],
)
def test_outputs_are_compared_as_by_the_evaluator(expected, returned, passes, verdicts):
    test = script("f", [[1]], [expected])
    assert (verdicts([(f"def f(x): return {returned!r}", test)]) == ["passed"]) is passes


def test_the_order_does_not_count_where_the_evaluator_compares_sets(verdicts):
    test = script("Diff", [[[1], [2]]], [[1, 2]])
    assert verdicts((f"def Diff(a, b): return {out}", test) for out in ("[2, 1]", "[2]")) == ["passed", "failed"]


def test_both_readings_of_a_task_pass(verdicts):
    test = script("digit_distance_nums", [[1, 23], [23, 56]], [0, 6])
    padded = "return sum(abs(int(x) - int(y)) for x, y in zip(str(a).zfill(2), str(b).zfill(2)))"
    plain = "return {(1, 23): 0, (23, 56): 6}[a, b]"
    wrong = "return 0"
    programs = [(f"def digit_distance_nums(a, b): {body}", test) for body in (padded, plain, wrong)]
    assert verdicts(programs) == ["passed", "passed", "failed"]


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
    "test": HEAD
    + SCRIPT.format(inputs=[[[1, 2]], [[-3]], [[]]], results=[[1, 4], [9], []], call="assertion(square(*inp), exp, 0)"),
}


def test_both_layouts_of_mbppplus_are_the_same_problem(tmp_path, verdicts):
    problems = [
        mbppplus.problems(str(write_rows(tmp_path / f"{number}.jsonl", [row])))[0]
        for number, row in enumerate([SQUARES, SQUARES_ON_HUB])
    ]
    assert len({(p.task_id, p.prompt, p.entry_point, p.canonical_solution) for p in problems}) == 1
    answers = [SQUARES["canonical_solution"], "def square(xs): return [x * abs(x) for x in xs]"]
    programs = [mbppplus.program(p, answer, "solution") for p in problems for answer in answers]
    assert verdicts(programs) == ["passed", "failed"] * 2


def test_both_layouts_of_humanevalplus_are_the_same_problem(tmp_path, verdicts):
    head = {"task_id": "HumanEval/900", "entry_point": "double", "prompt": 'def double(x):\n    """Twice x."""\n'}
    head["canonical_solution"] = "    return 2 * x\n"
    released = head | {"base_input": [[1]], "plus_input": [["ab"]], "atol": 0}
    hub = head | {"test": check("assertion(candidate(*inp), exp, 0)", [[1], ["ab"]], [2, "abab"])}
    for number, row in enumerate([released, hub]):
        (problem,) = humanevalplus.problems(str(write_rows(tmp_path / f"{number}.jsonl", [row])))
        programs = [humanevalplus.program(problem, a, "completion") for a in ("    return x + x", "    return x * x")]
        assert verdicts(programs)[0] == "passed" and verdicts(programs)[1] != "passed"


def test_a_reference_that_changes_its_argument_does_not_disturb(tmp_path, verdicts):
    row = SQUARES | {
        "canonical_solution": "\ndef square(xs):\n  out = [x**2 for x in xs]\n  xs.clear()\n  return out\n"
    }
    (problem,) = mbppplus.problems(str(write_rows(tmp_path / "p.jsonl", [row])))
    assert verdicts([("def square(xs): return [x * x for x in xs]", problem.test)]) == ["passed"]


@pytest.mark.parametrize(
    ("task", "arguments", "typed"),
    [
        (2, [[1], [2]], [(1,), (2,)]),
        (63, [[[1, 2]]], [[(1, 2)]]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1], []]], [[{1}, {}]]),
        (124, ["1", "2j"], [1.0, 2j]),
        (252, ["1+1j"], [1 + 1j]),
        (278, [[1, [2]]], [(1, (2,))]),
        (580, [[1, [2]]], [(1, (2,))]),
        (722, [{"a": [1]}, 2], [{"a": (1,)}, 2]),
        (3, [[1]], [[1]]),
    ],
)
def test_arguments_get_back_the_types_that_json_lacks(task, arguments, typed):
    assert mbppplus.typed(task, arguments) == typed


# MBPP -----------------------------------------------------------------------------------------------------------------

TREE = {
    "task_id": 367,
    "text": "Write a function to tell whether a node has no child.",
    "code": "class Node:\r\n  child = None\r\ndef is_leaf(node):\r\n  return node.child is None",
    "test_setup_code": "root = Node()",
    "test_list": ["assert is_leaf(root)"],
}


def test_the_setup_uses_the_code(tmp_path, verdicts):
    (problem,) = mbpp.problems(str(write_rows(tmp_path / "mbpp.jsonl", [TREE])))
    assert (problem.task_id, problem.entry_point) == ("Mbpp/367", "is_leaf")
    for style in ("solution", "completion"):
        assert verdicts([mbpp.program(problem, problem.canonical_solution, style)]) == ["passed"]


def test_a_completion_may_open_a_code_block(tmp_path, verdicts):
    (problem,) = mbpp.problems(str(write_rows(tmp_path / "mbpp.jsonl", [TREE])))
    answer = f"```python\n{problem.canonical_solution}"
    assert verdicts([mbpp.program(problem, answer, "completion")]) == ["passed"]


def test_the_model_sees_the_text_and_the_first_test(tmp_path):
    rows = [TREE | {"test_list": ["assert is_leaf(root)", "assert hidden"]}]
    (problem,) = mbpp.problems(str(write_rows(tmp_path / "mbpp.jsonl", rows)))
    for prompt in (mbpp.completion_prompt(problem), mbpp.chat_prompt(problem)):
        assert "has no child." in prompt and "assert is_leaf(root)" in prompt and "hidden" not in prompt


def test_results_are_of_the_test_split(tmp_path):
    file = str(write_rows(tmp_path / "mbpp.jsonl", [TREE | {"task_id": n} for n in (1, 11, 510, 511)]))
    assert [p.task_id for p in mbpp.problems(file)] == ["Mbpp/11", "Mbpp/510"]
    assert len(mbpp.problems(file, "full")) == 4


# EvoEval --------------------------------------------------------------------------------------------------------------


def evo(tmp_path, variant, number, entry_point, solution, inputs):
    row = {"task_id": f"EvoEval/{number}", "prompt": "", "entry_point": entry_point, "canonical_solution": solution}
    return evoeval.problems(str(write_rows(tmp_path / "evo.jsonl", [row | {"inputs": inputs}])), variant)[0]


def test_what_is_expected_comes_from_the_canonical_solution(tmp_path, verdicts):
    problem = evo(tmp_path, "combine", 0, "f", "def f(a, b): return {a: b}", ["(1, 2), {3}", "'x', 1.5"])
    answers = ["def f(a, b): return dict([(a, b)])", "def f(a, b): return {a: str(b)}"]
    assert verdicts(evoeval.program(problem, a, "solution") for a in answers) == ["passed", "failed"]


def test_what_is_printed_is_no_reason_to_fail(tmp_path, verdicts):
    problem = evo(tmp_path, "combine", 0, "f", "def f(a): print('x' * 2**21)", ["1"])
    assert verdicts([evoeval.program(problem, "def f(a): print('y' * 2**21)", "solution")]) == ["passed"]


def test_types_must_agree(tmp_path, verdicts):
    problem = evo(tmp_path, "combine", 0, "f", "def f(a): return [a, 1]", ["1"])
    answers = ["def f(a): return (a, 1)", "def f(a): return [True, 1]", "def f(a): return [1, 1]"]
    assert verdicts(evoeval.program(problem, a, "solution") for a in answers) == ["failed", "failed", "passed"]


def test_any_right_answer_passes(tmp_path, verdicts):
    solution = "def f(numbers, target): return (0, 1)"
    problem = evo(tmp_path, "creative", 69, "f", solution, ["[2, 3, 1, 6], 6"])
    answers = [f"def f(numbers, target): return {pair}" for pair in ((0, 1), (2, 3), (0, 2))]
    assert verdicts(evoeval.program(problem, a, "solution") for a in answers) == ["passed", "passed", "failed"]


# EvalPerf -------------------------------------------------------------------------------------------------------------

SLOW = "def f(n):\n    return sum(i for i in range(n) for _ in range(40)) // 40\n"
MIDDLE = "def f(n):\n    return sum(i for i in range(n))\n"
FAST = "def f(n):\n    return n * (n - 1) // 2\n"


@pytest.fixture
def task(tmp_path):
    plus = {"task_id": "HumanEval/0", "entry_point": "f", "prompt": "def f(n):\n", "canonical_solution": FAST}
    plus |= {"base_input": [[3]], "plus_input": [[4]], "atol": 0, "prompt": "", "canonical_solution": FAST}
    task = {"task_id": "HumanEval/0", "pe_input": json.dumps([[20000]]), "reference": [SLOW, MIDDLE, FAST]}
    files = [[task | {"scores": [10.0, 60.0, 100.0]}], [plus], [SQUARES]]
    paths = [str(write_rows(tmp_path / f"{number}.jsonl", rows)) for number, rows in enumerate(files)]
    (problem,) = evalperf.problems(",".join(paths))
    return problem


def rows_of(codes):
    names = [{"id": f"HumanEval/0/{n}", "task_id": "HumanEval/0", "sample": n} for n in range(len(codes))]
    return [row | {"code": code, "passed": code is not None} for row, code in zip(names, codes, strict=True)]


def measured(rows, task):
    with Sandbox(workers=1) as sandbox:
        return evalperf.measure(rows, {"HumanEval/0": task}, lambda ps: [sandbox.submit(p).result() for p in ps])


def test_a_sample_has_the_score_of_the_fastest_reference_that_it_reaches(task, monkeypatch):
    monkeypatch.setattr(evalperf, "SLACK", 3.0)  # these differ by 5 times and more, equal ones by what disturbs them
    slower = SLOW.replace("range(40)", "range(200)")
    codes = [slower, SLOW + "# again", MIDDLE + "# again", FAST + "# again", *[MIDDLE] * 6, None]
    rows = rows_of(codes)
    result = measured(rows, task)
    assert [result[row["id"]]["dps"] for row in rows[:4]] == [0.0, 10.0, 60.0, 100.0]
    assert rows[-1]["id"] not in result
    rows = [row | {"measured": result.get(row["id"])} for row in rows]
    assert evalperf.scores(rows, {})["dps"] == pytest.approx((0 + 10 + 60 + 100 + 6 * 60) / 1000)


def test_a_task_with_fewer_than_ten_right_samples_is_not_measured(task):
    assert measured(rows_of([FAST] * 9), task) == {}


def test_a_sample_that_fails_on_the_large_input_scores_nothing(task):
    codes = ["def f(n):\n    assert n < 9\n    return n * (n - 1) // 2\n", *[FAST] * 9]
    assert measured(rows_of(codes), task)["HumanEval/0/0"] == {"seconds": None, "dps": 0.0, "dps_norm": 0.0}


def test_a_task_that_the_bootstrap_draws_twice_counts_twice():
    rows = [{"task_id": task, "measured": {"dps": dps, "dps_norm": dps}} for task, dps in (("a", 20.0), ("b", 80.0))]
    assert evalperf.scores(rows, {}) == {"measured": 1.0, "dps": 0.5, "dps_norm": 0.5}
    assert evalperf.scores([*rows, rows[1]], {})["dps"] == pytest.approx(0.6)
    assert evalperf.scores([*rows, {"task_id": "c", "measured": None}] * 2, {})["measured"] == pytest.approx(2 / 3)


def test_win_rates_are_over_common_tasks():
    dps = {"a": {"t1": 90, "t2": 50}, "b": {"t1": 80, "t2": 50, "t3": 99}, "c": {"t3": 1}}
    results = {
        model: {"measured": {f"{task}/{n}": {"dps": value} for (task, value), n in itertools.product(of.items(), "01")}}
        for model, of in dps.items()
    }
    assert evalperf.win_rates(results) == {"a": 0.75, "b": pytest.approx(1.5 / 3), "c": 0.0}
