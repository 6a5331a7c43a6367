"""``/openapi.json`` tells the truth: schemathesis tries every operation of the real server.

Bodies that the description allows are answered, others refused; every status, content type, header
and body is a declared one, and none is a 5xx.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from osa.model import EmbeddingModel

SCHEMATHESIS = str(Path(sys.executable).with_name("st"))
DEADLINE = "x-request-timeout-ms"
"""Not tried here: short ones are rightly answered 504."""
CONFIG = Path(__file__).with_name("schemathesis.toml")


def narrow(schema: Any, dimensions: list[int], vocab_size: int) -> None:
    """Say which dimensions, ids and prompts the model has: limits of its own, not of the API."""
    if isinstance(schema, list):
        for item in schema:
            narrow(item, dimensions, vocab_size)
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties", {})
    if "dimensions" in properties:
        properties["dimensions"] = {"enum": [None, *dimensions]}
    if "prompt_name" in properties:
        properties["prompt_name"] = {"type": "null"}
    if schema.get("type") == "integer" and schema.get("minimum") == 0:
        schema["enum"] = [0, 1, 101, 2158, vocab_size - 1]  # JSON Schema's integers have 1.0 too
    for item in schema.values():
        narrow(item, dimensions, vocab_size)


@pytest.fixture(scope="module")
def description(client: httpx.Client, default_model: EmbeddingModel) -> dict[str, Any]:
    raw: dict[str, Any] = client.get("/openapi.json").json()
    dimensions = client.get("/info").json()["dimensions"]
    vocab_size = default_model.config.vocab_size
    assert vocab_size is not None
    for name, schema in raw["components"]["schemas"].items():
        if name.endswith("Request"):
            narrow(schema, dimensions, vocab_size)
    for path in raw["paths"].values():
        for operation in path.values():
            given = operation.get("parameters", [])
            operation["parameters"] = [item for item in given if item["name"] != DEADLINE]
    return raw


def test_schemathesis_finds_nothing(
    client: httpx.Client, description: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(description))
    command = [SCHEMATHESIS, "--config-file", str(CONFIG), "--no-color"]
    command += ["run", str(file), "--url", str(client.base_url)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    operations = sum(len(methods) for methods in description["paths"].values())
    assert f"Tested: {operations}" in done.stdout
    for warning in ("Missing test data", "Unresolvable references"):
        assert warning not in done.stdout
