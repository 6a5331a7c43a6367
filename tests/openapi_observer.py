"""Compares answers with the examples of ``/openapi.json``."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx

Example = tuple[str, str, int, str]
"""Method, path, status and name."""


class Observer:
    """Compares answers with their examples, and records which examples occurred."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.paths: dict[str, Any] = description["paths"]
        self.seen: set[Example] = set()

    def shown(self) -> set[Example]:
        """Every example of a failure."""
        return {
            (method, path, int(status), name)
            for path, operations in self.paths.items()
            for method, operation in operations.items()
            for status in operation["responses"]
            if int(status) >= 400
            for name in self.examples(method, path, int(status))
        }

    def examples(self, method: str, path: str, status: int) -> dict[str, Any]:
        content = self.paths[path][method]["responses"][str(status)]["content"]["application/json"]
        found: dict[str, Any] = content.get("examples") or {"only": {"value": content["example"]}}
        return found

    def note(self, method: str, path: str, answer: httpx.Response) -> None:
        """Fail if the answer matches no example."""
        assert str(answer.status_code) in self.paths[path][method]["responses"], answer.text
        found = {
            (method, path, answer.status_code, name)
            for name, example in self.examples(method, path, answer.status_code).items()
            if masked(example["value"]) == masked(answer.json())
        }
        assert found, f"{method} {path} {answer.status_code}: not shown: {answer.text}"
        self.seen |= found


def masked(body: Any) -> str:
    """A body with its numbers masked; a list of numbers counts as one."""
    text = re.sub(r"\d+(\.\d+)?", "N", json.dumps(body, sort_keys=True))
    return re.sub(r"N(, N)+", "N", text).replace("nowhere", "models/law-N")
