"""The functions of a file, and which imports each of them gets."""

import ast
import sys

import pytest

from selfalign.code.functions import WELL_KNOWN, functions_of, parts_that_parse, with_imports


def functions_in(source):
    functions = functions_of(source)
    assert functions is not None
    return functions


def imports(source, body="return x", arguments="x"):
    """The import statements that a function gets in a file that begins with `source`, and what stays undefined."""
    (function,) = functions_in(f"{source}\ndef f({arguments}):\n    {body}\n")
    function = with_imports(function)
    return sorted(statement for statement, _ in function.imports), set(function.undefined)


@pytest.mark.parametrize(
    ("expression", "statement"),
    [
        ("re.sub(x)", "import re"),
        ("np.array(x)", "import numpy as np"),
        ("defaultdict(x)", "from collections import defaultdict"),
        ("lambda y: (y for y in List[int])", "from typing import List"),
        ("ET.parse(x)", "import xml.etree.ElementTree as ET"),
        ("datetime.timedelta(x)", "import datetime"),
        ("datetime.strptime(x)", "from datetime import datetime"),
        ("isinstance(x, datetime)", "from datetime import datetime"),
        ("copy(x)", "from copy import copy"),
        ("copy.copy(x)", "import copy"),
    ],
)
def test_well_known_names_that_the_file_does_not_import_are_imported(expression, statement):
    assert imports("", f"return {expression}") == ([statement], set())


GUARDED = "try:\n    import numpy as np\nexcept ImportError:\n    np = None"
TWICE = "if True:\n    try:\n        from mine import thing\n    except ImportError:\n        from other import thing"


@pytest.mark.parametrize(
    ("source", "expression", "expected"),
    {
        "its own variable": ("re = 1", "re(x)", ([], {"re"})),
        "its own class": ("class re: pass", "re(x)", ([], {"re"})),
        "a name of its project": ("from .lib import re", "re(x)", ([], {"re"})),
        "builtin: import": ("from math import pow", "pow(x, 2)", (["from math import pow"], set())),
        "builtin: assignment": ("pow = 1", "pow(x, 2)", ([], {"pow"})),
        "builtin: one of several": ("pow, other = 1, 2", "pow(x, 2)", ([], {"pow"})),
        "builtin: relative import": ("from .lib import pow", "pow(x, 2)", ([], {"pow"})),
        "builtin: for Python 2": ("from six.moves import pow", "pow(x, 2)", ([], set())),
        "builtin: for Python 2, if at all": ("if old:\n    pow = other", "pow(x, 2)", ([], set())),
        "a fallback for a missing package": (GUARDED, "np.array(x)", (["import numpy as np"], set())),
        "imports inside of if and try": (TWICE, "thing(x)", (["from mine import thing"], set())),
        "a star, then a module": ("from numpy import *", "re.sub(x)", (["import re"], set())),
        "a star, then any name": ("from numpy import *", "sqrt(x)", ([], {"sqrt"})),
        "a star with this name": ("from math import *", "sqrt(x)", (["from math import sqrt"], set())),
    }.values(),
)
def test_what_the_file_says_of_a_name_counts(source, expression, expected):
    assert imports(source, f"return {expression}") == expected


@pytest.mark.parametrize("name", ["re", "sum"])
def test_a_function_may_have_the_name_of_a_module_or_a_builtin(name):
    first, other = functions_in(f"def {name}(x):\n    return x\ndef f(x):\n    return {name}(x)")
    assert (with_imports(first).undefined, with_imports(other).undefined) == (set(), {name})


def test_arguments_need_no_imports_but_their_annotations_do():
    assert imports("import numpy as np", arguments="x: 'np.ndarray'") == (["import numpy as np"], set())
    assert imports("import platform", "return platform", "platform") == ([], set())


@pytest.mark.parametrize("order", [1, -1])
def test_several_modules_of_one_package_are_imported_if_they_are_used(order):
    source = "\n".join(["import xml.dom.minidom", "import xml.sax.saxutils", "import xml.sax.handler"][::order])
    statements, _ = imports(source, "return xml.dom.minidom.parse(xml.sax.saxutils.escape(x))")
    assert {"import xml.dom.minidom", "import xml.sax.saxutils"} <= set(statements)


def test_the_well_known_names_of_the_standard_library_exist():
    for node in ast.parse(WELL_KNOWN).body:
        module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        if module.split(".")[0] in sys.stdlib_module_names:
            exec(ast.unparse(node), {})


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\r\r\n"])
@pytest.mark.parametrize("before", ["", "\ufeff", "x = 1\n"])
def test_byte_order_marks_and_line_ends_count_as_python_counts_them(before, end):
    source = f"{before}def f(x):\n    return x\ny = 2\n".replace("\n", end)
    assert [line for line in functions_in(source)[0].source.split("\n") if line] == ["def f(x):", "    return x"]


def test_decorators_belong_to_the_source_and_need_imports():
    (function,) = functions_in("import functools\n@functools.cache\ndef f(x):\n    return x")
    assert with_imports(function).content.startswith("import functools\n\n\n@functools.cache\ndef f")


def test_a_file_that_is_nested_too_deeply_has_no_functions():
    branches = "".join(f"elif x == {i}:\n    pass\n" for i in range(1500))
    assert not functions_of(f"if x:\n    pass\n{branches}\ndef f(x):\n    return x")


def test_functions_of_python_3_are_salvaged_from_a_file_of_python_2():
    source = (
        "import math\n\ndef old(x):\n    print x\n\n# a comment\n@cached\ndef new(x):\n    return math.pi * x\n\n"
        "if x:\n    a = 1\nelse:\n    a = 2\nprint 'end'\ndef last(y):\n    return y\n"
    )
    assert functions_of(source) is None
    new, last = map(with_imports, functions_of(parts_that_parse(source)))
    assert new.content.startswith("import math\n") and "@cached\ndef new(x):" in new.source
    assert last.source == "def last(y):\n    return y"


def test_nothing_is_salvaged_from_a_file_without_a_line_at_the_margin():
    assert functions_of(parts_that_parse("# a fragment\n    def f(x):\n        return x +\n")) == []


@pytest.mark.parametrize("decorator", ["@jit(\n    nopython=True,\n)", "@cached\n# It is slow.", "@cached\n\n@jit"])
def test_a_part_of_a_file_keeps_its_decorators(decorator):
    found = functions_of(parts_that_parse(f"print 'start'\n{decorator}\ndef f(x):\n    return x\n"))
    assert found and [function.source for function in found] == [f"{decorator}\ndef f(x):\n    return x"]
