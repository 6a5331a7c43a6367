"""Every error of a request has a gRPC status of its kind."""

from __future__ import annotations

import inspect

import pytest

pytest.importorskip("grpc", reason="the extra grpc is not installed")
from grpc import StatusCode

from osa.service import errors
from osa.service.api.kserve.rpc.statuses import CODES, advice, code_of

KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, errors.ServiceError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_status_is_known(kind: type[errors.ServiceError]) -> None:
    assert kind.status in CODES


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.EmptyInputError("x"), StatusCode.INVALID_ARGUMENT),
        (errors.ValidationError("x"), StatusCode.INVALID_ARGUMENT),
        (errors.UnknownModelError("x"), StatusCode.NOT_FOUND),
        (errors.UnauthorizedError("x"), StatusCode.UNAUTHENTICATED),
        (errors.ForbiddenError("x"), StatusCode.PERMISSION_DENIED),
        (errors.PayloadTooLargeError("x"), StatusCode.RESOURCE_EXHAUSTED),
        (errors.QuotaError("x", 3), StatusCode.RESOURCE_EXHAUSTED),
        (errors.OverloadedError("x", 3), StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeadlineError("x"), StatusCode.DEADLINE_EXCEEDED),
        (errors.ClientGoneError("x"), StatusCode.CANCELLED),
        (errors.UnavailableError("x"), StatusCode.UNAVAILABLE),
        (errors.BackendError("x"), StatusCode.INTERNAL),
    ],
)
def test_codes(error: errors.ServiceError, code: StatusCode) -> None:
    assert code_of(error) is code


def test_who_may_retry_is_told_when() -> None:
    assert advice(errors.ValidationError("x")) == {}
    told = advice(errors.OverloadedError("x", 3))
    assert told == {"retry-after": "3", "grpc-retry-pushback-ms": "3000"}
