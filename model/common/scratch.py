"""Directories beside a user's own: private temporary ones, and the cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from osa.model.errors import ConfigError

CACHE = "osa-encoder"


@contextmanager
def scratch_directory(purpose: str) -> Iterator[Path]:
    """A directory that this user alone can enter, removed when the block ends.

    Args:
        purpose: What needs it, for the message.

    Raises:
        ConfigError: No temporary directory can be written.
    """
    try:
        scratch = tempfile.TemporaryDirectory(prefix="osa-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(no_temporary_directory(purpose, error)) from error
    with scratch as name:
        yield Path(name)


def no_temporary_directory(purpose: str, error: OSError) -> str:
    """What is needed and how to give it, in one line."""
    named = os.environ.get("TMPDIR")
    tried = f"TMPDIR is {named}" if named else "TMPDIR is not set"
    reason = error.strerror or "no usable one was found"
    return (
        f"{purpose} needs a temporary directory that can be written ({tried}: {reason}): set "
        "TMPDIR to one"
    )


def user_cache() -> Path | None:
    """``osa-encoder`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``; None for a user without a home.

    It may not exist yet. A relative ``XDG_CACHE_HOME`` counts as unset, as the XDG Base Directory
    specification asks.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / CACHE
    try:
        return Path.home() / ".cache" / CACHE
    except RuntimeError:
        return None
