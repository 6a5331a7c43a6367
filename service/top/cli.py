"""``osa top``."""

from __future__ import annotations

import argparse
import dataclasses
import http.client
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from pathlib import Path
from typing import Any

from osa.model.common.terminal import harmless
from osa.model.errors import ConfigError, OsaError
from osa.service.top.scrape import SHOWN, Reading, ReadingError, parse
from osa.service.top.snapshot import Snapshot, compare
from osa.service.top.view import render

TIMEOUT_S = 10.0
LONGEST_ANSWER, CHUNK = 4 << 20, 1 << 16
"""Longest answer that is read, and how much of it at once [bytes]."""
HISTORY = 200
ENTER, LEAVE, HOME, TO_LINE_END, TO_END = (
    "\x1b[?1049h\x1b[?25l",
    "\x1b[?25h\x1b[?1049l",
    "\x1b[H",
    "\x1b[K",
    "\x1b[J",
)


class ServerGoneError(OsaError):
    """The server does not answer."""

    code = "server_gone"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``osa top``."""
    parser.add_argument(
        "url", nargs="?", default="http://127.0.0.1:8080", metavar="URL", help="a running server"
    )
    parser.add_argument(
        "--interval", type=float, default=2.0, metavar="S", help="between readings [s]"
    )
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help="holds the API key, where a server wants one"
    )
    parser.add_argument("--once", action="store_true", help="print one interval as JSON, and exit")


def run(options: argparse.Namespace) -> int:
    """Watch a server; returns the exit code."""
    if not (math.isfinite(options.interval) and 0.1 <= options.interval <= 3600):
        raise ConfigError(f"--interval must be from 0.1 to 3600 s, got {options.interval}")
    key = None if options.key_file is None else _read_key(options.key_file)
    server = Server(options.url, key)
    try:
        if options.once or not sys.stdout.isatty():
            _print(server, options.interval, options.once)
        else:
            _watch(server, options.interval)
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # the reader of our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


class Server:
    """A running server.

    Attributes:
        url: Where it is.
        info: What its ``/info`` says; empty where it has none to give.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        """Find the server and take the first reading.

        Args:
            url: Where it is.
            key: API key, for ``/info`` of a server that asks for one.

        Raises:
            ConfigError: No URL of a web server, or a key that it does not know.
            ServerGoneError: Nobody answers there.
            ReadingError: Another program answers.
        """
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        try:
            parts = urllib.parse.urlsplit(self.url)
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port that is no number, half an address
            known = False
        if not known:
            raise ConfigError(f"URL must be like http://host:8080, got {url!r}")
        self._key = key
        self._last = self._read()
        status, body = self._get("/info")
        if status == 401 and key is not None:
            raise ConfigError(f"{self.url} does not know this API key")
        self.info = _read_info(body) if status == 200 else {}

    def advance(self) -> Snapshot:
        """Take another reading; what happened since the last one."""
        before, self._last = self._last, self._read()
        return compare(before, self._last, self.info, self._get("/readyz")[0] == 200)

    def _read(self) -> Reading:
        status, body = self._get("/metrics")
        if status != 200:
            raise ServerGoneError(f"{self.url}/metrics answers {status}")
        return parse(body.decode("utf-8", "replace"), time.monotonic())

    def _get(self, path: str) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            ServerGoneError: There is no answer.
        """
        request = urllib.request.Request(self.url + path)
        if self._key is not None:  # for this server alone, wherever it sends us
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        try:
            return _fetch(request)
        except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
            cause = harmless(str(getattr(error, "reason", error)).strip()) or type(error).__name__
            place = f"{self.url}{path}"
            raise ServerGoneError(f"no answer from {place}: {cause[:SHOWN]}") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to web servers alone."""

    def redirect_request(self, *details: Any) -> urllib.request.Request | None:
        """The request to go on with; none for other protocols."""
        if not str(details[-1]).startswith(("http://", "https://")):
            return None
        details[1].close()  # the body would be read to its end, which may never come
        return super().redirect_request(*details)


def _fetch(request: urllib.request.Request) -> tuple[int, bytes]:
    """Status, and body unless it is an error's, in all within ``TIMEOUT_S``.

    Raises:
        OSError: There is no answer in time.
        http.client.HTTPException: It is not HTTP.
        ValueError: It is too long, or not whole.
    """
    result: list[tuple[int, bytes] | BaseException] = []
    deadline = time.monotonic() + TIMEOUT_S

    def fetch() -> None:
        try:
            opener = urllib.request.build_opener(_Redirects)
            with opener.open(request, timeout=TIMEOUT_S) as answer:
                result.append((answer.status, _read_body(answer, deadline)))
        except urllib.error.HTTPError as error:
            error.close()
            result.append((error.code, b""))
        except Exception as error:
            result.append(error)

    worker = threading.Thread(target=fetch, name="osa-top", daemon=True)
    worker.start()
    worker.join(TIMEOUT_S)
    if not result:
        raise TimeoutError(f"it has not ended after {TIMEOUT_S:.0f} s")
    (found,) = result
    if isinstance(found, BaseException):
        raise found
    return found


def _read_body(answer: Any, deadline: float) -> bytes:
    """A body that is whole, not too long, and comes in time.

    Raises:
        ValueError: It is not.
    """
    parts: list[bytes] = []
    size = 0
    while part := answer.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > LONGEST_ANSWER:
            raise ValueError(f"the answer is longer than {LONGEST_ANSWER} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError  # nobody waits any longer
    if answer.length:
        raise ValueError(f"the answer ended {answer.length} bytes early")
    return b"".join(parts)


def _read_info(body: bytes) -> dict[str, Any]:
    """What ``/info`` says.

    Raises:
        ReadingError: It is no JSON object.
    """
    try:
        info = json.loads(body)
        json.dumps(info)  # as deep as it may be printed
    except (ValueError, RecursionError):
        info = None
    if not isinstance(info, dict):
        raise ReadingError("/info is no JSON object: this is no embedding server")
    return info


def _read_key(file: Path) -> str:
    """The key that a file holds.

    Raises:
        ConfigError: It cannot be read, or holds anything but one line of ASCII.
    """
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"--key-file {file} cannot be read: {error}") from error
    if not key or not key.isprintable():
        raise ConfigError(f"--key-file {file} must hold one API key and nothing else")
    return key


def _print(server: Server, interval_s: float, once: bool) -> None:
    """A line of JSON an interval."""
    while True:
        time.sleep(interval_s)
        snapshot = server.advance()
        figures = dataclasses.asdict(dataclasses.replace(snapshot, info={}))
        print(json.dumps({**figures, "info": snapshot.info}), flush=True)
        if once:
            return


def _watch(server: Server, interval_s: float) -> None:
    """Draw until interrupted; the terminal is as before afterwards."""
    history: deque[float] = deque(maxlen=HISTORY)
    colour = "NO_COLOR" not in os.environ
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does
    sys.stdout.write(ENTER)
    try:
        while True:
            snapshot = server.advance()
            history.append(snapshot.tokens_rate or 0.0)
            size = shutil.get_terminal_size()
            lines = render(snapshot, server.url, history, size.columns, colour)
            drawn = f"{TO_LINE_END}\n".join(lines[: size.lines - 1])
            sys.stdout.write(f"{HOME}{drawn}{TO_LINE_END}{TO_END}")
            sys.stdout.flush()
            time.sleep(interval_s)
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()
        signal.signal(signal.SIGTERM, before)
