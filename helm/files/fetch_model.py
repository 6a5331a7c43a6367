"""Downloads and unpacks a model for a pod: ``fetch_model.py SOURCE SHA256 DIRECTORY [LIMIT]``.

SOURCE is an http(s) address or DIRECTORY/.archive. It must have the digest, and be a tar archive
(plain, gzip, bzip2 or xz) of a checkpoint or artifact: files and folders, no links. LIMIT bounds
the archive and its content together, as a quantity of Kubernetes (8Gi, which is the default).

When a connection breaks, the download goes on where it stopped; one that a process did not finish
is begun anew by the next, and a finished one is not repeated. Needs only the standard library, as
``unpack_model.py`` beside it does.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import resource
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helm.files.unpack_model import ARCHIVE, FetchError, is_complete, replace_content
else:  # beside this script, in a pod too
    from unpack_model import ARCHIVE, FetchError, is_complete, replace_content

ATTEMPTS = 6
CHUNK = 1 << 20
TIMEOUT_S = 60.0
"""Longest time until the head of the answer has come, redirects included, and until more of its
body comes, however slowly bytes trickle in [s]."""
LEAST_RATE = 1 << 10
"""Least rate of a download over ``TIMEOUT_S`` [bytes/s]; a slower one is begun again."""
TEMPORARY = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
REDIRECTS = 5
LIMIT = "8Gi"
MOST_MEMORY = 768 << 20
"""Address space of the process [bytes]: heads of an archive are read into memory."""
UNITS = {"": 1.0, "m": 1e-3, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
UNITS |= {f"{name}i": 1 << 10 * power for power, name in enumerate("KMGT", 1)}


def fetch(source: str, sha256: str, directory: Path, limit: int, pause_s: float = 2.0) -> None:
    """Download, check, unpack, and only then replace what is there.

    Args:
        source: http(s) address, or path of a file that is already there.
        sha256: Expected digest of the archive, in hex.
        directory: Directory for its content.
        limit: Most of archive and content together [bytes].
        pause_s: Wait before the second attempt; it doubles with every further one [s].

    Raises:
        FetchError: The download fails, or the archive has another digest, is too large, or cannot
            be unpacked. What was there stays.
    """
    sha256 = sha256.lower()
    archive = directory / ARCHIVE
    if is_complete(directory, sha256):
        archive.unlink(missing_ok=True)
        return
    downloaded = Path(source) != archive
    try:
        if downloaded:
            download(source, archive, limit, pause_s)
        with archive.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise FetchError(f"{shown(source)} has sha256 {found}, expected {sha256}")
            file.seek(0)
            left = limit - archive.stat().st_size
            replace_content(file, shown(source), sha256, left, directory)
    except BaseException:
        if downloaded:  # another container's archive is left to it: it does not run again
            archive.unlink(missing_ok=True)
        raise
    archive.unlink()


class SlowError(http.client.HTTPException):
    """A server takes too long; no ``OSError``, after which other addresses of it are tried."""


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """End what takes longer than ``limit_s``; the timeout of a socket is for each of its reads.

    Raises:
        SlowError: It takes longer.
    """

    def end(*_: object) -> None:
        raise SlowError(f"nothing usable has come within {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a few redirects, to http and https alone, and never from https to http."""

    max_redirections = max_repeats = REDIRECTS

    def redirect_request(  # noqa: D102  # the base class has the words
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urllib.parse.urlsplit(newurl).scheme
        if scheme not in ("http", "https") or (req.type == "https" and scheme != "https"):
            raise FetchError(
                f"{shown(req.full_url)} redirects from {req.type} to {scheme}: refused"
            )
        fp.close()  # the body would be read to its end, which may never come
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def opener() -> urllib.request.OpenerDirector:
    """Opens http and https, with the environment's proxies; no files, no ftp."""
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        Redirects(),
    ):
        made.add_handler(handler)
    return made


def download(url: str, target: Path, limit: int, pause_s: float) -> None:
    """Write the body of ``url`` to ``target``, in up to ``ATTEMPTS`` attempts.

    Args:
        url: http(s) address.
        target: File to write.
        limit: Most bytes of the body.
        pause_s: Wait before the second attempt; it doubles with every further one [s].

    Raises:
        FetchError: All attempts failed, or one with an error that a retry does not help.
    """
    target.unlink(missing_ok=True)
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and url.isascii()
        usable = usable and parts.port != 0 and "@" not in parts.netloc
    except ValueError:  # a port that is no number, half an IPv6 address
        usable = False
    if not usable or re.search(r"[\0- \x7f]", url):
        raise FetchError(
            f"source is {shown(url)}: give an http(s) address without a user's name or spaces, or "
            f"{target}"
        )
    tag: list[str] = []
    problem = ""
    for attempt in range(ATTEMPTS):
        try:
            append(url, target, limit, tag)
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"
            error.close()
            if 300 <= error.code < 400:
                problem += (
                    f", a redirect that is not followed (http and https, {REDIRECTS} at most)"
                )
            if error.code == 416:  # the server has another file by now
                target.unlink(missing_ok=True)
            if error.code not in TEMPORARY:
                break
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        else:
            return
        print(f"attempt {attempt + 1}: {problem}", file=sys.stderr, flush=True)
        if attempt + 1 < ATTEMPTS:
            time.sleep(pause_s * 2**attempt)
    raise FetchError(f"cannot download {shown(url)}: {problem}")


def append(url: str, target: Path, limit: int, tag: list[str]) -> None:
    """Request the missing part of ``target``; a server without range requests sends all of it.

    Args:
        url: http(s) address.
        target: File to write, or to continue.
        limit: Most bytes of the file.
        tag: The ETag of what is in ``target``, if it has a strong one; is set.

    Raises:
        FetchError: The body is larger than the limit.
    """
    have = target.stat().st_size if target.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and tag:
        headers["If-Range"] = tag[0]  # a file that has changed is sent whole
    request = urllib.request.Request(url, headers=headers)
    with within(TIMEOUT_S):
        opened = opener().open(request, timeout=TIMEOUT_S)
    with opened as answer:
        begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        goes_on = answer.status == 206 and begins is not None and int(begins[1]) == have
        if answer.status == 206 and not goes_on:
            target.unlink(missing_ok=True)
            raise http.client.HTTPException("the server sent another part than it was asked for")
        have = have if goes_on else 0
        found = answer.headers.get("ETag", "")
        tag[:] = [found] if found.startswith('"') else []
        if have + (answer.length or 0) > limit:
            raise FetchError(f"{shown(url)} is larger than the limit (model.sizeLimit)")
        with target.open("ab" if goes_on else "wb") as file:
            for chunk in paced(answer):
                have += len(chunk)
                if have > limit:
                    raise FetchError(f"{shown(url)} is larger than the limit (model.sizeLimit)")
                file.write(chunk)
        if answer.length:  # a connection that closes early ends read() without an error
            raise http.client.IncompleteRead(b"", answer.length)


def paced(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Parts of a body as they come.

    Raises:
        SlowError: Nothing comes for long.
        TimeoutError: They come more slowly than ``LEAST_RATE``.
    """
    since, got = time.monotonic(), 0
    while True:
        with within(TIMEOUT_S):  # lines between chunks may trickle, and trailers never end
            chunk = answer.read1(CHUNK)
        if not chunk:
            return
        yield chunk
        got += len(chunk)
        if (elapsed := time.monotonic() - since) > TIMEOUT_S:
            if got < LEAST_RATE * elapsed:
                raise TimeoutError(f"{got} bytes came in {elapsed:.0f} s")
            since, got = time.monotonic(), 0


def shown(source: str) -> str:
    """A source without a user's name, and without a query, which may be a signature."""
    head = re.split(r"[?#]", source, maxsplit=1)[0]
    return ascii(re.sub(r"//[^/]*@", "//", head)[:300])[1:-1]


def size_of(quantity: str) -> int:
    """Bytes of a quantity of Kubernetes, such as 8Gi.

    Raises:
        FetchError: It is none.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)([a-zA-Z]*)", quantity)
    if found is None or found[2] not in UNITS:
        raise FetchError(f"the limit is {quantity!r}: give bytes, or a number with a unit, as 8Gi")
    return int(float(found[1]) * UNITS[found[2]])


def main() -> int:
    """Run the command; returns the exit code."""
    if len(sys.argv) not in (4, 5):
        print(__doc__, file=sys.stderr)
        return 2
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        limit = size_of((*sys.argv, LIMIT)[4])
        fetch(sys.argv[1], sys.argv[2], Path(sys.argv[3]), limit)
    except (FetchError, OSError, MemoryError) as error:
        print(f"fetch_model: {error or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
