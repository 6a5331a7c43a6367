"""The init container's script against a real HTTP server, with every kind of failure."""

from __future__ import annotations

import hashlib
import http.server
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from osa.model import EmbeddingModel
from tests.deploy.chart import CHART

SCRIPT = CHART / "files" / "fetch_model.py"


class Store(http.server.BaseHTTPRequestHandler):
    """Serves one archive; the first answers break as ``breaks`` says."""

    body = b""
    breaks: list[str]
    asked: list[str | None]
    ranges = True

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        fault = self.breaks.pop(0) if self.breaks else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and self.ranges else 0
        part = self.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[: len(part) // 2] if fault == "cut" else part)

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def store(body: bytes, breaks: list[str], ranges: bool = True) -> Iterator[tuple[str, type[Store]]]:
    handler = type("Run", (Store,), {"body": body, "breaks": breaks, "asked": [], "ranges": ranges})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/model.tar.gz", handler
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def archive(tiny_checkpoint: Path, tmp_path: Path) -> bytes:
    file = tmp_path / "model.tar.gz"
    with tarfile.open(file, "w:gz") as members:
        members.add(tiny_checkpoint, "model")
    return file.read_bytes()


def run(source: str, sha256: str, target: Path) -> subprocess.CompletedProcess[str]:
    """The script as the pod runs it, but with short pauses between its attempts."""
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import fetch_model as m; "
        "import time; time.sleep = lambda _: None; raise SystemExit(m.main())"
    )
    command = [sys.executable, "-c", code, source, sha256, str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_model_arrives_over_a_bad_line_and_loads(
    archive: bytes, tmp_path: Path, ranges: bool
) -> None:
    target = tmp_path / "models"
    target.mkdir()
    with store(archive, ["503", "cut", "cut"], ranges) as (url, handler):
        done = run(url, digest(archive), target)
        assert done.returncode == 0, done.stderr
        assert len(handler.asked) == 4
        assert any(handler.asked)  # it continued where it stopped
        again = run(url, digest(archive), target)
        assert again.returncode == 0
        assert len(handler.asked) == 4, "a finished download is not repeated"
    assert not (target / ".archive").exists()
    assert EmbeddingModel.from_pretrained(target / "model").config.hidden_size == 16


@pytest.mark.parametrize(
    ("breaks", "sha256", "message"),
    [
        ([], "0" * 64, "expected " + "0" * 64),
        (["404"], None, "HTTP 404"),
        (["503"] * 6, None, "HTTP 503"),
    ],
)
def test_a_download_that_fails_says_why(
    archive: bytes, tmp_path: Path, breaks: list[str], sha256: str | None, message: str
) -> None:
    target = tmp_path / "models"
    target.mkdir()
    with store(archive, breaks) as (url, _):
        done = run(url, sha256 or digest(archive), target)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(target.iterdir()) == []


def test_what_is_no_archive_or_leaves_its_directory_is_refused(tmp_path: Path) -> None:
    target, evil = tmp_path / "models", tmp_path / "evil.tar"
    target.mkdir()
    (tmp_path / "file").write_text("x")
    with tarfile.open(evil, "w") as members:
        members.add(tmp_path / "file", "../outside")
    for body in (b"not an archive", evil.read_bytes()):
        with store(body, []) as (url, _):
            done = run(url, digest(body), target)
        assert done.returncode == 1
        assert "no tar archive that can be unpacked" in done.stderr
    assert not (tmp_path / "outside").exists()


def test_an_archive_that_another_container_brought(archive: bytes, tmp_path: Path) -> None:
    target = tmp_path / "models"
    target.mkdir()
    (target / ".archive").write_bytes(archive)
    assert run(str(target / ".archive"), digest(archive), target).returncode == 0
    assert (target / "model" / "config.json").is_file()
