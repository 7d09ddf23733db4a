"""Which rows repeat another: by each rule of step 6, and by a step of its own that shards may divide."""

import random

import pytest

from selfalign.code.near_duplicates import near_duplicates
from selfalign.data.duplicates import near_duplicates_by_step, repeated_rows
from selfalign.options import StepOptions
from selfalign.runner.source import read_input
from tests.data.tools import WORDS, sample
from tests.helpers import read_rows, run_json, run_well, write_rows

LONG = """def {name}(x):
    total = 0
    for item in x:
        if item > 3:
            total += item * item
    return total

x = 1
y = [x] * 5
z = (x for x in y if x > 2)
print(x, y, z)
"""

TWINS = {
    "same_instruction": (sample("sort"), sample("count") | {"instruction": WORDS["sort"].replace(" ", "\n  ")}),
    "same_response": (
        sample("sort"),
        sample("count") | {"response": sample("sort")["response"].replace("\n\n", "\n \n\n")},
    ),
    "same_names": (sample("sort"), sample("count", code="def Sort_(y):\n    return sorted(y)")),
    "near_instruction": (sample("sort"), sample("count") | {"instruction": WORDS["sort"].replace("itself", "as such")}),
    "near_response": (
        sample("sort", words=WORDS["sort"] * 3, code="def f(x): return 1"),
        sample("count", words=WORDS["sort"] * 3, code="def g(y): return 2"),
    ),
    "near_code": (
        sample("sort", words=WORDS["sort"], code=LONG.format(name="a").replace("0\n", "0  # One.\n")),
        sample("count", words=WORDS["count"], code='"""Two."""\n' + LONG.format(name="b")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", TWINS)
def test_what_repeats_another_is_found_by_its_rule_and_the_lowest_lot_stays(rule):
    a, b = TWINS[rule]
    others = [sample("merge"), sample("split"), sample("join")]
    assert repeated_rows([a, *others, b], list("vwxyz")) == {4: (rule, 0)}
    assert repeated_rows([a, *others, b], list("zyxwv")) == {0: (rule, 4)}


@pytest.mark.parametrize("rule", ["same_instruction", "same_names"])
def test_a_rule_for_duplicates_can_be_left_out(rule):
    found = repeated_rows(list(TWINS[rule]), ["a", "b"], [rule])
    assert rule not in {rule for rule, _ in found.values()}


def test_what_is_kept_instead_is_a_row_that_stays():
    """The second repeats the first one's names, the third the second one's instruction; the second is dropped."""
    rows = [sample("sort"), sample("count") | {"response": sample("sort", 1)["response"]}, sample("count", 9)]
    found = repeated_rows(rows, ["c", "a", "b"])
    assert found[2] == ("same_instruction", 1) and found[0] == ("same_names", 1)
    found = repeated_rows(rows, ["a", "b", "c"])
    assert found == {2: ("same_instruction", 0), 1: ("same_names", 0)}


def test_rows_without_definitions_do_not_repeat_each_other():
    rows = [sample("sort", code="a = 1\nprint(a)"), sample("count", code="b = 2\nprint(b)")]
    assert repeated_rows(rows, ["a", "b"]) == {}


# ---- a step of its own ----


def rows_of(count):
    """Rows of random words, and for every fourth one another row with one word changed."""
    draws = random.Random(0)
    texts = [[f"word{draws.randrange(2000)}" for _ in range(60)] for _ in range(count)]
    texts += [[*text[:i], "changed", *text[i + 1 :]] for i, text in enumerate(texts[::4])]
    return [{"id": f"{draws.random()}", "content": " ".join(text)} for text in texts]


@pytest.mark.parametrize("shards", [1, 3])
def test_by_step_finds_the_same_groups_for_any_number_of_shards(tmp_path, shards):
    rows = rows_of(200)
    source = write_rows(tmp_path / "rows.jsonl", rows)

    def by_step(shard=None):
        options = StepOptions(input=str(source), output=str(tmp_path / "out"), shard=shard)
        return near_duplicates_by_step(options, read_input(options, "id"), lambda row: row["content"], 0.7, "x")

    for number in range(shards - 1):
        with pytest.raises(SystemExit):  # the others have rows to do
            by_step(f"{number}/{shards}")
    ids = [row["id"] for row in rows]
    first = near_duplicates([row["content"] for row in rows], ids, 0.7)
    assert by_step() == {ids[i]: ids[f] for i, f in enumerate(first) if f != i}
    assert len(by_step()) == 50


@pytest.mark.slow
def test_seeds_are_the_same_with_an_executor(tmp_path):
    body = "".join(f"    x = x + {i} * word{i}(x)\n" for i in range(30))
    functions = [f'def f{i}(x, {", ".join(f"word{n}" for n in range(30))}):\n    """D."""\n{body}' for i in range(2)]
    functions += ['def g(x):\n    """Other."""\n    return [y for y in x if y]']
    files = write_rows(tmp_path / "files.jsonl", [{"content": f"{f}\n    return x"} for f in functions])
    for name, more in (("one", ()), ("two", ("--executor", "local", "--shards", 2, "--workers", 1))):
        run_well("collect_seeds", files, tmp_path / name, "--type-checker", "none", *more)
    assert read_rows(tmp_path / "one") == read_rows(tmp_path / "two")
    assert run_json(tmp_path / "two")["funnel"][-1]["counts"]["near_duplicates"] == 1
    assert run_json(tmp_path / "two-signatures-content")["complete"]
