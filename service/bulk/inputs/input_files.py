"""From the paths that are given to the files that are read: a directory stands for its files.

Directories are those of Spark, Hive and the like: ``part-*`` files, which may lie in directories
``name=value`` whose names are columns. Names that begin with ``_`` or ``.`` hold no records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from osa.model.errors import ConfigError
from osa.model.records.paths import is_directory

NULL = "__HIVE_DEFAULT_PARTITION__"
UNFINISHED = "_temporary"
TABLES = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata": "Iceberg"}
"""What tables are known by whose directories hold files that are no longer part of them."""


@dataclass(frozen=True)
class InputFile:
    """A file that is read.

    Attributes:
        path: Where it is.
        name: By what it is known in notes: its name, within a directory with the way to it.
        partition: Columns that its path tells, with the value of all its records.
    """

    path: Path
    name: str
    partition: dict[str, str | None] = field(default_factory=dict)


def find_files(path: Path) -> list[InputFile]:
    """The file at a path; of a directory all that hold records, by name.

    Raises:
        ConfigError: A directory without files of records, or with others; nothing at the path.
    """
    try:
        if not is_directory(path):
            return [InputFile(path, path.name)]
        found = list(_walk(path, path, {}))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if not found:
        raise ConfigError(f"{path} is a directory without files of records")
    return found


def _walk(top: Path, directory: Path, partition: dict[str, str | None]) -> Iterator[InputFile]:
    entries = sorted(directory.iterdir(), key=lambda entry: entry.name)
    names = {entry.name for entry in entries if entry.is_dir()}
    for marker, kind in TABLES.items():
        if directory == top and marker in names:
            raise ConfigError(
                f"{directory} is a {kind} table, whose directory holds removed records too: write "
                "it out as plain Parquet first"
            )
    if UNFINISHED in names:
        raise ConfigError(f"{directory} was not written to its end: it holds {UNFINISHED}")
    for entry in entries:
        if entry.name.startswith(("_", ".")):
            continue
        if entry.is_file():
            yield InputFile(entry, entry.relative_to(top).as_posix(), partition)
            continue
        name, equals, value = entry.name.partition("=")
        if not entry.is_dir() or entry.is_symlink() or not (name and equals):
            raise ConfigError(
                f"{top} holds {entry.relative_to(top)}, which is neither a file nor a directory "
                "name=value: name the files themselves"
            )
        column = unquote(name)
        if column in partition:
            raise ConfigError(f"{entry} names {column!r} twice")
        own = None if value == NULL else unquote(value)
        yield from _walk(top, entry, {**partition, column: own})
