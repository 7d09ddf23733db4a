"""Functions as tokens: what is the same in other clothes, and what is not."""

import pytest

from selfalign.code.syntax_tokens import tokens_in_code

COUNT = "def f(count, key):\n    return sorted([count.count(key)], key=key)"
CLASS = "class A:\n    def put(self, x):\n        self.items = [x]\n        return self.put(self.items)"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    {
        "variables": (COUNT, "def g(a, b):\n    return sorted([a.count(b)], key=b)", True),
        "a method of another": (COUNT, "def g(a, b):\n    return sorted([a.index(b)], key=b)", False),
        "a builtin": ("def f(x):\n    return len(x)", "def f(x):\n    return sum(x)", False),
        "the order of names": ("def f(a, b):\n    return a - b", "def f(a, b):\n    return b - a", False),
        "a class": (CLASS, CLASS.replace("items", "things").replace("put", "add").replace("A:", "B:"), True),
    }.values(),
)
def test_only_names_that_the_code_defines_can_be_replaced(one, other, same):
    assert (tokens_in_code(one) == tokens_in_code(other)) == same
