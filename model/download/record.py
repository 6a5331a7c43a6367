"""Records of downloaded models: which commit, and size and sha256 of every file.

A record lies in the hub's cache beside the snapshots of its repository, so that both are deleted
together: ``models--ORG--NAME/osa/REVISION.json``, one for every revision that was asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from osa.model.common.hub_reference import HubReference
from osa.model.common.model_files import open_file, read_json
from osa.model.download.selection import choose_files
from osa.model.errors import DownloadError

FORMAT = "osa-hub-record"
FORMAT_VERSION = 1
FOLDER = "osa"


class FileFacts(NamedTuple):
    """Size [bytes] and sha256 of a file."""

    size: int
    sha256: str


class HubRecord(NamedTuple):
    """What was downloaded for a reference.

    Attributes:
        reference: What was asked for.
        commit: The commit that its revision meant then.
        endpoint: Address of the hub.
        files: Facts by path within the snapshot.
    """

    reference: HubReference
    commit: str
    endpoint: str
    files: dict[str, FileFacts]


def repository_folder(cache: Path, reference: HubReference) -> Path:
    """The hub's own folder of a repository in its cache."""
    return cache / f"models--{reference.repository.replace('/', '--')}"


def snapshot_of(cache: Path, reference: HubReference, commit: str) -> Path:
    """The directory of a commit's files."""
    return repository_folder(cache, reference) / "snapshots" / commit


def record_file(cache: Path, reference: HubReference) -> Path:
    """Where the record of a reference lies."""
    name = quote(reference.revision, safe="")
    return repository_folder(cache, reference) / FOLDER / f"{name}.json"


def write_record(cache: Path, record: HubRecord) -> None:
    """Write a record, or replace it, as a whole.

    The hub's own note of the branch is written too, without which its tools take the snapshot for
    one that nothing needs.

    Raises:
        OSError: The cache cannot be written.
    """
    reference = record.reference
    if not reference.is_commit:
        note = repository_folder(cache, reference) / "refs" / reference.revision
        _replace(note, record.commit)
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "repository": reference.repository,
        "revision": reference.revision,
        "commit": record.commit,
        "endpoint": record.endpoint,
        "files": {name: facts._asdict() for name, facts in sorted(record.files.items())},
    }
    _replace(record_file(cache, reference), json.dumps(values, indent=2))


def _replace(file: Path, text: str) -> None:
    """Write a file as a whole, or leave it as it was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as draft:
        try:
            draft.write(text)
            draft.flush()
            os.fsync(draft.fileno())
            Path(draft.name).chmod(0o644)
            os.replace(draft.name, file)
        except BaseException:
            Path(draft.name).unlink(missing_ok=True)
            raise


def read_record(cache: Path, reference: HubReference) -> HubRecord | None:
    """The record of a reference; None where there is none.

    Raises:
        DownloadError: It cannot be read, is damaged, or of another version.
    """
    file = record_file(cache, reference)
    try:
        values = read_json(file)
        if (values["format"], values["format_version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"format {values['format']} {values['format_version']}")
        files = {
            str(name): FileFacts(int(entry["size"]), str(entry["sha256"]))
            for name, entry in values["files"].items()
        }
        record = HubRecord(reference, str(values["commit"]), str(values["endpoint"]), files)
        if not files or "/" in record.commit or any(".." in name.split("/") for name in files):
            raise ValueError("it names no files of a snapshot")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DownloadError(
            f"cannot read {file} ({error.strerror}): HF_HUB_CACHE names the hub's cache"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise DownloadError(
            f"{file} is not a record that this version reads ({error!r}): {remedy(reference)}"
        ) from error
    return record


def check_record(cache: Path, record: HubRecord) -> list[str]:
    """Compare the files of a snapshot with its record; returns those that are missing.

    Raises:
        DownloadError: A file has changed, or one is there that the record does not have and that
            would be read as part of the model.
    """
    directory = snapshot_of(cache, record.reference, record.commit)
    missing = []
    for name, facts in record.files.items():
        file = directory / name
        if not file.is_file():
            missing.append(name)
        elif (found := measure(file)) != facts:
            raise DownloadError(
                f"{file} has changed since it was recorded ({found.size} bytes, sha256 "
                f"{found.sha256[:12]}, recorded {facts.size} bytes, {facts.sha256[:12]}): "
                f"{remedy(record.reference)}"
            )
    there = {file.relative_to(directory).as_posix() for file in directory.rglob("*")}
    added = set(choose_files(there | set(record.files))) - set(record.files)
    if added:
        raise DownloadError(
            f"{directory / min(added)} is not in the record of {record.reference}, but would be "
            "read as part of it: remove the file"
        )
    return missing


def measure(file: Path) -> FileFacts:
    """Size and sha256 of a file.

    Raises:
        OSError: It cannot be read.
    """
    with open_file(file, sys.maxsize, raw=True) as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
        return FileFacts(handle.tell(), digest)


def remedy(reference: HubReference) -> str:
    """What helps against damaged files, for messages."""
    return f"'osa download --refresh {reference}' downloads it again"
