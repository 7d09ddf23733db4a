"""A Hugging Face Hub in one thread of the tests, for the client libraries as they are, with faults to switch on.

    with LocalHub() as hub:
        hub.add("org/seeds", {"data.jsonl": b'{"id": 1}\\n'})  # or with any Hub client
        fault = hub.fault("POST", "/commit/", cut="after")  # the commit lands, its answer is lost
        subprocess.run([sys.executable, "script.py", "org/seeds"], env=hub.environment(tmp_path))
        hub.files("org/seeds"), hub.commits("org/seeds"), hub.requests, fault.hits

By hand: `python -m tests.fakes.hub` prints the variables to export and serves until Ctrl-C.

Covers what huggingface_hub 2 and datasets 5 ask for models and datasets: create, delete and settings of repos; info,
trees, paths, refs and commits at a branch, a tag or a sha; files with Range; plain and LFS uploads; commits with
parentCommit (412 when stale); branches and tags; validation of cards; private and gated repos, missing repos, revisions
and files with the Hub's status and X-Error-Code. Each commit is atomic, and any thread may call anything.

Does not cover: Xet (the environment turns it off), pull requests, spaces, buckets, search, moving repos, squashing,
multi-part LFS, .gitignore, ids without a namespace, redirects to a CDN, the viewer's Parquet export, rate limits other
than by a fault. Commits that race without parentCommit are queued, where the Hub answers some of them with 412: use a
fault for that. `expand` on repo infos returns every field. Everything is in memory, files as well.

How scripts run against it unchanged: `environment` has all that it takes. datasets looks for a viewer under
`datasets-server.<host of HF_ENDPOINT>`, which no variable turns off and no resolver knows for 127.0.0.1. So the local
Hub is also the proxy of the subprocess for every host but this one: it answers 404 to the viewer's name and refuses all
others with 403 (`hub.outside` lists them), so that a test that reaches for the network fails at once and shows where.
In the test's own process, pass `endpoint=hub.url, token=hub.token` to HfApi and HfFileSystem; datasets takes its
endpoint from the environment at import, so it belongs in a subprocess.
"""

import base64
import hashlib
import json
import os
import re
import secrets
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import yaml  # a dependency of huggingface_hub

# Where a fault cuts the connection: nothing read, half of the request's body read, request performed but not answered,
# half of the answer's body sent. The client sees a reset (RST), as from a proxy that dies.
Cut = Literal["before", "body", "after", "answer"]

LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".npy", ".parquet", ".pt", ".safetensors", ".tar", ".zip", ".zst")
LFS_BYTES = 10 * 1024**2  # the Hub takes larger files through LFS only
PAGE_SIZE = 1000  # entries in one answer of tree and commits; the Hub's number for trees

REPO = r"(?P<id>[^/]+(?:/[^/]+)?)"
API = rf"/api/(?P<type>model|dataset)s/{REPO}"
FILES = rf"/(?:(?P<type>dataset)s/)?{REPO}"
REVISION = r"(?P<revision>[^/]+)"  # quoted by the clients: refs%2Fheads%2Fmain


@dataclass(frozen=True)
class File:
    content: bytes = field(repr=False)
    lfs: bool
    commit: str  # oid of the commit that brought it

    @cached_property
    def etag(self) -> str:
        """What the Hub tells about the content: sha256 of an LFS file, git's blob sha1 of any other."""
        return sha256(self.content) if self.lfs else git_sha1(self.content)

    def info(self, path: str) -> dict[str, Any]:
        size = len(self.content)
        if not self.lfs:
            return {"type": "file", "path": path, "size": size, "oid": self.etag}
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.etag}\nsize {size}\n".encode()
        lfs = {"oid": self.etag, "size": size, "pointerSize": len(pointer)}
        return {"type": "file", "path": path, "size": size, "oid": git_sha1(pointer), "lfs": lfs}


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    date: str
    files: dict[str, File] = field(repr=False)  # the whole tree, by path


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    gated: str | bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)  # by sha256
    announced: set[str] = field(default_factory=set)  # sha256 of the LFS uploads that may come

    def at(self, revision: str) -> Commit:
        """The commit at a branch, a tag, a full ref or a sha (7 digits or more)."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        oid = self.branches.get(name) or self.tags.get(name)
        if oid is None and re.fullmatch("[0-9a-f]{7,40}", revision):
            oid = next((each for each in self.commits if each.startswith(revision)), None)
        if oid is None:
            raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def advance(self, branch: str, title: str, message: str, files: dict[str, tuple[bytes, bool]]) -> Commit:
        """Set the branch to a new commit whose tree is `files` (content and whether it is LFS, by path)."""
        parent, oid = self.branches.get(branch), secrets.token_hex(20)
        before = self.commits[parent].files if parent else {}
        tree = {}
        for path, (content, lfs) in sorted(files.items()):
            old = before.get(path)
            same = old is not None and (old.content, old.lfs) == (content, lfs)
            tree[path] = old if old is not None and same else File(content, lfs, oid)
        date = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        commit = Commit(oid, parent, title, message, date, tree)
        self.commits[oid] = commit
        self.branches[branch] = oid
        return commit


@dataclass
class Fault:
    """What befalls the requests that match; see `LocalHub.fault`."""

    method: str
    path: str
    times: int | None
    skip: int
    status: int | None
    retry_after: int | None
    cut: Cut | None
    delay: float
    call: Callable[[], object] | None
    ignore_range: bool
    hits: int = 0
    active: bool = True

    def off(self) -> None:
        self.active = False

    def takes(self, method: str, path: str) -> bool:
        if not (self.active and re.fullmatch(self.method, method) and re.search(self.path, path)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        self.active = self.hits != self.times
        return True


@dataclass(frozen=True)
class Request:
    """A request as the log keeps it, written just before it is answered."""

    method: str
    path: str  # with the query; a whole URL for requests to other hosts
    status: int | None  # None: the connection was cut, the client saw no status
    user: str | None  # whose token it carried (the token itself is not kept); None: none, "?": an unknown one


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Call:
    """One request on its way through a route."""

    user: str | None
    groups: dict[str, str | None]  # of the route's pattern, unquoted
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    url: str  # without the query

    def group(self, name: str, default: str = "") -> str:
        return self.groups.get(name) or default

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")


class Refusal(Exception):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Refusal:
    named = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}) | headers
    return Refusal(reply({"error": message}, status, **named))


def reply(value: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _own_names() -> list[str]:
    """This machine's name and addresses: what talks to itself by them (Ray does) is not to meet the proxy."""
    try:
        name, aliases, addresses = socket.gethostbyname_ex(socket.gethostname())
    except OSError:
        return [socket.gethostname()]
    return [name, *aliases, *addresses]


def wants_lfs(path: str, size: int, sample: bytes) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LFS_BYTES or b"\0" in sample


def card_data(readme: bytes) -> dict[str, Any]:
    """The YAML block that opens a card. Raises yaml.YAMLError, as the Hub refuses such cards."""
    block = re.match(rb"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", readme, re.DOTALL)
    data = yaml.safe_load(block[1]) if block else {}
    if not isinstance(data, dict | None):
        raise yaml.YAMLError("the metadata of a card must be a mapping")
    return data or {}


Route = Callable[["LocalHub", Call], Answer]
ROUTES: list[tuple[str, re.Pattern[str], Route]] = []


def route(method: str, pattern: str) -> Callable[[Route], Route]:
    def add(function: Route) -> Route:
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return add


class LocalHub:
    """The server, started and stopped by `with`.

    `token` reads and writes everything. `stranger_token` is a valid token of somebody else: it reads what is public.
    """

    user, token = "tester", "hf_local"
    stranger, stranger_token = "stranger", "hf_stranger"

    def __init__(self, page_size: int = PAGE_SIZE, port: int = 0) -> None:
        self.page_size = page_size
        self._lock = threading.RLock()  # held while a request is performed, never while bytes travel
        self._repos: dict[tuple[str, str], Repo] = {}
        self._faults: list[Fault] = []
        self._log: list[Request] = []
        self._server = _Server(("127.0.0.1", port), self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.close_connections()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """A complete environment for subprocesses: this process's, less its own Hub settings and proxies, plus ours.

        `home` becomes HF_HOME: caches go there, so a fresh folder is a machine that has downloaded nothing.
        """
        foreign = re.compile(r"(HF|HUGGING_?FACE(_HUB|_CO)?)_.*|TRANSFORMERS_OFFLINE|.*_PROXY", re.IGNORECASE)
        kept = {name: value for name, value in os.environ.items() if not foreign.fullmatch(name)}
        return kept | {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",  # uploads go through LFS, which is what this server speaks
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            # In capitals only: Python's clients read them, gRPC (and so Ray) reads lower-case ones and is left alone.
            "HTTP_PROXY": self.url,
            "HTTPS_PROXY": self.url,
            "NO_PROXY": ",".join(["127.0.0.1", "localhost", "::1", *_own_names()]),
        }

    def fault(
        self,
        method: str,
        path: str,
        *,
        times: int | None = 1,
        skip: int = 0,
        status: int | None = None,
        retry_after: int | None = None,
        cut: Cut | None = None,
        delay: float = 0,
        call: Callable[[], object] | None = None,
        ignore_range: bool = False,
    ) -> Fault:
        """Switch on a fault for requests whose method matches fully and whose path and query contain a match of `path`.

        `skip` requests pass first, then `times` are hit (None: until `.off()`). For each: wait `delay` seconds, run
        `call` (say, commit as somebody else: it may use the hub or kill the client), then do one of: answer `status`
        with `retry_after` seconds, without performing the request; `cut` the connection; neither, and perform it
        (a GET with `ignore_range`: from the start, with status 200). `.hits` counts. The first that matches is used.
        """
        fault = Fault(method, path, times, skip, status, retry_after, cut, delay, call, ignore_range)
        with self._lock:
            self._faults.append(fault)
        return fault

    def add(self, repo_id: str, files: dict[str, bytes], repo_type: str = "dataset", private: bool = False) -> str:
        """Commit `files` to main, of a new repo if need be, without any client. Returns the commit's oid."""
        with self._lock:
            repo = self._repos.get((repo_type, repo_id)) or self._create(repo_type, repo_id, private)
            tree = {path: (file.content, file.lfs) for path, file in repo.at("main").files.items()}
            tree |= {path: (content, wants_lfs(path, len(content), content[:512])) for path, content in files.items()}
            return repo.advance("main", f"Add {len(files)} files", "", tree).oid

    def commits(self, repo_id: str, repo_type: str = "dataset", revision: str = "main") -> list[Commit]:
        """Oldest first; the first one is the empty commit that every repo starts with."""
        with self._lock:
            repo = self._repos[repo_type, repo_id]
            return list(reversed(_history(repo, repo.at(revision))))

    def files(self, repo_id: str, repo_type: str = "dataset", revision: str = "main") -> dict[str, bytes]:
        with self._lock:
            tree = self._repos[repo_type, repo_id].at(revision).files
            return {path: file.content for path, file in tree.items()}

    @property
    def requests(self) -> list[Request]:
        with self._lock:
            return list(self._log)

    @property
    def outside(self) -> list[str]:
        """What subprocesses asked of other hosts, and were refused: "METHOD url", or "CONNECT host:port" for https."""
        return [f"{each.method} {each.path}" for each in self.requests if each.status == 403 and each.path[0] != "/"]

    # What follows is called by the server and the routes.

    def _create(self, repo_type: str, repo_id: str, private: bool) -> Repo:
        repo = self._repos[repo_type, repo_id] = Repo(repo_type, repo_id, private)
        repo.advance("main", "initial commit", "", {})
        return repo

    def _repo(self, call: Call, write: bool = False) -> Repo:
        """The repo that a request means, if its user may see it. Who may not is told what the Hub tells."""
        repo = self._repos.get((call.group("type", "model"), call.group("id")))
        if repo is None or (repo.private and call.user != self.user):
            if call.user is None:  # the Hub does not tell strangers which repos exist
                raise refusal(401, "Invalid username or password.", "RepoNotFound")
            raise refusal(404, "Repository not found", "RepoNotFound")
        if write and call.user is None:
            raise refusal(401, "Invalid username or password.")
        if write and call.user != self.user:
            raise refusal(403, f"Forbidden: you must have write access to {repo.id}")
        return repo

    def _perform(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(target)
        try:
            call = Call(self._user(headers), {}, parse_qs(parts.query), headers, body, self.url + parts.path)
            if call.user == "?":
                raise refusal(401, "Invalid credentials in Authorization header")
            for wanted, pattern, function in ROUTES:
                found = pattern.fullmatch(parts.path) if wanted in (method, "GET" if method == "HEAD" else "") else None
                if found:
                    call.groups = {name: value and unquote(value) for name, value in found.groupdict().items()}
                    with self._lock:
                        return function(self, call)
            raise refusal(404, f"The local Hub has no {method} {parts.path}")
        except Refusal as refused:
            return refused.answer

    def _user(self, headers: dict[str, str]) -> str | None:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        return {"": None, self.token: self.user, self.stranger_token: self.stranger}.get(token, "?")

    def _page(self, call: Call, entries: list[dict[str, Any]]) -> Answer:
        start = int(call.query.get("cursor", ["0"])[0])
        answer = reply(entries[start : start + self.page_size])
        if start + self.page_size < len(entries):
            query = urlencode(call.query | {"cursor": [str(start + self.page_size)]}, doseq=True)
            answer.headers["Link"] = f'<{call.url}?{query}>; rel="next"'
        return answer


def _history(repo: Repo, commit: Commit) -> list[Commit]:
    history = [commit]
    while history[-1].parent:
        history.append(repo.commits[history[-1].parent])
    return history


@route("GET", "/api/whoami-v2")
def whoami(hub: LocalHub, call: Call) -> Answer:
    if call.user is None:
        raise refusal(401, "Invalid username or password.")
    auth = {"type": "access_token", "accessToken": {"displayName": "tests", "role": "write"}}
    return reply({"type": "user", "id": call.user, "name": call.user, "fullname": call.user, "orgs": [], "auth": auth})


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: LocalHub, call: Call) -> Answer:
    try:
        empty = not card_data(call.json["content"].encode())
    except yaml.YAMLError as error:
        return reply({"errors": [{"message": str(error)}], "warnings": []}, 400)
    warnings = [{"message": "empty or missing yaml metadata in repo card"}] if empty else []
    return reply({"errors": [], "warnings": warnings})


def _named(call: Call) -> tuple[str, str]:
    if call.user is None:
        raise refusal(401, "Invalid username or password.")
    return call.json.get("type") or "model", f"{call.json.get('organization') or call.user}/{call.json['name']}"


@route("POST", "/api/repos/create")
def create_repo(hub: LocalHub, call: Call) -> Answer:
    repo_type, repo_id = _named(call)
    if call.user != hub.user:
        raise refusal(403, f'You don\'t have the rights to create a {repo_type} under the namespace of "{repo_id}"')
    url = f"{hub.url}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    if (repo_type, repo_id) in hub._repos:
        return reply({"error": f"You already created this {repo_type} repo", "url": url}, 409)
    hub._create(repo_type, repo_id, call.json.get("visibility") == "private")
    return reply({"url": url, "name": repo_id, "id": repo_id})


@route("DELETE", "/api/repos/delete")
def delete_repo(hub: LocalHub, call: Call) -> Answer:
    call.groups["type"], call.groups["id"] = _named(call)
    repo = hub._repo(call, write=True)
    del hub._repos[repo.type, repo.id]
    return reply({})


@route("PUT", API + "/settings")
def settings(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call, write=True)
    repo.gated = call.json.get("gated", repo.gated)
    repo.private = call.json.get("visibility", "private" if repo.private else "public") == "private"
    return reply({"private": repo.private, "gated": repo.gated})


@route("GET", API + f"(?:/revision/{REVISION})?")
def repo_info(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call)
    commit = repo.at(call.group("revision", "main"))
    siblings = []
    for path, file in commit.files.items():
        info = file.info(path)
        lfs = {"sha256": info["lfs"]["oid"], **info["lfs"]} if file.lfs else None
        blob = {"blobId": info["oid"], "size": info["size"]} | ({"lfs": lfs} if lfs else {})
        siblings.append({"rfilename": path} | (blob if "blobs" in call.query else {}))
    created = hub.commits(repo.id, repo.type)[0].date
    info: dict[str, Any] = {"id": repo.id, "author": repo.id.split("/")[0], "sha": commit.oid}
    info |= {"createdAt": created, "lastModified": commit.date, "private": repo.private, "gated": repo.gated}
    info |= {"disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings}
    if "README.md" in commit.files:
        info["cardData"] = card_data(commit.files["README.md"].content)
    # YAML knows dates, JSON does not.
    return Answer(200, json.dumps(info, default=str).encode(), {"Content-Type": "application/json"})


@route("GET", API + "/auth-check")
def auth_check(hub: LocalHub, call: Call) -> Answer:
    _ungated(hub, hub._repo(call), call)
    return reply({})


def _entries(repo: Repo, commit: Commit, expand: bool) -> dict[str, dict[str, Any]]:
    """All files and folders of a commit, as trees list them, by path."""
    entries: dict[str, dict[str, Any]] = {}
    for path, file in commit.files.items():
        parts = path.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            oid = git_sha1(f"{commit.oid}/{folder}".encode())
            entries.setdefault(folder, {"type": "directory", "path": folder, "size": 0, "oid": oid})
        last = repo.commits[file.commit]
        more = {"lastCommit": {"id": last.oid, "title": last.title, "date": last.date}} if expand else {}
        entries[path] = file.info(path) | more
    return entries


@route("GET", API + f"/tree/{REVISION}(?:/(?P<path>.+))?")
def tree(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call)
    commit = repo.at(call.group("revision"))
    flags = {name: call.query.get(name, [""])[0].lower() in ("1", "true") for name in ("recursive", "expand")}
    folder = call.group("path").rstrip("/") + "/" if call.group("path") else ""
    inside = {path: entry for path, entry in _entries(repo, commit, flags["expand"]).items() if path.startswith(folder)}
    if folder and not inside:
        raise refusal(404, f"{folder} does not exist on {call.group('revision')}", "EntryNotFound")
    return hub._page(call, [e for p, e in inside.items() if flags["recursive"] or "/" not in p[len(folder) :]])


@route("POST", API + f"/paths-info/{REVISION}")
def paths_info(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call)
    form = parse_qs(call.body.decode())
    entries = _entries(repo, repo.at(call.group("revision")), form.get("expand", [""])[0].lower() == "true")
    return reply([entries[path] for path in form.get("paths", []) if path in entries])


@route("GET", API + f"/commits/{REVISION}")
def list_commits(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call)
    listed = []
    for commit in _history(repo, repo.at(call.group("revision"))):
        texts = {"title": commit.title, "message": commit.message}
        listed.append({"id": commit.oid, "date": commit.date, "authors": [{"user": hub.user}], **texts})
    return hub._page(call, listed)


@route("GET", API + "/refs")
def list_refs(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call)

    def listed(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid} for name, oid in refs.items()]

    branches, tags = listed("heads", repo.branches), listed("tags", repo.tags)
    return reply({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("POST", API + "/(?P<kind>branch|tag)/(?P<name>[^/]+)")
def create_ref(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call, write=True)
    if call.group("kind") == "branch":
        refs, name, start = repo.branches, call.group("name"), call.json.get("startingPoint") or "main"
    else:  # a tag's URL names where it points, its body how it is called
        refs, name, start = repo.tags, call.json["tag"], call.group("name")
    if name in refs:
        raise refusal(409, f"Reference already exists: {name}")
    refs[name] = repo.at(start).oid
    return reply({})


@route("DELETE", API + "/(?P<kind>branch|tag)/(?P<name>[^/]+)")
def delete_ref(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call, write=True)
    refs = repo.branches if call.group("kind") == "branch" else repo.tags
    if refs.pop(call.group("name"), None) is None:
        raise refusal(404, f"No such {call.group('kind')}: {call.group('name')}", "RevisionNotFound")
    return reply({})


@route("POST", API + f"/preupload/{REVISION}")
def preupload(hub: LocalHub, call: Call) -> Answer:
    present = hub._repo(call, write=True).at(call.group("revision")).files
    answers = []
    for file in call.json["files"]:
        mode = "lfs" if wants_lfs(file["path"], file["size"], base64.b64decode(file["sample"])) else "regular"
        old = present.get(file["path"])
        oid = {"oid": old.etag} if old else {}  # lets the client leave out what has not changed
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    return reply({"files": answers})


@route("POST", FILES + r"\.git/info/lfs/objects/batch")
def lfs_batch(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call, write=True)
    objects = []
    for each in call.json["objects"]:
        upload = {"upload": {"href": f"{hub.url}/lfs/{repo.type}/{repo.id}/{each['oid']}"}}
        repo.announced.add(each["oid"])
        objects.append(each if each["oid"] in repo.lfs else {**each, "actions": upload})
    return reply({"transfer": "basic", "objects": objects})


@route("PUT", rf"/lfs/(?P<type>[^/]+)/{REPO}/(?P<oid>[0-9a-f]{{64}})")
def lfs_upload(hub: LocalHub, call: Call) -> Answer:
    # On the Hub this is a signed URL of a storage service, without a token: what counts is that it was given out.
    repo = hub._repos.get((call.group("type"), call.group("id")))
    if repo is None or call.group("oid") not in repo.announced:
        raise refusal(403, "This upload was not announced")
    if sha256(call.body) != call.group("oid"):
        raise refusal(400, "The content does not have the sha256 that was announced")
    repo.lfs[call.group("oid")] = call.body
    return Answer()


@route("POST", API + f"/commit/{REVISION}")
def create_commit(hub: LocalHub, call: Call) -> Answer:
    """All or nothing: the body was read to its end, it is checked as a whole, and the branch moves in the last line."""
    repo = hub._repo(call, write=True)
    branch = call.group("revision").removeprefix("refs/heads/")
    if "create_pr" in call.query:
        raise refusal(501, "The local Hub has no pull requests")
    if branch not in repo.branches:
        raise refusal(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    head = repo.at(branch)
    files = {path: (file.content, file.lfs) for path, file in head.files.items()}
    header: dict[str, Any] = {}
    for line in call.body.splitlines():
        operation = json.loads(line)
        kind, value = operation["key"], operation["value"]
        if kind == "header":
            header = value
        elif kind == "file":
            files[value["path"]] = base64.b64decode(value["content"]), False
        elif kind == "lfsFile":
            if value["oid"] not in repo.lfs:
                raise refusal(400, f"The LFS file of {value['path']} was not uploaded")
            files[value["path"]] = repo.lfs[value["oid"]], True
        elif kind in ("deletedFile", "deletedFolder"):
            folder = value["path"].rstrip("/") + "/"
            gone = [p for p in files if (p.startswith(folder) if kind == "deletedFolder" else p == value["path"])]
            if not gone:
                raise refusal(404, "A file with this name doesn't exist", "EntryNotFound")
            for path in gone:
                del files[path]
        else:
            raise refusal(400, f"The local Hub knows no operation {kind}")
    if not head.oid.startswith(header.get("parentCommit") or ""):
        raise refusal(412, "A commit has happened since. Please refresh and try again.")
    try:
        card_data(files.get("README.md", (b"", False))[0])
    except yaml.YAMLError as error:
        raise refusal(400, f"Invalid metadata in README.md: {error}".splitlines()[0]) from error
    commit = repo.advance(branch, header["summary"], header.get("description") or "", files)
    prefix = "datasets/" if repo.type == "dataset" else ""
    url = f"{hub.url}/{prefix}{repo.id}/commit/{commit.oid}"
    return reply({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})


def _ungated(hub: LocalHub, repo: Repo, call: Call) -> None:
    if repo.gated and call.user != hub.user:
        status = 401 if call.user is None else 403
        raise refusal(status, f"Access to {repo.type} {repo.id} is restricted.", "GatedRepo")


@route("GET", FILES + f"/resolve/{REVISION}/(?P<path>.+)")
def resolve(hub: LocalHub, call: Call) -> Answer:
    repo = hub._repo(call)
    _ungated(hub, repo, call)
    commit = repo.at(call.group("revision"))
    named = {"X-Repo-Commit": commit.oid}
    file = commit.files.get(call.group("path"))
    if file is None:
        raise refusal(404, "Entry not found", "EntryNotFound", **named)
    content, size = file.content, len(file.content)
    named |= {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if file.lfs:
        named |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(size)}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
    if not asked or asked[0] == "bytes=-":
        return Answer(200, content, named)
    first, last = asked[1], asked[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise refusal(416, "Range not satisfiable", **named, **{"Content-Range": f"bytes */{size}"})
    return Answer(206, content[start:end], named | {"Content-Range": f"bytes {start}-{end - 1}/{size}"})


class _Cut(Exception):
    """The connection is to be cut now."""


class _Handler(BaseHTTPRequestHandler):
    """Reads a request, lets faults befall it, has it performed, logs and answers it."""

    protocol_version = "HTTP/1.1"  # connections stay open, as on the Hub
    disable_nagle_algorithm = True
    server: "_Server"  # pyright: ignore[reportIncompatibleVariableOverride]

    def _serve(self) -> None:
        hub = self.server.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        sent: int | None = None  # bytes of the answer's body to send before the cut
        with hub._lock:
            fault = next((each for each in hub._faults if each.takes(self.command, self.path)), None)
        try:
            body = self._body(headers, None if fault is None else fault.cut)
            if fault is None:
                answer = self._answer(headers, body)
            else:
                time.sleep(fault.delay)
                if fault.call is not None:
                    fault.call()
                if fault.ignore_range:
                    headers.pop("range", None)
                answer = self._answer(headers, body) if fault.status is None else _stand_in(fault)
                if fault.cut == "after":
                    raise _Cut
                sent = len(answer.body) // 2 if fault.cut == "answer" else None
        except _Cut:
            self._log(headers, None)
            return self._reset()
        self._log(headers, None if sent is not None else answer.status)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:sent])
        if sent is not None:
            self.wfile.flush()
            time.sleep(0.05)  # a reset discards what the client has not read yet
            self._reset()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = _serve

    def _body(self, headers: dict[str, str], cut: Cut | None) -> bytes:
        length = int(headers.get("content-length", "0"))
        if cut == "before":
            raise _Cut
        body = self.rfile.read(length // 2 if cut == "body" else length)
        if cut == "body" or len(body) < length:  # the latter: the client died while it sent, nothing happens
            raise _Cut
        return body

    def _answer(self, headers: dict[str, str], body: bytes) -> Answer:
        if self.path.startswith("/"):
            return self.server.hub._perform(self.command, self.path, headers, body)
        if (urlsplit(self.path).hostname or "").startswith("datasets-server."):
            return reply({"error": "The local Hub has no viewer"}, 404)
        return reply({"error": f"No network in these tests: {self.path}"}, 403)

    def _log(self, headers: dict[str, str], status: int | None) -> None:
        hub = self.server.hub
        with hub._lock:
            hub._log.append(Request(self.command, self.path, status, hub._user(headers)))

    def _reset(self) -> None:
        # Closing with a linger time of 0 sends RST in place of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.server.reset.add(self.connection)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: `LocalHub.requests` is the log."""


def _stand_in(fault: Fault) -> Answer:
    messages = {
        409: "Conflict",
        412: "A commit has happened since. Please refresh and try again.",
        429: "We had to rate limit you. Retry later.",
    }
    status = fault.status or 500
    answer = refusal(status, messages.get(status, "Internal Error - We're working hard to fix this")).answer
    if fault.retry_after is not None:
        answer.headers["Retry-After"] = str(fault.retry_after)
    return answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # clients keep connections open: waiting for them would be for ever
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], hub: LocalHub) -> None:
        self.hub = hub
        self.open: set[socket.socket] = set()
        self.reset: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().finish_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        if request in self.reset:  # no orderly shutdown before the close: that would send FIN
            self.reset.discard(request)
            return self.close_request(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; an error of the local Hub itself is printed."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def close_connections(self) -> None:
        for each in list(self.open):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # closed meanwhile


if __name__ == "__main__":
    with LocalHub() as by_hand, tempfile.TemporaryDirectory() as folder:
        for name, value in by_hand.environment(Path(folder)).items():
            if os.environ.get(name) != value:
                print(f"export {name}={value}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")
