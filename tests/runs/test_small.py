"""The experiment of equal arms: what it calls, how the arms are drawn, and what it concludes."""

import csv
import json
from pathlib import Path

import pytest
import tyro

from runs.arms import ARMS, drawn
from runs.effect import conclusions, problems_needed
from runs.settings import SETTINGS
from runs.small import PAIRS, Experiment, Options, check_arms, check_folder, make_arms, readable
from selfalign.errors import UserError
from selfalign.statistics import mean_over_trainings
from tests.helpers import ROOT, load_script, write_rows

BENCHMARKS = dict.fromkeys(PAIRS)


def experiment(**more):
    return Experiment(Options(settings="plain", **more), "./out", BENCHMARKS)


def options_from(words):
    """The options that a script, or a module of runs, makes of its arguments."""
    if words[0] == "-m":
        module = __import__(words[1], fromlist=["Options"])
        return tyro.cli(module.Options, args=words[2:])
    return tyro.cli(load_script(words[0].removesuffix(".py")).Options, args=words[1:])


def test_every_command_is_one_that_its_script_takes():
    one = experiment(max_seeds=500, quantize="int8", benchmark_data=("mbppplus=m.jsonl",), epochs=3)
    steps = [one.data(), experiment(endpoint=("http://a:1",)).data()]
    steps += [one.measure("smollm2", "./out/base", "mbppplus")]
    for arm in ARMS:
        steps += [one.select(arm), one.draw(arm, 40), one.train(arm, 1, 40, 0)]
    for step in steps:
        options_from([*step.words])
    assert options_from([*one.data().words]).quantize == "int8"
    trained = options_from([*one.train("passes", 1, 40, 0).words])
    assert (trained.seed, trained.epochs) == (1, 3)


def test_every_arm_has_its_row_in_the_table():
    with open(ROOT / "experiments" / "paper" / "small.csv") as file:
        rows = {row["system"] for row in csv.DictReader(file)}
    assert rows == {"small/base", *(f"small/{arm}" for arm in ARMS)}


def test_both_the_data_and_the_selection_keep_out_what_is_measured():
    one = experiment(benchmark_data=("mbppplus=m.jsonl", "humanevalplus=h.jsonl"))
    for step in (one.data(), one.select("passes")):
        kept_out = step.words[step.words.index("--decontaminate") + 1 :]
        assert kept_out[:3] == ("humaneval", "mbppplus", "humanevalplus")


def test_a_training_has_some_forty_steps():
    for examples in (40, 300, 1000):
        batch = experiment().batch_size(examples)
        assert 20 <= examples * experiment().epochs() / batch <= 80


def test_arms_have_the_tasks_in_common_that_they_can_have():
    tasks = [f"task {number}" for number in range(100)]
    few = [tasks[position] for position in drawn(tasks, 20, seed=0)]
    assert few == sorted(few, key=tasks.index) and len(few) == 20
    # The other arm lacks every third task: it has those of the 20 that it can have.
    other = tasks[::3]
    both = {other[position] for position in drawn(other, 20, seed=0)} & {*few}
    assert both == {*few} & {*other}
    assert few != [tasks[position] for position in drawn(tasks, 20, seed=1)]


def test_failures_are_of_the_tasks_of_the_passes_as_far_as_there_are_any():
    tasks = [f"task {number}" for number in range(100)]
    passes = {*tasks[:10], "without a failure"}
    chosen = {tasks[position] for position in drawn(tasks, 11, seed=0, before=passes)}
    assert {*tasks[:10]} < chosen and len(chosen) == 11


def test_another_experiment_is_refused_and_the_size_stays(tmp_path):
    assert check_folder(Options(settings="plain"), tmp_path, 20) == 20
    assert check_folder(Options(settings="plain"), tmp_path) == 20
    with pytest.raises(UserError, match=r"arms of 20 examples, not of --size 30.*--out"):
        check_folder(Options(settings="plain", size=30), tmp_path)
    with pytest.raises(UserError, match=r"model was smollm2.*--out"):
        check_folder(Options(model="m", settings="plain"), tmp_path)


def test_a_benchmark_without_problems_is_left_out_unless_it_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    row = {"task_id": 2, "prompt": "Add.", "code": "def f(a):\n    return a", "test_list": ["assert f(1) == 1"]}
    file = write_rows(tmp_path / "m.jsonl", [row | {"test_imports": [], "test": "assert f(1) == 1"}])
    assert readable(Options(benchmark_data=(f"mbppplus={file}",))) == {"humaneval": None, "mbppplus": str(file)}
    assert "not measured: humanevalplus" in capsys.readouterr().out
    with pytest.raises(UserError):
        readable(Options(benchmark_data=(f"mbppplus={tmp_path / 'none.jsonl'}",)))


def test_arms_that_are_none_are_refused():
    with pytest.raises(UserError, match=r"--arms names no way to select: choose from random, .*, consensus"):
        check_arms(Options(arms=()))
    check_arms(Options())


def test_an_arm_without_an_example_is_said(tmp_path):
    for arm, number in (("random", 5), ("passes", 0)):
        (tmp_path / arm / "selected").mkdir(parents=True)
        (tmp_path / arm / "selected" / "run.json").write_text(json.dumps({"complete": True, "rows_out": number}))
    with pytest.raises(UserError, match=r"of the arm passes, so there is nothing to train on.*--arms.*--max-seeds"):
        make_arms(experiment(arms=("random", "passes")), tmp_path, {})


def results(rates):
    """A results.json with these shares of passing samples by problem."""
    return {"scores": {"pass@1": sum(rates.values()) / len(rates)}, "by_problem": rates, "benchmark": "mbppplus"}


def test_the_mean_of_trainings_counts_each_problem_once():
    mean = mean_over_trainings([results({"a": 1.0, "b": 0.0}), results({"a": 1.0, "b": 1.0})])
    assert mean["scores"]["pass@1"] == 0.75 and mean["by_problem"] == {"a": 1.0, "b": 0.5}
    assert mean["trainings"] == [0.5, 1.0]


def test_twice_the_interval_needs_four_times_the_problems():
    assert problems_needed(4.0, 100) == pytest.approx(4 * problems_needed(2.0, 100), abs=2)


def write_results(folder, solved):
    """results.json of systems that solve so many of 100 problems."""
    for system, number in solved.items():
        where = folder / system / "mbppplus"
        where.mkdir(parents=True)
        rates = {str(problem): float(problem < number) for problem in range(100)}
        (where / "results.json").write_text(json.dumps(results(rates)))


def test_the_conclusion_compares_each_arm_with_base_and_passes(tmp_path):
    write_results(tmp_path, {"base": 0, "passes/seed-0": 30, "passes/seed-1": 34, "random/seed-0": 10})
    text = conclusions(Path(tmp_path), {"random": 20, "passes": 20}, ["mbppplus"], str(tmp_path / "none"))
    assert "passes     against base    +32.0" in text and "random     against passes  -22.0" in text
    assert "With 100 problems" in text and "differ by 4.0 points" in text


def test_equal_results_need_no_infinity(tmp_path):
    write_results(tmp_path, {"base": 0, "passes/seed-0": 0})
    text = conclusions(Path(tmp_path), {"passes": 20}, ["mbppplus"], str(tmp_path / "none"))
    assert "All models solve the same of the 100 problems" in text


def test_every_setting_has_what_the_experiment_needs():
    for name in SETTINGS:
        assert Experiment(Options(settings=name), "./out", {}).epochs() > 0
