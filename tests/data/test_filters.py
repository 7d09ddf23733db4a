"""Format filters, and that no text whatever makes the parsing of Markdown and code raise, or take long."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from selfalign.code.markdown import code_blocks, python_code, split_at_heading
from selfalign.data.decontamination import decontaminator_of
from selfalign.data.duplicates import SAME, SIMILAR
from selfalign.data.filters import FILTERS, MAX_CHARACTERS, ParsedSample, failed_filter, names_of_definitions
from selfalign.options import DecontaminationOptions
from tests.data.tools import block

CODE = "def add(a, b):\n    return a + b"
TESTS = "assert add(1, 2) == 3"


def row(code=CODE, tests=TESTS, instruction="Write a function that adds.", words="The sum."):
    return {"instruction": instruction, "response": f"{words}\n\n{block(code)}", "tests": block(tests)}


GOOD = {
    "a function": row(),
    "a class": row("class Sum:\n    def of(self, a):\n        return a", "s = Sum()\nassert s.of(1) == 1"),
    "a method without an instance": row(
        "class Sum:\n    @staticmethod\n    def of(a):\n        return a", "assert Sum.of(1)"
    ),
    "handed to another function": row("def inc(x):\n    return x + 1", "assert list(map(inc, [1])) == [2]"),
    "handed by keyword": row("def key(x):\n    return -x", "assert sorted([1, 2], key=key) == [2, 1]"),
    "a lambda": row("add = lambda a, b: a + b"),
    "defined under if": row("if True:\n    def add(a, b):\n        return a + b"),
    "tests in a function": row(tests="def test_add():\n    assert add(1, 2) == 3\n\ntest_add()"),
    "unittest": row(
        tests="import unittest\nclass T(unittest.TestCase):\n    def test(self):\n"
        "        self.assertEqual(add(1, 2), 3)\nunittest.main(exit=False)"
    ),
    "an abstract method": row("class Shape:\n    def area(self):\n        pass\n\n\ndef add(a, b):\n    return a + b"),
    "a to-do list": row("def add(todo, item):\n    todo = 1  # the todo list\n    return 3"),
    "a to-do list's states": row("TODO, DONE = 'TODO', 'DONE'\ndef add(a, b):\n    return {TODO: a + b}[TODO]"),
    "a mask": row("def add(a, b):\n    return 'XXX'", "assert add(1, 2) == 'XXX'"),
    "a heading about to-do lists": row(words="# TODO List Manager"),
    "a mark in a string": row("def add(a, b):\n    return '#TODO' in a", "assert add('#TODO', 1)"),
    "a pattern": row("def add(a, b):\n    # numbers such as (XXX) XXX-XXXX\n    return a + b"),
    "overloads": row(
        f"import typing\n@typing.overload\ndef add(a: int, b: int) -> int: ...\n"
        f"@typing.overload\ndef add(a: str, b: str) -> str:\n    ...\n{CODE}"
    ),
    "members in a comprehension": row(
        "import enum\nclass Color(enum.Enum):\n    RED = 1", "assert [color.name for color in Color] == ['RED']"
    ),
    "members in a loop": row(
        "import enum\nclass Color(enum.Enum):\n    RED = 1", "for color in Color:\n    assert color.name == 'RED'"
    ),
    "a comparison that gives way": row(
        "class Sum:\n    def __eq__(self, other):\n        return NotImplemented if other is None else True",
        "assert Sum() == Sum()",
    ),
    "a base class": row(
        "class Shape:\n    def area(self):\n        raise NotImplementedError\n\n\n"
        "class Dot(Shape):\n    def area(self):\n        return 0",
        "assert Dot().area() == 0",
    ),
    "an abstract method that raises": row(
        "import abc\nclass Shape(abc.ABC):\n    @abc.abstractmethod\n    def area(self):\n"
        "        raise NotImplementedError",
        "class Dot(Shape):\n    def area(self):\n        return 0\nassert Dot().area() == 0",
    ),
    "a function of numpy.testing": row(tests="from numpy.testing import assert_equal\nassert_equal(add(1, 2), 3)"),
    "an error of pytest's": row(tests="import pytest\nwith pytest.raises(TypeError):\n    add(1, '2')"),
    "an error by hand": row(tests="try:\n    add(1, '2')\n    assert False\nexcept TypeError:\n    pass"),
    "an AssertionError": row(tests="if add(1, 2) != 3:\n    raise AssertionError('not 3')"),
    "a decorator": row(
        "def twice(f):\n    return lambda x: f(f(x))", "@twice\ndef inc(x):\n    return x + 1\nassert inc(1) == 3"
    ),
    "a table of functions": row(tests="for f, wanted in [(add, 3)]:\n    assert f(1, 2) == wanted"),
    "another name": row(tests="f = add\nassert f(1, 2) == 3"),
    "a table in the response": row(f"{CODE}\nOPS = {{'+': add}}", "assert OPS['+'](1, 2) == 3"),
    "an enumeration": row("import enum\nclass Color(enum.Enum):\n    RED = 1", "assert Color.RED.value == 1"),
    "a program": row("total = sum([1, 2])\nprint(total)", "assert total == 3"),
    "200 words": row(instruction="word " * 200),
    "two blocks": row() | {"response": f"{block('import math')}\nand\n{block(CODE)}"},
}
BAD = {
    "too_long": [row(CODE + "\n#" + "x" * MAX_CHARACTERS), row(words="word " * MAX_CHARACTERS)],
    "no_code_block": [row() | {"response": "Add them."}, row() | {"response": "```python\ndef add(a, b): ..."}],
    "no_test_block": [row() | {"tests": "assert add(1, 2) == 3"}, row() | {"tests": None}],
    "long_instruction": [row(instruction="word " * 201)],
    "does_not_compile": [row("def add(a, b)\n    pass"), row("return 1"), row(tests="assert add(1, 2 == 3")],
    "unfinished_code": [
        *(
            row(f"def add(a, b):\n    # {comment}\n    return 3")
            for comment in (
                *("TODO: add", "todo", "FIXME", "XXX: add", "XXX"),
                *("Your code here", "your implementation goes here"),
            )
        ),
        row("def add(a, b):\n    raise NotImplementedError"),
        row("class Sum:\n    def of(self, a):\n        raise NotImplementedError('later')", "Sum().of(1)"),
        row() | {"response": f"{block(CODE)}\n```\n# TODO\ndef more(\n```"},
        row() | {"response": f"{block(CODE)}\n```bash\nmake  # FIXME\n```"},
    ],
    "stub": [row('def add(a, b):\n    """Add."""'), row("def add(a, b):\n    ...")],
    "no_assertion": [row(tests="add(1, 2)"), row(tests="add(1, 2)\nassert True"), row(tests="print(add(1, 2) == 3)")],
    "tests_not_run": [row(tests="import math\ndef test():\n    assert add(1, 2) == 3")],
    "tests_do_not_call": [
        row(tests="assert 1 + 2 == 3"),
        row(tests="assert callable(add)"),
        row(tests="assert add.__name__ == 'add'"),
        row("class Sum:\n    def of(self, a):\n        return a", "assert callable(Sum.of)"),
        row(f"{CODE}\nx = add(1, 2)", "def check(x):\n    assert x == 3\ncheck(3)"),
        row(tests=f"{CODE}\n{TESTS}"),
        row(tests="def check():\n    assert len('abc') == 3\ncheck()"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("sample", GOOD.values(), ids=GOOD)
def test_a_good_sample_passes(sample):
    assert failed_filter(sample) is None


@pytest.mark.parametrize(("rule", "sample"), [(rule, sample) for rule, samples in BAD.items() for sample in samples])
def test_a_bad_sample_is_dropped_by_the_rule_that_it_breaks(rule, sample):
    assert failed_filter(sample) == rule


def test_there_is_a_bad_sample_for_each_rule():
    assert BAD.keys() == FILTERS.keys()


def test_a_rule_can_be_left_out():
    assert failed_filter(row(tests="assert 1 + 2 == 3"), ["tests_do_not_call"]) is None


@pytest.mark.parametrize(
    ("response", "names"),
    [
        (block("def add_all(x): return 1\nclass Sum:\n    def method(self): return 1"), {"addall", "sum"}),
        (block("def f(:"), set()),
        ("no code", set()),
    ],
)
def test_names_are_compared_without_case_and_underscores(response, names):
    assert names_of_definitions(response) == names


# ---- any text ----

FENCES = ["```", "````", "~~~", "~~~~", "```python", "~~~py", "``` Python x"]
FENCES += ["> ```", "- ```python", "    ```", "\t```"]
PIECES = [
    *FENCES,
    *("\n", "\r\n", "\r", "\0", "\ud800", "\u2028", "\x0c", " ", "> ", "- ", "1. ", "    ", "\t"),
    *("# Tests", "### Tests:", "===", "---", "<!--", "<div>", "[a]: b", "[", "](", "`", "*", "&amp;", "\\"),
    *(CODE, TESTS, "def f(", "class A:", "return", "lambda: 0", "'''", '"""', "f'{"),
    *("0" * 99, "@", "async ", "\\\n", "x" * 99),
]  # fmt: skip
texts = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=30).map("".join),
    st.lists(st.sampled_from(PIECES), max_size=30).map("\n".join),
    st.text(st.characters(codec=None, exclude_categories=()), max_size=200),
)
code = st.one_of(
    texts, st.recursive(st.sampled_from(["x", "1", "''"]), lambda e: st.tuples(e, e).map(lambda p: f"({p[0]}+{p[1]})"))
)
_, DECONTAMINATOR = decontaminator_of(DecontaminationOptions(decontaminate=("humaneval",)))
fast = settings(deadline=None, max_examples=100, derandomize=True)


@fast
@given(texts)
@example("```python\r\n```\r\n~~~\r\n```")
def test_no_text_makes_the_markdown_parser_raise(text):
    blocks = code_blocks(text)
    assert all(isinstance(each.code, str) for each in blocks)
    program = python_code(text)
    assert program is None or any(each.closed for each in blocks)
    before, after = split_at_heading(text, "### Tests")
    assert after is not None or before == text


@fast
@given(texts)
def test_a_block_in_a_longer_fence_comes_back_as_it_was(text):
    plain = "".join(c for c in text.replace("\r\n", "\n").replace("\r", "\n") if c != "\0")
    fence = "`" * (3 + max([0, *map(len, plain.split("\n"))]))
    (found,) = code_blocks(f"{fence}python\n{plain}\n{fence}")
    assert found.closed and found.code == plain + "\n"


@fast
@given(texts, code, code)
def test_no_row_makes_a_rule_raise(instruction, response, tests):
    for wrap in (str, block):
        sample = {"instruction": instruction, "response": wrap(response), "tests": wrap(tests)}
        assert failed_filter(sample) in (None, *FILTERS)
        for passes in FILTERS.values():
            passes(ParsedSample.of(sample))
        for what in (*SAME.values(), *SIMILAR.values()):
            what(sample)
        DECONTAMINATOR.match(sample["response"])


MEGABYTE = 1 << 20
# What is repeated; a megabyte of the slow pieces takes the Markdown parser seconds.
SLOW = [
    *("```\n", "1. a\n", "- a\n  - b\n", "# Tests\n", "a\n=\n"),
    *("[a]: b\n", "\n", "x\r\n", "> a\nb\n", "x = 1\n"),
]
REPEATED = [
    *("x", "> ", "- ", "`", "~", "[", "\t", " ", "#", "(", "-", "\0", "\ud800", ".a", "+1", '"""'),
    *("```python\n~~~\n", "<!-- ", "<div>\n", "assert f(1) == 1\n", "your code "),
    *SLOW,
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "piece", [pytest.param(piece, id=ascii(piece), marks=[pytest.mark.slow] * (piece in SLOW)) for piece in REPEATED]
)
def test_a_megabyte_of_anything_passes(piece):
    """Within the time limit, which what grows with the square of the length would exceed by far."""
    text = piece * (MEGABYTE // len(piece))
    sample = {"instruction": text, "response": text, "tests": text}
    assert failed_filter(sample) == "too_long"
    code_blocks(text)


@pytest.mark.parametrize("piece", REPEATED, ids=ascii)
def test_as_much_of_anything_as_is_looked_into_passes(piece):
    text = block(piece * ((MAX_CHARACTERS - 20) // len(piece)))
    sample = {"instruction": text, "response": text, "tests": text}
    parsed_sample = ParsedSample.of(sample)
    assert parsed_sample.code is not None or "```" in piece
    for passes in FILTERS.values():
        passes(parsed_sample)
    SIMILAR["near_code"](sample)
