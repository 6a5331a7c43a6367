"""API keys: their hashes in a file that is read again when it changes, with per-key quotas.

The file is TOML, one table per key; the key itself is not stored::

    [[keys]]
    name = "search-team"             # for logs
    sha256 = "9f86d0..."             # of the key; 'osa key' makes both
    tokens_per_minute = 600000       # optional
    admin = false                    # optional: may exchange models

An invalid file stops the start. Later it is logged and the keys in use stay as they were, so a
half-written file neither locks anyone out nor lets anyone in.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import secrets
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osa.model.errors import ConfigError
from osa.service.auth.access import secret_of
from osa.service.auth.quota import TokenBucket
from osa.service.errors import UnauthorizedError

logger = logging.getLogger(__name__)
LOOK_S = 2.0
"""Shortest time between two checks of the file's modification [s]."""
PREFIX = "osa-"
KEY_SCOPE = "osa.key"
"""Where the ASGI scope holds the ``ApiKey`` of a request."""
_HOW = "send Authorization: Bearer KEY, x-api-key: KEY or api-key: KEY"
NO_KEY = f"no API key was sent: {_HOW}"
NOT_BEARER = f"the Authorization header is not 'Bearer KEY': {_HOW}"
UNKNOWN_KEY = "unknown API key: it is not in the server's keys file"
NO_ADMIN = "this API key may not: it needs admin = true in the keys file"
NO_KEYS = "this server has no API keys: set auth.keys_file, with a key of admin = true"


@dataclass(frozen=True)
class ApiKey:
    """An API key's permissions and quota.

    Attributes:
        name: For logs.
        admin: Whether it may load and remove models.
        bucket: Its quota, or None.
    """

    name: str
    admin: bool
    bucket: TokenBucket | None


class KeyFile:
    """The keys of a file, by their hash."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: It cannot be read, or an entry is wrong.
        """
        self._path = path
        self._stamp = _stamp(path)
        self._looked = time.monotonic()
        self._keys = _read(path, {})

    def check(self, headers: Mapping[str, str]) -> ApiKey:
        """The entry of the key that a request sends.

        Raises:
            UnauthorizedError: No key was sent, it was sent in another form, or it is not in the
                file; the message says which.
        """
        self._look()
        secret = secret_of(headers)
        if secret is None:
            raise UnauthorizedError(NOT_BEARER if "authorization" in headers else NO_KEY)
        key = self._keys.get(_hash(secret))
        if key is None:
            raise UnauthorizedError(UNKNOWN_KEY)
        return key

    def _look(self) -> None:
        """Read the file again where it has changed."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._keys = _read(self._path, self._keys)
        except ConfigError as error:
            why = {"why": str(error)}
            logger.error("keys file is wrong: the keys stay as they were", extra=why)
            return
        logger.info("keys file was read", extra={"keys": len(self._keys)})


def make_key(name: str, tokens_per_minute: int | None, admin: bool) -> tuple[str, str]:
    """A new key, and its table for the keys file."""
    secret = PREFIX + secrets.token_urlsafe(32)
    lines = ["[[keys]]", f"name = {json.dumps(name)}", f'sha256 = "{_hash(secret)}"']
    if tokens_per_minute is not None:
        lines.append(f"tokens_per_minute = {tokens_per_minute}")
    if admin:
        lines.append("admin = true")
    return secret, "\n".join(lines) + "\n"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Modification time, size and inode of a file; links (mounted secrets) are followed."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _read(path: Path, known: dict[str, ApiKey]) -> dict[str, ApiKey]:
    """Keys by hash; one whose quota has not changed keeps its bucket.

    Raises:
        ConfigError: Naming the entry.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"auth.keys_file {path} cannot be read: {error}") from error
    entries = values.get("keys")
    if set(values) != {"keys"} or not isinstance(entries, list) or not entries:
        raise ConfigError(f"auth.keys_file {path} must hold [[keys]] tables and nothing else")
    found: dict[str, ApiKey] = {}
    for place, entry in enumerate(entries):
        digest, key = _entry(entry, f"{path}: keys[{place}]")
        if digest in found:
            raise ConfigError(f"{path}: keys[{place}] has the sha256 of an earlier one")
        before = known.get(digest)
        kept = before.bucket if before else None
        if kept and key.bucket and kept.per_minute == key.bucket.per_minute:
            key = ApiKey(key.name, key.admin, kept)
        found[digest] = key
    return found


def _entry(entry: Any, place: str) -> tuple[str, ApiKey]:
    allowed = {"name", "sha256", "tokens_per_minute", "admin"}
    if not isinstance(entry, dict) or not {"name", "sha256"} <= set(entry) <= allowed:
        raise ConfigError(
            f"{place} must have name and sha256, and may have tokens_per_minute, admin"
        )
    name, digest, admin = entry["name"], entry["sha256"], entry.get("admin", False)
    quota = entry.get("tokens_per_minute")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{place}: name must be a string")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigError(f"{place}: sha256 must be 64 lower-case hexadecimal digits")
    if not isinstance(admin, bool):
        raise ConfigError(f"{place}: admin must be true or false")
    if quota is not None and (type(quota) is not int or quota < 1):
        raise ConfigError(f"{place}: tokens_per_minute must be a positive integer")
    return digest, ApiKey(name, admin, None if quota is None else TokenBucket(quota))
