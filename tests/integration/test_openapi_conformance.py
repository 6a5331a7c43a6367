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
from osa.service.api.kserve.schemas import SHARED_MEMORY
from osa.service.auth.api_keys import make_key
from tests.head_models import make_head_models

SCHEMATHESIS = str(Path(sys.executable).with_name("st"))
DEADLINE = "x-request-timeout-ms"
"""Not tried here: short ones are rightly answered 504."""
CONFIG = Path(__file__).with_name("schemathesis.toml")


FEATURES = ("Features", "Features of several sequences")
"""Titles of the schemas of inputs that only a feature model takes."""


def narrow(schema: Any, dimensions: list[int], vocab_size: int | None, width: int | None) -> None:
    """Say which inputs, dimensions, ids and prompts the model has: its limits, not the API's."""
    if isinstance(schema, list):
        for item in schema:
            narrow(item, dimensions, vocab_size, width)
    if not isinstance(schema, dict):
        return
    kinds = schema.get("anyOf", [])
    if any(kind.get("title") in FEATURES for kind in kinds):
        taken = [kind for kind in kinds if (kind.get("title") in FEATURES) == (width is not None)]
        schema["anyOf"] = taken
    if schema.get("title") == FEATURES[0]:
        schema["items"] |= {"minItems": width, "maxItems": width}
    properties = schema.get("properties", {})
    if "dimensions" in properties:
        properties["dimensions"] = {"enum": [None, 1, 100, *dimensions]}
    if "prompt_name" in properties:
        properties["prompt_name"] = {"type": "null"}
    if schema.get("type") == "integer" and schema.get("minimum") == 0:
        last = (vocab_size or 1) - 1
        schema["enum"] = [0, 101, 2158, last]  # JSON Schema's integers have 1.0 too
    for item in schema.values():
        narrow(item, dimensions, vocab_size, width)


def narrow_what_must_fit(components: dict[str, Any]) -> None:
    """Say what no schema can: overlap below size, spans of the text, equal options, tensors."""
    chunking = components["ChunkingOptions"]
    chunking["properties"] |= {
        "strategy": {"enum": ["tokens", "sentences"]},
        "size": {"enum": [4, 256]},
        "overlap": {"enum": [0, 3]},
        "spans": {"type": "null"},
    }
    instance = components["VertexInstance"]
    kept = ("inputs", "encoding_format", "embedding_type")
    for name in set(instance["properties"]) - set(kept):
        del instance["properties"][name]
    texts = {"type": "array", "minItems": 2, "maxItems": 2, "items": TEXT}
    ids = {"type": "array", "minItems": 6, "maxItems": 6, "items": {"enum": [101, 2158, 102]}}
    tensors = [tensor("text", "BYTES", [2], texts), tensor("text", "BYTES", [2, 1], texts)]
    tensors.append(tensor("input_ids", "INT64", [2, 3], ids))
    request = components["InferRequest"]["properties"]
    one = {"type": "array", "minItems": 1, "maxItems": 1}
    request["inputs"] = {"anyOf": [{**one, "items": item} for item in tensors]}
    request["outputs"] = {
        "anyOf": [
            {"type": "null"},
            {**one, "items": {"$ref": "#/components/schemas/RequestedOutput"}},
        ]
    }
    components["RequestedOutput"]["properties"]["name"] = {"const": "embedding"}
    for name in ("InputParameters", "OutputParameters"):
        for field in SHARED_MEMORY:
            components[name]["properties"][field] = {"type": "null"}


TEXT = {"type": "string", "minLength": 1}


def tensor(name: str, kind: str, shape: list[int], data: dict[str, Any]) -> dict[str, Any]:
    """The schema of a tensor with this shape, its data in the JSON."""
    return {
        "type": "object",
        "properties": {
            "name": {"const": name},
            "datatype": {"const": kind},
            "shape": {"const": shape},
            "data": data,
            "parameters": {"type": "null"},
        },
        "required": ["name", "datatype", "shape", "data"],
    }


def describe(client: httpx.Client, vocab_size: int | None) -> dict[str, Any]:
    """The server's description, with the limits of its model."""
    raw: dict[str, Any] = client.get("/openapi.json").json()
    info = client.get("/info").json()
    for name, schema in raw["components"]["schemas"].items():
        if name.endswith("Request"):
            narrow(schema, info["dimensions"], vocab_size, info["feature_size"])
    for name in ("InferParameters", "VertexInstance"):
        narrow(raw["components"]["schemas"][name], info["dimensions"], vocab_size, None)
    narrow_what_must_fit(raw["components"]["schemas"])
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
    client = serve(auth__keys_file=keys, model__others=make_head_models(tmp_path))
    bearer = f"Bearer {secret}"
    client.headers["authorization"] = bearer
    description = describe(client, default_model.config.vocab_size)
    assert description["paths"]["/embed"]["post"]["security"] == [{"api_key": []}]
    assert "security" not in description["paths"]["/health"]["get"]
    run_schemathesis(client, description, tmp_path, "--header", f"Authorization: {bearer}")


def test_schemathesis_finds_nothing_with_a_feature_model(
    feature_client: httpx.Client, tmp_path: Path
) -> None:
    description = describe(feature_client, None)
    taken = ("/", "/embed", "/invocations", "/embed_all")
    description["paths"] = {path: description["paths"][path] for path in taken}
    run_schemathesis(feature_client, description, tmp_path)


def run_schemathesis(
    client: httpx.Client, description: dict[str, Any], folder: Path, *options: str
) -> None:
    """Every operation of a description is tried, and nothing is found."""
    file = folder / "openapi.json"
    file.write_text(json.dumps(description))
    command = [SCHEMATHESIS, "--config-file", str(CONFIG), "--no-color", "run", str(file)]
    command += ["--url", str(client.base_url), *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    operations = sum(map(len, description["paths"].values()))
    assert f"Tested: {operations}" in done.stdout
    for warning in ("Missing test data", "Unresolvable references", "Authentication failed"):
        assert warning not in done.stdout
