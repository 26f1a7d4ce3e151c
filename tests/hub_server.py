"""A server of this machine that speaks the protocol of the Hugging Face Hub, as far as its Python client uses it.

Made for tests of `push`, `pull` and reading: dataset repositories with commits, branches' heads, tags, large files
(LFS: batch, PUT, redirect to another path as to a CDN), listings in pages, ranges. Everything is held in memory, every
request is counted, and faults can be ordered. What it does not speak: Xet, pull requests, gated repositories.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlparse

TOKEN = "hf_of-the-tests"
PAGE = 1000  # entries of a listing in one answer, as on the Hub
_DATE = "2026-11-29T10:00:00.000Z"


@dataclass(frozen=True)
class Blob:
    """A file: its bytes, and whether it lies in the store of large files."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """Git's name of it; of a large file, of the pointer that stands for it."""
        told = self.data
        if self.large:
            told = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(told)}\n".encode()
        return hashlib.sha1(b"blob %d\0" % len(told) + told).hexdigest()


@dataclass(frozen=True)
class Commit:
    """A revision: all its files."""

    id: str
    title: str
    files: dict[str, Blob]


@dataclass
class Repository:
    """A dataset repository; the last commit is the head of its only branch, main."""

    private: bool
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        if revision == "main":
            return self.commits[-1]
        wanted = self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.id == wanted), None)

    def add(self, title: str, files: dict[str, Blob]) -> Commit:
        told = json.dumps([len(self.commits), title, sorted((path, blob.oid) for path, blob in files.items())])
        commit = Commit(hashlib.sha1(told.encode()).hexdigest(), title, files)
        self.commits.append(commit)
        return commit


@dataclass
class Fault:
    """What happens to the next requests whose `METHOD path` the pattern finds.

    kind: a status that is answered; "cut": the connection is closed in the middle of what the client sends; "lost":
    the request is carried out and its answer never sent. before: called first (another writer's commit).
    """

    pattern: str
    kind: int | str = 200
    times: int = 1
    before: Callable[[], None] | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    received: int  # bytes of the body that the client sent
    sent: int  # bytes of the body that was answered
    status: int


class HubServer:
    """The server, its repositories, the faults that are ordered and the requests that came."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.page = PAGE
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        # As the Hub's, large files lie on another host, where a token is not to go.
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
        self.url, self.large_url = (f"http://127.0.0.1:{server.server_port}" for server in self.servers)
        for server in self.servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def close(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def repository(self, name: str, private: bool = False) -> Repository:
        """A new repository, with the file that the Hub puts into each."""
        made = self.repositories[name] = Repository(private)
        made.add("initial commit", {".gitattributes": Blob(b"*.parquet filter=lfs\n", False)})
        return made

    def sent_by_client(self, pattern: str) -> int:
        """Bytes that clients sent to the paths that a pattern finds, in requests that were carried out."""
        return sum(r.received for r in self.requests if re.search(pattern, f"{r.method} {r.path}") and r.status < 300)

    def count(self, pattern: str) -> int:
        return sum(bool(re.search(pattern, f"{r.method} {r.path}")) for r in self.requests)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one_request(self) -> None:
        with suppress(ConnectionError):
            super().handle_one_request()

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _serve(self) -> None:
        url = urlparse(self.path)
        self.query, path = parse_qs(url.query), unquote(url.path)
        line, fault = f"{self.command} {path}", None
        with self.hub.lock:
            for one in self.hub.faults:
                if re.search(one.pattern, line):
                    fault = one
                    one.times -= 1
                    if not one.times:
                        self.hub.faults.remove(one)
                    break
        if fault and fault.kind == "cut":
            if self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
                self.rfile.read(10)
            return self._hang_up(path)
        self.body = self._body()
        if fault and fault.before:
            fault.before()
        if fault and isinstance(fault.kind, int) and fault.kind >= 400:
            return self._answer(path, fault.kind, {"error": "injected"}, fault.headers)
        self.silent = bool(fault and fault.kind == "lost")
        with self.hub.lock:
            status, told, headers = self._route(path)
        if self.silent:
            return self._hang_up(path)
        return self._answer(path, status, told, headers)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _hang_up(self, path: str) -> None:
        self.hub.requests.append(Request(self.command, path, 0, 0, 0))
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, path: str, status: int, told: Any, headers: dict[str, str]) -> None:
        body = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            body = b""
        self.wfile.write(body)
        self.hub.requests.append(Request(self.command, path, len(self.body), len(body), status))

    # what is asked for

    def _route(self, path: str) -> tuple[int, Any, dict[str, str]]:
        if path == "/api/repos/create":
            return self._create()
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}, {}
        if match := re.fullmatch(r"/(?:lfs|cdn)/([0-9a-f]{64})", path):
            return self._large(match[1])
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._for_writers() or self._batch()
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._of(match[1], match[2], lambda repo, commit: self._file(commit, match[3]))
        if match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/([a-z-]+)(?:/([^/]+)(?:/(.+))?)?)?", path):
            name, verb, revision, rest = match[1], match[2] or "info", match[3] or "main", match[4] or ""
            return self._of(name, revision, lambda repo, commit: self._api(name, verb, revision, rest, repo, commit))
        return _error(404, "NotFound", f"this server does not speak {path}")

    def _for_writers(self) -> tuple[int, Any, dict[str, str]] | None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "Unauthorized", "Invalid credentials in Authorization header")
        return None

    def _of(self, name: str, revision: str, answer: Callable[..., Any]) -> tuple[int, Any, dict[str, str]]:
        repo = self.hub.repositories.get(name)
        if repo is None or (repo.private and self._for_writers()):
            return _error(404, "RepoNotFound", "Repository not found")
        commit = repo.at(revision)
        if commit is None:
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return answer(repo, commit)

    def _create(self) -> tuple[int, Any, dict[str, str]]:
        told = json.loads(self.body)
        name = f"{told['organization']}/{told['name']}"
        if refusal := self._for_writers():
            return refusal
        if name in self.hub.repositories:
            return 409, {"error": "exists", "url": f"{self.hub.url}/datasets/{name}"}, {}
        self.hub.repository(name, told.get("visibility") == "private")
        return 200, {"url": f"{self.hub.url}/datasets/{name}"}, {}

    def _api(
        self, name: str, verb: str, revision: str, rest: str, repo: Repository, commit: Commit
    ) -> tuple[int, Any, dict[str, str]]:
        if verb in ("info", "revision"):
            siblings = [{"rfilename": path} for path in sorted(commit.files)]
            facts = {"id": name, "sha": commit.id, "private": repo.private, "lastModified": _DATE, "tags": []}
            return 200, {**facts, "siblings": siblings}, {}
        if verb == "refs":
            refs = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in repo.tags.items()]
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commits[-1].id}
            return 200, {"branches": [main], "converts": [], "tags": refs}, {}
        if verb == "commits":
            newest = [
                {"id": one.id, "title": one.title, "message": "", "date": _DATE, "authors": [{"user": "tests"}]}
                for one in reversed(repo.commits[: repo.commits.index(commit) + 1])
            ]
            return 200, newest, {}
        if verb == "tree":
            return self._tree(commit, rest)
        if verb == "paths-info":
            wanted = parse_qs(self.body.decode())["paths"]
            return 200, [_entry(path, commit.files[path]) for path in wanted if path in commit.files], {}
        if refusal := self._for_writers():
            return refusal
        if verb == "preupload":
            files = json.loads(self.body)["files"]
            return 200, {"files": [self._mode(commit, one["path"]) for one in files]}, {}
        if verb == "tag":
            tag = json.loads(self.body)["tag"]
            if tag in repo.tags:
                return _error(409, "Conflict", "Tag reference exists already")
            repo.tags[tag] = commit.id
            return 200, {}, {}
        if verb == "commit":
            return self._commit(name, repo)
        return _error(404, "NotFound", f"this server does not speak {verb}")

    def _mode(self, commit: Commit, path: str) -> dict[str, Any]:
        there = commit.files.get(path)
        told = {
            "path": path,
            "uploadMode": "lfs" if path.endswith((".parquet", ".rows")) else "regular",
            "shouldIgnore": False,
        }
        return told | ({"oid": there.sha256 if there.large else there.oid} if there else {})

    def _batch(self) -> tuple[int, Any, dict[str, str]]:
        objects = []
        for one in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.large_url}/lfs/{one['oid']}"}}
            objects.append(one | ({} if one["oid"] in self.hub.large else {"actions": upload}))
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _large(self, sha: str) -> tuple[int, Any, dict[str, str]]:
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != sha:
                return _error(400, "BadRequest", "other bytes than their hash says")
            self.hub.large[sha] = self.body
            return 200, b"", {"ETag": f'"{sha}"'}
        return self._bytes(self.hub.large[sha], {"ETag": f'"{sha}"'})

    def _commit(self, name: str, repo: Repository) -> tuple[int, Any, dict[str, str]]:
        header, *changes = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit", repo.commits[-1].id) != repo.commits[-1].id:
            return _error(412, "PreconditionFailed", "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[-1].files)
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif change["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    return _error(400, "BadRequest", f"no large file {value['oid']}")
                files[value["path"]] = Blob(self.hub.large[value["oid"]], True)
            elif change["key"] == "deletedFile":
                del files[value["path"]]
            else:
                return _error(400, "BadRequest", f"this server does not speak {change['key']}")
        made = repo.add(header["value"]["summary"], files)
        url = f"{self.hub.url}/datasets/{name}/commit/{made.id}"
        return 200, {"success": True, "commitOid": made.id, "commitUrl": url}, {}

    def _tree(self, commit: Commit, folder: str) -> tuple[int, Any, dict[str, str]]:
        prefix = f"{folder}/" if folder else ""
        inside = {path: blob for path, blob in commit.files.items() if path.startswith(prefix)}
        if folder and not inside:
            return _error(404, "EntryNotFound", f"{folder} does not exist")
        entries: dict[str, dict[str, Any]] = {}
        for path, blob in inside.items():
            parents = path[len(prefix) :].split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                name = prefix + "/".join(parents[:depth])
                entries[name] = {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest()}
            entries[path] = _entry(path, blob)
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            entries = {name: one for name, one in entries.items() if "/" not in name[len(prefix) :]}
        start = int(self.query.get("cursor", ["0"])[0])
        shown = [entries[name] for name in sorted(entries)][start : start + self.hub.page]
        headers = {}
        if start + self.hub.page < len(entries):
            query = {name: values[0] for name, values in self.query.items()} | {"cursor": str(start + self.hub.page)}
            told = "&".join(f"{name}={quote(value)}" for name, value in query.items())
            headers["Link"] = f'<{self.hub.url}{urlparse(self.path).path}?{told}>; rel="next"'
        return 200, shown, headers

    def _file(self, commit: Commit, path: str) -> tuple[int, Any, dict[str, str]]:
        blob = commit.files.get(path)
        if blob is None:
            return _error(404, "EntryNotFound", f"{path} does not exist")
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{blob.oid}"'}
        if not blob.large:
            return self._bytes(blob.data, headers)
        linked = {"X-Linked-Size": str(len(blob.data)), "X-Linked-Etag": f'"{blob.sha256}"'}
        return 302, b"", {**headers, **linked, "Location": f"{self.hub.large_url}/cdn/{blob.sha256}"}

    def _bytes(self, data: bytes, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return 200, data, headers
        start = int(wanted[1]) if wanted[1] else max(0, len(data) - int(wanted[2]))
        stop = min(int(wanted[2]) + 1, len(data)) if wanted[1] and wanted[2] else len(data)
        if start >= len(data):
            return 416, b"", {**headers, "Content-Range": f"bytes */{len(data)}"}
        return 206, data[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}


def _error(status: int, code: str, message: str) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message}


def _entry(path: str, blob: Blob) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "file", "path": path, "size": len(blob.data), "oid": blob.oid}
    if blob.large:
        told["lfs"] = {"oid": blob.sha256, "size": len(blob.data), "pointerSize": 130}
    return told
