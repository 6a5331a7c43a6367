"""How long the client of a request waits."""

from __future__ import annotations

import math
import time

from fastapi import Request

from osa.service.api import headers
from osa.service.errors import ValidationError

MAX_TIMEOUT_MS = 3_600_000


def deadline_of(request: Request, started: float, default_s: float | None) -> float:
    """When the client stops waiting (monotonic clock) [s].

    Args:
        request: Whose header ``x-request-timeout-ms`` says it.
        started: When it came (monotonic clock) [s].
        default_s: Of requests without the header [s].

    Raises:
        ValidationError: The header is no number of milliseconds within the limits.
    """
    header = request.headers.get(headers.TIMEOUT)
    if header is None:
        return math.inf if default_s is None else started + default_s
    try:
        milliseconds = float(header)
    except ValueError:
        milliseconds = math.nan
    if not 0 < milliseconds <= MAX_TIMEOUT_MS:
        raise ValidationError(
            f"{headers.TIMEOUT} must be above 0 and at most {MAX_TIMEOUT_MS}",
            param=headers.TIMEOUT,
        )
    return started + milliseconds / 1000


def left_s(deadline: float) -> float | None:
    """Time until a deadline [s]; None where there is none."""
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


async def disconnected(request: Request) -> None:
    """Return once the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
