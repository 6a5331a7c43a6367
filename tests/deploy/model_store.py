"""A server of one archive, and the init container's script, which fetches it.

The script runs with the image's own Python where this machine has one, see ``image_python``.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.deploy.chart import CHART
from tests.deploy.image_python import image_python

PYTHON = image_python() or sys.executable
SCRIPT = CHART / "files" / "fetch_model.py"
ENDLESS = {
    "redirect": b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n",
    "trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
}
"""Answers that go on for ever after this: a redirect's body, an interim head, trailers."""


class Store(http.server.BaseHTTPRequestHandler):
    """Serves one archive; the first answers break as ``breaks`` says."""

    body = b""
    breaks: list[str]
    asked: list[str | None]
    ranges = True
    replaced = b""
    """What the archive is after an answer that breaks as ``replaced``."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        fault = self.breaks.pop(0) if self.breaks else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("to "))
            self.end_headers()
            return
        if fault in ENDLESS:
            with contextlib.suppress(OSError):  # it has heard enough
                self.wfile.write(ENDLESS[fault])
                while True:
                    self.wfile.write(b"a: b\r\n")
                    time.sleep(0.05)
            return
        tag = f'"{digest(self.body)}"'
        goes_on = self.ranges and self.headers.get("If-Range", tag) == tag
        start = int(wanted[len("bytes=") : -1]) if wanted and goes_on else 0
        part = self.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("ETag", tag)
        if start:
            place = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            self.send_header("Content-Range", place)
        if fault != "unsaid":
            self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if fault == "slow":
            step = 1 + len(part) // 20
            for at in range(0, len(part) // 2, step):
                self.wfile.write(part[at : at + step])
                time.sleep(0.1)
        else:
            half = fault in ("cut", "replaced")
            self.wfile.write(part[: len(part) // 2] if half else part)
        if fault == "replaced":
            type(self).body = self.replaced

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def store(body: bytes, breaks: list[str], ranges: bool = True) -> Iterator[tuple[str, type[Store]]]:
    handler = type("Run", (Store,), {"body": body, "breaks": breaks, "asked": [], "ranges": ranges})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/model.tar.gz", handler
        finally:
            server.shutdown()
            thread.join()


def run(
    source: str, sha256: str, target: Path, limit: str = "1Gi", before: str = ""
) -> subprocess.CompletedProcess[str]:
    """The script as the pod runs it, but with short pauses between its attempts."""
    code = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import fetch_model as m; "
        f"import time; time.sleep = lambda _: None; {before}raise SystemExit(m.main())"
    )
    command = [PYTHON, "-B", "-c", code, source, sha256, str(target), limit]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def packed(*members: tuple[str, bytes | str]) -> bytes:
    """A tar archive: files by name and content; a content as text is a kind of another member."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content.encode(), "../../outside"
                archive.addfile(member)
    return made.getvalue()


def served(body: bytes, target: Path, breaks: list[str] | None = None, limit: str = "1Gi") -> str:
    """What the script says of an archive that it refuses: one line."""
    with store(body, breaks or []) as (url, _):
        done = run(url, digest(body), target, limit)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("attempt ")]
    return line
