"""Errors of inputs as the errors of their request."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from osa.service.batching.item import ItemResult
from osa.service.errors import BackendError, OverloadedError, ServiceError
from osa.service.inference.inflight import PendingRequest
from osa.service.inference.request import Submission


@pytest.mark.parametrize("error", [BackendError("too bad"), OverloadedError("too bad", 7)])
def test_the_first_failing_input_is_named(error: ServiceError) -> None:
    async def run() -> Submission:
        pending = PendingRequest(asyncio.get_running_loop(), 3)
        pending.settle(2, ItemResult(error=BackendError("later")))
        pending.settle(1, ItemResult(error=error))
        pending.settle(0, ItemResult(np.ones(2)))
        return Submission(pending, [])

    with pytest.raises(type(error), match="input 1: too bad") as caught:
        asyncio.run(run()).results()
    assert caught.value is not error
    assert caught.value.__cause__ is error
    assert caught.value.param == "input"
    assert caught.value.retry_after_s == error.retry_after_s
