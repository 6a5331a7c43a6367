"""A request's work ends at its deadline, or when it is cancelled."""

from __future__ import annotations

import time

import pytest

from osa.service.errors import ClientGoneError, DeadlineError, UnavailableError
from osa.service.inference.cancellation import Cancellation


def test_work_goes_on_until_it_is_cancelled() -> None:
    cancellation = Cancellation()
    cancellation.check()
    cancellation.cancel()
    cancellation.cancel(UnavailableError("later"))
    for _ in range(2):
        with pytest.raises(ClientGoneError, match="the client went away"):
            cancellation.check()


def test_work_ends_at_the_deadline() -> None:
    Cancellation(time.monotonic() + 60).check()
    with pytest.raises(DeadlineError, match="before the deadline"):
        Cancellation(time.monotonic()).check()
