"""From a reference to a directory: downloaded once, recorded, and verified at every later use.

A recorded model is served without asking the hub, also where its revision is a branch: a branch
that has moved is followed by ``refresh`` alone. Every file is compared with the hub's own digest
when it is downloaded, and with the record's sha256 afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from osa.model.common.directories import packaged_model
from osa.model.common.hub_reference import HubReference, is_reference, parse_reference
from osa.model.common.requirements import require
from osa.model.download.hub_client import HubClient, Listing
from osa.model.download.record import (
    HubRecord,
    check_record,
    measure,
    read_record,
    record_file,
    remedy,
    snapshot_of,
    write_record,
)
from osa.model.download.selection import choose_files, find_problem
from osa.model.errors import DownloadError

logger = logging.getLogger(__name__)
Progress = Callable[[str], None]


class HubModel(NamedTuple):
    """A model of the hub on this machine.

    Attributes:
        path: Its directory.
        commit: The commit of the repository.
        fetched: Whether anything was downloaded now.
    """

    path: Path
    commit: str
    fetched: bool


def local_path(
    path: Path | None, refresh: bool = False, progress: Progress = lambda line: None
) -> Path | None:
    """``path`` itself, or the directory of the model where it is a reference.

    Args:
        path: As ``model.path``.
        refresh: Whether to follow a branch that has moved, and to replace damaged files.
        progress: Called with a line for every step.

    Raises:
        ConfigError: A malformed or unknown reference, or ``huggingface_hub`` is not installed.
        DownloadError: The model cannot be had, or its files have changed.
    """
    if path is None or not is_reference(path):
        return path
    if (packaged := packaged_model(path)) != path:
        return packaged
    return fetch_model(parse_reference(path), refresh, progress).path


def fetch_model(
    reference: HubReference,
    refresh: bool = False,
    progress: Progress = lambda line: None,
    client: HubClient | None = None,
) -> HubModel:
    """Download a model unless a record of it exists, and verify it.

    Args:
        reference: The model.
        refresh: As in ``local_path``.
        progress: As in ``local_path``.
        client: The hub; default is that of the environment.

    Raises:
        ConfigError: ``huggingface_hub`` is not installed.
        DownloadError: The model cannot be had, or its files have changed.
    """
    require(str(reference), "hub", "huggingface_hub")
    client = client or HubClient()
    if refresh and client.offline:
        raise DownloadError(
            f"{reference}: --refresh (model.refresh) asks the hub, which HF_HUB_OFFLINE forbids: "
            "leave one of them out"
        )
    try:
        record, fetched = _recorded(client, reference, refresh, progress)
    except OSError as error:
        raise DownloadError(
            f"{reference}: cannot read {error.filename}: {error.strerror}"
        ) from error
    path = snapshot_of(client.cache, reference, record.commit)
    logger.info(
        "model of the hub verified",
        extra={
            "repository": reference.repository,
            "revision": reference.revision,
            "commit": record.commit,
            "downloaded": fetched,
            "path": str(path),
        },
    )
    progress(f"{reference} is commit {record.commit}; every file matches its sha256")
    return HubModel(path, record.commit, fetched)


def _recorded(
    client: HubClient, reference: HubReference, refresh: bool, progress: Progress
) -> tuple[HubRecord, bool]:
    """The record of a model that is here, whole, and whether anything was downloaded for it."""
    record = None if refresh else read_record(client.cache, reference)
    if record is None:
        return _download(client, reference, refresh, progress), True
    missing = check_record(client.cache, record)
    if missing:
        _complete(client, record, missing, progress)
    return record, bool(missing)


def _download(
    client: HubClient, reference: HubReference, refresh: bool, progress: Progress
) -> HubRecord:
    """Ask the hub, download what is not in its cache, compare, and record."""
    listing = client.list_files(reference)
    problem = find_problem(listing.files)
    if problem is not None:
        raise DownloadError(f"{reference} {problem}")
    names = choose_files(listing.files)
    directory = snapshot_of(client.cache, reference, listing.commit)
    if refresh:
        _remove_damaged(directory, listing, names)
    _fetch(client, reference, listing.commit, names, listing, progress)
    for name in names:
        if not (directory / name).is_file() or not listing.files[name].fits(directory / name):
            raise DownloadError(
                f"{directory / name} is not the file that {client.endpoint} names (another size or "
                f"digest): {remedy(reference)}"
            )
    files = {name: measure(directory / name) for name in names}
    record = HubRecord(reference, listing.commit, client.endpoint, files)
    check_record(client.cache, record)
    try:
        write_record(client.cache, record)
    except OSError as error:
        file = record_file(client.cache, reference)
        raise DownloadError(f"cannot write the record {file}: {error.strerror}") from error
    return record


def _complete(client: HubClient, record: HubRecord, missing: list[str], progress: Progress) -> None:
    """Download files that a record has and its snapshot has not."""
    logger.warning("files of a recorded model are missing", extra={"files": missing})
    try:
        _fetch(client, record.reference, record.commit, missing, None, progress)
    except DownloadError as error:
        raise DownloadError(
            f"{snapshot_of(client.cache, record.reference, record.commit)} misses "
            f"{', '.join(missing)}, and {error}"
        ) from error
    left = check_record(client.cache, record)
    if left:
        raise DownloadError(f"{record.reference} no longer has {', '.join(left)}")


def _fetch(
    client: HubClient,
    reference: HubReference,
    commit: str,
    names: list[str],
    listing: Listing | None,
    progress: Progress,
) -> None:
    size = sum(listing.files[name].size or 0 for name in names) if listing else None
    about = {"repository": reference.repository, "commit": commit, "files": len(names)}
    logger.info("model of the hub requested", extra={**about, "bytes": size})
    told = "" if size is None else f", {size / 1e6:.1f} MB"
    progress(f"downloading {reference} from {client.endpoint}: {len(names)} files{told}")
    client.download(reference, commit, names)


def _remove_damaged(directory: Path, listing: Listing, names: list[str]) -> None:
    """Delete cached files that are not the hub's, which the library would take for whole."""
    for name in names:
        file = directory / name
        if file.is_file() and not listing.files[name].fits(file):
            blob = file.resolve()
            file.unlink()
            blob.unlink(missing_ok=True)
