"""What a request leaves behind where it cannot be submitted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from osa.service.auth.api_keys import ApiKey, charged
from osa.service.auth.quota import TokenBucket
from osa.service.auth.tenants import Tenant
from osa.service.batching.batch_queue import BatchQueue
from osa.service.engines.eager import EagerEngine
from osa.service.inference import embedder as use_case
from osa.service.inference.embedder import Embedder
from osa.service.inference.inflight import input_key
from osa.service.inference.request import EmbedOptions, PreparedRequest
from osa.service.observability.metrics import Metrics
from tests.conftest import local_settings

PREPARED = PreparedRequest([[4], [5], [6]], EmbedOptions(), 0, [0, 0, 0], 0.0, 0.0)


@pytest.mark.parametrize("broken", ["put", "input_key"])
def test_whatever_fails_leaves_nothing_in_flight_and_no_charge(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Else equal inputs that come later would join what nobody computes."""
    queue = BatchQueue(1000, 1000, 10)
    about = EagerEngine(tiny_checkpoint, "cpu").info
    embedder = Embedder(about, None, queue, Metrics("m"), local_settings())
    bucket = TokenBucket(600)
    key = ApiKey("team", False, bucket, Tenant("team"))

    def fail(ids: object, *others: object) -> object:
        if broken == "put" or ids == [6]:
            raise MemoryError
        return input_key(ids, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(queue if broken == "put" else use_case, broken, fail)

    async def submit() -> None:
        with charged(key, PREPARED.tokens):
            embedder.submit(PREPARED)

    with pytest.raises(MemoryError):
        asyncio.run(submit())
    assert embedder._inflight._inputs == {}
    assert bucket.level == 600
