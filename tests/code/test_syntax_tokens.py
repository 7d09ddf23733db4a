"""Functions as tokens: what is the same in other clothes, and what is not."""

from selfalign.code.syntax_tokens import tokens_in_code


def test_a_name_of_a_variable_is_not_mistaken_for_a_method_or_a_keyword():
    one = "def f(count, key):\n    return sorted([count.count(key)], key=key)"
    other = "def g(a, b):\n    return sorted([a.count(b)], key=b)"
    (first,), (second,) = tokens_in_code(one), tokens_in_code(other)
    assert first == second
    assert tokens_in_code(other.replace(".count", ".index")) != [first]


def test_builtins_keep_their_names():
    assert tokens_in_code("def f(x):\n    return len(x)") != tokens_in_code("def f(x):\n    return sum(x)")


def test_the_order_of_names_counts():
    assert tokens_in_code("def f(a, b):\n    return a - b") != tokens_in_code("def f(a, b):\n    return b - a")


def test_methods_and_attributes_of_a_class_can_be_renamed():
    one = "class A:\n    def put(self, x):\n        self.items = [x]\n        return self.put(self.items)"
    assert tokens_in_code(one) == tokens_in_code(
        one.replace("items", "things").replace("put", "add").replace("A:", "B:")
    )
