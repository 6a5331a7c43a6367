"""Downloads and unpacks a model for a pod: ``fetch_model.py SOURCE SHA256 DIRECTORY``.

SOURCE is an http(s) address or a file. It must have the digest, and be a tar archive (plain, gzip,
bzip2 or xz) of a checkpoint or artifact. Needs only Python's standard library. An interrupted
download is continued where it stopped; a finished one is not repeated.
"""

from __future__ import annotations

import hashlib
import http.client
import sys
import tarfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ATTEMPTS = 6
CHUNK = 1 << 20
TIMEOUT_S = 60.0
TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})


class FetchError(Exception):
    """The model cannot be downloaded or unpacked."""


def fetch(source: str, sha256: str, directory: Path, pause_s: float = 2.0) -> None:
    """Download, check and unpack.

    Args:
        source: http(s) address, or path of a file that is already there.
        sha256: Expected digest of the archive, in hex.
        directory: Directory for its content.
        pause_s: Wait before the second attempt; it doubles with every further one [s].

    Raises:
        FetchError: The download fails, or the archive has another digest or cannot be unpacked.
    """
    done, archive = directory / ".complete", directory / ".archive"
    if done.is_file() and done.read_text() == sha256:
        archive.unlink(missing_ok=True)
        return
    if source.startswith(("http://", "https://")):
        download(source, archive, pause_s)
    elif Path(source) != archive:
        raise FetchError(f"source is {source}: give an http(s) address or {archive}")
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        archive.unlink()
        raise FetchError(f"{source} has sha256 {found}, expected {sha256}")
    try:
        with tarfile.open(archive) as members:
            members.extractall(directory, filter="data")
    except tarfile.TarError as error:
        raise FetchError(f"{source} is no tar archive that can be unpacked: {error}") from error
    archive.unlink()
    done.write_text(sha256)


def download(url: str, target: Path, pause_s: float) -> None:
    """Write the body of ``url`` to ``target``, in up to ``ATTEMPTS`` attempts.

    Raises:
        FetchError: All attempts failed, or one with an error that a retry does not help.
    """
    target.unlink(missing_ok=True)
    for attempt in range(ATTEMPTS):
        try:
            append(url, target)
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"
            if error.code not in TEMPORARY:
                break
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        else:
            return
        print(f"attempt {attempt + 1}: {problem}", file=sys.stderr, flush=True)
        if attempt + 1 < ATTEMPTS:
            time.sleep(pause_s * 2**attempt)
    raise FetchError(f"cannot download {url}: {problem}")


def append(url: str, target: Path) -> None:
    """Request the missing part of ``target``; a server without range requests sends all of it."""
    have = target.stat().st_size if target.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        with target.open("ab" if answer.status == 206 else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
        if answer.length:  # a connection that closes early ends read() without an error
            raise http.client.IncompleteRead(b"", answer.length)


def main() -> int:
    """Run the command; returns the exit code."""
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fetch(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except (FetchError, OSError) as error:
        print(f"fetch_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
