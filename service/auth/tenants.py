"""Between whom the server is divided: one tenant a key, or everybody together without keys."""

from __future__ import annotations

from typing import NamedTuple


class Tenant(NamedTuple):
    """Who a request is computed for.

    Attributes:
        identity: Tells tenants apart: the hash of a key, or empty for everybody.
        weight: Share of the engine, relative to the others that wait.
    """

    identity: str
    weight: int = 1


EVERYBODY = Tenant("")
"""All requests of a server without keys."""
