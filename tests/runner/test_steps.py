"""The step runner: what is done stays done, what is not is done next time, and nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import filelock
import pytest

from selfalign.errors import RowOpen, UserError
from selfalign.ids import content_id, draws_of
from selfalign.options import Shard
from selfalign.runner import flow, folder_output, writer
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.record import refuse_other_run
from selfalign.runner.source import open_source
from selfalign.runner.step import EXIT_OPEN, run_step
from selfalign.runner.table import Done, Table
from tests.helpers import read_rows, run_json
from tests.runner.doubling import COLUMNS, double, double_all, never, noting, numbers, options


def test_every_row_is_done_and_a_second_run_does_nothing(tmp_path):
    run = double_all(tmp_path, 25)
    assert [row["double"] for row in read_rows(tmp_path / "out")] == list(range(0, 50, 2))
    assert (run["rows_in"], run["rows_out"], run["complete"]) == (25, 25, True)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    double_all(tmp_path, 25, never)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}


def test_async_rows_flow_through_the_window(tmp_path):
    import asyncio

    most = now = 0

    async def slow(row):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01 * (row["number"] % 3))
        now -= 1
        return double(row)

    double_all(tmp_path, 50, slow, window=7)
    assert most == 7 and len(read_rows(tmp_path / "out")) == 50


def test_a_row_may_give_several_rows_or_none(tmp_path):
    def times(row):
        return Done([double(row)] * (row["number"] % 3), {"seen": 1})

    run = double_all(tmp_path, 9, times)
    assert run["rows_out"] == 9 and run["counts"] == {"seen": 9}


@pytest.mark.parametrize(("error", "said"), [(RowOpen, "no luck"), (ZeroDivisionError, "ZeroDivisionError: no luck")])
def test_open_rows_are_done_by_the_next_run(tmp_path, capsys, error, said):
    """A fault of ours with one row, too, loses no other."""

    def fails_on_odd(row):
        if row["number"] % 2:
            raise error("no luck")
        return double(row)

    with pytest.raises(SystemExit) as stop:
        double_all(tmp_path, 10, fails_on_odd)
    assert stop.value.code == EXIT_OPEN and not run_json(tmp_path / "out")["complete"]
    assert len(read_rows(tmp_path / "out")) == 5 and said in capsys.readouterr().err
    done = []
    double_all(tmp_path, 10, noting(done))
    assert done == [1, 3, 5, 7, 9] and len(read_rows(tmp_path / "out")) == 10


def test_an_endpoint_that_is_gone_ends_the_run(tmp_path):
    def never(row):
        asked.append(row)
        raise RowOpen("gone")

    asked = []
    with pytest.raises(SystemExit):
        double_all(tmp_path, 1000, never)
    assert len(asked) == flow.MAX_OPEN_IN_A_ROW


OTHERS = replace(numbers(5), pin={"fingerprint": "others"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"factor": 3}, "factor was 2, is 3"),
        ({"seed": 1}, "seed was 0, is 1"),
        ({"rows": OTHERS}, "input fingerprint was numbers, is others"),
    ],
)
def test_a_run_with_other_options_or_input_is_refused(tmp_path, change, said):
    double_all(tmp_path, 5)
    with pytest.raises(UserError, match=said):
        double_all(tmp_path, **{"rows": 5, **change})


def test_the_output_of_another_step_is_refused_for_that_alone(tmp_path):
    double_all(tmp_path, 5)
    table = Table(numbers(5), double, COLUMNS)
    with pytest.raises(UserError, match=r"out holds what \S+ wrote, not halve: choose another output"):
        run_step(options(tmp_path, factor=3, seed=1), table, title="halve")


def test_of_many_differences_a_few_are_shown_and_those_that_follow_from_others_come_last():
    before = {"step": "s", "options": {name: 0 for name in "abcdef"}, "prompts": "x", "revision": "y", "model": "m"}
    now = {"step": "s", "options": {name: 1 for name in "abcdef"}, "prompts": "X", "revision": "Y", "model": "M"}
    with pytest.raises(UserError, match=r"\(a was 0, is 1; b .*; c .*; d was 0, is 1; and 5 more\)"):
        refuse_other_run("out", json.dumps({"identity": before}), now)


def test_a_finished_run_says_that_nothing_was_left_to_do(tmp_path, capsys):
    double_all(tmp_path, 5)
    assert "nothing was left" not in capsys.readouterr().out
    double_all(tmp_path, 5, never)
    assert "nothing was left to do: 5 rows in, 5 rows out -> " in capsys.readouterr().out


def test_two_runs_at_a_time_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_output, "LOCK_SECONDS", 0.1)

    def second_run(row):
        with pytest.raises(UserError, match="another run is writing"):
            double_all(tmp_path, 5)
        return double(row)

    double_all(tmp_path, 5, second_run)
    assert run_json(tmp_path / "out")["complete"]


def test_shards_of_other_rows_are_refused_at_the_same_time(tmp_path, monkeypatch):
    """With --max-samples 20, shard 1 of 2 has rows 10 to 19; without a limit, shard 0 of 2 has these, too."""
    monkeypatch.setattr(folder_output, "LOCK_SECONDS", 0.1)
    begun = []

    def other_shards(row):
        begun.append(row["number"])
        if len(begun) == 1:
            for max_samples in (None, 40, 39):
                with pytest.raises(UserError, match="another run is writing"):
                    double_all(tmp_path, 40, never, shard="0/2", max_samples=max_samples)
            with FolderOutput(str(tmp_path / "out"), Shard(0, 2), 20):
                pass  # its neighbour
        return double(row)

    with pytest.raises(SystemExit) as ended:
        double_all(tmp_path, 40, other_shards, shard="1/2", max_samples=20)
    assert ended.value.code == 0, "no row stayed open"
    assert double_all(tmp_path, 40, max_samples=40)["complete"], "a limit that shortens nothing is none"
    assert len(read_rows(tmp_path / "out")) == 40


def test_rows_of_an_interrupted_run_beyond_a_lower_limit_count_as_rows_in(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "PART_ROWS", 10)

    def until_30(row):
        if row["number"] >= 30:
            raise RowOpen("later")
        return double(row)

    with pytest.raises(SystemExit):
        double_all(tmp_path, 100, until_30)
    run = double_all(tmp_path, 100, never, max_samples=20)
    assert (run["rows_in"], run["rows_out"], run["complete"]) == (30, 30, True)


def test_a_shard_that_looks_whether_another_division_runs_refuses_no_other(tmp_path):
    """Each shard holds the locks of other divisions for a moment, as long as a busy machine lets that last."""
    (tmp_path / "out" / ".locks").mkdir(parents=True)
    looking = filelock.FileLock(tmp_path / "out" / ".locks" / "0-of-1", thread_local=False)
    looking.acquire()
    threading.Timer(0.5, looking.release).start()
    with FolderOutput(str(tmp_path / "out"), Shard(1, 2)):
        assert not looking.is_locked


def test_a_shard_that_looks_while_another_begins_is_not_refused(tmp_path, monkeypatch):
    """It finds no run.json, and a moment later there are the first files of the other."""

    def reading(output, file):
        found = read(output, file)
        if file == "run.json" and output.shard == Shard(1, 2) and not begun:
            begun.append(output)
            with pytest.raises(SystemExit):
                double_all(tmp_path, 20, shard="0/2")
        return found

    read, begun = FolderOutput.read, []
    monkeypatch.setattr(FolderOutput, "read", reading)
    assert double_all(tmp_path, 20, shard="1/2")["complete"]
    assert len(read_rows(tmp_path / "out")) == 20


def test_a_part_that_is_moved_away_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "PART_ROWS", 10)
    double_all(tmp_path, 50)
    sorted((tmp_path / "out" / "data").glob("train-*"))[2].unlink()
    done = []
    double_all(tmp_path, 50, noting(done))
    assert done == list(range(20, 30)) and len(read_rows(tmp_path / "out")) == 50


def test_rows_that_are_all_dropped_leave_no_unreadable_part(tmp_path, monkeypatch):
    """datasets can't read a Parquet file without rows, neither alone nor among others."""
    monkeypatch.setattr(writer, "PART_ROWS", 10)
    double_all(tmp_path, 50, lambda row: Done([double(row)] if row["number"] > 30 else []))
    assert len(read_rows(tmp_path / "out")) == 19
    double_all(tmp_path, 50, never)


def test_the_funnel_grows_step_by_step(tmp_path):
    double_all(tmp_path, 5, lambda row: Done([], {"bad": 1}) if row["number"] else double(row))
    source = open_source(str(tmp_path / "out"))
    run = run_step(options(tmp_path, output=str(tmp_path / "next")), Table(source, lambda row: row, {}), title="next")
    assert [(entry["rows_in"], entry["rows_out"]) for entry in run["funnel"]] == [(5, 1), (1, 1)]


def test_two_outputs_of_the_same_name_are_not_mixed_up(tmp_path):
    for name, n in (("a", 3), ("b", 4)):
        double_all(tmp_path, n, output=str(tmp_path / name / "seeds"))
        assert len(open_source(str(tmp_path / name / "seeds"))) == n == len(read_rows(tmp_path / name / "seeds"))


def test_draws_depend_on_seed_and_id_alone():
    assert draws_of(0, "a").random() == draws_of(0, "a").random()
    assert len({draws_of(seed, id).random() for seed in range(3) for id in "ab"}) == 6


def test_ids_depend_on_each_part():
    assert content_id("a", "b") == content_id("a", "b") != content_id("ab", "")
    assert len(content_id("\ud800")) == 16


STEP = """
import asyncio
from selfalign.options import run_script
from selfalign.runner import writer
from tests.runner.doubling import *
async def slow(row):
    await asyncio.sleep(0.05)
    return double(row)
writer.PART_ROWS, writer.PART_SECONDS = 20, 0.2
run_script(lambda o: run_step(o, Table(numbers(300), slow, COLUMNS), window=8), Options, "")
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_run_with_everything_written(tmp_path, number, status):
    command = [sys.executable, "-c", STEP, "numbers", tmp_path / "out"]
    process = subprocess.Popen(command, stderr=-1, stdout=-1, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    while process.poll() is None and not list((tmp_path / "out" / "data").glob("train-*")):
        time.sleep(0.005)
    process.send_signal(number)
    started = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < flow.GRACE_SECONDS
    assert process.returncode == status and "run the same command again" in errors and "Traceback" not in errors
    assert f"{300 - len(read_rows(tmp_path / 'out'))} of 300 rows are still to do" in errors
