"""What ``/openapi.json`` says beyond FastAPI's own reading of the routes.

Routes read their bodies themselves, and the gate answers before them; so bodies, headers and
failures are declared here.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.routing import Route

from osa.service.api import headers
from osa.service.api.deadlines import MAX_TIMEOUT_MS
from osa.service.api.errors.examples import EMBEDDING, NOT_EMBEDDING, Samples, examples
from osa.service.api.errors.replies import Dialect
from osa.service.api.vector_encoding import JSON
from osa.service.auth.access import is_open

TAGS = [
    {"name": "Embeddings", "description": "One vector a text, as text-embeddings-inference has it"},
    {"name": "Documents", "description": "Vectors of tokens, and of chunks of long texts"},
    {"name": "Scores", "description": "Rerankers, classifiers and sparse models"},
    {"name": "Tokens", "description": "The tokenizer alone"},
    {"name": "OpenAI", "description": "For clients of OpenAI's API"},
    {"name": "KServe", "description": "Open Inference Protocol (KServe v2), for Triton's clients"},
    {"name": "Operations", "description": "What is served, probes and metrics"},
    {"name": "Admin", "description": "Models exchanged while requests run"},
]
"""In the order of use."""
KEY = "api_key"
DESCRIPTION = "/api-doc/openapi.json"
COMPONENTS = "#/components/schemas/"
BEYOND_SCHEMAS = (
    "A body that fits its schema is refused only for what no schema can say: limits of the server "
    "and of the model (number and length of inputs, range of ids and of dimensions, names of "
    "prompts, kinds of input, calibrated widths of int8), a prompt_name where no input is a text, "
    "chunking.overlap that is not below size, spans that do not lie in their text or are not one "
    "list for each, instances with different options or models, and tensors whose data, shape, "
    "datatype and names do not fit each other."
)
Responses = dict[int | str, dict[str, Any]]
FAILURES = {
    400: "Nothing to embed; a body that cannot be read or, where no 422 is named, a field that "
    "cannot be",
    401: "No API key, or one that is not known, where keys are asked for",
    403: "The API key may not do this",
    404: "No model or version of this name",
    408: "The body did not arrive in time",
    409: "The same model is being loaded",
    413: "Body over the limit, or more tokens than are ever served at once",
    415: "Another content type",
    422: "A field that cannot be",
    424: "The model does something else",
    429: "No room",
    500: "The engine failed on this input",
    503: "Draining or not ready",
    504: "The request's deadline passed, or loading took too long",
}
POST_FAILURES = (400, 401, 408, 413, 415, 429, 500, 503)
INFERENCE_FAILURES = (*POST_FAILURES, 504)
CHALLENGE = {"description": "How a key is sent", "schema": {"type": "string", "const": "Bearer"}}
WAIT = {"description": "Seconds to wait before another try", "schema": {"type": "integer"}}
TIMEOUT = {
    "name": headers.TIMEOUT,
    "in": "header",
    "required": False,
    "description": "How long the client waits for the answer [ms].",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TIMEOUT_MS},
}
MEASURED_HEADERS: dict[str, dict[str, Any]] = {
    name: {"description": text, "required": True, "schema": {"type": "integer", "minimum": 0}}
    for name, text in headers.MEASURED.items()
}
MEASURED_HEADERS[headers.COMPUTE_TYPE] = {
    "description": "Where the model runs",
    "required": True,
    "schema": {"type": "string", "enum": [*headers.COMPUTE_TYPES.values()]},
}


def failures(dialect: Dialect, *statuses: int, samples: Samples) -> Responses:
    """Declare failures.

    Args:
        dialect: Of every one.
        statuses: Which can come.
        samples: Failures to show, of these and of other statuses.
    """
    declared: Responses = {
        status: {
            "model": dialect.body,
            "description": FAILURES[status],
            "content": {JSON: {"examples": examples(samples, dialect, status)}},
        }
        for status in sorted(statuses)
    }
    if 401 in declared:
        declared[401]["headers"] = {"WWW-Authenticate": {**CHALLENGE, "required": True}}
    for status in {429, 503} & set(statuses):
        declared[status]["headers"] = {"Retry-After": {**WAIT, "required": True}}
    return declared


def inference(dialect: Dialect, *statuses: int, samples: Samples, **answer: Any) -> Responses:
    """Declare the failures and the headers of an inference route.

    Args:
        dialect: Of every failure.
        statuses: Failures beyond ``INFERENCE_FAILURES``.
        samples: Failures to show, beyond those of all such routes.
        answer: More to say of the answer, in OpenAPI's words.
    """
    ok = {"description": "Successful response", **answer, "headers": MEASURED_HEADERS}
    shown = {**EMBEDDING, **NOT_EMBEDDING, **samples}
    kind = () if dialect.protocol_status else (424,)
    return {200: ok, **failures(dialect, *INFERENCE_FAILURES, *kind, *statuses, samples=shown)}


def reads(model: type[BaseModel], deadline: bool = True) -> dict[str, Any]:
    """Declare a JSON body that the route reads itself, and the header that sets its deadline."""
    schema = model.model_json_schema(ref_template=COMPONENTS + "{model}")
    declared: dict[str, Any] = {
        "requestBody": {"required": True, "content": {JSON: {"schema": schema}}}
    }
    if deadline:
        declared["parameters"] = [TIMEOUT]
    return declared


class DescribedAPI(FastAPI):
    """An application whose description names every body, and only failures that can come.

    Attributes:
        asks_for_keys: Whether paths that are not open to all need an API key.
    """

    asks_for_keys = False

    def setup(self) -> None:
        """Add FastAPI's own routes, and the description where text-embeddings-inference has it."""
        super().setup()
        for route in list(self.router.routes):
            if isinstance(route, Route) and route.path == self.openapi_url:
                self.add_route(DESCRIPTION, route.endpoint, include_in_schema=False)

    def openapi(self) -> dict[str, Any]:
        """The description; made once."""
        if self.openapi_schema is None:
            description = super().openapi()
            told = description["info"].get("description", "")
            description["info"]["description"] = f"{told}\n\n{BEYOND_SCHEMAS}".lstrip()
            components = description["components"]["schemas"]
            for path, operations in description["paths"].items():
                for method, operation in operations.items():
                    _name_bodies(operation, components)
                    _drop_generic_422(operation)
                    _restore_nulls(operation)
                    if self.asks_for_keys and not is_open(method.upper(), path):
                        operation["security"] = [{KEY: []}]
            if self.asks_for_keys:
                scheme = {"type": "http", "scheme": "bearer", "description": "API key"}
                description["components"]["securitySchemes"] = {KEY: scheme}
            for name in ("HTTPValidationError", "ValidationError"):
                components.pop(name, None)
            description["paths"] = _by_use(description["paths"])
            self.openapi_schema = description
        return self.openapi_schema

    def methods(self, path: str) -> list[str]:
        """Methods that the description has for a path of it, such as ``/v2/models/{model}``."""
        return sorted(method.upper() for method in self.openapi()["paths"].get(path, {}))


def _by_use(paths: dict[str, Any]) -> dict[str, Any]:
    """Paths in the order of their tags; what embeds before the rest, a model before its versions.

    Routes are in the order in which they are tried, longer paths of KServe first.
    """
    order = [tag["name"] for tag in TAGS]

    def place(path: str) -> tuple[int, bool, bool]:
        first = min(order.index(operation["tags"][0]) for operation in paths[path].values())
        return first, not path.endswith("/infer"), "/versions/" in path

    return {path: paths[path] for path in sorted(paths, key=place)}


def _name_bodies(operation: dict[str, Any], components: dict[str, Any]) -> None:
    """Move the schemas of a body to the named ones, where references look for them."""
    body = operation.get("requestBody", {"content": {}})
    named = {}  # what routes declare is shared by every application of the process
    for media_type, content in body["content"].items():
        schema = dict(content["schema"])
        if "title" in schema:
            components |= schema.pop("$defs", {})
            components[schema["title"]] = schema
            content = {**content, "schema": {"$ref": COMPONENTS + schema["title"]}}
        named[media_type] = content
    if named:
        operation["requestBody"] = {**body, "content": named}


def _restore_nulls(operation: dict[str, Any]) -> None:
    """FastAPI leaves nulls out; OpenAI's errors have ``param``, be it null."""
    for answer in operation["responses"].values():
        for example in answer.get("content", {}).get(JSON, {}).get("examples", {}).values():
            error = example["value"].get("error")
            if isinstance(error, dict):
                whole = {name: error.get(name) for name in ("message", "type", "param", "code")}
                example["value"] = {"error": whole}


def _drop_generic_422(operation: dict[str, Any]) -> None:
    """FastAPI adds its own 422 to every operation with parameters; ours has another body."""
    declared = operation["responses"].get("422", {}).get("content", {}).get(JSON, {})
    if declared.get("schema", {}).get("$ref") == COMPONENTS + "HTTPValidationError":
        del operation["responses"]["422"]
