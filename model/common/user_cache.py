"""The user's cache directory: ``osa-encoder`` in ``$XDG_CACHE_HOME``, or in ``~/.cache``."""

from __future__ import annotations

import os
from pathlib import Path

NAME = "osa-encoder"


def user_cache() -> Path | None:
    """The directory, which may not exist yet; None for a user without a home.

    A relative ``XDG_CACHE_HOME`` counts as unset, as the XDG Base Directory specification asks.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / NAME
    try:
        return Path.home() / ".cache" / NAME
    except RuntimeError:
        return None
