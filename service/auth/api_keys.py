"""API keys: their hashes in a file that is read again when it changes, with per-key quotas.

The file is TOML, one table per key; the key itself is not stored::

    [[keys]]
    name = "search-team"             # for logs
    sha256 = "9f86d0..."             # of the key; 'osa key' makes both
    tokens_per_minute = 600000       # optional: quota
    max_request_tokens = 600000      # optional: largest request under it; default is the quota
    weight = 1                       # optional: share of the engine, relative to other keys
    admin = false                    # optional: may exchange models

An invalid file stops the start. Later it is logged and the keys in use stay as they were, so a
half-written file neither locks anyone out nor lets anyone in. It is read on a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osa.model.errors import ConfigError
from osa.service.auth.access import secret_of
from osa.service.auth.entries import (
    HEADER,
    READ_TIMEOUT_S,
    Entry,
    check_entry,
    read_entries,
    stamp_of,
)
from osa.service.auth.quota import TokenBucket
from osa.service.auth.tenants import EVERYBODY, Tenant
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
        tenant: Whom its requests are computed for; every key is a tenant of its own.
    """

    name: str
    admin: bool
    bucket: TokenBucket | None
    tenant: Tenant


def tenant_of(key: ApiKey | None) -> Tenant:
    """Whom a request with this key is computed for; without keys everybody is one tenant."""
    return EVERYBODY if key is None else key.tenant


@contextlib.contextmanager
def charged(key: ApiKey | None, tokens: int) -> Iterator[None]:
    """Charge a request's tokens to its key; refund them where the block fails.

    Raises:
        QuotaError: The key has not enough.
        TooManyTokensError: The key never has so much.
    """
    bucket = None if key is None else key.bucket
    if bucket is not None:
        bucket.take(tokens)
    try:
        yield
    except BaseException:  # whatever it is: the request is not served
        if bucket is not None:
            bucket.give_back(tokens)
        raise


class KeyFile:
    """The keys of a file, by their hash."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: It cannot be read, or an entry is wrong.
        """
        self._path = path
        self._stamp = stamp_of(path)
        self._looked = time.monotonic()
        self._keys = _keys(read_entries(path), {})
        self._reader: threading.Thread | None = None
        self._slow = False

    def check(self, headers: Mapping[str, str]) -> ApiKey:
        """The entry of the key that a request sends. Event loop only.

        Raises:
            UnauthorizedError: No key was sent, it was sent in another form, or it is not in the
                file; the message says which.
        """
        self.look()
        secret = secret_of(headers)
        if secret is None:
            raise UnauthorizedError(NOT_BEARER if "authorization" in headers else NO_KEY)
        key = self._keys.get(_hash(secret))
        if key is None:
            raise UnauthorizedError(UNKNOWN_KEY)
        return key

    async def watch(self) -> None:
        """Look for ever, so that the first request after a while is judged by what is there."""
        while True:
            await asyncio.sleep(max(LOOK_S, 0.05))
            self.look()

    def look(self) -> None:
        """Look now and then, on a thread, whether the file has changed; at most one looks."""
        now = time.monotonic()
        since = now - self._looked
        if since < LOOK_S:
            return
        if self._reader is not None and self._reader.is_alive():
            if since > READ_TIMEOUT_S and not self._slow:  # a file system that does not answer
                self._slow = True
                logger.error("keys file is not read to its end: the keys stay as they were")
            return
        self._looked, self._slow = now, False
        self._reader = threading.Thread(target=self._refresh, name="osa-keys", daemon=True)
        self._reader.start()

    def _refresh(self) -> None:
        """Read the file again where it has changed."""
        stamp = stamp_of(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp  # what is wrong now is not read, and logged, again until it changes
        try:
            self._keys = _keys(read_entries(self._path), self._keys)
        except Exception as error:  # whatever is wrong, the keys in use stay
            why = str(error) if isinstance(error, ConfigError) else type(error).__name__
            logger.error("keys file is wrong: the keys stay as they were", extra={"why": why})
            return
        logger.info("keys file was read", extra={"keys": len(self._keys)})


def make_key(
    name: str,
    tokens_per_minute: int | None,
    admin: bool,
    max_request_tokens: int | None = None,
    weight: int = 1,
) -> tuple[str, str]:
    """A new key, and its table for the keys file.

    Args:
        name: Of its owner.
        tokens_per_minute: Quota, or None.
        admin: Whether it may exchange models.
        max_request_tokens: Largest request under the quota; None is the quota [tokens].
        weight: Share of the engine, relative to other keys.

    Raises:
        ConfigError: The keys file could not hold these values.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    fields: dict[str, Any] = {"name": name, "sha256": _hash(secret)}
    if tokens_per_minute is not None:
        fields["tokens_per_minute"] = tokens_per_minute
    if max_request_tokens is not None:
        fields["max_request_tokens"] = max_request_tokens
    if weight != 1:
        fields["weight"] = weight
    if admin:
        fields["admin"] = True
    check_entry(fields, "this key")
    lines = [f"{field} = {json.dumps(fields[field], ensure_ascii=False)}" for field in fields]
    return secret, "\n".join((HEADER, *lines)) + "\n"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _keys(entries: Mapping[str, Entry], known: Mapping[str, ApiKey]) -> dict[str, ApiKey]:
    """Keys by hash; those that were known keep what is left of their quota, and their debt."""
    found = {}
    for digest, entry in entries.items():
        bucket = None
        if entry.tokens_per_minute is not None:
            bucket = known[digest].bucket if digest in known else None
            if bucket is None:
                bucket = TokenBucket(entry.tokens_per_minute, entry.max_request_tokens)
            elif (bucket.per_minute, bucket.most) != entry[2:4]:
                bucket.change(entry.tokens_per_minute, entry.max_request_tokens)
        tenant = Tenant(digest, entry.weight)
        found[digest] = ApiKey(entry.name, entry.admin, bucket, tenant)
    return found
