"""Results of measurements by key, a line of JSON each: an interruption loses one at most."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Result = dict[str, Any]


class Store:
    """A file of results."""

    def __init__(self, file: Path) -> None:
        """Read the file, if it exists; an incomplete last line is ignored."""
        self.file = file
        self.found: dict[str, Result] = {}
        for line in file.read_text().splitlines() if file.is_file() else []:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            self.found[entry.pop("key")] = entry

    def get(self, key: str, measure: Callable[[], Result]) -> Result:
        """The result of ``key``; measured and stored where it is missing."""
        if key not in self.found:
            self.found[key] = measure()
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a+b") as opened:
                if opened.tell() and not self.file.read_bytes().endswith(b"\n"):
                    opened.write(b"\n")
                opened.write(json.dumps({"key": key, **self.found[key]}).encode() + b"\n")
        return self.found[key]
