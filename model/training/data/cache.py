"""Stores on disk: their keys, and how they are written and opened.

    CACHE/KEY/examples.arrow    the good examples, with the file and line of each
    CACHE/KEY/problems.jsonl    the bad ones
    CACHE/KEY/store.json        their summary, written last

KEY is a digest of the files' names and contents and of the settings. The same key gives the same
bytes and files are replaced atomically, so processes may build the same store concurrently.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from osa.model.common.directories import check_file
from osa.model.errors import ConfigError
from osa.model.records.errors import DataError
from osa.model.records.fields import Field
from osa.model.records.readers import check_format
from osa.model.training.data.report import Report, Rules, Tally
from osa.model.training.data.writer import Summary, write_examples

FORMAT_VERSION = 1
EXAMPLES, PROBLEMS, SUMMARY = "examples.arrow", "problems.jsonl", "store.json"


def cache_key(files: Sequence[Path], fields: tuple[Field, ...], rules: Rules) -> str:
    """Digest of everything that decides the content of a store; reads the files.

    Raises:
        ConfigError: Invalid fields, or a file that cannot be read.
    """
    if not files:
        raise ConfigError("no files to read examples from")
    names = [field.name for field in fields]
    if len(set(names)) != len(names):
        raise ConfigError(f"two fields have the same name: {', '.join(names)}")
    if all(field.optional for field in fields):
        raise ConfigError("at least one field must not be optional")
    for file in files:
        check_format(file, fields)
    identities = [_identity(file) for file in files]
    settings = [asdict(rules), [asdict(field) for field in fields]]
    content = json.dumps([FORMAT_VERSION, identities, settings])
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def load_summary(directory: Path) -> Summary | None:
    """Summary of the store in ``directory``; None if it has none that can be read."""
    try:
        values = json.loads((directory / SUMMARY).read_bytes())
        report = values.pop("report")
        report["first"] = tuple(report["first"])
        values["batches"] = tuple(values["batches"])
        return Summary(report=Report(**report), **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_store(
    directory: Path,
    files: Sequence[Path],
    fields: tuple[Field, ...],
    rules: Rules,
    progress: bool = True,
) -> Summary:
    """Read ``files`` and write a store to ``directory``; if that fails, the bad records alone.

    Args:
        directory: Directory of the store.
        files: Source files.
        fields: Fields of an example.
        rules: What is read, and how much of it may be bad.
        progress: Show a progress bar.

    Raises:
        ConfigError: A file that cannot be read, or a directory that cannot be written.
        DataError: Too many bad records, no good one, a damaged file, or one that changed while
            it was read.
    """
    before = [_status(file) for file in files]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building.", dir=directory) as name:
            staging = Path(name)
            try:
                with (staging / PROBLEMS).open("w", encoding="utf-8") as log:
                    tally = Tally(rules, log, directory / PROBLEMS)
                    summary = write_examples(files, fields, staging / EXAMPLES, tally, progress)
            except DataError:
                _publish(staging / PROBLEMS, directory)
                raise
            changed = [f for f, status in zip(files, before, strict=True) if _status(f) != status]
            if changed:
                raise DataError(f"{changed[0]} changed while it was read: start again")
            content = json.dumps(asdict(summary), indent=2)
            (staging / SUMMARY).write_text(content + "\n", encoding="utf-8")
            for file in (EXAMPLES, PROBLEMS, SUMMARY):
                _publish(staging / file, directory)
    except OSError as error:
        raise ConfigError(f"cannot write to {directory}: {error.strerror or error}") from error
    return summary


def _publish(file: Path, directory: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
    os.replace(file, directory / file.name)


def _identity(file: Path) -> tuple[str, int, str]:
    """Name, size and sha256 of the content."""
    try:
        check_file(file)
        with file.open("rb") as handle:
            return str(file), file.stat().st_size, hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error


def _status(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    return status.st_size, status.st_mtime_ns
