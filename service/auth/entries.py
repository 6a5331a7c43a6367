"""What a keys file holds, read with its kind, size and form checked first.

A keys file needs little of TOML: ``[[keys]]``, ``name = value`` on a line of its own, comments.
Every line is checked to be one of these before TOML is parsed, table by table, so that no content
makes parsing slow: the time is proportional to the size, which is bounded.
"""

from __future__ import annotations

import os
import re
import stat
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from osa.model.errors import ConfigError

MAX_BYTES = 16 * 2**20
"""Largest keys file [bytes]; about 100 000 keys."""
MAX_LINE = 1024
"""Longest line of one [characters]."""
READ_TIMEOUT_S = 60.0
"""Longest time that reading one may take [s]."""
TABLES_AT_ONCE = 10
"""Tables that are read before other threads have their turn."""
MAX_NAME = 128
"""Longest name of a key [characters]."""
MAX_TOKENS, MAX_WEIGHT = 10**12, 1000
HEADER = "[[keys]]"
REQUIRED = {"name", "sha256"}
OPTIONAL = ("tokens_per_minute", "max_request_tokens", "weight", "admin")
KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a directory", stat.S_IFSOCK: "a socket"}
_LINE = re.compile(
    r"""[ \t]*(?:
        (?P<header>\[\[[ \t]*keys[ \t]*\]\])
        | (?P<value>[A-Za-z0-9_-]+[ \t]*=[ \t]*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_.+:-]+))
    )? [ \t]* (?:\#.*)?""",
    re.VERBOSE,
)


class Entry(NamedTuple):
    """One table of a keys file.

    Attributes:
        name: For logs.
        sha256: Hexadecimal, of the key.
        tokens_per_minute: Quota, or None.
        max_request_tokens: Largest request under the quota [tokens].
        weight: Share of the engine, relative to other keys.
        admin: Whether the key may exchange models.
    """

    name: str
    sha256: str
    tokens_per_minute: int | None = None
    max_request_tokens: int = 0
    weight: int = 1
    admin: bool = False


class Stamp(NamedTuple):
    """What changes when a file does; links (mounted secrets) are followed."""

    modified_ns: int
    size: int
    inode: int


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file, None where there is none."""
    try:
        return _stamp(path.stat())
    except (OSError, ValueError):
        return None


def read_entries(path: Path) -> dict[str, Entry]:
    """The tables of a keys file by hash.

    Raises:
        ConfigError: It is not a regular file, too large, not a keys file, or an entry is wrong; no
            content is repeated but names of fields.
    """
    deadline = time.monotonic() + READ_TIMEOUT_S
    text = _read_text(path)
    found: dict[str, Entry] = {}
    for place, table in enumerate(_tables(path, text)):
        where = f"{path}: keys[{place}]"
        if time.monotonic() > deadline:
            raise ConfigError(f"{where}: reading takes longer than {READ_TIMEOUT_S:g} s")
        if place % TABLES_AT_ONCE == 0:
            time.sleep(0)  # lets the event loop work in between
        try:
            fields = tomllib.loads(table)["keys"][0]
        except (tomllib.TOMLDecodeError, ValueError) as error:
            raise ConfigError(f"{where} is not TOML: {_without_place(error)}") from None
        entry = check_entry(fields, where)
        if entry.sha256 in found:
            raise ConfigError(f"{where} has the sha256 of an earlier one")
        found[entry.sha256] = entry
    if not found:
        raise ConfigError(f"auth.keys_file {path} must hold {HEADER} tables and nothing else")
    return found


def check_entry(fields: dict[str, Any], place: str) -> Entry:
    """An entry of these fields.

    Raises:
        ConfigError: Naming ``place`` and the field.
    """
    if not REQUIRED <= set(fields) <= REQUIRED | set(OPTIONAL):
        raise ConfigError(f"{place} must have name and sha256, and may have {', '.join(OPTIONAL)}")
    name, digest, admin = fields["name"], fields["sha256"], fields.get("admin", False)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
        raise ConfigError(f"{place}: name must be a string of 1 to {MAX_NAME} printable characters")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigError(f"{place}: sha256 must be 64 lower-case hexadecimal digits")
    if not isinstance(admin, bool):
        raise ConfigError(f"{place}: admin must be true or false")
    quota = _integer(fields, "tokens_per_minute", MAX_TOKENS, place)
    most = _integer(fields, "max_request_tokens", MAX_TOKENS, place)
    if most is not None and quota is None:
        raise ConfigError(f"{place}: max_request_tokens needs tokens_per_minute")
    weight = _integer(fields, "weight", MAX_WEIGHT, place)
    return Entry(name, digest, quota, most or quota or 0, weight or 1, admin)


def _read_text(path: Path) -> str:
    """The text of a regular file; neither a FIFO nor a device is waited for."""
    problem = f"auth.keys_file {path} cannot be read"
    try:
        content, mode = _read_regular(path)
    except OSError as error:
        raise ConfigError(f"{problem}: {error.strerror}") from error
    except ValueError as error:  # a path with a NUL
        raise ConfigError(f"{problem}: {error}") from None
    if content is None:
        kind = KINDS.get(stat.S_IFMT(mode), "a device")
        raise ConfigError(f"{problem}: it is {kind}, not a regular file")
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{problem}: it has more than {MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{problem}: byte {error.start} is not UTF-8") from None


def _read_regular(path: Path) -> tuple[bytes | None, int]:
    """Content of a regular file, up to a byte more than is allowed, or None; and its mode."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):  # not opened: opening some devices has effects of its own
        return None, mode
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode  # it may have been changed just now
        return file.read(MAX_BYTES + 1) if stat.S_ISREG(mode) else None, mode


def _tables(path: Path, text: str) -> Iterator[str]:
    """The text of each ``[[keys]]`` table, its header included."""
    must = f"auth.keys_file {path} must hold {HEADER} tables and nothing else"
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        found = _LINE.fullmatch(line) if len(line) <= MAX_LINE else None
        if found is None:
            raise ConfigError(
                f"{must}: line {number} is neither {HEADER} nor name = value nor a comment, of at "
                f"most {MAX_LINE} characters"
            )
        if found["header"]:
            if lines:
                yield "\n".join(lines)
            lines = [line]
        elif found["value"]:
            if not lines:
                raise ConfigError(f"{must}: line {number} is in none")
            if len(lines) > len(REQUIRED) + len(OPTIONAL):
                raise ConfigError(f"{must}: line {number} is one field too many")
            lines.append(line)
    if lines:
        yield "\n".join(lines)


def _integer(fields: dict[str, Any], name: str, most: int, place: str) -> int | None:
    """The value of a field, a positive integer; None where it is missing."""
    value = fields.get(name)
    if value is None:
        return None
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigError(f"{place}: {name} must be an integer from 1 to {most}")
    return value


def _stamp(facts: os.stat_result) -> Stamp:
    return Stamp(facts.st_mtime_ns, facts.st_size, facts.st_ino)


def _without_place(error: Exception) -> str:
    """A parser's message without its position, which counts lines of the table."""
    return str(error).partition(" (at ")[0]
