"""The local Hub against the real clients: what they can do with it, and that each fault does what it says.

Covers huggingface_hub in this process (an endpoint is passed to it) and datasets in one subprocess, whose results the
tests of the last section share. Where a test states what a client does under a fault, it is there to notice the day
that a new version of the client does otherwise: our own code relies on it.

Does not cover the Hub itself: that this server answers as the Hub does rests on the clients' understanding it.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.fakes.hub import LocalHub

REPO = "org/seeds"
PARQUET = bytes(range(256)) * 400  # not Parquet: only the name matters to the Hub
CUT = (httpx2.TransportError, OSError)  # what a cut connection raises


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    # Read by the client at import, which other tests may have done already.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with LocalHub() as hub:
        yield hub


@pytest.fixture
def api(hub: LocalHub) -> HfApi:
    return HfApi(endpoint=hub.url, token=hub.token)


def commit(api: HfApi, files: dict[str, bytes], **options: Any) -> str:
    operations = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()]
    return api.create_commit(REPO, operations, commit_message="test", repo_type="dataset", **options).oid


def download(api: HfApi, path: str, cache: Path, **options: Any) -> bytes:
    return Path(api.hf_hub_download(REPO, path, repo_type="dataset", cache_dir=cache, **options)).read_bytes()


def sent(hub: LocalHub, method: str, part: str) -> list[int | None]:
    """The statuses of the requests that match."""
    return [each.status for each in hub.requests if each.method == method and part in each.path]


# Repos, commits, files


def test_a_private_repo_says_so(hub: LocalHub, api: HfApi):
    api.create_repo(REPO, repo_type="dataset", private=True)
    assert api.repo_info(REPO, repo_type="dataset").private is True


def test_a_repo_can_be_made_public(hub: LocalHub, api: HfApi):
    hub.add(REPO, {}, private=True)
    api.update_repo_settings(REPO, repo_type="dataset", private=False)
    assert HfApi(endpoint=hub.url, token=False).repo_info(REPO, repo_type="dataset").private is False


def test_creating_twice_needs_exist_ok(api: HfApi):
    url = api.create_repo(REPO, repo_type="dataset")
    assert api.create_repo(REPO, repo_type="dataset", exist_ok=True) == url
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(REPO, repo_type="dataset")


def test_a_deleted_repo_is_gone(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    api.delete_repo(REPO, repo_type="dataset")
    assert not api.repo_exists(REPO, repo_type="dataset")


def test_models_and_datasets_of_one_name_are_two_repos(hub: LocalHub, api: HfApi):
    hub.add(REPO, {"config.json": b"{}"}, repo_type="model")
    hub.add(REPO, {"data.jsonl": b"{}"})
    assert api.list_repo_files(REPO) == ["config.json"]
    assert api.list_repo_files(REPO, repo_type="dataset") == ["data.jsonl"]


def test_a_commit_adds_and_deletes_at_once(hub: LocalHub, api: HfApi):
    hub.add(REPO, {"old.txt": b"old", "folder/a.txt": b"a", "folder/b.txt": b"b"})
    operations = [
        CommitOperationAdd("new.txt", b"new"),
        CommitOperationDelete("old.txt"),
        CommitOperationDelete("folder/"),
    ]
    api.create_commit(REPO, operations, commit_message="swap", repo_type="dataset")
    assert hub.files(REPO) == {"new.txt": b"new"}
    assert hub.commits(REPO)[-1].title == "swap"


def test_a_commit_that_cannot_be_done_whole_is_not_done(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    operations = [CommitOperationAdd("new.txt", b"new"), CommitOperationDelete("missing.txt")]
    with pytest.raises(EntryNotFoundError):
        api.create_commit(REPO, operations, commit_message="half", repo_type="dataset")
    assert hub.files(REPO) == {}


def test_large_files_go_through_lfs_and_only_once(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    commit(api, {"data/train-0.parquet": PARQUET})
    commit(api, {"data/train-1.parquet": PARQUET})
    assert hub.files(REPO) == {"data/train-0.parquet": PARQUET, "data/train-1.parquet": PARQUET}
    assert sent(hub, "PUT", "/lfs/") == [200]


def test_an_upload_with_other_content_than_announced_is_refused(hub: LocalHub):
    hub.add(REPO, {})
    batch = {"objects": [{"oid": sha256(b"whole").hexdigest(), "size": 5}]}
    url, auth = f"{hub.url}/datasets/{REPO}.git/info/lfs/objects/batch", {"Authorization": f"Bearer {hub.token}"}
    target = httpx2.post(url, json=batch, headers=auth).json()["objects"][0]["actions"]["upload"]["href"]
    assert [httpx2.put(target, content=each).status_code for each in (b"whol", b"whole")] == [400, 200]


def test_what_has_not_changed_is_not_committed(hub: LocalHub, api: HfApi):
    hub.add(REPO, {"a.txt": b"a", "a.parquet": PARQUET})
    commit(api, {"a.txt": b"a", "a.parquet": PARQUET})
    assert sent(hub, "POST", "/commit/") == []


def test_a_stale_parent_is_refused(hub: LocalHub, api: HfApi):
    first = hub.add(REPO, {"a.txt": b"1"})
    hub.add(REPO, {"a.txt": b"2"})
    with pytest.raises(HfHubHTTPError, match="412"):
        commit(api, {"a.txt": b"3"}, parent_commit=first)
    assert hub.files(REPO) == {"a.txt": b"2"}


def test_writers_at_once_lose_nothing(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    writers = [threading.Thread(target=commit, args=(api, {f"{n}.txt": b"%d" % n})) for n in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert hub.files(REPO) == {f"{n}.txt": b"%d" % n for n in range(8)}
    history = hub.commits(REPO)
    assert [each.parent for each in history[1:]] == [each.oid for each in history[:-1]]


def test_a_card_with_broken_metadata_is_refused(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    with pytest.raises(ValueError, match="Invalid metadata"):
        commit(api, {"README.md": b"---\nlicense: [mit\n---\n"})


def test_a_folder_comes_back_as_it_went(hub: LocalHub, api: HfApi, tmp_path: Path):
    files = {"a.txt": b"a", "data/b.parquet": PARQUET, "odd name/ü%23.txt": b"u", "empty.txt": b""}
    for path, content in files.items():
        (tmp_path / "up" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "up" / path).write_bytes(content)
    api.create_repo("org/model")
    api.upload_folder(repo_id="org/model", folder_path=tmp_path / "up")
    down = Path(api.snapshot_download("org/model", cache_dir=tmp_path / "cache"))
    assert {str(p.relative_to(down)): p.read_bytes() for p in down.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize("digits", [40, 7])
def test_a_sha_pins_a_revision(hub: LocalHub, api: HfApi, tmp_path: Path, digits: int):
    first = hub.add(REPO, {"a.txt": b"1"})
    hub.add(REPO, {"a.txt": b"2"})
    assert download(api, "a.txt", tmp_path, revision=first[:digits]) == b"1"
    assert download(api, "a.txt", tmp_path) == b"2"


def test_branches_and_tags(hub: LocalHub, api: HfApi):
    first = hub.add(REPO, {"a.txt": b"1"})
    api.create_tag(REPO, tag="v1", repo_type="dataset")
    api.create_branch(REPO, branch="try/it", repo_type="dataset")
    commit(api, {"a.txt": b"2"}, revision="try/it")
    assert hub.files(REPO, revision="try/it") == {"a.txt": b"2"}
    assert hub.files(REPO) == {"a.txt": b"1"}
    assert api.list_repo_refs(REPO, repo_type="dataset").tags[0].target_commit == first


def test_commits_are_listed_newest_first(hub: LocalHub, api: HfApi):
    oids = [hub.add(REPO, {"a.txt": b"%d" % n}) for n in range(3)]
    assert [each.commit_id for each in api.list_repo_commits(REPO, repo_type="dataset")][:3] == oids[::-1]


def test_listings_come_in_pages():
    with LocalHub(page_size=2) as hub:
        hub.add(REPO, {f"data/{n}.txt": b"" for n in range(5)})
        listed = HfApi(endpoint=hub.url, token=hub.token).list_repo_files(REPO, repo_type="dataset")
        assert listed == [f"data/{n}.txt" for n in range(5)]
        assert len(sent(hub, "GET", "/tree/")) == 3


def test_the_file_system_lists_and_globs_and_reads_a_range(hub: LocalHub):
    hub.add(REPO, {"a.txt": b"0123456789", "data/b.parquet": PARQUET})
    files = HfFileSystem(endpoint=hub.url, token=hub.token, skip_instance_cache=True)
    root = f"datasets/{REPO}"
    assert files.ls(root, detail=False) == [f"{root}/a.txt", f"{root}/data"]
    assert files.glob(f"{root}/**/*.parquet") == [f"{root}/data/b.parquet"]
    assert files.cat_file(f"{root}/a.txt", start=3, end=6) == b"345"
    assert files.info(f"{root}/data/b.parquet")["size"] == len(PARQUET)


@pytest.mark.parametrize("asked, got", [("0-1", b"01"), ("7-", b"789"), ("-2", b"89"), ("8-99", b"89"), ("10-", b"")])
def test_ranges(hub: LocalHub, asked: str, got: bytes):
    hub.add(REPO, {"a.txt": b"0123456789"})
    url = f"{hub.url}/datasets/{REPO}/resolve/main/a.txt"
    answer = httpx2.get(url, headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content if got else b"") == (206 if got else 416, got)


# Who may do what, and what is missing


@pytest.mark.parametrize("token", [False, LocalHub.stranger_token])
def test_a_private_repo_does_not_exist_for_others(hub: LocalHub, token: str | bool):
    hub.add(REPO, {}, private=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=token).repo_info(REPO, repo_type="dataset")


def test_others_read_a_public_repo_but_do_not_write(hub: LocalHub, tmp_path: Path):
    hub.add(REPO, {"a.txt": b"1"})
    stranger = HfApi(endpoint=hub.url, token=hub.stranger_token)
    assert download(stranger, "a.txt", tmp_path) == b"1"
    with pytest.raises(HfHubHTTPError, match="403"):
        commit(stranger, {"a.txt": b"2"})


def test_an_unknown_token_is_refused_everywhere(hub: LocalHub):
    hub.add(REPO, {})
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.url, token="hf_unknown").repo_info(REPO, repo_type="dataset")


def test_a_gated_repo_shows_its_page_and_keeps_its_files(hub: LocalHub, api: HfApi, tmp_path: Path):
    hub.add(REPO, {"a.txt": b"1"})
    api.update_repo_settings(REPO, repo_type="dataset", gated="auto")
    stranger = HfApi(endpoint=hub.url, token=hub.stranger_token)
    assert stranger.repo_info(REPO, repo_type="dataset").gated == "auto"
    with pytest.raises(GatedRepoError):
        download(stranger, "a.txt", tmp_path)


def test_what_is_missing_is_named(hub: LocalHub, api: HfApi, tmp_path: Path):
    with pytest.raises(RepositoryNotFoundError):
        download(api, "a.txt", tmp_path)
    hub.add(REPO, {})
    with pytest.raises(RevisionNotFoundError):
        download(api, "a.txt", tmp_path, revision="v9")
    with pytest.raises(RemoteEntryNotFoundError):  # not the local kind, which stands for any failure without a cache
        download(api, "a.txt", tmp_path)


def test_the_log_names_users_and_keeps_no_token(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    api.repo_info(REPO, repo_type="dataset")
    HfApi(endpoint=hub.url, token=False).repo_info(REPO, repo_type="dataset")
    assert [each.user for each in hub.requests] == [hub.user, None]
    assert hub.token not in repr(hub.requests)


# Faults


@pytest.mark.parametrize("status", [409, 412, 429, 500, 503])
def test_a_commit_answered_with_an_error_raises_at_once_and_is_not_made(hub: LocalHub, api: HfApi, status: int):
    hub.add(REPO, {})
    hub.fault("POST", "/commit/", status=status, retry_after=1)
    with pytest.raises(HfHubHTTPError) as raised:
        commit(api, {"a.txt": b"1"})
    assert raised.value.response.status_code == status
    assert raised.value.response.headers["Retry-After"] == "1"
    assert hub.files(REPO) == {} and sent(hub, "POST", "/commit/") == [status]


@pytest.mark.parametrize("cut", ["before", "body"])
def test_a_commit_cut_while_it_is_sent_is_not_made(hub: LocalHub, api: HfApi, cut: Any):
    hub.add(REPO, {})
    hub.fault("POST", "/commit/", cut=cut)
    with pytest.raises(CUT):
        commit(api, {"a.txt": b"1" * 1_000_000})
    assert hub.files(REPO) == {} and sent(hub, "POST", "/commit/") == [None]


def test_a_commit_whose_answer_is_lost_is_made_and_raises(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    hub.fault("POST", "/commit/", cut="after")
    with pytest.raises(CUT):
        commit(api, {"a.txt": b"1"})
    assert hub.files(REPO) == {"a.txt": b"1"} and sent(hub, "POST", "/commit/") == [None]


@pytest.mark.parametrize("fault", [{"cut": "before"}, {"cut": "body"}, {"cut": "after"}, {"status": 503}])
def test_an_lfs_upload_is_tried_again(hub: LocalHub, api: HfApi, fault: dict[str, Any]):
    hub.add(REPO, {})
    hub.fault("PUT", "/lfs/", **fault)
    commit(api, {"a.parquet": PARQUET})
    assert hub.files(REPO) == {"a.parquet": PARQUET}
    assert sent(hub, "PUT", "/lfs/") == [fault.get("status"), 200]


@pytest.mark.parametrize("part", ["/tree/", "/preupload/", "/lfs/objects/batch"])
def test_listing_and_preparing_are_tried_again(hub: LocalHub, api: HfApi, part: str):
    hub.add(REPO, {})
    fault = hub.fault("GET|POST", part, status=503)
    commit(api, {"a.parquet": PARQUET})
    assert api.list_repo_files(REPO, repo_type="dataset") == ["a.parquet"] and fault.hits == 1


@pytest.mark.parametrize("part", ["whoami", "/api/datasets/"])
def test_asking_who_and_what_is_not_tried_again(hub: LocalHub, api: HfApi, part: str):
    hub.add(REPO, {})
    hub.fault("GET", part, status=503)
    with pytest.raises(HfHubHTTPError):
        api.whoami() if part == "whoami" else api.repo_info(REPO, repo_type="dataset")
    assert sent(hub, "GET", part) == [503]


def test_retry_after_is_honoured_where_the_client_retries(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    hub.fault("POST", "/preupload/", status=429, retry_after=1)
    start = time.monotonic()
    commit(api, {"a.txt": b"1"})
    assert time.monotonic() - start >= 1
    assert sent(hub, "POST", "/preupload/") == [429, 200]


def test_a_download_cut_in_the_middle_raises_and_works_when_called_again(hub: LocalHub, api: HfApi, tmp_path: Path):
    hub.add(REPO, {"a.parquet": PARQUET})
    hub.fault("GET", "/resolve/", cut="answer")
    with pytest.raises(CUT):
        download(api, "a.parquet", tmp_path)
    assert download(api, "a.parquet", tmp_path) == PARQUET
    assert sent(hub, "GET", "/resolve/")[0] is None


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_failed_head_gives_the_cached_version_silently(hub: LocalHub, api: HfApi, tmp_path: Path, status: int):
    hub.add(REPO, {"a.txt": b"1"})
    download(api, "a.txt", tmp_path)
    second = hub.add(REPO, {"a.txt": b"2"})
    hub.fault("HEAD", "/resolve/main/", status=status, times=None)
    assert download(api, "a.txt", tmp_path) == b"1"
    assert download(api, "a.txt", tmp_path, revision=second) == b"2"


def test_a_server_that_ignores_ranges(hub: LocalHub):
    hub.add(REPO, {"a.txt": b"0123456789"})
    hub.fault("GET", "/resolve/", ignore_range=True)
    answer = httpx2.get(f"{hub.url}/datasets/{REPO}/resolve/main/a.txt", headers={"Range": "bytes=3-5"})
    assert (answer.status_code, answer.content) == (200, b"0123456789")


def test_a_delay_holds_up_one_request_and_no_other(hub: LocalHub, api: HfApi):
    hub.add(REPO, {})
    hub.fault("GET", "/refs", delay=1)
    slow = threading.Thread(target=api.list_repo_refs, args=(REPO,), kwargs={"repo_type": "dataset"})
    start = time.monotonic()
    slow.start()
    while not hub._faults[0].hits:
        time.sleep(0.01)
    api.repo_info(REPO, repo_type="dataset")
    assert time.monotonic() - start < 1
    slow.join()
    assert time.monotonic() - start >= 1


def test_somebody_else_commits_in_between(hub: LocalHub, api: HfApi):
    head = hub.add(REPO, {"a.txt": b"1"})
    hub.fault("POST", "/commit/", call=lambda: hub.add(REPO, {"a.txt": b"theirs"}))
    with pytest.raises(HfHubHTTPError, match="412"):
        commit(api, {"a.txt": b"ours"}, parent_commit=head)
    assert hub.files(REPO) == {"a.txt": b"theirs"}


def test_a_fault_counts_from_where_it_is_told_to(hub: LocalHub):
    hub.add(REPO, {})
    hub.fault("GET", "/refs", skip=1, times=2, status=500)
    answers = [httpx2.get(f"{hub.url}/api/datasets/{REPO}/refs").status_code for _ in range(4)]
    assert answers == [200, 500, 500, 200]


def test_a_fault_lasts_until_it_is_switched_off(hub: LocalHub):
    hub.add(REPO, {})
    fault = hub.fault("GET", "/refs", times=None, status=500)
    ask: Callable[[], int] = lambda: httpx2.get(f"{hub.url}/api/datasets/{REPO}/refs").status_code  # noqa: E731
    assert [ask(), ask()] == [500, 500]
    fault.off()
    assert ask() == 200 and fault.hits == 2


def test_a_client_that_dies_while_it_sends_a_commit_commits_nothing(hub: LocalHub):
    hub.add(REPO, {})
    line = b'{"key": "file", "value": {"path": "a.txt", "content": "MQ==", "encoding": "base64"}}\n'
    head = f"POST /api/datasets/{REPO}/commit/main HTTP/1.1\r\nAuthorization: Bearer {hub.token}\r\n"
    with socket.create_connection(("127.0.0.1", int(hub.url.split(":")[-1]))) as client:
        client.sendall(f"{head}Content-Length: {2 * len(line)}\r\n\r\n".encode() + line)
    while not hub.requests:
        time.sleep(0.01)
    assert sent(hub, "POST", "/commit/") == [None] and hub.files(REPO) == {}


# datasets, unchanged, in a subprocess

CLIENT = """
import json
from datasets import Dataset, load_dataset
from huggingface_hub import DatasetCard, HfApi, get_session

first = Dataset.from_dict({"id": list(range(1000))})
before = first.push_to_hub("org/rows", private=True).oid
Dataset.from_dict({"id": list(range(1000, 3000))}).push_to_hub("org/rows")
card = DatasetCard.load("org/rows")
card.data.license = "mit"
card.push_to_hub("org/rows")
found = {
    "loaded": load_dataset("org/rows", split="train").num_rows,
    "pinned": load_dataset("org/rows", split="train", revision=before).num_rows,
    "streamed": sum(row["id"] for row in load_dataset("org/rows", split="train", streaming=True)),
    "files": load_dataset("parquet", data_files="hf://datasets/org/rows/data/*.parquet", split="train").num_rows,
    "private": HfApi().dataset_info("org/rows").private,
    "license": HfApi().dataset_info("org/rows", revision="main").card_data.license,
}
try:
    first.push_to_hub("org/raced")
except Exception as error:
    found["raced"] = error.response.status_code
try:
    get_session().get("https://example.com")
except Exception as error:
    found["network"] = type(error).__name__
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with LocalHub() as hub:
        hub.fault("POST", "org/raced/commit", call=lambda: hub.add("org/raced", {"theirs.txt": b""}))
        environment = hub.environment(tmp_path_factory.mktemp("home"))
        ended = subprocess.run([sys.executable, "-c", CLIENT], env=environment, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout) | {"outside": hub.outside, "requests": hub.requests}


def test_datasets_pushes_and_loads(client: dict[str, Any]):
    assert client["loaded"] == 2000
    assert client["private"] is True


def test_datasets_loads_a_pinned_revision(client: dict[str, Any]):
    assert client["pinned"] == 1000


def test_datasets_streams(client: dict[str, Any]):
    assert client["streamed"] == sum(range(1000, 3000))


def test_datasets_loads_files_by_url(client: dict[str, Any]):
    assert client["files"] == 2000


def test_a_push_that_races_with_another_writer_raises(client: dict[str, Any]):
    assert client["raced"] == 412


def test_a_card_is_changed_and_pushed(client: dict[str, Any]):
    assert client["license"] == "mit"


def test_the_lookup_of_the_viewer_is_answered_here(client: dict[str, Any]):
    asked = {each.status for each in client["requests"] if "://datasets-server." in each.path}
    assert asked == {404}


def test_the_network_is_refused_and_listed(client: dict[str, Any]):
    assert client["network"] == "ProxyError"
    assert client["outside"] == ["CONNECT example.com:443"]
