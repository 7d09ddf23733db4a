"""Steps that write to Hub repos: whatever befalls a commit, nothing is lost, nothing is doubled, nothing is told.

The clients are the real ones, the Hub is tests/fakes/hub.py. Waits between tries are not slept but noted.
"""

import json
import subprocess
import sys

import datasets
import httpx2
import pytest
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError

import selfalign.runner.hub
from selfalign.errors import RowOpen, UserError
from selfalign.runner import hub_output, writer
from selfalign.runner.output import open_output
from selfalign.runner.source import open_source
from selfalign.runner.table import Done, Table
from tests.fakes.hub_server import Refusal
from tests.helpers import ROOT, write_rows
from tests.runner.doubling import COLUMNS, REPO, double, double_all, double_on_hub, never, numbers, numbers_in, staged
from tests.scripts.test_execute import sample


def test_all_comes_in_one_commit_and_a_finished_run_sends_nothing_and_refuses_others(hub, tmp_path):
    for function in (double, never):
        double_on_hub(hub, function=function)
        assert numbers_in(hub) == list(range(50)) and not staged(tmp_path)
        assert json.loads(hub.files(REPO)["run.json"])["complete"] and b"configs" in hub.files(REPO)["README.md"]
        assert len(hub.commits(REPO)) == 2, "the one that every repo starts with, and ours"
    with pytest.raises(UserError, match="factor was 2, is 3"):
        double_on_hub(hub, function=never, factor=3)


@pytest.mark.parametrize("public", [False, True])
def test_a_repo_is_private_unless_asked_otherwise(hub, public):
    double_on_hub(hub, public=public)
    assert hub._repos["dataset", REPO].private is not public


def test_parts_gather_into_a_commit_now_and_then(hub, monkeypatch):
    monkeypatch.setattr(hub_output, "COMMIT_SECONDS", 0)

    def slowly(row):
        if row["number"] == 30:  # what was sent by now is complete in itself
            while len(hub.commits(REPO)) < 2:
                pass
            assert json.loads(hub.files(REPO)["run.json"])["rows_done"] == len(numbers_in(hub)) > 0
        return double(row)

    double_on_hub(hub, function=slowly)
    assert numbers_in(hub) == list(range(50)) and len(hub.commits(REPO)) >= 3


FAULTS = {
    "500": {"status": 500},
    "503": {"status": 503},
    "409": {"status": 409},
    "412": {"status": 412},
    "reset": {"cut": "before"},
    "reset in the body": {"cut": "body"},
    "answer lost": {"cut": "after"},
    "answer cut": {"cut": "answer"},
}
FAULTY_REQUESTS = [
    *(("POST", "/commit/", fault) for fault in FAULTS),
    *(("POST", path, fault) for path in ("/preupload/", "/lfs/") for fault in ("500", "reset")),
    *(("GET", "/tree/", fault) for fault in ("500", "reset")),
    ("POST", "/api/repos/create", "503"),
    ("GET", "/api/datasets/org/doubles$", "503"),
    ("PUT", "/lfs/", "reset in the body"),
]


@pytest.mark.parametrize(("method", "path", "fault"), FAULTY_REQUESTS)
def test_a_fault_loses_nothing_and_doubles_nothing(hub, method, path, fault):
    hit = hub.fault(method, path, times=2, **FAULTS[fault])
    double_on_hub(hub)
    assert numbers_in(hub) == list(range(50))
    assert len(hub.commits(REPO)) == 2, "what landed before its answer was lost is not committed again"
    assert hit.hits == (1 if fault.startswith("answer") else 2)


def test_retry_after_is_waited_for(hub, waits):
    hub.fault("POST", "/commit/", status=429, retry_after=40)
    double_on_hub(hub)
    assert max(waits) == 40 and numbers_in(hub) == list(range(50))


def test_the_hubs_own_header_is_waited_for(hub, waits):
    """It limits requests in windows of five minutes, and says when the next one begins."""
    request = httpx2.Request("POST", "https://hub/commit")
    response = httpx2.Response(429, headers={"RateLimit": '"api";r=0;t=280'}, request=request)
    errors = [HfHubHTTPError("too many", response=response)]

    def call():
        if errors:
            raise errors.pop()
        return "done"

    assert selfalign.runner.hub.with_retries(call) == "done" and waits == [281]


def test_no_hub_and_no_right_to_write_are_said_at_the_start(hub, monkeypatch):
    with pytest.raises(UserError, match="org/doubles can't be created or written"):
        double_on_hub(hub, function=never, hf_token=hub.stranger_token)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(UserError, match="org/doubles can't be created or written"):
        double_on_hub(hub, function=never)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("org/none", "no dataset org/none: neither a local path nor a Hub repo that this token can see"),
        ("org/private", "no dataset org/private: neither"),
        ("org/in@v9", "dataset org/in has no revision v9"),
    ],
)
def test_an_input_that_is_not_there_is_said(hub, name, said):
    hub.add("org/in", {"a.jsonl": b'{"id": "a"}\n'})
    hub.add("org/private", {"a.jsonl": b'{"id": "a"}\n'}, private=True)
    with pytest.raises(UserError, match=said):
        open_source(name, token=hub.stranger_token)


@pytest.fixture
def datasets_of(hub, monkeypatch, tmp_path):
    """The local Hub as that of datasets, too, with an empty cache."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return hub


def test_another_revision_is_not_taken_from_the_cache_when_the_hub_fails(datasets_of):
    datasets_of.add("org/in", {"a.jsonl": b'{"id": "old"}\n'})
    assert open_source("org/in").rows["id"][:] == ["old"]
    datasets_of.add("org/in", {"a.jsonl": b'{"id": "new"}\n'})
    datasets_of.fault("HEAD", "/resolve/", status=403)
    with pytest.raises(UserError, match=r"org/in can't be read .*403 Forbidden"):
        open_source("org/in")
    datasets_of.fault("HEAD", "/resolve/", status=429, times=10)  # more than the library tries
    assert open_source("org/in").rows["id"][:] == ["new"]


def test_a_gated_dataset_is_said_to_be_gated(datasets_of, monkeypatch):
    datasets_of.add("org/in", {"a.jsonl": b'{"id": "a"}\n'})
    perform = datasets_of.perform  # which describes a gated repo to everybody, and gives its files to few

    def gated(method, path, *rest):
        return Refusal(403, "restricted", "GatedRepo").answer if "/resolve/" in path else perform(method, path, *rest)

    monkeypatch.setattr(datasets_of, "perform", gated)
    with pytest.raises(UserError, match=r"org/in.* is a gated dataset on the Hub"):
        open_source("org/in")


def test_the_token_reads_and_writes_private_files_by_their_url(datasets_of, tmp_path):
    datasets_of.add("org/in", {"a.jsonl": b'{"id": "a"}\n'}, private=True)
    assert open_source("hf://datasets/org/in/a.jsonl", token=datasets_of.token).rows["id"][:] == ["a"]
    double_all(tmp_path, 5, output="hf://datasets/org/in/doubles", hf_token=datasets_of.token)
    assert "doubles/run.json" in datasets_of.files("org/in")


@pytest.mark.parametrize("token", ["hf_secret ", "hf_secret\n", "hf_secrét"])
def test_a_token_that_cannot_be_sent_is_not_shown(hub, token):
    for use in (lambda: double_on_hub(hub, function=never, hf_token=token), lambda: open_source("org/in", token=token)):
        with pytest.raises(UserError, match="--hf-token contains") as refusal:
            use()
        assert "secr" not in str(refusal.value)


def test_a_hub_that_is_down_leaves_the_rows_staged_and_says_so(hub, tmp_path):
    down = hub.fault("POST", "/commit/", times=None, status=500)
    with pytest.raises(UserError, match=r"5 parts could not be sent to org/doubles.* and stay in .*same command"):
        double_on_hub(hub)
    assert down.hits == selfalign.runner.hub.HUB_TRIES and len(staged(tmp_path)) == 5
    down.active = False
    double_on_hub(hub, function=never)
    assert numbers_in(hub) == list(range(50)) and not staged(tmp_path)


def test_a_hub_that_is_down_does_not_stop_the_work(hub, monkeypatch):
    monkeypatch.setattr(hub_output, "COMMIT_SECONDS", 0)
    down = hub.fault("POST", "/commit/", times=selfalign.runner.hub.HUB_TRIES, status=500)

    def until_it_is_up(row):
        while row["number"] == 45 and down.active:
            pass
        return double(row)

    double_on_hub(hub, function=until_it_is_up)
    assert numbers_in(hub) == list(range(50))


def further_tables(hub, halves):
    """Three tables, of 50, 25 and no rows."""
    tables = {
        "halves": Table(numbers(25), halves, COLUMNS, carry=False),
        "thirds": Table(numbers(16), lambda row: Done([]), COLUMNS),
    }
    return double_on_hub(hub, tables=tables)


def half(row):
    return {"double": row["number"]}


def test_tables_are_configurations_in_one_commit(hub, tmp_path):
    """In a subprocess: datasets takes the Hub's address at import. A table without rows is none, or nothing is read."""
    further_tables(hub, half)
    assert len(hub.commits(REPO)) == 2 and not staged(tmp_path)
    code = """
from selfalign.runner.source import open_source
from selfalign.errors import UserError
for config in (None, "default", "halves"):
    source = open_source("org/doubles", config=config)
    print(len(source), source.rows.column_names)
try:
    open_source("org/doubles", config="thirds")
except UserError as error:
    print(error)
"""
    reader = [sys.executable, "-c", code]
    process = subprocess.run(reader, env=hub.environment(tmp_path / "reader"), capture_output=True, text=True)
    *found, refusal = process.stdout.splitlines()
    assert found == [*["50 ['id', 'number', 'double']"] * 2, "25 ['double']"] and "thirds" in refusal, process.stderr


def test_a_table_that_was_cut_off_goes_on_where_it_was(hub, tmp_path):
    """The Hub is down while the second table is written: what is staged of both is sent later, and not done again."""

    def fails_late(row):
        if row["number"] == 22:
            down.append(hub.fault("POST", "/commit/", times=None, status=500))
            raise RowOpen("no luck")
        return half(row)

    down, done = [], []
    with pytest.raises(UserError, match="could not be sent"):
        further_tables(hub, fails_late)
    down.pop().active = False
    further_tables(hub, lambda row: done.append(row["number"]) or half(row))
    assert sorted(numbers_in(hub, "halves/rows-", "double")) == list(range(25))
    assert done == [22] and numbers_in(hub) == list(range(50)) and not staged(tmp_path)


def test_what_is_there_is_known_from_kilobytes(hub, monkeypatch):
    monkeypatch.setattr(writer, "PART_ROWS", 10_000)
    double_on_hub(hub, 20, lambda row: double(row) | {"id": f"{row['number']:0300000d}"})
    output, before = open_output(REPO, token=hub.token), len(hub.requests)
    assert [part.rows for part in output.parts()] == [20]
    statuses = [each.status for each in hub.requests[before:] if "/resolve/" in each.path]
    assert statuses == [206], "one request for the footer"


def test_a_footer_that_cannot_be_read_just_now_is_no_damaged_part(hub):
    """The client gives up after six tries and raises an OSError, as a damaged file does."""
    double_on_hub(hub, n=10)
    hit = hub.fault("GET", "/resolve/.*parquet", times=8, status=503)
    assert [part.rows for part in open_output(REPO, token=hub.token).parts()] == [10] and hit.hits == 8


def test_an_input_is_pinned_and_its_failing_requests_are_tried_again(hub, tmp_path):
    """In a subprocess: datasets takes the Hub's address at import."""
    hub.add("org/in", {"data/train-0.jsonl": b'{"id": "a", "number": 1}\n'})
    code = """
import time
from selfalign.runner.source import open_source
time.sleep = lambda seconds: None
old = open_source("org/in")
input()
new, old_again = open_source("org/in"), open_source("org/in@" + old.pin["revision"])
print([len(s) for s in (old, new, old_again)], old.pin == old_again.pin != new.pin)
"""
    reader = [sys.executable, "-c", code]
    process = subprocess.Popen(reader, env=hub.environment(tmp_path), stdin=-1, stdout=-1, stderr=-1, text=True)
    faults = [hub.fault("GET", "/api/datasets/org/in$", skip=1, status=500)]
    while not [each for each in hub.requests if "/resolve/" in each.path]:
        pass
    hub.add("org/in", {"data/train-1.jsonl": b'{"id": "b", "number": 2}\n'})
    faults += [
        hub.fault("GET", "/api/datasets/org/in", status=500),
        hub.fault("HEAD", "/resolve/", times=3, status=429, retry_after=1),
        hub.fault("GET", "/resolve/", cut="answer"),
    ]
    out, errors = process.communicate("\n", timeout=60)
    assert out.strip() == "[1, 2, 1] True", errors
    assert [fault.hits > 0 for fault in faults[1:]] == [True] * 3 or faults[0].hits


def test_the_token_is_told_to_nobody(hub, tmp_path):
    """Neither in what the scripts print, when all is well and when not, nor in what they write."""
    row = sample("0", "def f(x):\n    return 3") | {"task_id": "t", "instruction": "i", "passed": True}
    source = write_rows(tmp_path / "in.jsonl", [row])
    environment = hub.environment(tmp_path / "home")
    del environment["HF_TOKEN"]
    said = []
    for fault in ({}, {"status": 403}, {"status": 401}):
        if fault:
            hub.fault("POST", "/commit/|/api/repos/create", **fault)
        command = [sys.executable, str(ROOT / "select.py"), str(source), f"org/out{len(said)}", "--hf-token", hub.token]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        said.append(process.stdout + process.stderr)
    assert "org/out0" in said[0] and "can't be created" in said[1]
    written = [path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    written += hub.files("org/out0").values()
    assert len(written) > 3 and not [each for each in written if hub.token.encode() in each]
    assert not [text for text in said if hub.token in text]


def test_files_of_a_private_repo_are_read_with_the_token_that_is_given(hub, tmp_path):
    hub.add("org/stack", {"data/python/data.jsonl": b'{"content": "x = 1"}\n'}, private=True)
    command = [sys.executable, "-m", "experiments.baselines.snippets", "hf://datasets/org/stack/data/python", "out"]
    environment = hub.environment(tmp_path / "home") | {"HF_TOKEN": hub.stranger_token, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [*command, "--hf-token", hub.token], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
