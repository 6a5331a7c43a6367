"""Bodies of about two megabytes, the default limit, that cost a server as much as they can."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from typing import Any

import orjson

SIZE = 1_900_000
"""Of a large body [bytes]."""
SPANS = 110_000
UNREAD_INPUTS = 2000
BOMB = 100_000_000
"""Of a compressed body once it is decompressed [bytes]."""


@dataclass(frozen=True)
class Body:
    """A request's body and where it goes.

    Attributes:
        path: Route.
        body: Its bytes.
        headers: Beyond those that every request has.
    """

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def wrong_bodies() -> list[Body]:
    """One body a route that is wrong in every item."""
    ones, empties, lists = [1] * (SIZE // 2), [""] * (SIZE // 3), [[""]] * (SIZE // 5)
    bodies: list[tuple[str, Any]] = [
        ("/tokenize", {"inputs": ones}),
        ("/decode", {"ids": empties}),
        ("/decode", {"ids": lists}),
        ("/embed", {"inputs": [True] * (SIZE // 5)}),
        ("/embed_all", {"inputs": lists}),
        ("/vertex", {"instances": ones}),
        ("/vertex", {"instances": [{"inputs": "x", "normalize": 1}] * (SIZE // 32)}),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ones}}),
        ("/embed_chunks", {"inputs": ones}),
        ("/embed_chunks", {"inputs": "a", "chunking": {f"f{n}": n for n in range(SIZE // 16)}}),
        ("/rerank", {"query": "a", "texts": ones}),
        ("/predict", {"inputs": lists}),
        ("/embed_sparse", {"inputs": lists}),
        ("/v1/embeddings", {"input": lists}),
        ("/v1/rerank", {"query": "a", "documents": ones}),
        ("/v2/rerank", {"query": "a", "documents": ones}),
        ("/v2/models/osa-default/infer", {"inputs": ones}),
        ("/v2/models/osa-default/infer", {"inputs": [_tensor(ones)]}),
    ]
    return [Body(path, orjson.dumps(body)) for path, body in bodies]


def _tensor(data: list[int]) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(data)], "data": data}


def long_answers() -> list[Body]:
    """Small bodies, or cheap ones, whose answers would be large."""
    overlapping = {"strategy": "tokens", "size": 512, "overlap": 511}
    return [
        Body("/tokenize", orjson.dumps({"inputs": "a " * (SIZE // 2)})),
        Body("/embed_all", orjson.dumps({"inputs": ["a " * 1000] * 20})),
        Body(
            "/embed_chunks",
            orjson.dumps({"inputs": "a " * 16_000, "chunking": overlapping, "return_text": True}),
        ),
        Body("/decode", orjson.dumps({"ids": [[1]] * (SIZE // 4)})),
    ]


def many_spans() -> Body:
    """More spans than any document needs."""
    spans = [[place, place + 1] for place in range(SPANS)]
    chunking = {"strategy": "spans", "spans": spans}
    return Body("/embed_chunks", orjson.dumps({"inputs": "ab " * 50_000, "chunking": chunking}))


def many_texts() -> Body:
    """A valid request of as much work as a body holds."""
    return Body("/embed", orjson.dumps({"inputs": ["ab cd " * 300] * (SIZE // 1810)}))


def greedy_request() -> Body:
    """192 000 tokens."""
    return Body("/embed", orjson.dumps({"inputs": ["word " * 1000] * 192}))


def unread_answer(stream: bool) -> Body:
    """A request whose answer is larger than what sockets hold."""
    accept = (("Accept", "application/x-ndjson"),) if stream else ()
    texts = [f"text {place}" for place in range(UNREAD_INPUTS)]
    return Body("/embed", orjson.dumps({"inputs": texts}), accept)


def bomb() -> Body:
    """A small body that is large once it is decompressed."""
    inflated = b'{"inputs": "' + b"a" * BOMB + b'"}'
    return Body("/embed", gzip.compress(inflated, 9), (("Content-Encoding", "gzip"),))


def not_text() -> Body:
    """Not UTF-8."""
    return Body("/embed", b'{"inputs": "caf\xe9"}')
