"""``/openapi.json`` is correct: schemathesis tests every operation of a real server.

Bodies that the description allows are answered, others refused; every status, content type, header
and body is a declared one, and none is a 5xx.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from osa.model import EmbeddingModel
from osa.service.auth.api_keys import make_key

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


def describe(client: httpx.Client, vocab_size: int) -> dict[str, Any]:
    """The server's description, with the limits of its model."""
    raw: dict[str, Any] = client.get("/openapi.json").json()
    dimensions = client.get("/info").json()["dimensions"]
    for name, schema in raw["components"]["schemas"].items():
        if name.endswith("Request"):
            narrow(schema, dimensions, vocab_size)
    for path in raw["paths"].values():
        for operation in path.values():
            given = operation.get("parameters", [])
            operation["parameters"] = [item for item in given if item["name"] != DEADLINE]
    return raw


def test_schemathesis_finds_nothing(
    serve: Callable[..., httpx.Client], default_model: EmbeddingModel, tmp_path: Path
) -> None:
    secret, entry = make_key("tester", None, admin=True)
    keys = tmp_path / "keys.toml"
    keys.write_text(entry)
    client = serve(auth__keys_file=keys)
    bearer = f"Bearer {secret}"
    client.headers["authorization"] = bearer
    description = describe(client, default_model.config.vocab_size or 0)
    assert description["paths"]["/embed"]["post"]["security"] == [{"api_key": []}]
    assert "security" not in description["paths"]["/health"]["get"]
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(description))
    command = [SCHEMATHESIS, "--config-file", str(CONFIG), "--no-color", "run", str(file)]
    command += ["--url", str(client.base_url), "--header", f"Authorization: {bearer}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    operations = sum(map(len, description["paths"].values()))
    assert f"Tested: {operations}" in done.stdout
    for warning in ("Missing test data", "Unresolvable references", "Authentication failed"):
        assert warning not in done.stdout
