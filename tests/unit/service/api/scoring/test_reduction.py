"""Results are made small as they come, and the first that fails ends that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from osa.service.api.scoring.reduction import reduce_results
from osa.service.batching.item import ItemResult
from osa.service.errors import BackendError
from osa.service.inference.inflight import PendingRequest
from osa.service.inference.late_interaction import QUERY, MaxSim


async def here(work: Callable[[], None]) -> None:
    work()


def test_texts_are_not_kept_for_a_query_that_failed() -> None:
    scoring = MaxSim(3)
    seen: list[int] = []

    def reduce(place: int, result: ItemResult) -> ItemResult:
        seen.append(place)
        return scoring.take(place, result)

    async def run() -> None:
        pending = PendingRequest(asyncio.get_running_loop(), 4)
        tokens = np.ones((2, 4), np.float32)
        pending.settle(1, ItemResult(tokens[0], 1.0, tokens))
        reduced = asyncio.ensure_future(reduce_results(pending, reduce, here, lambda: None))
        await asyncio.sleep(0.01)
        pending.settle(2, ItemResult(tokens[0], 1.0, tokens))
        pending.settle(QUERY, ItemResult(error=BackendError("too bad")))
        with pytest.raises(BackendError, match="input 0: too bad"):
            await asyncio.wait_for(reduced, 10)

    asyncio.run(run())
    assert seen == [1]
