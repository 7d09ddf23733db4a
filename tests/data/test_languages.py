"""What is asked of a program in either language."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.data.languages import branches_of

BRANCHES = {
    "python": {
        "def f(x):\n    return sorted(x)": 0,
        "if x:\n    y = 1\nelse:\n    y = 2": 1,
        "if x:\n    y = 1\nelif z:\n    y = 2": 2,
        "y = 1 if x else 2": 1,
        "for a in x:\n    while a:\n        a -= 1": 2,
        "y = [b for a in x for b in a]": 2,
        "try:\n    f()\nexcept ValueError:\n    pass": 1,
        "match x:\n    case 1:\n        y = 2\n    case _:\n        y = 3": 2,
        "y = 1\nif __name__ == '__main__':\n    if y:\n        print(y)": 0,  # what runs only by itself
        "def f(:": None,
    },
    "javascript": {
        "const f = (x) => [...x].sort();": 0,
        "if (x) { y = 1; } else { y = 2; }": 1,
        "if (x) { y = 1; } else if (z) { y = 2; }": 2,
        "const y = x ? 1 : 2;": 1,
        "for (const a of x) { while (a) { b(); } do { c(); } while (d); }\nfor (;;) { e(); }": 4,
        "try { f(); } catch { g(); }": 1,
        "switch (x) { case 1: y = 2; break; case 2: y = 3; break; default: y = 4; }": 2,
        "function f( {": None,
    },
}


@pytest.mark.parametrize(
    ("language", "code", "branches"),
    [(language, code, number) for language, cases in BRANCHES.items() for code, number in cases.items()],
)
def test_branches(language, code, branches):
    row = {"response": f"Here it is.\n\n```{language}\n{code}\n```", "language": language}
    assert branches_of(row) == branches


@settings(deadline=None)
@given(st.text(), st.sampled_from(["python", "javascript"]))
def test_any_text_has_a_number_of_branches_or_none(text, language):
    found = branches_of({"response": text, "language": language})
    assert found is None or found >= 0
