"""Bodies of hostile clients fit the default limit, so that the limit is not what refuses them."""

from __future__ import annotations

import zlib

import orjson
import pytest

from benchmarks.serving.hostile import bodies
from osa.service.settings import Settings

LIMIT = Settings().server.payload_limit


@pytest.mark.parametrize(
    "body", bodies.wrong_bodies() + bodies.long_answers(), ids=lambda b: b.path
)
def test_bodies_are_json_within_the_limit(body: bodies.Body) -> None:
    assert len(body.body) <= LIMIT
    assert isinstance(orjson.loads(body.body), dict)


def test_wrong_bodies_are_large() -> None:
    assert all(len(body.body) > LIMIT / 2 for body in bodies.wrong_bodies())


@pytest.mark.parametrize(
    "body", [bodies.many_spans(), bodies.many_texts(), bodies.greedy_request()]
)
def test_large_requests_are_within_the_limit(body: bodies.Body) -> None:
    assert LIMIT / 3 < len(body.body) <= LIMIT


def test_the_bomb_is_small_until_it_is_read() -> None:
    body = bodies.bomb().body
    assert len(body) <= LIMIT
    inflated = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(body, 100)
    assert inflated.startswith(b'{"inputs": "aaa')
