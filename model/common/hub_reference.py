"""References to models: ``hf:ORG/NAME[@REVISION]`` of the Hugging Face hub, ``packaged:NAME``.

A reference stands wherever a command or setting takes the path of a model, and is held as one.
The hub's library is not imported here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from osa.model.errors import ConfigError

PREFIX, PACKAGED = "hf:", "packaged:"
DEFAULT_REVISION = "main"
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REFERENCE = re.compile(rf"hf:({_NAME}/{_NAME})(?:@([A-Za-z0-9_][A-Za-z0-9._/+-]*))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
LONGEST_NAME = 96
"""Longest name of a repository that the hub has [characters]."""


class HubReference(NamedTuple):
    """A model of the hub.

    Attributes:
        repository: ``ORG/NAME``.
        revision: Branch, tag or commit.
    """

    repository: str
    revision: str = DEFAULT_REVISION

    @property
    def is_commit(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return _COMMIT.fullmatch(self.revision) is not None

    def __str__(self) -> str:
        """The reference as it is written."""
        suffix = "" if self.revision == DEFAULT_REVISION else f"@{self.revision}"
        return f"{PREFIX}{self.repository}{suffix}"


def is_reference(path: Path | str | None) -> bool:
    """Whether this is meant as a reference, well-formed or not."""
    return path is not None and str(path).startswith((PREFIX, PACKAGED))


def parse_reference(text: Path | str) -> HubReference:
    """Read a reference.

    Raises:
        ConfigError: It is malformed.
    """
    found = _REFERENCE.fullmatch(str(text))
    repository, revision = found.groups() if found else ("", None)
    doubled = ".." in str(text) or "--" in repository or "//" in str(text)
    if not found or doubled or len(repository) > LONGEST_NAME:
        raise ConfigError(
            f"a model of the hub is written {PREFIX}ORG/NAME or {PREFIX}ORG/NAME@REVISION (a "
            f"branch, tag or commit), such as {PREFIX}BAAI/bge-small-en-v1.5, got {str(text)!r}"
        )
    return HubReference(repository, revision or DEFAULT_REVISION)
