"""A request's work ends at its deadline, or when it is cancelled."""

from __future__ import annotations

import time

import pytest

from osa.service.errors import ClientGoneError, DeadlineError, OverloadedError, UnavailableError
from osa.service.inference.cancellation import Cancellation


def test_work_goes_on_until_it_is_cancelled() -> None:
    cancellation = Cancellation()
    cancellation.check()
    cancellation.cancel()
    cancellation.cancel(UnavailableError("later"))
    for _ in range(2):
        with pytest.raises(ClientGoneError, match="the client went away"):
            cancellation.check()


def test_what_ends_the_work_is_told_whole_and_anew() -> None:
    cancellation, why = Cancellation(), OverloadedError("no room", 7)
    why.param = "input"
    cancellation.cancel(why)
    found = []
    for _ in range(2):
        with pytest.raises(OverloadedError, match="no room") as caught:
            cancellation.check()
        found.append(caught.value)
        assert (caught.value.retry_after_s, caught.value.param) == (7, "input")
    assert found[0] is not found[1]
    assert why.__traceback__ is None, "it would hold the frames of every time"


def test_work_ends_at_the_deadline() -> None:
    Cancellation(time.monotonic() + 60).check()
    with pytest.raises(DeadlineError, match="before the deadline"):
        Cancellation(time.monotonic()).check()
