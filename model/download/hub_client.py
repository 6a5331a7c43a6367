"""The hub, by ``huggingface_hub``: what a repository holds, and its files into the shared cache.

The library reads the environment: ``HF_ENDPOINT``, ``HF_TOKEN`` or the file of ``HF_TOKEN_PATH``,
``HF_HOME`` or ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE``, and proxies.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from osa.model.common.hub_reference import HubReference
from osa.model.errors import DownloadError

TIMEOUT_S = 30.0
"""Longest wait for the hub's description of a repository [s]."""


class RemoteFile(NamedTuple):
    """What the hub says of a file.

    Attributes:
        size: Its size [bytes], or None where the hub does not say.
        sha256: Of a large file, in hex, or None.
        git_sha1: Of a small file, git's digest of it, in hex, or None.
    """

    size: int | None
    sha256: str | None
    git_sha1: str | None

    def fits(self, file: Path) -> bool:
        """Whether a local file is this one, as far as the hub says."""
        size = file.stat().st_size
        if self.size is not None and size != self.size:
            return False
        wanted = self.sha256 or self.git_sha1
        if wanted is None:
            return True
        digest = hashlib.sha256() if self.sha256 else hashlib.sha1(b"blob %d\0" % size)
        with file.open("rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest() == wanted


class Listing(NamedTuple):
    """The files of a repository at a commit, by path."""

    commit: str
    files: dict[str, RemoteFile]


class HubClient:
    """A hub and its cache on this machine."""

    def __init__(
        self, endpoint: str | None = None, cache: Path | None = None, token: str | None = None
    ) -> None:
        """Read ``huggingface_hub``'s configuration, which imports it.

        Args:
            endpoint: Address of the hub; default is ``HF_ENDPOINT``'s.
            cache: Its cache; default is that of ``HF_HUB_CACHE`` or ``HF_HOME``.
            token: Default is that of ``HF_TOKEN`` or its file.
        """
        from huggingface_hub import constants

        _quiet()
        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self.cache = Path(cache or constants.HF_HUB_CACHE).expanduser()
        self.offline = bool(constants.HF_HUB_OFFLINE)
        self._token = token

    def list_files(self, reference: HubReference) -> Listing:
        """Ask for the commit of a revision, and its files.

        Raises:
            DownloadError: There is no such model, it may not be read, or the hub is not reached.
        """
        from huggingface_hub import HfApi

        with self._errors(reference):
            api = HfApi(endpoint=self.endpoint, token=self._token)
            found = api.model_info(
                reference.repository,
                revision=reference.revision,
                files_metadata=True,
                timeout=TIMEOUT_S,
            )
        files = {
            item.rfilename: RemoteFile(
                item.size, item.lfs.sha256 if item.lfs else None, None if item.lfs else item.blob_id
            )
            for item in found.siblings or ()
        }
        if found.sha is None:
            raise DownloadError(f"{self.endpoint} names no commit for {reference}: it is no hub")
        return Listing(found.sha, files)

    def download(self, reference: HubReference, commit: str, names: list[str]) -> None:
        """Download the files of a commit that are not in the cache; broken connections go on.

        Raises:
            DownloadError: The hub refuses or is not reached, or the cache cannot be written.
        """
        from huggingface_hub import snapshot_download

        with self._errors(reference):
            snapshot_download(
                reference.repository,
                revision=commit,
                endpoint=self.endpoint,
                cache_dir=self.cache,
                token=self._token,
                allow_patterns=[glob.escape(name) for name in names],
            )

    @contextlib.contextmanager
    def _errors(self, reference: HubReference) -> Iterator[None]:
        """Turn the library's errors into one line that says what to do."""
        try:
            yield
        except (_network_error(), OSError, RuntimeError, ValueError) as error:
            raise DownloadError(f"{reference}: {self._explain(reference, error)}") from error

    def _explain(self, reference: HubReference, error: Exception) -> str:
        from huggingface_hub import errors

        if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
            error = error.__cause__ if isinstance(error.__cause__, Exception) else error
        page = f"{self.endpoint}/{reference.repository}"
        if isinstance(error, errors.OfflineModeIsEnabled):
            return (
                f"it is not in the cache {self.cache}, and HF_HUB_OFFLINE forbids to download it: "
                "unset that, or copy the cache of a machine that has it"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return f"{page} has no revision {reference.revision!r}: name a branch, tag or commit"
        if isinstance(error, errors.GatedRepoError):
            return (
                f"access is gated: accept the terms at {page}, and set HF_TOKEN (or HF_TOKEN_PATH) "
                "to a token of that account"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return (
                f"{self.endpoint} has no such model, or this token may not read it: check the "
                "name; a private model needs HF_TOKEN (or HF_TOKEN_PATH)"
            )
        if isinstance(error, errors.HfHubHTTPError):
            return self._explain_status(error.response.status_code)
        if isinstance(error, _network_error()):
            return (
                f"cannot reach {self.endpoint} ({error or type(error).__name__}): check the "
                "network, HTTPS_PROXY and HF_ENDPOINT; a model that was downloaded before needs "
                "none"
            )
        if isinstance(error, OSError) and error.errno is not None:
            return (
                f"cannot write to the cache {self.cache} ({error.strerror}): make room, or name "
                "another place by HF_HUB_CACHE"
            )
        return f"the download failed: {' '.join(str(error).split())}"

    def _explain_status(self, status: int) -> str:
        if status == 401:
            return f"{self.endpoint} refuses the token (401): set HF_TOKEN to a valid one"
        if status == 403:
            return f"{self.endpoint} forbids this (403): the token lacks the right to read it"
        return f"{self.endpoint} answered {status}: try again later"


def _network_error() -> type[Exception]:
    """The base of errors of the network, of the HTTP library that ``huggingface_hub`` uses."""
    from huggingface_hub.errors import HfHubHTTPError

    bases = HfHubHTTPError.__mro__
    return next(base for base in bases if base.__name__ == "HTTPError")


def _quiet() -> None:
    """Log as this process does, and show progress on terminals alone."""
    from huggingface_hub import constants
    from huggingface_hub.utils.tqdm import disable_progress_bars

    library = logging.getLogger("huggingface_hub")
    library.handlers.clear()
    library.propagate = True
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not sys.stderr.isatty():
        disable_progress_bars()
