"""A Hugging Face Hub in one thread of the tests, for the client libraries as they are, with faults to switch on.

    with LocalHub() as hub:
        hub.add("org/seeds", {"data.jsonl": b'{"id": 1}\\n'})  # or with any Hub client
        fault = hub.fault("POST", "/commit/", cut="after")  # the commit lands, its answer is lost
        subprocess.run([sys.executable, "script.py", "org/seeds"], env=hub.environment(tmp_path))
        hub.files("org/seeds"), hub.commits("org/seeds"), hub.requests, fault.hits

Covers what the project's scripts ask for through huggingface_hub 2 and datasets 5, of models and datasets: creating
repos; their info and trees at `main` or a sha; files with Range; plain and LFS uploads; commits with parentCommit (412
when stale); validation of cards; private repos, missing repos, revisions and files with the Hub's status and
X-Error-Code. Each commit is atomic, and any thread may call anything. Any other request is answered 404 and says so.

Does not cover: Xet (the environment turns it off), branches, tags, deleting, gated repos, listings in pages, redirects
to a CDN, rate limits other than by a fault. Commits that race without parentCommit are queued, where the Hub answers
some of them with 412: use a fault for that. Everything is in memory, files as well.

`environment` has all that scripts need to run against it unchanged. datasets looks for a viewer under
`datasets-server.<host of HF_ENDPOINT>`, which no variable turns off and no resolver knows for 127.0.0.1. So the local
Hub is also the proxy of the subprocess for every host but this one: it answers 404 to the viewer's name and refuses all
others with 403, so that a test that reaches for the network fails at once. datasets takes its endpoint from the
environment at import, so it belongs in a subprocess.
"""

import base64
import json
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml  # a dependency of huggingface_hub

from tests.fakes.hub_repos import Commit, File, Repo, card_data, git_sha1, sha256, wants_lfs
from tests.fakes.hub_server import Answer, Cut, Fault, HubServer, Logged, Refusal, reply

REPO = r"(?P<id>[^/]+/[^/]+)"
API = rf"/api/(?P<type>model|dataset)s/{REPO}"
FILES = rf"/(?:(?P<type>dataset)s/)?{REPO}"
REVISION = r"(?P<revision>[^/]+)"  # quoted by the clients: refs%2Fheads%2Fmain


@dataclass
class HubRequest:
    """A request on its way through a route."""

    user: str | None  # whose token it carries; None if it carries none
    groups: dict[str, str | None]  # of the route's pattern, unquoted
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def group(self, name: str, default: str = "") -> str:
        return self.groups.get(name) or default

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")


Route = Callable[["LocalHub", HubRequest], Answer]
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

    def __init__(self) -> None:
        self._lock = threading.RLock()  # held while a request is performed, never while bytes travel
        self._repos: dict[tuple[str, str], Repo] = {}
        self._faults: list[Fault] = []
        self._log: list[Logged] = []
        self._server = HubServer(self)
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
            "HTTP_PROXY": self.url,
            "HTTPS_PROXY": self.url,
            "NO_PROXY": "127.0.0.1,localhost,::1",
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
        call: Callable[[], object] | None = None,
    ) -> Fault:
        """Switch on a fault for requests whose method matches fully and whose path and query contain a match of `path`.

        `skip` requests pass first, then `times` are hit (None: until `.off()`). For each: run `call` (say, commit as
        somebody else: it may use the hub or kill the client), then do one of: answer `status` with `retry_after`
        seconds, without performing the request; `cut` the connection; neither, and perform it. `.hits` counts. The
        first that matches is used.
        """
        fault = Fault(method, path, times, skip, status, retry_after, cut, call)
        with self._lock:
            self._faults.append(fault)
        return fault

    def add(self, repo_id: str, files: dict[str, bytes], repo_type: str = "dataset", private: bool = False) -> str:
        """Commit `files` to main, of a new repo if need be, without any client. Returns the commit's oid."""
        with self._lock:
            repo = self._repos.get((repo_type, repo_id)) or self.create(repo_type, repo_id, private)
            added = {
                path: File(content, wants_lfs(path, len(content), content[:512])) for path, content in files.items()
            }
            return repo.advance(repo.at("main").files | added).oid

    def commits(self, repo_id: str, repo_type: str = "dataset") -> list[Commit]:
        """Oldest first; the first one is the empty commit that every repo starts with."""
        with self._lock:
            return list(self._repos[repo_type, repo_id].commits)

    def files(self, repo_id: str, repo_type: str = "dataset") -> dict[str, bytes]:
        return {path: file.content for path, file in self.commits(repo_id, repo_type)[-1].files.items()}

    @property
    def requests(self) -> list[Logged]:
        with self._lock:
            return list(self._log)

    # What follows is called by the server and the routes.

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            return next((each for each in self._faults if each.takes(method, path)), None)

    def log(self, entry: Logged) -> None:
        with self._lock:
            self._log.append(entry)

    def create(self, repo_type: str, repo_id: str, private: bool) -> Repo:
        repo = self._repos[repo_type, repo_id] = Repo(repo_type, repo_id, private)
        repo.advance({})
        return repo

    def repo(self, request: HubRequest, write: bool = False) -> Repo:
        """The repo that a request means, if its user may see it. Who may not is told what the Hub tells."""
        repo = self._repos.get((request.group("type", "model"), request.group("id")))
        if repo is None or (repo.private and request.user != self.user):
            if request.user is None:  # the Hub does not tell strangers which repos exist
                raise Refusal(401, "Invalid username or password.", "RepoNotFound")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if write and request.user is None:
            raise Refusal(401, "Invalid username or password.")
        if write and request.user != self.user:
            raise Refusal(403, f"Forbidden: you must have write access to {repo.id}")
        return repo

    def perform(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        parts = urlsplit(path)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        users = {"": None, self.token: self.user, self.stranger_token: self.stranger}
        try:
            if token not in users:
                raise Refusal(401, "Invalid credentials in Authorization header")
            for wanted, pattern, function in ROUTES:
                found = pattern.fullmatch(parts.path) if wanted in (method, "GET" if method == "HEAD" else "") else None
                if found:
                    groups = {name: value and unquote(value) for name, value in found.groupdict().items()}
                    with self._lock:
                        return function(self, HubRequest(users[token], groups, parse_qs(parts.query), headers, body))
            raise Refusal(404, f"The local Hub has no {method} {parts.path}")
        except Refusal as refusal:
            return refusal.answer


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: LocalHub, request: HubRequest) -> Answer:
    try:
        card_data(request.json["content"].encode())
    except yaml.YAMLError as error:
        return reply({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return reply({"errors": [], "warnings": []})


@route("POST", "/api/repos/create")
def create_repo(hub: LocalHub, request: HubRequest) -> Answer:
    asked = request.json
    repo_type, repo_id = asked.get("type") or "model", f"{asked.get('organization') or request.user}/{asked['name']}"
    if request.user != hub.user:
        raise Refusal(403, f'You don\'t have the rights to create a {repo_type} under the namespace of "{repo_id}"')
    url = f"{hub.url}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
    if (repo_type, repo_id) in hub._repos:
        return reply({"error": f"You already created this {repo_type} repo", "url": url}, 409)
    hub.create(repo_type, repo_id, asked.get("visibility") == "private")
    return reply({"url": url, "name": repo_id, "id": repo_id})


@route("GET", API + f"(?:/revision/{REVISION})?")
def repo_info(hub: LocalHub, request: HubRequest) -> Answer:
    repo = hub.repo(request)
    commit = repo.at(request.group("revision", "main"))
    info: dict[str, Any] = {"id": repo.id, "sha": commit.oid, "private": repo.private, "gated": False, "tags": []}
    info |= {"disabled": False, "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in commit.files]}
    if "README.md" in commit.files:
        info["cardData"] = card_data(commit.files["README.md"].content)
    return reply(info)


@route("GET", API + f"/tree/{REVISION}(?:/(?P<path>.+))?")
def tree(hub: LocalHub, request: HubRequest) -> Answer:
    commit = hub.repo(request).at(request.group("revision"))
    entries: dict[str, dict[str, Any]] = {}
    for path, file in commit.files.items():
        for parent in reversed(Path(path).parents[:-1]):
            oid = git_sha1(f"{commit.oid}/{parent}".encode())
            entries.setdefault(str(parent), {"type": "directory", "path": str(parent), "size": 0, "oid": oid})
        entries[path] = file.info(path)
    folder = request.group("path").rstrip("/") + "/" if request.group("path") else ""
    inside = {path.removeprefix(folder): entry for path, entry in entries.items() if path.startswith(folder)}
    if folder and not inside:
        raise Refusal(404, f"{folder} does not exist on {request.group('revision')}", "EntryNotFound")
    recursive = request.query.get("recursive", [""])[0].lower() in ("1", "true")
    return reply([entry for path, entry in inside.items() if recursive or "/" not in path])


@route("POST", API + f"/preupload/{REVISION}")
def preupload(hub: LocalHub, request: HubRequest) -> Answer:
    present = hub.repo(request, write=True).at(request.group("revision")).files
    answers = []
    for file in request.json["files"]:
        mode = "lfs" if wants_lfs(file["path"], file["size"], base64.b64decode(file["sample"])) else "regular"
        old = present.get(file["path"])
        oid = {"oid": old.etag} if old else {}  # lets the client leave out what has not changed
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    return reply({"files": answers})


@route("POST", FILES + r"\.git/info/lfs/objects/batch")
def lfs_batch(hub: LocalHub, request: HubRequest) -> Answer:
    repo = hub.repo(request, write=True)
    objects = []
    for each in request.json["objects"]:
        upload = {"upload": {"href": f"{hub.url}/lfs/{repo.type}/{repo.id}/{each['oid']}"}}
        repo.announced.add(each["oid"])
        objects.append(each if each["oid"] in repo.lfs else {**each, "actions": upload})
    return reply({"transfer": "basic", "objects": objects})


@route("PUT", rf"/lfs/(?P<type>[^/]+)/{REPO}/(?P<oid>[0-9a-f]{{64}})")
def lfs_upload(hub: LocalHub, request: HubRequest) -> Answer:
    # On the Hub this is a signed URL of a storage service, without a token: what counts is that it was given out.
    repo, oid = hub._repos.get((request.group("type"), request.group("id"))), request.group("oid")
    if repo is None or oid not in repo.announced:
        raise Refusal(403, "This upload was not announced")
    if sha256(request.body) != oid:
        raise Refusal(400, "The content does not have the sha256 that was announced")
    repo.lfs[oid] = request.body
    return Answer()


@route("POST", API + f"/commit/{REVISION}")
def create_commit(hub: LocalHub, request: HubRequest) -> Answer:
    """All or nothing: the body was read to its end, it is checked as a whole, and only then is the commit made."""
    repo = hub.repo(request, write=True)
    head = repo.at(request.group("revision"))
    files, header = dict(head.files), {}
    for line in request.body.splitlines():
        operation = json.loads(line)
        kind, value = operation["key"], operation["value"]
        if kind == "header":
            header = value
        elif kind == "file":
            files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
        elif kind == "lfsFile" and value["oid"] in repo.lfs:
            files[value["path"]] = File(repo.lfs[value["oid"]], lfs=True)
        elif kind == "lfsFile":
            raise Refusal(400, f"The LFS file of {value['path']} was not uploaded")
        else:
            raise Refusal(400, f"The local Hub knows no operation {kind}")
    if not head.oid.startswith(header.get("parentCommit") or ""):
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    try:
        card_data(files["README.md"].content if "README.md" in files else b"")
    except yaml.YAMLError as error:
        raise Refusal(400, f"Invalid metadata in README.md: {error}".splitlines()[0]) from error
    commit = repo.advance(files)
    url = f"{hub.url}/{'datasets/' if repo.type == 'dataset' else ''}{repo.id}/commit/{commit.oid}"
    return reply({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})


@route("GET", FILES + f"/resolve/{REVISION}/(?P<path>.+)")
def resolve(hub: LocalHub, request: HubRequest) -> Answer:
    commit = hub.repo(request).at(request.group("revision"))
    named = {"X-Repo-Commit": commit.oid}
    file = commit.files.get(request.group("path"))
    if file is None:
        raise Refusal(404, "Entry not found", "EntryNotFound", **named)
    content, size = file.content, len(file.content)
    named |= {"ETag": f'"{file.etag}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
    if file.lfs:
        named |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(size)}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not asked or asked[0] == "bytes=-":
        return Answer(200, content, named)
    first, last = asked[1], asked[2]
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise Refusal(416, "Range not satisfiable", **named, **{"Content-Range": f"bytes */{size}"})
    return Answer(206, content[start:end], named | {"Content-Range": f"bytes {start}-{end - 1}/{size}"})
