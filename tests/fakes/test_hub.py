"""The local Hub against the real clients: what they can do with it, and what they do under faults.

Our own code relies on the latter, and a new version of a client may change it. What faults mean for our own outputs,
and that they last and cut as they should, is tested in `tests/runner`.
"""

import json
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, constants
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.fakes.hub import LocalHub

REPO = "org/seeds"
PARQUET = bytes(range(256)) * 400  # not Parquet: only the name matters to the Hub


@pytest.fixture
def hub(monkeypatch):
    # Read by the client at import, which other tests may have done already.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with LocalHub() as hub:
        hub.add(REPO, {})
        yield hub


@pytest.fixture
def api(hub):
    return HfApi(endpoint=hub.url, token=hub.token)


def commit(api, files, **options):
    operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
    return api.create_commit(REPO, operations, commit_message="test", repo_type="dataset", **options).oid


def download(api, path, cache, **options):
    return Path(api.hf_hub_download(REPO, path, repo_type="dataset", cache_dir=cache, **options)).read_bytes()


def sent(hub, method, part):
    """The statuses of the requests that match."""
    return [each.status for each in hub.requests if each.method == method and part in each.path]


# Repos, commits, files


def test_creating_twice_needs_exist_ok(api):
    url = api.create_repo("org/new", repo_type="dataset")
    assert api.create_repo("org/new", repo_type="dataset", exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("org/new", repo_type="dataset")


def test_large_files_go_through_lfs_and_only_once(hub, api):
    commit(api, {"data/train-0.parquet": PARQUET})
    commit(api, {"data/train-1.parquet": PARQUET})
    assert hub.files(REPO) == {"data/train-0.parquet": PARQUET, "data/train-1.parquet": PARQUET}
    assert sent(hub, "PUT", "/lfs/") == [200]


def test_an_upload_with_other_content_than_announced_is_refused(hub):
    batch = {"objects": [{"oid": sha256(b"whole").hexdigest(), "size": 5}]}
    url, auth = f"{hub.url}/datasets/{REPO}.git/info/lfs/objects/batch", {"Authorization": f"Bearer {hub.token}"}
    target = httpx2.post(url, json=batch, headers=auth).json()["objects"][0]["actions"]["upload"]["href"]
    assert [httpx2.put(target, content=each).status_code for each in (b"whol", b"whole")] == [400, 200]


def test_what_has_not_changed_is_not_committed(hub, api):
    hub.add(REPO, {"a.txt": b"a", "a.parquet": PARQUET})
    commit(api, {"a.txt": b"a", "a.parquet": PARQUET})
    assert sent(hub, "POST", "/commit/") == []


def test_writers_at_once_lose_nothing(hub, api):
    files = {f"{n}.txt": b"%d" % n for n in range(8)}
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda path: commit(api, {path: files[path]}), files))
    assert hub.files(REPO) == files


def test_a_card_with_broken_metadata_is_refused(hub, api):
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, {"README.md": b"---\nlicense: [mit\n---\n"})


def test_a_folder_comes_back_as_it_went(hub, api, tmp_path):
    files = {"a.txt": b"a", "data/b.parquet": PARQUET, "odd name/ü%23.txt": b"u", "empty.txt": b""}
    for path, content in files.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(content)
    api.create_repo("org/model")
    api.upload_folder(repo_id="org/model", folder_path=tmp_path / "up")
    down = Path(api.snapshot_download("org/model", cache_dir=tmp_path / "cache"))
    assert {str(p.relative_to(down)): p.read_bytes() for p in down.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("digits", [40, 7])
def test_a_sha_pins_a_revision(hub, api, tmp_path, digits):
    first = hub.add(REPO, {"a.txt": b"1"})
    hub.add(REPO, {"a.txt": b"2"})
    assert download(api, "a.txt", tmp_path, revision=first[:digits]) == b"1"
    assert download(api, "a.txt", tmp_path) == b"2"


def test_the_file_system_lists_and_globs_and_reads_a_range(hub):
    hub.add(REPO, {"a.txt": b"0123456789", "data/b.parquet": PARQUET})
    files = HfFileSystem(endpoint=hub.url, token=hub.token, skip_instance_cache=True)
    root = f"datasets/{REPO}"
    assert files.ls(root, detail=False) == [f"{root}/a.txt", f"{root}/data"]
    assert files.glob(f"{root}/**/*.parquet") == [f"{root}/data/b.parquet"]
    assert files.cat_file(f"{root}/a.txt", start=3, end=6) == b"345"
    assert files.info(f"{root}/data/b.parquet")["size"] == len(PARQUET)


@pytest.mark.parametrize("asked, got", [("0-1", b"01"), ("7-", b"789"), ("-2", b"89"), ("8-99", b"89"), ("10-", b"")])
def test_ranges(hub, asked, got):
    hub.add(REPO, {"a.txt": b"0123456789"})
    url = f"{hub.url}/datasets/{REPO}/resolve/main/a.txt"
    answer = httpx2.get(url, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content if got else b"") == (206 if got else 416, got)


# Who may do what, and what is missing


@pytest.mark.parametrize("token", [False, LocalHub.stranger_token])
def test_a_private_repo_does_not_exist_for_others(hub, token):
    hub.add("org/private", {}, private=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=token).dataset_info("org/private")


def test_others_read_a_public_repo_but_do_not_write(hub, tmp_path):
    hub.add(REPO, {"a.txt": b"1"})
    stranger = HfApi(endpoint=hub.url, token=hub.stranger_token)
    assert download(stranger, "a.txt", tmp_path) == b"1"
    with pytest.raises(HfHubHTTPError, match="403"):
        commit(stranger, {"a.txt": b"2"})


def test_an_unknown_token_is_refused(hub):
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.url, token="hf_unknown").dataset_info(REPO)


def test_what_is_missing_is_named(hub, api, tmp_path):
    with pytest.raises(RepositoryNotFoundError):
        api.hf_hub_download("org/missing", "a.txt", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        download(api, "a.txt", tmp_path, revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):  # not the local kind, which stands for any failure without a cache
        download(api, "a.txt", tmp_path)


# Faults


@pytest.mark.parametrize("status", [409, 412, 429, 500, 503])
def test_a_commit_answered_with_an_error_raises_at_once_and_is_not_made(hub, api, status):
    hub.fault("POST", "/commit/", status=status, retry_after=1)
    with pytest.raises(HfHubHTTPError) as raised:
        commit(api, {"a.txt": b"1"})
    assert raised.value.response.status_code == status
    assert raised.value.response.headers["Retry-After"] == "1"
    assert hub.files(REPO) == {} and sent(hub, "POST", "/commit/") == [status]


def test_a_failed_head_gives_the_cached_version_silently(hub, api, tmp_path):
    hub.add(REPO, {"a.txt": b"1"})
    download(api, "a.txt", tmp_path)
    second = hub.add(REPO, {"a.txt": b"2"})
    hub.fault("HEAD", "/resolve/main/", status=503, times=None)
    assert download(api, "a.txt", tmp_path) == b"1"
    assert download(api, "a.txt", tmp_path, revision=second) == b"2"


def test_a_client_that_dies_while_it_sends_a_commit_commits_nothing(hub):
    line = b'{"key": "file", "value": {"path": "a.txt", "content": "MQ==", "encoding": "base64"}}\n'
    head = f"POST /api/datasets/{REPO}/commit/main HTTP/1.1\r\nAuthorization: Bearer {hub.token}\r\n"
    with socket.create_connection(("127.0.0.1", int(hub.url.split(":")[-1]))) as client:
        client.sendall(f"{head}Content-Length: {2 * len(line)}\r\n\r\n".encode() + line)
    while not hub.requests:
        time.sleep(0.01)
    assert sent(hub, "POST", "/commit/") == [None] and hub.files(REPO) == {}


def test_datasets_loads_what_is_asked_for_and_nothing_reaches_the_network(hub, tmp_path):
    """In a subprocess: datasets takes the Hub's address at import."""
    code = """
import json, sys
from datasets import load_dataset
from huggingface_hub import get_session

found = [load_dataset("org/private", split="train", revision=revision).num_rows for revision in (None, sys.argv[1])]
found.append(load_dataset("json", data_files="hf://datasets/org/private/data/*.jsonl", split="train").num_rows)
try:
    get_session().get("https://example.com")
except Exception as error:
    found.append(type(error).__name__)
print(json.dumps(found))
"""
    first = hub.add("org/private", {"data/train-0.jsonl": b'{"id": 1}\n'}, private=True)
    hub.add("org/private", {"data/train-1.jsonl": b'{"id": 2}\n{"id": 3}\n'})
    command = [sys.executable, "-c", code, first]
    ended = subprocess.run(command, env=hub.environment(tmp_path), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == [3, 1, 3, "ProxyError"]
    assert [each.path for each in hub.requests if each.status == 403] == ["example.com:443"]
