"""From errors of a request to gRPC's status codes."""

from __future__ import annotations

from http import HTTPStatus

from grpc import StatusCode

from osa.service.errors import ServiceError

CODES = {
    HTTPStatus.BAD_REQUEST: StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.CONFLICT: StatusCode.ABORTED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.REQUEST_URI_TOO_LONG: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: StatusCode.INVALID_ARGUMENT,
    HTTPStatus.MISDIRECTED_REQUEST: StatusCode.PERMISSION_DENIED,
    HTTPStatus.UNPROCESSABLE_ENTITY: StatusCode.INVALID_ARGUMENT,
    HTTPStatus.FAILED_DEPENDENCY: StatusCode.FAILED_PRECONDITION,
    HTTPStatus.TOO_MANY_REQUESTS: StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: StatusCode.RESOURCE_EXHAUSTED,
    499: StatusCode.CANCELLED,
    HTTPStatus.INTERNAL_SERVER_ERROR: StatusCode.INTERNAL,
    HTTPStatus.NOT_IMPLEMENTED: StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.HTTP_VERSION_NOT_SUPPORTED: StatusCode.UNIMPLEMENTED,
}
"""Code of each HTTP status that an error has."""


def code_of(error: ServiceError) -> StatusCode:
    """The status code of an error."""
    return CODES.get(error.status, StatusCode.INTERNAL)


def advice(error: ServiceError) -> dict[str, str]:
    """Metadata of an error: when a retry helps; clients' retry policies read ``grpc-``."""
    wait_s = error.retry_after_s
    if wait_s is None:
        return {}
    return {"retry-after": str(wait_s), "grpc-retry-pushback-ms": str(wait_s * 1000)}
