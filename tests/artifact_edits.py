"""Changes of an artifact's manifest, as somebody would make them who wants it loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from osa.model.common.directories import ARTIFACT


def edit(artifact: Path, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    path = artifact / ARTIFACT
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def relist(artifact: Path, *names: str) -> None:
    """Describe files of the directory as they are now."""

    def change(values: dict) -> None:  # type: ignore[type-arg]
        for name in names:
            content = (artifact / name).read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            values["files"][name] = {"size": len(content), "sha256": digest}

    edit(artifact, change)
