"""Which answers are let go when all together are too large."""

from __future__ import annotations

import math
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from osa.service.models.health import Health
from osa.service.server import outlets as outlets_module
from osa.service.server.outlets import Departures
from tests.conftest import local_settings

NO_MODELS: Any = SimpleNamespace(all=list)


class StubOutlet:
    """An answer that is taken at a pace of our choice."""

    def __init__(self, took_s: float) -> None:
        self.took_s, self.size, self.gone = took_s, 0, False

    def begin(self, size: int) -> None:
        self.size = size

    def slow_s(self, now: float) -> float:
        return self.took_s

    def let_go(self) -> None:
        self.gone = True


def test_the_slowest_go_until_the_rest_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlets_module, "JUDGED_EVERY_S", 0.0)
    health = Health(NO_MODELS, local_settings(server__answer_memory=100_000).server)
    departures = Departures(health)
    outlets: list[Any] = [StubOutlet(took_s) for took_s in (0.0, 50.0, math.inf, 40.0, 0.0)]
    with ExitStack() as stack:
        for outlet in outlets:
            stack.enter_context(departures.counted(outlet, 30_000))
        assert [outlet.gone for outlet in outlets] == [False, True, True, False, False]
        assert health.answer_bytes == 90_000
    assert health.answer_bytes == 0
