"""Results that are kept as they come: a run that was stopped goes on with what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


class Results:
    """Rows of measurements in a file, a JSON object a line, each with its ``part``."""

    def __init__(self, file: Path) -> None:
        """Read what is there; a line that a killed run has left unfinished is passed over."""
        self._file, self._rows = file, list[Row]()
        if file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    self._rows.append(json.loads(line))
                except json.JSONDecodeError:
                    continue

    def of(self, part: str) -> list[Row]:
        """Rows of one part, in the order in which they were measured."""
        return [row for row in self._rows if row.get("part") == part]

    def add(self, part: str, row: Row) -> None:
        """Keep a row."""
        whole = {"part": part, **row}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write("\n" * self._is_torn() + json.dumps(whole) + "\n")
        self._rows.append(whole)

    def _is_torn(self) -> bool:
        """Whether the last line has no end."""
        content = self._file.read_bytes() if self._file.is_file() else b""
        return bool(content) and not content.endswith(b"\n")
