"""Several processes and machines that write to one Hub repo: nothing is lost, and nothing is doubled."""

import json
import subprocess
import sys
import threading
import time

import pytest
from huggingface_hub import constants

from selfalign.errors import UserError
from selfalign.runner import hub_output
from selfalign.runner.step import EXIT_OPEN
from tests.runner.doubling import REPO, double, double_on_hub, numbers_in, staged


@pytest.fixture
def meeting(hub, tmp_path, monkeypatch):
    """Makes a row function that, at row `at`, does a whole run as another machine would: with nothing staged."""

    def make(at, **changes):
        def function(row):
            if row["number"] == at:
                monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "another_machine"))
                thread = threading.Thread(target=double_on_hub, args=[hub], kwargs=changes)
                thread.start()
                thread.join()
            if row["number"] > at:
                time.sleep(0.01)  # what ends the run comes before its last row
            return double(row)

        return function

    return make


def test_of_two_other_runs_at_once_the_second_is_refused(hub, tmp_path, meeting):
    """Both found an empty repo; the commit of the first one comes between."""
    with pytest.raises(UserError, match="factor was 2, is 3"):
        double_on_hub(hub, function=meeting(49), factor=3)
    assert numbers_in(hub) == list(range(50)) and len(staged(tmp_path)) == 5


def test_a_part_is_staged_once_though_another_run_is_found_while_sending(hub, tmp_path, monkeypatch, meeting):
    monkeypatch.setattr(hub_output, "COMMIT_SECONDS", 0)
    with pytest.raises(UserError, match="factor was 2, is 3"):
        double_on_hub(hub, n=2000, function=meeting(5), factor=3)
    firsts = [part.name.split("-")[1] for part in staged(tmp_path)]
    assert firsts and len(firsts) == len(set(firsts))


def test_rows_that_another_machine_did_meanwhile_are_not_doubled(hub, meeting):
    with pytest.raises(SystemExit) as stop:  # of the parts with rows 0 to 39 none is sent: 33 to 39 stay open
        double_on_hub(hub, function=meeting(49, max_samples=33))
    assert stop.value.code == EXIT_OPEN and len(numbers_in(hub)) == 43
    double_on_hub(hub)
    assert sorted(numbers_in(hub)) == list(range(50))


def test_a_commit_that_comes_between_is_kept(hub):
    other = [lambda: hub.add(REPO, {"notes.md": b"Mine."})]
    hub.fault("POST", "/commit/", call=lambda: other.pop()())
    double_on_hub(hub)
    assert numbers_in(hub) == list(range(50)) and hub.files(REPO)["notes.md"] == b"Mine."


def test_a_card_that_a_person_changed_meanwhile_stays(hub):
    double_on_hub(hub, max_samples=20)
    card = hub.files(REPO)["README.md"] + b"\nMy remarks.\n"
    hub.fault("POST", "/commit/", call=lambda: hub.add(REPO, {"README.md": card}))
    double_on_hub(hub)
    assert b"My remarks." in hub.files(REPO)["README.md"] and b"| 50 | 50 |" in hub.files(REPO)["README.md"]


SHARD = """
from selfalign.runner import hub_output, writer
from tests.runner.doubling import *
from selfalign.options import run_script
writer.PART_ROWS, hub_output.COMMIT_SECONDS = 10, 0.3
async def slow(row):
    import asyncio
    await asyncio.sleep(0.02)
    return double(row)
run_script(lambda o: run_step(o, Table(numbers(300), slow, COLUMNS), window=4), Options, "")
"""


def shard_process(hub, home, *arguments):
    command, environment = [sys.executable, "-c", SHARD, "numbers", REPO, *arguments], hub.environment(home)
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("machines", [1, 2])
def test_two_processes_write_two_shards_at_the_same_time(hub, tmp_path, machines):
    homes = [tmp_path / f"machine{number % machines}" for number in range(2)]
    processes = [shard_process(hub, home, "--shard", f"{number}/2") for number, home in enumerate(homes)]
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert numbers_in(hub) == list(range(300)) and json.loads(hub.files(REPO)["run.json"])["complete"]
    assert sum("0-of" in text or "is done" in text for text in said) <= 1, "the last one says that all is done"


def test_killed_in_the_midst_of_commits_it_ends_with_every_row(hub, tmp_path):
    for landed in (False, True):
        process = shard_process(hub, tmp_path)
        hub.fault("POST", "/commit/", call=process.kill, status=None if landed else 500)
        process.communicate(timeout=60)
        assert process.returncode == -9
    process = shard_process(hub, tmp_path)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert sorted(numbers_in(hub)) == list(range(300))
