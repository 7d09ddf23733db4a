"""A Hugging Face Hub in one thread of the tests, for the client libraries as they are, with faults to switch on.

    with LocalHub() as hub:
        hub.add("org/seeds", {"data.jsonl": b'{"id": 1}\\n'})  # or with any Hub client
        fault = hub.fault("POST", "/commit/", cut="after")  # the commit lands, its answer is lost
        subprocess.run([sys.executable, "script.py", "org/seeds"], env=hub.environment(tmp_path))
        hub.files("org/seeds"), hub.commits("org/seeds"), hub.requests, fault.hits

Covers what the scripts ask for through huggingface_hub 2 and datasets 5, of models, datasets and Spaces: creating
repos; info and trees at `main` or a sha; files with Range; plain and LFS uploads; atomic commits with parentCommit (412
if stale); validation of cards; what is private or missing, with the Hub's status and X-Error-Code. Everything is in
memory, and any thread may call anything. Any other request is answered 404 and says so.

Does not cover: Xet (the environment turns it off), branches, tags, deleting, gated repos, listings in pages, redirects
to a CDN, rate limits other than by a fault. Commits that race without parentCommit are queued, where the Hub answers
some of them with 412: use a fault for that.
"""

import base64
import json
import os
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.hub_server import Answer, Fault, HubServer, Logged, Refusal, reply

REPO = r"(?P<id>[^/]+/[^/]+)"
API = rf"/api/(?P<type>model|dataset|space)s/{REPO}"
FILES = rf"/(?:(?P<type>dataset|space)s/)?{REPO}"
REVISION = r"(?P<revision>[^/]+)"
LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".npy", ".parquet", ".pt", ".safetensors", ".tar", ".zip", ".zst")


def wants_lfs(path: str, sample: bytes) -> bool:
    return path.endswith(LFS_SUFFIXES) or b"\0" in sample


@dataclass(frozen=True)
class File:
    content: bytes
    lfs: bool

    @property
    def etag(self) -> str:
        return sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Commit:
    oid: str
    files: dict[str, File]  # the whole tree, by path


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    commits: list[Commit] = field(default_factory=list)  # oldest first
    lfs: dict[str, bytes] = field(default_factory=dict)  # uploads by sha256

    def at(self, revision: str) -> Commit:
        """The last commit for `main`, else the one with this sha."""
        for commit in reversed(self.commits):
            if revision in ("main", commit.oid):
                return commit
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def advance(self, files: dict[str, File]) -> Commit:
        self.commits.append(Commit(secrets.token_hex(20), dict(sorted(files.items()))))
        return self.commits[-1]


@dataclass
class HubRequest:
    """A request on its way through a route."""

    user: str | None  # whose token it carries; None if it carries none
    groups: dict[str, str | None]  # of the route's pattern, unquoted
    query: dict[str, list[str]]
    headers: Mapping[str, str]
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
    stranger_token = "hf_stranger"

    def __init__(self) -> None:
        self._lock = threading.RLock()  # held while a request is performed, never while bytes travel
        self._repos: dict[tuple[str, str], Repo] = {}
        self._faults: list[Fault] = []
        self.requests: list[Logged] = []
        self._server = HubServer(self)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LocalHub":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """A complete environment for subprocesses: this process's, less its own Hub settings and proxies, plus ours.

        `home` becomes HF_HOME: with a fresh folder, nothing is downloaded yet. datasets takes its endpoint from the
        environment at import, so it belongs in a subprocess. No variable stops it from looking for a viewer under
        `datasets-server.<host>`. So the local Hub is also the proxy for all other hosts: it answers 404 for the viewer
        and 403 for the rest, so a test that reaches for the network fails at once.
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

    def fault(self, method: str, path: str, **how: Any) -> Fault:
        """Switch on a `Fault`; of several, a request gets the first that matches it."""
        fault = Fault(method, path, **how)
        with self._lock:
            self._faults.append(fault)
        return fault

    def add(self, repo_id: str, files: dict[str, bytes], private: bool = False, repo_type: str = "dataset") -> str:
        """Commit `files` to main, of a new repo if need be, without any client. Returns the commit's oid."""
        with self._lock:
            repo = self._repos.get((repo_type, repo_id)) or self.create(repo_type, repo_id, private)
            added = {path: File(content, wants_lfs(path, content[:512])) for path, content in files.items()}
            return repo.advance(repo.at("main").files | added).oid

    def commits(self, repo_id: str, repo_type: str = "dataset") -> list[Commit]:
        """Oldest first; the first one is the empty commit that every repo starts with."""
        with self._lock:
            return list(self._repos[repo_type, repo_id].commits)

    def files(self, repo_id: str, repo_type: str = "dataset") -> dict[str, bytes]:
        return {path: file.content for path, file in self.commits(repo_id, repo_type)[-1].files.items()}

    # What follows is called by the server and the routes.

    def fault_of(self, method: str, path: str) -> Fault | None:
        with self._lock:
            return next((each for each in self._faults if each.takes(method, path)), None)

    def create(self, repo_type: str, repo_id: str, private: bool) -> Repo:
        repo = self._repos[repo_type, repo_id] = Repo(repo_type, repo_id, private)
        repo.advance({})
        return repo

    def repo(self, request: HubRequest, write: bool = False) -> Repo:
        """The repo that a request means; a Refusal, as the Hub words it, if its user may not see or write it."""
        repo = self._repos.get((request.group("type", "model"), request.group("id")))
        if repo is None or (repo.private and request.user != self.user):
            raise Refusal(404 if request.user else 401, "Repository not found", "RepoNotFound")
        if write and request.user != self.user:
            raise Refusal(403, f"Forbidden: you must have write access to {repo.id}")
        return repo

    def perform(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = urlsplit(path)
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        users = {"": None, self.token: self.user, self.stranger_token: "stranger"}
        try:
            if token not in users:
                raise Refusal(401, "Invalid credentials in Authorization header")
            for wanted, pattern, function in ROUTES:
                found = pattern.fullmatch(parts.path)
                if found and wanted == ("GET" if method == "HEAD" else method):
                    groups = {name: value and unquote(value) for name, value in found.groupdict().items()}
                    with self._lock:
                        return function(self, HubRequest(users[token], groups, parse_qs(parts.query), headers, body))
            raise Refusal(404, f"The local Hub has no {method} {parts.path}")
        except Refusal as refusal:
            return refusal.answer


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: LocalHub, request: HubRequest) -> Answer:
    from huggingface_hub import RepoCard

    try:
        RepoCard(request.json["content"])
    except Exception as error:  # of two libraries
        return reply({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return reply({"errors": [], "warnings": []})


@route("POST", "/api/repos/create")
def create_repo(hub: LocalHub, request: HubRequest) -> Answer:
    asked = request.json
    repo_type, repo_id = asked.get("type") or "model", f"{asked.get('organization') or request.user}/{asked['name']}"
    if request.user != hub.user:
        raise Refusal(403, f'You don\'t have the rights to create a {repo_type} under the namespace of "{repo_id}"')
    url = f"{hub.url}/{'' if repo_type == 'model' else f'{repo_type}s/'}{repo_id}"
    if (repo_type, repo_id) in hub._repos:
        return reply({"error": f"You already created this {repo_type} repo", "url": url}, 409)
    hub.create(repo_type, repo_id, asked.get("visibility") == "private")
    return reply({"url": url, "name": repo_id, "id": repo_id})


@route("GET", API + f"(?:/revision/{REVISION})?")
def repo_info(hub: LocalHub, request: HubRequest) -> Answer:
    repo = hub.repo(request)
    commit = repo.at(request.group("revision", "main"))
    files = [{"rfilename": path} for path in commit.files]
    return reply({"id": repo.id, "sha": commit.oid, "private": repo.private, "tags": [], "siblings": files})


@route("GET", API + f"/tree/{REVISION}(?:/(?P<path>.+))?")
def tree(hub: LocalHub, request: HubRequest) -> Answer:
    commit = hub.repo(request).at(request.group("revision"))
    entries: dict[str, dict[str, Any]] = {}
    for path, file in commit.files.items():
        for parent in map(str, Path(path).parents[:-1]):
            entries[parent] = {"type": "directory", "path": parent, "size": 0, "oid": commit.oid}
        size = len(file.content)
        lfs = {"lfs": {"oid": file.etag, "size": size, "pointerSize": 130}} if file.lfs else {}
        entries[path] = {"type": "file", "path": path, "size": size, "oid": file.etag[:40], **lfs}
    folder = request.group("path").rstrip("/") + "/" if request.group("path") else ""
    inside = {path.removeprefix(folder): entry for path, entry in entries.items() if path.startswith(folder)}
    if folder and not inside:
        raise Refusal(404, f"{folder} does not exist on {request.group('revision')}", "EntryNotFound")
    recursive = request.query.get("recursive", [""])[0].lower() in ("1", "true")
    return reply([entry for path, entry in inside.items() if recursive or "/" not in path])


@route("POST", API + f"/preupload/{REVISION}")
def preupload(hub: LocalHub, request: HubRequest) -> Answer:
    hub.repo(request, write=True)
    answers = []
    for file in request.json["files"]:
        mode = "lfs" if wants_lfs(file["path"], base64.b64decode(file["sample"])) else "regular"
        answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
    return reply({"files": answers})


@route("POST", FILES + r"\.git/info/lfs/objects/batch")
def lfs_batch(hub: LocalHub, request: HubRequest) -> Answer:
    repo = hub.repo(request, write=True)
    objects = []
    for each in request.json["objects"]:
        upload = {"upload": {"href": f"{hub.url}/lfs/{repo.type}/{repo.id}/{each['oid']}"}}
        objects.append(each if each["oid"] in repo.lfs else {**each, "actions": upload})
    return reply({"transfer": "basic", "objects": objects})


@route("PUT", rf"/lfs/(?P<type>[^/]+)/{REPO}/(?P<oid>[0-9a-f]{{64}})")
def lfs_upload(hub: LocalHub, request: HubRequest) -> Answer:
    """On the Hub this is a signed URL of a storage service, without a token."""
    if sha256(request.body).hexdigest() != request.group("oid"):
        raise Refusal(400, "The content does not have the sha256 that was announced")
    hub._repos[request.group("type"), request.group("id")].lfs[request.group("oid")] = request.body
    return Answer()


@route("POST", API + f"/commit/{REVISION}")
def create_commit(hub: LocalHub, request: HubRequest) -> Answer:
    """All or nothing: the body was read to its end, it is checked as a whole, and only then is the commit made."""
    repo = hub.repo(request, write=True)
    head = repo.at(request.group("revision"))
    files = dict(head.files)
    for line in request.body.splitlines():
        operation = json.loads(line)
        kind, value = operation["key"], operation["value"]
        if kind == "header" and value.get("parentCommit") not in (None, head.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        if kind == "file":
            files[value["path"]] = File(base64.b64decode(value["content"]), lfs=False)
        elif kind == "lfsFile" and value["oid"] in repo.lfs:
            files[value["path"]] = File(repo.lfs[value["oid"]], lfs=True)
        elif kind != "header":
            raise Refusal(400, f"The local Hub knows no operation {kind}, or {value} was not uploaded")
    commit = repo.advance(files)
    url = f"{hub.url}/{'' if repo.type == 'model' else f'{repo.type}s/'}{repo.id}/commit/{commit.oid}"
    return reply({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})


@route("GET", FILES + f"/resolve/{REVISION}/(?P<path>.+)")
def resolve(hub: LocalHub, request: HubRequest) -> Answer:
    commit = hub.repo(request).at(request.group("revision"))
    file = commit.files.get(request.group("path"))
    if file is None:
        raise Refusal(404, "Entry not found", "EntryNotFound")
    content, size = file.content, len(file.content)
    headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
    if file.lfs:
        headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(size)}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if not asked:
        return Answer(200, content, headers)
    start, end = int(asked[1]), min(size, int(asked[2] or size) + 1)
    return Answer(206, content[start:end], headers | {"Content-Range": f"bytes {start}-{end - 1}/{size}"})
