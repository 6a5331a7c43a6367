"""Two keys on one server: neither takes the other's share, nor learns what the other has sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from osa.service.auth.api_keys import make_key
from tests.conftest import wait_until
from tests.engines import GatedEngine
from tests.integration.test_overload import held, sample

Serve = Callable[..., httpx.Client]


@dataclass
class Tenants:
    """A server with the keys "a" and "b", and an engine that waits for its gate."""

    engine: GatedEngine
    a: httpx.Client
    b: httpx.Client


Start = Callable[..., Tenants]


@pytest.fixture
def start(serve: Serve, tiny_checkpoint: Path, tmp_path: Path) -> Iterator[Start]:
    """Start a server; ``quota`` is that of "a"."""
    with ExitStack() as stack:

        def run(quota: int | None = None, **settings: object) -> Tenants:
            engine, keys = GatedEngine(tiny_checkpoint), tmp_path / "keys.toml"
            secrets, entries = zip(
                make_key("a", quota, admin=False), make_key("b", None, admin=False), strict=True
            )
            keys.write_text("".join(entries))
            base = serve(engine, auth__keys_file=keys, **settings)
            clients = [
                stack.enter_context(
                    httpx.Client(base_url=base.base_url, timeout=60, headers={"x-api-key": secret})
                )
                for secret in secrets
            ]
            return Tenants(engine, *clients)

        yield run


@contextmanager
def opened(tenants: Tenants) -> Iterator[Tenants]:
    tenants.engine.gate.set()
    yield tenants


def test_a_second_key_is_served_at_once_whatever_the_first_has_queued(start: Start) -> None:
    tenants = start(batching__max_batch_tokens=1024)
    large = {"inputs": [[4 + (n >> bit) % 2 for bit in range(10)] + [6] * 246 for n in range(750)]}
    with held(tenants.engine, tenants.a) as pool:
        bulk = pool.submit(tenants.a.post, "/embed", json=large)
        wait_until(lambda: sample(tenants.a, "osa_queued_tokens") == 192_000)
        hurried = {"x-request-timeout-ms": "30000"}
        small = pool.submit(tenants.b.post, "/embed", json={"inputs": [[8] * 200]}, headers=hurried)
        wait_until(lambda: sample(tenants.a, "osa_queued_tokens") == 192_200)
    assert small.result().status_code == 200
    assert bulk.result().status_code == 200
    assert tenants.engine.computed.index([8] * 200) <= 8, "within two batches"
    assert len(tenants.engine.computed) == 752


def test_a_request_beyond_the_quota_is_refused_for_good_and_costs_nothing(start: Start) -> None:
    with opened(start(quota=1000, batching__max_batch_tokens=1024)) as tenants:
        inputs = [[4] * 256] * 4
        for path, field in (("/embed", "inputs"), ("/v1/embeddings", "input")):
            refused = tenants.a.post(path, json={field: inputs})
            assert refused.status_code == 413
            assert "1024 tokens" in refused.text
            assert "1000 a minute allows 1000 a request" in refused.text
            assert "retry-after" not in refused.headers
        assert tenants.a.post("/embed", json={"inputs": inputs[:3]}).status_code == 200
        spent = tenants.a.post("/embed", json={"inputs": inputs[:2]})
        assert spent.status_code == 429
        assert int(spent.headers["retry-after"]) >= 1
        assert tenants.b.post("/embed", json={"inputs": inputs}).status_code == 200


def test_what_one_key_has_sent_is_computed_again_for_another(start: Start) -> None:
    with opened(start(cache__max_bytes=10**6)) as tenants:
        body = {"inputs": [[5, 6, 7]]}
        for client, computed in ((tenants.a, 1), (tenants.a, 1), (tenants.b, 2), (tenants.b, 2)):
            assert client.post("/embed", json=body).status_code == 200
            assert tenants.engine.computed.count([5, 6, 7]) == computed


def test_nobody_joins_what_another_key_has_in_flight(start: Start) -> None:
    tenants = start()
    body = {"inputs": [[5, 6, 7]]}
    with held(tenants.engine, tenants.a) as pool:
        answers = [
            pool.submit(client.post, "/embed", json=body)
            for client in (tenants.a, tenants.a, tenants.b, tenants.b)
        ]
        wait_until(lambda: sample(tenants.a, "osa_shared_inputs_total") == 2)
        wait_until(lambda: sample(tenants.a, "osa_queued_tokens") == 6)
    assert len({answer.result().content for answer in answers}) == 1
    assert tenants.engine.computed.count([5, 6, 7]) == 2


def test_one_key_leaves_as_many_requests_to_others_as_it_has_open(start: Start) -> None:
    tenants = start(server__max_concurrent_requests=4)
    with held(tenants.engine, tenants.a) as pool:
        waiting = [pool.submit(tenants.a.post, "/embed", json={"inputs": [[5]]})]
        wait_until(lambda: sample(tenants.a, "osa_in_flight_requests") == 2)
        refused = tenants.a.post("/embed", json={"inputs": [[6]]})
        assert refused.status_code == 429
        assert "2 requests of this API key are open" in refused.json()["error"]
        waiting.append(pool.submit(tenants.b.post, "/embed", json={"inputs": [[7]]}))
        wait_until(lambda: sample(tenants.a, "osa_in_flight_requests") == 3)
        assert tenants.b.get("/readyz").status_code == 200
    assert {answer.result().status_code for answer in waiting} == {200}
