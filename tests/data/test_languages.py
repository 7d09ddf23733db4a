"""What is asked of a program in either language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.data.languages import branches_of


def row(code, language):
    return {"response": f"Here it is.\n\n```{language}\n{code}\n```", "tests": "", "language": language}


@pytest.mark.parametrize(
    ("code", "branches"),
    {
        "a call": ("def f(x):\n    return sorted(x)", 0),
        "a condition with two sides": ("if x:\n    y = 1\nelse:\n    y = 2", 1),
        "elif": ("if x:\n    y = 1\nelif z:\n    y = 2", 2),
        "an expression": ("y = 1 if x else 2", 1),
        "loops": ("for a in x:\n    while a:\n        a -= 1", 2),
        "a comprehension of two": ("y = [b for a in x for b in a]", 2),
        "a handler": ("try:\n    f()\nexcept ValueError:\n    pass", 1),
        "cases": ("match x:\n    case 1:\n        y = 2\n    case _:\n        y = 3", 2),
        "a main block does not count": ("y = 1\nif __name__ == '__main__':\n    if y:\n        print(y)", 0),
        "no program": ("def f(:", None),
    }.values(),
)
def test_branches_of_python(code, branches):
    assert branches_of(row(code, "python")) == branches


@pytest.mark.parametrize(
    ("code", "branches"),
    {
        "a call": ("const f = (x) => [...x].sort();", 0),
        "a condition with two sides": ("if (x) { y = 1; } else { y = 2; }", 1),
        "else if": ("if (x) { y = 1; } else if (z) { y = 2; }", 2),
        "an expression": ("const y = x ? 1 : 2;", 1),
        "loops": ("for (const a of x) { while (a) { b(); } do { c(); } while (d); }\nfor (;;) { e(); }", 4),
        "a handler": ("try { f(); } catch { g(); }", 1),
        "cases": ("switch (x) { case 1: y = 2; break; case 2: y = 3; break; default: y = 4; }", 2),
        "no program": ("function f( {", None),
    }.values(),
)
def test_branches_of_javascript(code, branches):
    assert branches_of(row(code, "javascript")) == branches


@settings(deadline=None)
@given(st.text(), st.sampled_from(["python", "javascript"]))
def test_any_text_has_a_number_of_branches_or_none(text, language):
    found = branches_of({"response": text, "tests": None, "language": language})
    assert found is None or found >= 0
