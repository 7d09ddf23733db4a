"""The inputs that Python's tests have, and what they claim of them."""

import pytest

from selfalign.data.inputs import MAX_INPUTS, definitions_in, inputs_in, inputs_of


def calls(tests, *names):
    return [(each.setup, each.call, each.claimed) for each in inputs_of([list(inputs_in(tests, names or ("f",)))])]


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ("assert f(1) == 2", [("", "f(1)", "2")]),
        ("assert 2 == f(1)", [("", "f(1)", "2")]),
        ("assert [5] == f(1)", [("", "f(1)", "[5]")]),
        ("assert -5 == f(1)", [("", "f(1)", "-5")]),
        ("assert (1, 2) == f(1)", [("", "f(1)", "(1, 2)")]),
        ("assert sorted([2, 1]) == f(1)", [("", "f(1)", "sorted([2, 1])")]),
        ("expected = [1]\nassert expected == f(1)", [("", "f(1)", "expected")]),
        ("y = [1]\nx = f(1)\nassert y == x", [("x = f(1)", "x", "y")]),
        ("def twice(n): return f(n) * 2\nassert [2] == twice(1)", [
            ("def twice(n):\n    return f(n) * 2", "twice(1)", "[2]"),
        ]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertEqual(5, f(1))", [("", "f(1)", "5")]),
        ("assert f(1) == f(2)", [("", "f(1)", "f(2)")]),
        ("assert f(1)", [("", "f(1)", "True")]),
        ("assert not f(1), 'why'", [("", "f(1)", "False")]),
        ("assert len(f(1)) == 2", [("", "len(f(1))", "2")]),
        ("from solution import f\nassert f(1) == 2", [("", "f(1)", "2")]),
        ("import math\nassert f(math.pi) == 3", [("import math", "f(math.pi)", "3")]),
        ("x = [1]\nassert f(x) == 2", [("x = [1]", "f(x)", "2")]),
        ("s = f()\nassert s.pop() == 1\nassert s.pop() == 2", [
            ("s = f()", "s.pop()", "1"), ("s = f()\ns.pop()", "s.pop()", "2"),
        ]),
        ("s, t = f(), f()\nt.push(1)\nassert s.pop() == 1\nx = 3\nassert t.pop() == x\nassert s.pop() == 2", [
            ("s, t = (f(), f())\nt.push(1)", "s.pop()", "1"),
            ("s, t = (f(), f())\nt.push(1)\ns.pop()", "t.pop()", "x"),
            ("s, t = (f(), f())\nt.push(1)\ns.pop()\nt.pop()", "s.pop()", "2"),
        ]),
        ("s = f()\nt = f()\nt.push(1)\nassert s.pop() == 1\nassert t.pop() == 2", [
            ("s = f()", "s.pop()", "1"), ("t = f()\nt.push(1)", "t.pop()", "2"),
        ]),
        ("x = f(1)\nassert x == 1\nx = f(2)\nassert x == 2", [("x = f(1)", "x", "1"), ("x = f(2)", "x", "2")]),
        ("s = f()\ns.push(1)\ns = f()\nx = 1\nx = 2\ns.push(x)\nassert s.pop() == 2", [
            ("s = f()\nx = 2\ns.push(x)", "s.pop()", "2"),
        ]),
        ("x = [1]\ny = x\nx = [2]\nassert f(y) == 1\nassert f(x) == 2", [
            ("x = [1]\ny = x\nx = [2]", "f(y)", "1"), ("x = [1]\ny = x\nx = [2]\nf(y)", "f(x)", "2"),
        ]),
        ("x = [1]\nx = x + [2]\nassert f(x) == 1", [("x = [1]\nx = x + [2]", "f(x)", "1")]),
        ("import numpy as np\nassert f(np.ones(1)) == 1\nassert f(np.ones(2)) == 2", [
            ("import numpy as np", "f(np.ones(1))", "1"), ("import numpy as np", "f(np.ones(2))", "2"),
        ]),
        ("assert f(np.ones(1)) == 1\nassert f(np.ones(2)) == 2", [
            ("", "f(np.ones(1))", "1"), ("", "f(np.ones(2))", "2"),
        ]),
        ("import random\nrandom.seed(1)\nrandom.foo()\nx = random.random()\nassert f(x) == 1", [
            ("import random\nrandom.seed(1)\nx = random.random()", "f(x)", "1"),
        ]),
        ("def test_it():\n    x = 1\n    assert f(x) == 2", [("x = 1", "f(x)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 2)", [("", "f(1)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertEqual(f(self.x), 2)", []),
        ("def test_it():\n    x = 1\n    assert f(x) == 2\ntest_it()", [("x = 1", "f(x)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        x = 1\n        self.assertEqual(f(x), 2)\n"
         "if __name__ == '__main__':\n    unittest.main()", [("x = 1", "f(x)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        s = f()\n        self.assertIsNone(s.peek())\n"
         "        self.assertEqual(s.pop(), 1)", [
            ("s = f()", "s.peek()", "None"), ("s = f()\ns.peek()", "s.pop()", "1"),
        ]),
        ("def twice(n): return [n] * 2\nassert f(twice(1)) == 2", [
            ("def twice(n):\n    return [n] * 2", "f(twice(1))", "2"),
        ]),
        ("result = f(1)\nassert result == 2", [("result = f(1)", "result", "2")]),
        ("input = 1\nassert f(input) == 2", [("input_ = 1", "f(input_)", "2")]),
        ("list = f()\nlist.push(1)\nassert list.pop() == 1", [("list_ = f()\nlist_.push(1)", "list_.pop()", "1")]),
        ("list = f()\ndef test_a():\n    list.push(1)\n    assert list.pop() == 1", [
            ("list_ = f()\nlist_.push(1)", "list_.pop()", "1"),
        ]),
        ("sum = f(1)\nassert f(lambda sum, x: sum + x, sum) == 1", [
            ("sum_ = f(1)", "f(lambda sum, x: sum + x, sum_)", "1"),
        ]),
        ("x = [str for str in 'ab']\nassert f(str(5)) == 1", [
            ("x = [str for str in 'ab']", "f(str(5))", "1"),
        ]),
        ("def check(input):\n    input = f(input)\n    return input\nassert check(1) == 1", [
            ("def check(input):\n    input = f(input)\n    return input", "check(1)", "1"),
        ]),
        ("for str in ['a']: assert f(str, len(str)) == 2", [("", "f('a', len('a'))", "2")]),
        ("def test_a():\n    list = f()\n    assert list.x() == 1\ndef test_b():\n    assert list(f()) == [1]", [
            ("list_ = f()", "list_.x()", "1"), ("", "list(f())", "[1]"),
        ]),
        ("assert g(1) == 2", []),
        ("assert f == 2", []),
        ("assert f(1) ==", []),
        ("for x in [1, -2]:\n    assert f(x) == 2", [("", "f(1)", "2"), ("", "f(-2)", "2")]),
        ("for x, y in [(1, [2]), ('a', 3)]: assert f(x) == y", [("", "f(1)", "[2]"), ("", "f('a')", "3")]),
        ("cases = [(1, (2, 3))]\nfor a, (b, c) in cases:\n    result = f(a)\n    assert result == b + c, a", [
            ("result = f(1)", "result", "2 + 3"),
        ]),
        ("for x, y in zip([1, 2], (3,)):\n    assert f(x) == y", [("", "f(1)", "3")]),
        ("d = {'a': 1}\nfor k, v in d.items(): assert f(k) == v", [("", "f('a')", "1")]),
        ("for n, x in enumerate([5, 6]): assert f(x) == n", [("", "f(5)", "0"), ("", "f(6)", "1")]),
        ("for x in {'a': 1}: assert f(x)", [("", "f('a')", "True")]),
        ("for x in [[1], [2]]:\n    assert f(x, x) == 2", [
            ("x = [1]", "f(x, x)", "2"), ("x = [2]", "f(x, x)", "2"),
        ]),
        ("for s in [f()]:\n    s.push(1)\n    assert s.pop() == 1", [("s = f()\ns.push(1)", "s.pop()", "1")]),
        ("class T(TestCase):\n    def test_it(self):\n        for x, y in [(1, 2)]:\n"
         "            with self.subTest(x=x):\n                self.assertEqual(f(x), y)", [("", "f(1)", "2")]),
        ("for x in [1, 2]:\n    for y in [3]:\n        assert f(x, y) == 0", [
            ("", "f(1, 3)", "0"), ("", "f(2, 3)", "0"),
        ]),
        ("for x in ['\\n']:\n    y = f'{x}'\n    assert f(y) == 2", [("x = '\\n'\ny = f'{x}'", "f(y)", "2")]),
        ("for x in [1]: assert f(lambda x: x) == 2", []),
        ("for x in [1]:\n for y in [1]:\n  for z in [1]:\n   assert f(x, y, z) == 2", []),
        ("for x in range(3): assert f(x) == 2", []),
        ("for x in [1]:\n    x += 1\n    assert f(x) == 2", []),
        ("for x in [1]:\n    if x: break\n    assert f(x) == 2", []),
        ("for x, y in [(1, 2), 3]: assert f(x) == y", []),
        ("cases = cases\nfor x in cases: assert f(x) == 2", []),
        ("try:\n    f(1)\n    assert False\nexcept ValueError:\n    pass", [("", "f(1)", "ValueError")]),
        ("try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'no'", [("", "f(1)", "ValueError")]),
        ("try: f(1)\nexcept ValueError: pass\nelse: raise AssertionError", [("", "f(1)", "ValueError")]),
        ("s = f()\ntry:\n    s.push(1)\n    s.push(2)\n    assert False\nexcept OverflowError: pass\nassert s.pop()", [
            ("s = f()\ns.push(1)", "s.push(2)", "OverflowError"), ("s = f()\ns.push(1)", "s.pop()", "True"),
        ]),
        ("try:\n    f(1)\n    assert False\nexcept (KeyError, ValueError): pass", [("", "f(1)", None)]),
        ("try:\n    f(1)\n    assert False\nexcept: pass", [("", "f(1)", None)]),
        ("try:\n    x = f(1)\n    raise Exception('no')\nexcept Exception: pass", [("", "f(1)", None)]),
        ("with pytest.raises(ValueError, match='no'):\n    x = 1\n    f(x)", [("x = 1", "f(x)", "ValueError")]),
        ("class T(TestCase):\n    def test_it(self):\n        with self.assertRaises(json.JSONDecodeError):\n"
         "            f(1)", [("", "f(1)", "json.JSONDecodeError")]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertRaises(ValueError, f, 1, y=2)", [
            ("", "f(1, y=2)", "ValueError"),
        ]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertRaisesRegex(E, 'no', lambda: f(1))", [
            ("", "f(1)", "E"),
        ]),
        ("assert f(1) == ValueError('no')", [("", "f(1)", "ValueError('no')")]),
        ("assert f(1) is KeyError", [("", "f(1)", "KeyError")]),
        ("try:\n    assert f(1) == 2\n    print('passed')\nexcept AssertionError: print('failed')", []),
        ("try:\n    assert f(1) == 2\n    print('passed')\nexcept Exception: print('failed')", []),
        ("try: f(1)\nexcept ValueError: assert False", []),
        ("try: f(1)\nexcept ValueError: sys.exit(1)", []),
        ("try: x = f(1)\nexcept ValueError: x = None\nassert x == 9", []),
        ("try: x = f(1)\nexcept ValueError: print('FAILED')\nelse: assert x == 0", []),
        ("def test_it(input, expected):\n    assert f(input) == expected\n    assert f(1) == 2", [("", "f(1)", "2")]),
        ("s = f()\nwhile s.x: s.push(1)\nassert s.pop() == 1\nassert f(1) == 2", [("", "f(1)", "2")]),
        ("s = f()\nfor i in range(3): s.push(i)\nassert s.pop() == 2", [
            ("s = f()\nfor i in range(3):\n    s.push(i)", "s.pop()", "2"),
        ]),
        ("s = f()\nfor i in range(3):\n    s.push(i)\n    assert s.top == i\nassert s.pop() == 2", []),
        ("import random\nrandom.seed(1)\nx = [1]\nassert f(x) == 1", [
            ("import random\nrandom.seed(1)\nx = [1]", "f(x)", "1"),
        ]),
        ("async def go(x): return await f(x)\nassert asyncio.run(go(1)) == 1", [
            ("async def go(x):\n    return await f(x)", "asyncio.run(go(1))", "1"),
        ]),
        ("from solution import *\nx = 4\nassert f(x) == 1", [("x = 4", "f(x)", "1")]),
        ("c = [(1, 2)]\nfor x, y in c: assert f(x) == y\nc = [(1, 20)]\nfor x, y in c: assert f(x, 10) == y", [
            ("", "f(1)", "2"), ("", "f(1, 10)", "20"),
        ]),
        ("for x in [1]:\n    y = f(x)\n    assert y == 2\ny = f(10)\nassert y == 20", [
            ("y = f(1)", "y", "2"), ("y = f(10)", "y", "20"),
        ]),
        ("for i in range(3): assert f(i) == i\nassert f([i for i in range(2)]) == [0, 1]", [
            ("", "f([i for i in range(2)])", "[0, 1]"),
        ]),
        ("s = f()\nfor x in [3, 4]:\n    s.push(x)\n    assert s.peek() == x\nassert s.size() == 2", [
            ("s = f()\ns.push(3)", "s.peek()", "3"),
            ("s = f()\ns.push(3)\ns.peek()\ns.push(4)", "s.peek()", "4"),
            ("s = f()\ns.push(3)\ns.peek()\ns.push(4)\ns.peek()", "s.size()", "2"),
        ]),
        ("class T(TestCase):\n    def test_it(self):\n        s = f()\n        with self.subTest('push'):\n"
         "            s.push(1)\n        self.assertEqual(s.pop(), 1)", [("s = f()\ns.push(1)", "s.pop()", "1")]),
        ("data = [1, 2]\ns = f()\nfor x in data: s.push(x)\nassert s.pop() == 2", [
            ("s = f()\ns.push(1)\ns.push(2)", "s.pop()", "2"),
        ]),
        ("data = sorted([1, 2])\ns = f()\nfor x in data: s.push(x)\nassert s.pop() == 2", [
            ("data = sorted([1, 2])\ns = f()\nfor x in data:\n    s.push(x)", "s.pop()", "2"),
        ]),
        ("s = f()\nfor x in data(): s.push(x)\nassert s.pop() == 1\ns = f()\nassert s.pop() == 2", [
            ("s = f()", "s.pop()", "2"),
        ]),
        ("class T(TestCase):\n    def test_it(self):\n        x = f(1)\n        self.assertRegex(x, 'a')\n"
         "        self.assertIn('a', x)\n        self.assertTrue(x == 'a')", [
            ("x = f(1)", "'a' in x", "True"), ("x = f(1)", "x", "'a'"),
        ]),
        ("def check(x): return f(x)\nfor x in [1]: assert check(x) == x\nassert check(5) == 5", [
            ("def check(x):\n    return f(x)", "check(1)", "1"), ("def check(x):\n    return f(x)", "check(5)", "5"),
        ]),
        ("p = f()\nwith pytest.raises(ValueError): p.age = -1\nassert p.name() == 'a'", [
            ("p = f()", "p.name()", "'a'"),
        ]),
        ("p = f()\nwith pytest.raises(ValueError): p.exit('car')\nassert p.count() == 0", [
            ("p = f()", "p.exit('car')", "ValueError"), ("p = f()", "p.count()", "0"),
        ]),
        ("import random\nx = 1\nrandom.seed(x)\nassert f(3) == 1\nx = 2\nrandom.seed(x)\nassert f(4) == 2", [
            ("import random\nx = 1\nrandom.seed(x)", "f(3)", "1"),
            ("import random\nx = 2\nrandom.seed(x)", "f(4)", "2"),
        ]),
        ("g = f()\ng.seed('a')\nassert f(1) == 1", [("", "f(1)", "1")]),
        ("f.set_rate(2)\nf.kind = 'a'\nx = f(1)\nassert f(3) == 3\nassert x.rate() == 2", [
            ("f.set_rate(2)\nf.kind = 'a'", "f(3)", "3"), ("f.set_rate(2)\nf.kind = 'a'\nx = f(1)", "x.rate()", "2"),
        ]),
        ("def test_it(item):\n    s = f()\n    assert s.push(item) is True\n    assert s.size() == 1", []),
        ("def test_it(item):\n    assert f.of(math.floor(item)).n() == 1\n    assert f(math.pi) == 3", [
            ("", "f(math.pi)", "3"),
        ]),
        ("def test_it(item):\n    np.show(item)\n    assert f(np.ones(1)) == 3", [("", "f(np.ones(1))", "3")]),
        ("def test_it(want):\n    assert f(1) == want", [("", "f(1)", None)]),
        ("try: x = f(5)\nexcept ValueError as e: print(e)\nassert f(1) == 25", [("", "f(1)", "25")]),
        ("try:\n    f(5)\n    assert False\nexcept ValueError as e:\n    text = str(e)\n    assert text == 'no'", [
            ("", "f(5)", "ValueError"),
        ]),
        ("x = f(2)\nassert abs(x - math.sqrt(2)) < 0.1", [
            ("x = f(2)", "x", None), ("x = f(2)", "abs(x - math.sqrt(2)) < 0.1", "True"),
        ]),
        ("try: import numpy\nexcept ImportError: numpy = None\nassert f(1) == 2", [("", "f(1)", "2")]),
        ("with pytest.raises(ValueError): pass\nassert f(1) == 2", [("", "f(1)", "2")]),
        ("assert np.array_equal(f(1), [2])", [("", "f(1)", None)]),
        ("np.testing.assert_array_equal(np.array([2]), f(1))", [("", "f(1)", "np.array([2])")]),
        ("assert torch.equal(f(1), torch.ones(2))", [("", "f(1)", "torch.ones(2)")]),
        ("assert (f(1) == np.array([2])).all()", [("", "f(1)", "np.array([2])")]),
        ("pd.testing.assert_frame_equal(f(1), y)", [("", "f(1)", "y")]),
        ("assert f(1).equals(y)", [("", "f(1).equals(y)", "True")]),
        ("assert (f(1) == 2).all()", [("", "f(1)", None)]),
        ("assert s.equal(f(1), f(2))", [("", "s.equal(f(1), f(2))", "True")]),
        ("assert abs(f(2) - 1.41) < 0.1", [("", "f(2)", None), ("", "abs(f(2) - 1.41) < 0.1", "True")]),
        ("assert abs(1.41 - f(2)) <= 0.1", [("", "f(2)", None), ("", "abs(1.41 - f(2)) <= 0.1", "True")]),
        ("x = f(2)\nassert math.isclose(x, 1.41, rel_tol=0.1)", [
            ("x = f(2)", "x", None), ("x = f(2)", "math.isclose(x, 1.41, rel_tol=0.1)", "True"),
        ]),
        ("assert f(2) == pytest.approx(1.41)", [("", "f(2)", None)]),
        ("np.testing.assert_allclose([1.41], f(2))", [("", "f(2)", None)]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertAlmostEqual(f(2), 1.41, places=2)", [
            ("", "f(2)", None),
        ]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertIsNone(f(2))\n"
         "        self.assertIsInstance(f(1), int)\n        self.assertDictEqual(f(3), {})", [
            ("", "f(2)", "None"), ("", "f(1)", None), ("", "f(3)", "{}"),
        ]),
        ("assert abs(f(2)) < 3", [("", "abs(f(2)) < 3", "True")]),
        ("assert all(f(1))", [("", "all(f(1))", "True")]),
        ("assert f(1).equal(2)", [("", "f(1).equal(2)", "True")]),
    ],
)  # fmt: skip
def test_the_inputs_of_tests(tests, expected):
    assert calls(tests) == expected


@pytest.mark.parametrize("tests", ["assert f(1) == {}", "x = {}\nassert f(x) == 1", "for x in [{}]: assert f(x) == 1"])
def test_deep_nesting_has_no_inputs(tests):
    """As of a model that repeats itself."""
    assert calls(tests.format("+".join("1" * 500))) == []


def test_loops_in_loops_take_no_time():
    many = repr(list(range(10_000)))
    tests = f"for a in {many}:\n for b in {many}:\n  assert f(a, b) == 0"
    assert len(list(inputs_in(tests, {"f"}))) == MAX_INPUTS**2


def test_each_input_counts_once_and_each_suite_has_its_turn():
    suites = [f"assert f({n}) == 0\nassert f(-1) == 1\nassert f({n} + 100) == 0" for n in range(MAX_INPUTS)]
    found = inputs_of([list(inputs_in(tests, {"f"})) for tests in suites])
    assert len(found) == len(set(found)) == MAX_INPUTS
    assert {each.call for each in found} >= {f"f({n})" for n in range(MAX_INPUTS - 1)}


def test_definitions():
    assert definitions_in("import os\ndef f(): pass\nclass A:\n    def g(self): pass\nasync def h(): pass") == {
        "f",
        "A",
        "h",
    }
    assert definitions_in("def (") == set()
