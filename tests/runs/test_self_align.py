"""The whole chain as one command: what it calls, what it says before, and that it goes on after a kill."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

from runs import summary
from runs.measure import Speed, measure_server, per_token, requests_of
from runs.plan import counts_of, make_plan, times_of, training_of
from runs.running import Step, run_step
from runs.self_align import Options, State, check, check_instructions, check_kept_out, main, steps_of
from runs.servers import Server, gpus_here, launcher, serving
from runs.settings import SETTINGS, check_texts, folder_of
from runs.timing import Training
from selfalign.errors import UserError
from selfalign.llm.prompts import load_examples
from server.quantized import has_vnni
from tests.fakes.server import simulated
from tests.helpers import ROOT, load_script, write_rows

SERVER = Server(("http://a:1", "http://b:2"), "completions")


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    "more", [{}, {"seeds": "org/seeds", "hub": "org/name"}, {"api": "chat"}, {"quantize": "int8"}], ids=str
)
def test_every_command_is_one_that_its_script_takes(settings, more):
    for step in steps_of(Options(model="org/model", settings=settings, **more), SERVER):
        script, *words = step.words
        options = tyro.cli(load_script(script.removesuffix(".py")).Options, args=words)
        assert not step.asks or "http://a:1" in words
        if hasattr(options, "samples") and script == "sample_responses.py":
            assert options.samples == SETTINGS[settings].samples
            assert options.max_new_tokens == SETTINGS[settings].limits[2]


def test_both_benchmarks_ask_in_the_same_way():
    for api in ("tgi", "chat"):
        steps = steps_of(Options(model="m", settings="small", api=api), SERVER)
        asked = [step.words[step.words.index("--max-new-tokens") :] for step in steps if "benchmark.py" in step.words]
        assert len(asked) == 2 and asked[0] == asked[1] and ("chat" in asked[0]) == (api == "chat")


def test_neither_benchmark_is_asked_in_8_bits():
    """The server that writes the data has them, so the model is served once more."""
    steps = steps_of(Options(model="m", settings="small", quantize="int8"), SERVER)
    before, after = (step for step in steps if "benchmark.py" in step.words)
    assert before.words[1] == "m" and not before.asks
    assert before.words[3:] == after.words[3:]
    assert not any(step.asks for step in steps[steps.index(before) :])  # and the server with 8 bits has ended


def test_benchmarks_that_can_not_be_read_are_said_before_the_model_is_asked(tmp_path, capsys):
    (tmp_path / "plus.jsonl").write_text('{"task_id": 1}')
    for given in ({"decontaminate": ("humaneval", "mbppplus")}, {}):
        options = Options(model="m", seeds="s", benchmark_data=(f"mbppplus={tmp_path / 'plus.jsonl'}",), **given)
        with pytest.raises(UserError, match="decontamination needs the problems of mbppplus"):
            check_kept_out(options)
    check_kept_out(Options(model="m", seeds="s", decontaminate=("humaneval",)))
    assert "decontamination against humaneval (164 problems)" in capsys.readouterr().err


def test_seeds_that_are_not_there_are_said_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("runs.self_align.begin", lambda _: {})
    monkeypatch.setattr("runs.self_align.serving", lambda *_, **__: pytest.fail("it is loaded"))
    with pytest.raises(UserError, match="there is no dataset"):
        main(Options(model="m", settings="small", seeds=str(tmp_path / "none"), out=str(tmp_path / "out")))


def test_without_an_instruction_nothing_is_trained(tmp_path):
    folder = tmp_path / "after" / "instructions"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"funnel": [{"rows_out": 0}]}')
    with pytest.raises(UserError, match=r"no response passed its tests.*--max-seeds"):
        check_instructions(tmp_path)


def test_each_step_reads_what_an_earlier_one_writes():
    for hub in (None, "org/name"):
        there = {"stdlib", "http://a:1"}
        for step in steps_of(Options(model="smollm2", settings="small", hub=hub), SERVER):
            source, output = (word for word in step.words[1:3])
            assert source in there
            there.add(output)


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        (Options(model="org/some-model"), "./runs/out/some-model"),
        (Options(model="./a/b.gguf"), "./runs/out/b"),
        (Options(model="m", out="there/it"), "./there/it"),
    ],
)
def test_the_folder_is_never_taken_for_a_hub_id(options, folder):
    assert folder_of(options) == folder


@pytest.mark.parametrize(("max_seeds", "known"), [(8, 8), (7, 8)])
def test_done_steps_stay_done(tmp_path, max_seeds, known):
    State(tmp_path, Options(model="m", settings="small", max_seeds=8)).note(Step("Concepts: all", ()))
    state = State(tmp_path, Options(model="m", settings="small", max_seeds=max_seeds))
    assert state.done == ["Concepts: all"] and state.max_seeds == known


def put(file, value):
    """A file of JSON, as a step leaves it in the folder of the run."""
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(value))


def test_after_the_instructions_the_run_goes_on_to_train_on_them(tmp_path):
    options = Options(model="m", settings="small", out=str(tmp_path), until="instructions")
    state = State(tmp_path, options)
    for step in steps_of(options, SERVER):
        state.note(step)
    further = replace(options, until=None)
    state = State(tmp_path, further)
    todo = [step.words for step in steps_of(further, SERVER) if not state.is_done(step)]
    assert [words[0] for words in todo] == ["select.py", "benchmark.py", "finetune.py", "benchmark.py"]
    assert todo[2][1] == todo[0][2], "it is trained on what is chosen"


@pytest.mark.parametrize("hub", [None, "org/name"])
def test_more_seeds_are_refused_once_the_model_was_asked(tmp_path, hub):
    """Each step is bound to its input as it was, so that the second would refuse the longer output of the first."""
    few, more = (Options(model="m", settings="small", max_seeds=number, hub=hub) for number in (8, 9))
    seeds, concepts, *_ = steps_of(few, SERVER)
    State(tmp_path, few).note(seeds)
    State(tmp_path, more)
    State(tmp_path, few).note(concepts)
    for _ in range(2):
        with pytest.raises(UserError, match=r"holds a run from 8 seeds.*--out" + " and --hub" * bool(hub)):
            State(tmp_path, more)
    State(tmp_path, few)


def test_an_interface_without_servers_is_refused():
    with pytest.raises(UserError, match=r"--api chat.*--endpoint"):
        check(Options(model="m", api="chat"))


def test_8_bits_are_for_a_serve_py_that_is_started_here(tiny_model, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"--quantize int8.*--endpoint"):
        check(Options(model="m", quantize="int8", endpoint=("http://a:1",)))

    def ask_in_8_bits(gpus):
        with serving(str(tiny_model), (), "tgi", gpus, tmp_path, {**os.environ}, quantize="int8") as server:
            return server.urls

    if has_vnni():
        assert ask_in_8_bits(gpus=0)
    else:
        with pytest.raises(UserError, match=r"serve\.py has ended.*--quantize int8 needs a processor with VNNI"):
            ask_in_8_bits(gpus=0)
    monkeypatch.setattr("runs.servers.uses_serve_py", lambda _: False)
    with pytest.raises(UserError, match=r"--quantize int8.*vLLM"):
        ask_in_8_bits(gpus=1)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"model": ""}, "MODEL"),
        ({"model": "m", "max_seeds": 8, "out": " "}, "--out"),
        ({"model": "m", "endpoint": ("http://a:1", "")}, "--endpoint"),
        ({"model": "m", "benchmark_data": ("",)}, "--benchmark-data"),
    ],
    ids=str,
)
def test_what_is_given_as_nothing_is_refused(given, name):
    with pytest.raises(UserError, match=f"^{name} is empty"):
        check_texts(Options(**given))
    check_texts(Options(model="m"))


@pytest.mark.parametrize(("visible", "gpus"), [("", 0), ("-1", 0), ("1", 1), ("0, 2,", 2), ("0,2,-1,1", 2), (None, 3)])
def test_hidden_gpus_do_not_count(visible, gpus, monkeypatch, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nfor n in 0 1 2; do echo GPU $n: none; done\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(gpus_here()) == gpus


@pytest.mark.parametrize(
    ("gpus", "settings", "used"),
    [(1, "paper", None), (4, "paper", "4"), (6, "paper", "4"), (8, "plain", "4"), (3, "small", "2")],
)
def test_as_many_gpus_train_as_a_step_can_be_divided_among(gpus, settings, used):
    """finetune.py would refuse 64 examples a step on 6 GPUs, and 16 on 8 with 4 at a time, once all data is written."""
    words = launcher(gpus, SETTINGS[settings].training)
    assert (words[-1] if words else None) == used


def test_one_of_several_gpus_trains_where_a_step_can_not_be_divided():
    """finetune.py refuses to be one process that sees several GPUs, unless it is launched as such."""
    assert launcher(8, ("--batch-size", "4", "--device-batch-size", "4"))[-2:] == ("--num_processes", "1")


def test_the_summary_of_a_run_without_concepts_shows_its_examples(tmp_path, capsys):
    texts = {name: name for name in ("category", "difficulty", "instruction", "response", "tests")}
    put(tmp_path / "after" / "instructions" / "rows.jsonl", texts)
    put(tmp_path / "after" / "model" / "run.json", {"funnel": []})
    results = {"intervals": {"pass@1": [0, 1]}, "scores": {"pass@1": 0.5}, "passed": 1, "problems": 2}
    for when in ("before", "after"):
        put(tmp_path / when / "humaneval" / "results.json", results)
    summary.main(tmp_path)
    assert "--- category, difficulty, from the seeds: no concepts" in capsys.readouterr().out


def test_another_model_is_refused(tmp_path):
    State(tmp_path, Options(model="m", settings="small"))
    with pytest.raises(UserError, match=r"model was m.*--out"):
        State(tmp_path, Options(model="n", settings="small"))


def test_a_failing_step_ends_the_run_with_its_status(capfd):
    with pytest.raises(SystemExit) as ended:
        run_step(Step("Responses", ("-c", "raise SystemExit(3)")), dict(os.environ))
    assert ended.value.code == 3 and "Stopped at: Responses. The same command goes on" in capfd.readouterr().err


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_step_does_not_outlive_the_run(tmp_path):
    """Even if the run is killed: else the step would keep its output from the next run."""
    write = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"from runs.running import *; run_step(Step('x', ('-c', {write!r}, {str(tmp_path / 'pid')!r})), {{}})"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as run:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(signal.SIGKILL)
    step = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_running(step):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_plan_counts_rows_requests_and_cost(endpoint, tiny_model, tmp_path):
    seeds = write_rows(tmp_path / "seeds.jsonl", [{"id": str(i), "content": "def f(): pass"} for i in range(5)])
    options = Options(model=str(tiny_model), settings="small", seeds=str(seeds), price_per_million_tokens=1e6)
    text = make_plan(options, SETTINGS["small"], None, Server((endpoint,)), tmp_path)
    plan = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert plan["rows"].startswith("5 seeds") and "30 responses" in plan["rows"]
    assert plan["requests"].startswith("368, 328 of them for HumanEval")  # 5 concepts, 5 tasks, 30 responses
    assert float(plan["server"].split()[0].replace(",", "")) > 0
    assert float(plan["cost"].split()[1].replace(",", "")) > 1000  # a unit for each token
    assert "fine-tuning" in text and "in the sandbox" in text


SPEED = Speed(0.1, 0.01, 0.001, {"responses": 50.0}, {"responses": 1000.0}, 40)


def test_the_time_of_requests_is_that_of_their_tokens_and_prompts():
    """40 at a time take 0.1 + 40 x 0.01 s for a token each; 80 of them, 50 times 2 such, and 2 prompts 2 s."""
    assert SPEED.seconds("responses", 80, prompts=2) == pytest.approx(50 * 2 * 0.5 + 2)
    assert SPEED.seconds("responses", 1) == pytest.approx(50 * 0.11 + 1)
    assert SPEED.tokens_per_second(40) == pytest.approx(80)


def test_what_all_requests_share_and_what_each_adds_come_out_of_two_measurements():
    alone, together = (20 * 0.11, [20]), (100 * 0.5, [100] * 40)
    assert per_token(alone, together) == pytest.approx((0.1, 0.01))
    always, each = per_token((0.0, [0]), (1.0, [5, 5]))  # whatever a clock may say
    assert always >= 0 and each >= 0


def test_a_server_that_reads_slowly_is_not_taken_for_one_that_writes_fast():
    """It writes one request after the other, 100 tokens a second at most, however many it is asked."""

    async def read(_, body, __):
        await asyncio.sleep(0.3 if body["parameters"]["max_new_tokens"] == 1 else 0)

    with simulated(read, places=1, seconds_per_token=0.01, median_tokens=20) as server:
        speed = measure_server(Server((server.url,)), SETTINGS["small"], SETTINGS["small"].examples)
    assert speed.tokens_per_second(200) < 200


@pytest.mark.parametrize(("until", "kinds"), [("tasks", 2), ("executions", 3), (None, 4)])
def test_what_the_run_does_not_reach_is_not_counted(until, kinds):
    counts = counts_of(Options(model="m", settings="small", until=until), SETTINGS["small"], 10)
    assert len(counts) == kinds and counts["concepts"] == 10


def test_the_model_is_loaded_once_to_be_fine_tuned(monkeypatch):
    monkeypatch.setattr("runs.plan.measure_training", lambda _: Training(token=0.0, step=0.0, loading=60.0))
    monkeypatch.setattr("runs.plan.measure_programs", lambda *_: 0.1)
    monkeypatch.setattr("runs.plan.measure_start", lambda: 1.0)
    kinds = dict.fromkeys(("concepts", "tasks", "responses", "HumanEval"), 50.0)
    options, speed = Options(model="m", settings="small"), Speed(0.1, 0.01, 0.001, kinds, kinds, 40)
    times = times_of(options, SETTINGS["small"], counts_of(options, SETTINGS["small"], 6), speed, 6)
    assert times["fine-tuning, if there are 2 examples"] == 60.0


def test_no_model_is_downloaded_to_measure_how_fast_it_is_trained(monkeypatch):
    monkeypatch.setattr("runs.plan.measure_training", lambda model: f"measured {model}")
    elsewhere = Options(model="org/model", settings="paper", endpoint=("http://a:1",))
    assert training_of(elsewhere) is None
    assert training_of(replace(elsewhere, model="./code_eval")) == "measured ./code_eval"


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_measured_prompts_are_those_of_the_steps(settings):
    """As many worked examples, and the limits of the steps."""
    chosen = SETTINGS[settings]
    asked = requests_of(chosen, load_examples(ROOT / chosen.examples))
    steps = {step.makes: step.words for step in steps_of(Options(model="m", settings=settings), SERVER)}
    for kind, script in (
        ("concepts", "generate_concepts"),
        ("tasks", "generate_tasks"),
        ("responses", "sample_responses"),
    ):
        options = tyro.cli(load_script(script).Options, args=steps[kind][1:])
        text, limit, _ = asked[kind][0]
        assert limit == options.max_new_tokens
        assert text.count("## Example") == options.shots + 1


@pytest.mark.parametrize("until", ["concepts", "tasks", "responses", "executions", "instructions"])
def test_a_run_that_ends_earlier_has_a_plan(monkeypatch, tmp_path, until):
    kinds = dict.fromkeys(("concepts", "tasks", "responses", "HumanEval"), 50.0)
    monkeypatch.setattr("runs.plan.measure_server", lambda *_: Speed(0.1, 0.01, 0.001, kinds, kinds, 40))
    monkeypatch.setattr("runs.plan.measure_start", lambda: 1.0)
    monkeypatch.setattr("runs.plan.measure_programs", lambda *_: 0.1)
    text = make_plan(Options(model="m", settings="small", until=until), SETTINGS["small"], 6, SERVER, tmp_path)
    assert (
        "HumanEval" not in text
        and "concepts" in text
        and ("sandbox" in text) == (until in ("executions", "instructions"))
    )
