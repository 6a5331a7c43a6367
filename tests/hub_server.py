"""A server of the Hugging Face hub's HTTP, as far as ``huggingface_hub`` downloads models by it.

What it answers follows the hub: the commit of a revision and its files with their digests; the
tree; files by redirect to a store where they are large, with ``ETag``, ``X-Repo-Commit``,
``X-Linked-Size`` and byte ranges; errors with ``X-Error-Code``.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

FORBIDDING = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH")
"""Variables of the hub's client that other tests or their user may have set."""
LARGE = 1000
"""Files from this size are stored apart from git, with their sha256 [bytes]."""
CUT_AFTER = 11 << 20
"""Bytes after which a broken connection ends: more than the client holds in memory."""


@dataclass
class Repository:
    """A repository: files by commit, commits by branch.

    Attributes:
        token: The token that it takes; None for everybody.
        gated: Whether its description is public, but not its files.
    """

    token: str | None = None
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def publish(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Make a commit of these files; returns it."""
        whole = b"".join(name.encode() + data for name, data in sorted(files.items()))
        commit = hashlib.sha1(whole).hexdigest()
        self.commits[commit], self.branches[branch] = dict(files), commit
        return commit

    def publish_directory(self, directory: Path) -> str:
        """Make a commit of a directory's files."""
        files = (file for file in sorted(directory.rglob("*")) if file.is_file())
        return self.publish({str(file.relative_to(directory)): file.read_bytes() for file in files})


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: Its address, for ``HF_ENDPOINT``.
        store: Address of its store: the same server by another name, as if it were another host.
        repositories: By ``ORG/NAME``.
        asked: Method, path and range of every request.
        cuts: How many of the next large answers break off in the middle.
        status: An error that every request gets, or None.
    """

    url: str = ""
    store: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    cuts: int = 0
    status: int | None = None

    def add(self, name: str, **values: Any) -> Repository:
        """A new repository."""
        return self.repositories.setdefault(name, Repository(**values))

    def stored(self) -> dict[str, bytes]:
        """Contents of the store by sha256."""
        return {
            hashlib.sha256(data).hexdigest(): data
            for repository in self.repositories.values()
            for files in repository.commits.values()
            for data in files.values()
        }


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubHandler(http.server.BaseHTTPRequestHandler):
    """One request of the hub."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        if self.hub.status is not None:
            self._send(self.hub.status, b"")
        elif found := re.fullmatch(r"/store/(\w+)", path):
            refused = self.headers.get("Authorization") is not None  # a token must not come here
            self._send(400, b"") if refused else self._send_file(self.hub.stored()[found[1]], {})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path):
            self._describe(found[1], found[2], found[3])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        else:
            self._refuse(404, "EntryNotFound")

    def _describe(self, name: str, what: str, revision: str) -> None:
        repository = self._repository(name, files=False)
        if repository is None:
            return
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "RevisionNotFound")
            return
        files = repository.commits[commit]
        if what == "revision":
            siblings = [
                {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
                | ({"lfs": self._stored(data, "sha256")} if len(data) >= LARGE else {})
                for path, data in files.items()
            ]
            self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings})
            return
        self._json(
            [
                {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
                | ({"lfs": self._stored(data, "oid")} if len(data) >= LARGE else {})
                for path, data in files.items()
            ]
        )

    def _stored(self, data: bytes, key: str) -> dict[str, object]:
        return {key: hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._repository(name, files=True)
        if repository is None:
            return
        commit = repository.branches.get(revision, revision)
        data = repository.commits.get(commit, {}).get(path)
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        headers = {"X-Repo-Commit": commit}
        if len(data) < LARGE:
            self._send_file(data, {**headers, "ETag": f'"{git_sha1(data)}"'})
            return
        digest = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self._send(302, b"", {**headers, **linked, "Location": f"{self.hub.store}/store/{digest}"})

    def _repository(self, name: str, files: bool) -> Repository | None:
        """The repository if the caller may read it; otherwise the refusal is sent."""
        repository = self.hub.repositories.get(name)
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        if repository is None:
            self._refuse(401 if given is None else 404, "RepoNotFound")
        elif repository.token in (None, given) or (repository.gated and not files):
            return repository
        elif repository.gated:
            self._refuse(401 if given is None else 403, "GatedRepo")
        else:
            self._refuse(401 if given is None else 404, "RepoNotFound")
        return None

    def _send_file(self, data: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        if wanted:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self._send(206 if wanted else 200, data[start:], headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cuts and len(body) > CUT_AFTER:
            self.hub.cuts -= 1
            self.wfile.write(body[:CUT_AFTER])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub on a free port of this machine, which this process and its children may ask."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FORBIDDING:
            patch.delenv(name, raising=False)
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        with _bound() as hub:
            yield hub


@contextmanager
def _bound() -> Iterator[Hub]:
    hub = Hub()
    handler = type("Run", (HubHandler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        hub.store = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
