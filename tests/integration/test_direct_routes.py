"""Requests that bypass the framework's middleware get the same answers as those that do not."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from osa.service.server.app import create_service
from tests.conftest import local_settings, run_service

CHANGING = {"x-request-id", "x-compute-time", "x-total-time", "x-tokenization-time", "x-queue-time",
            "x-inference-time", "date"}  # fmt: skip
BODIES: list[tuple[str, object]] = [
    ("/embed", {"inputs": ["a", "b"]}),
    ("/embed", {"inputs": ""}),
    ("/embed", {"inputs": "a", "dimensions": 7}),
    ("/invocations", {"inputs": "a", "encoding_format": "bytes"}),
    ("/", [1]),
    ("/vertex", {"instances": [{"inputs": "a"}]}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    ("/embed_all", {"inputs": "a b"}),
    ("/embed_chunks", {"inputs": "a b", "chunking": {"strategy": "tokens", "size": 4}}),
    ("/tokenize", {"inputs": "a b"}),
    ("/decode", {"ids": [101, 102]}),
    ("/v1/embeddings", {"input": "a", "model": "m"}),
    ("/v1/embeddings", {"input": []}),
    ("/embeddings", {"input": "a"}),
]


@pytest.fixture(scope="module")
def layered() -> Iterator[httpx.Client]:
    """A server in which every request goes through the framework's middleware."""
    settings = local_settings()
    service = create_service(settings)
    (gate,) = service.app.user_middleware
    direct = gate.kwargs["direct"]
    assert isinstance(direct, dict)
    assert {path for path, _ in BODIES} <= set(direct)
    gate.kwargs["direct"] = {}
    with run_service(service, settings) as bound:
        yield bound


@pytest.mark.parametrize(("path", "body"), BODIES)
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_status_headers_and_body_are_the_same(
    client: httpx.Client, layered: httpx.Client, path: str, body: object, method: str
) -> None:
    found, expected = (one.request(method, path, json=body) for one in (client, layered))
    assert (found.status_code, found.content) == (expected.status_code, expected.content)
    kept = [
        {name: value for name, value in one.headers.items() if name not in CHANGING}
        for one in (found, expected)
    ]
    assert kept[0] == kept[1]
