"""The functions of a file, and which imports each of them gets."""

import ast
import sys

import pytest

from selfalign.code.functions import WELL_KNOWN, functions_of, with_imports


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
    {
        "a module": ("re.sub(x)", "import re"),
        "an alias": ("np.array(x)", "import numpy as np"),
        "a class": ("defaultdict(x)", "from collections import defaultdict"),
        "in an annotation": ("lambda y: (y for y in List[int])", "from typing import List"),
        "a submodule": ("ET.parse(x)", "import xml.etree.ElementTree as ET"),
        "the module datetime": ("datetime.timedelta(x)", "import datetime"),
        "the class datetime": ("datetime.strptime(x)", "from datetime import datetime"),
        "the class datetime, not called": ("isinstance(x, datetime)", "from datetime import datetime"),
        "the function copy": ("copy(x)", "from copy import copy"),
        "the module copy": ("copy.copy(x)", "import copy"),
    }.values(),
)
def test_well_known_names_that_the_file_does_not_import_are_imported(expression, statement):
    assert imports("", f"return {expression}") == ([statement], set())


def test_a_string_annotation_counts_as_use():
    assert imports("import numpy as np", arguments="x: 'np.ndarray'") == (["import numpy as np"], set())


@pytest.mark.parametrize("binding", ["re = 1", "def re(): pass", "class re: pass", "from .lib import re"])
def test_a_name_that_the_file_defines_itself_is_not_taken_for_a_well_known_one(binding):
    if binding.startswith("def"):
        functions = functions_in(f"{binding}\ndef f(x):\n    return re(x)")
        assert with_imports(functions[1]).undefined == {"re"}
    else:
        assert imports(binding, "return re(x)") == ([], {"re"})


@pytest.mark.parametrize(
    ("binding", "expected"),
    {
        "import": ("from math import pow", (["from math import pow"], set())),
        "assignment": ("pow = 1", ([], {"pow"})),
        "one of several": ("pow, other = 1, 2", ([], {"pow"})),
        "relative import": ("from .lib import pow", ([], {"pow"})),
        "for Python 2": ("from six.moves import pow", ([], set())),
        "for Python 2, if at all": ("if old:\n    pow = other", ([], set())),
    }.values(),
)
def test_a_builtin_that_the_file_gives_another_meaning_is_no_builtin(binding, expected):
    assert imports(binding, "return pow(x, 2)") == expected


def test_a_function_may_have_the_name_of_a_builtin():
    sum_, other = functions_in("def sum(x):\n    return x\ndef f(x):\n    return sum(x)")
    assert (with_imports(sum_).undefined, with_imports(other).undefined) == (set(), {"sum"})


@pytest.mark.parametrize("end", ["\r\n", "\r", "\r\r\n"])
def test_every_line_end_counts_as_python_counts_it(end):
    source = f"x = 1{end}def f(x):{end}    return x{end}y = 2{end}"
    assert [line for line in functions_in(source)[0].source.split("\n") if line] == ["def f(x):", "    return x"]


def test_a_byte_order_mark_is_no_part_of_the_file():
    assert functions_in("\ufeffdef f(x):\n    return x")[0].source == "def f(x):\n    return x"


@pytest.mark.parametrize("order", [1, -1])
def test_several_modules_of_one_package_are_imported_if_they_are_used(order):
    source = "\n".join(["import xml.dom.minidom", "import xml.sax.saxutils", "import xml.sax.handler"][::order])
    statements, _ = imports(source, "return xml.dom.minidom.parse(xml.sax.saxutils.escape(x))")
    assert {"import xml.dom.minidom", "import xml.sax.saxutils"} <= set(statements)


def test_a_fallback_for_a_missing_package_is_no_definition():
    guarded = "try:\n    import numpy as np\nexcept ImportError:\n    np = None"
    assert imports(guarded, "return np.array(x)") == (["import numpy as np"], set())


def test_imports_inside_of_if_and_try_are_found():
    guarded = (
        "if True:\n    try:\n        from mine import thing\n    except ImportError:\n        from other import thing"
    )
    assert imports(guarded, "return thing(x)") == (["from mine import thing"], set())


def test_an_argument_with_the_name_of_an_import_needs_no_import():
    assert imports("import platform", "return platform", "platform") == ([], set())


def test_after_a_star_only_modules_and_its_own_names_are_well_known():
    assert imports("from numpy import *", "return sqrt(x), re")[1] == {"sqrt"}
    assert imports("from math import *", "return sqrt(x)") == (["from math import sqrt"], set())


def test_the_well_known_names_of_the_standard_library_are_there():
    for node in ast.parse(WELL_KNOWN).body:
        module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        if module.split(".")[0] in sys.stdlib_module_names:
            exec(ast.unparse(node), {})


def test_decorators_belong_to_the_source_and_need_imports():
    (function,) = functions_in("import functools\n@functools.cache\ndef f(x):\n    return x")
    assert with_imports(function).content.startswith("import functools\n\n\n@functools.cache\ndef f")
