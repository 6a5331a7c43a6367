"""Bodies that came whole, in the memory of all bodies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from osa.service.auth.tenants import EVERYBODY, Tenant
from osa.service.errors import OverloadedError
from osa.service.models.health import Health
from tests.conftest import local_settings

NO_MODELS: Any = SimpleNamespace(all=list)


@pytest.fixture
def health() -> Health:
    return Health(NO_MODELS, local_settings(server__body_memory=1024).server)


def refused(health: Health, size: int, tenant: Tenant, told: str) -> None:
    with pytest.raises(OverloadedError, match=told), health.holding_body(size, tenant):
        raise AssertionError("it was let in")


def test_a_body_that_has_no_room_is_refused_and_not_counted(health: Health) -> None:
    with health.holding_body(600, EVERYBODY):
        refused(health, 425, EVERYBODY, "requests hold 1025 bytes, at most 1024")
        with health.holding_body(424, EVERYBODY):
            assert health.body_bytes == 1024
    assert (health.body_bytes, health._bodies) == (0, {})


def test_a_tenant_of_several_leaves_as_much_as_it_holds(health: Health) -> None:
    one, other = Tenant("a"), Tenant("b")
    with health.holding_body(1024, one):
        refused(health, 1, other, "at most 1024")
    with health.holding_body(400, one):
        refused(health, 200, one, "this API key's requests hold 600 bytes")
        with health.holding_body(600, other):
            assert health.body_bytes == 1000
