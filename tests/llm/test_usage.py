"""What a step records about its servers, in one run, in shards, and in runs that are stopped and continued."""

import asyncio
import os
import signal
import subprocess
import time

import pytest

from selfalign.errors import RowOpen
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.usage import Usage
from selfalign.options import Shard, StepOptions
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Table
from tests.fakes.server import simulated
from tests.helpers import command, read_rows, run_json, write_rows
from tests.llm.asking import options, prompt
from tests.scripts.test_generating import TASKS, generate, small

ENVIRONMENT = os.environ | {"HF_HUB_OFFLINE": "1"}


def write_seeds(path, count):
    rows = [{"id": f"seed{i:03d}", "content": f"def f{i}(): return {i}"} for i in range(count)]
    return write_rows(path, rows), [row["id"] for row in rows]


def test_samples_through_completions_as_a_command(tmp_path):
    with simulated() as server:
        rows = generate("sample_responses", TASKS, tmp_path, server.url, "--samples", "3", "--api", "completions")
        assert max(body.get("n", 1) for body in server.bodies) == 3
    assert len({row["completion"] for row in rows}) == len(rows) == 9
    used = run_json(tmp_path / "out")["generation"]
    assert used["tokens"] == sum(row["generated_tokens"] for row in rows) and used["requests"] == 3
    assert "tokens/s" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_shards_used_is_added_up(tmp_path, by_hand):
    source, _ = write_seeds(tmp_path / "in.jsonl", 40)
    with simulated() as server:
        step = command("generate_concepts", source, tmp_path / "out", *small(server.url))
        shards = [["--shard", "0/2"], ["--shard", "1/2"]] if by_hand else [["--executor", "local", "--shards", "2"]]
        for process in [subprocess.Popen([*step, *shard], env=ENVIRONMENT) for shard in shards]:
            assert process.wait(120) == 0
    used = run_json(tmp_path / "out")["generation"]
    tokens = [part.used["tokens"] for part in FolderOutput(str(tmp_path / "out"), Shard(0, 1)).parts()]
    assert used["requests"] == 40 and len(tokens) == 2 and used["tokens"] == sum(tokens) > max(tokens)


def test_the_progress_line_shows_what_is_in_flight():
    said = []
    with simulated(seconds_per_token=0.2) as server:
        endpoint = Endpoint(options(server))

        async def run():
            async with endpoint:
                tasks = [asyncio.ensure_future(endpoint.generate("x", max_new_tokens=8, seed=n)) for n in range(20)]
                await asyncio.sleep(0)
                said.append(endpoint.summary())
                await asyncio.gather(*tasks)

        asyncio.run(run())
    assert said == ["20 requests in flight"] and "in flight" not in endpoint.summary()


def test_the_pace_is_that_of_all_requests_from_the_first_answer_on():
    usage = Usage()
    assert usage.tokens_per_second(64) is None
    usage.start()
    usage.count([Completion("", "length", 40)], seconds=20.0)
    assert usage.tokens_per_second(64) == 128.0 and usage.tokens_per_second(32) == 64.0
    assert usage.summary(64) == "64 requests in flight, 40 tokens, 128 tokens/s"


def test_the_cost_that_old_parts_hold_is_ignored():
    old = {"seconds": 1.5, "requests": 2, "tokens": 30, "cost": 0.25, "faults": {"429": 1}}
    with simulated() as server:
        report = Endpoint(options(server)).report([old, old])
    asked = {"api": "tgi", "replicas": 1, "seeds": "sent"}
    assert report == asked | {"seconds": 3.0, "requests": 4, "tokens": 60, "faults": {"429": 2}}


def test_what_was_used_for_rows_that_stay_open_is_counted(tmp_path):
    """The first run ends with every row open; the second does them."""
    source, ids = write_seeds(tmp_path / "in.jsonl", 5)
    step = StepOptions(input=str(source), output=str(tmp_path / "out"))
    asked = []

    async def ask(row):
        answer = await endpoint.generate(prompt(row["id"]), max_new_tokens=16, seed=1)
        asked.append(row)
        if len(asked) <= len(ids):
            raise RowOpen("no luck")
        return row | {"text": answer.text}

    with simulated() as server:
        endpoint = Endpoint(options(server))
        table = Table(read_input(step, "id"), ask, {"text": str})
        with pytest.raises(SystemExit):
            run_step(step, table, endpoint=endpoint)
        endpoint = Endpoint(options(server))
        run = run_step(step, table, endpoint=endpoint)
    assert run["generation"]["requests"] == 10 and run["complete"]


def test_a_run_that_is_stopped_and_continued_loses_and_repeats_nothing(tmp_path):
    source, ids = write_seeds(tmp_path / "in.jsonl", 300)
    with simulated(seconds_per_token=0.05) as server:
        words = command("generate_concepts", source, tmp_path / "out", *small(server.url), "--concurrency", "10")
        process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        while len(server.bodies) < 60:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130 and "Traceback" not in errors and "run the same command again" in errors
        server.options.seconds_per_token = 0.0
        subprocess.run(words, check=True, env=ENVIRONMENT, capture_output=True)
    assert sorted(row["seed_id"] for row in read_rows(tmp_path / "out")) == ids
    assert run_json(tmp_path / "out")["generation"]["requests"] >= 300
