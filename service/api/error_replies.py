"""From any error to status, body and headers, in the dialect of the path.

Native routes answer ``{"error", "error_type"}`` as text-embeddings-inference does; routes below
``/v1`` answer OpenAI's ``{"error": {"message", "type", "param", "code"}}``; routes below ``/v2``
answer KServe's ``{"error"}``, a string.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel

from osa.service.errors import BackendError, ServiceError


class ErrorBody(BaseModel):
    """Every failure of a native route."""

    error: str
    error_type: Literal[
        "Empty",
        "Validation",
        "Unauthorized",
        "Overloaded",
        "Unhealthy",
        "Timeout",
        "Cancelled",
        "Backend",
    ]


@dataclass(frozen=True)
class ErrorReply:
    """What goes on the wire for an error."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


Dialect = Literal["native", "openai", "kserve"]


def dialect_of(path: str) -> Dialect:
    """Which protocol's errors a path speaks."""
    if path.startswith("/v1/") or path in ("/v1", "/embeddings"):
        return "openai"
    return "kserve" if path.startswith("/v2/") or path == "/v2" else "native"


def reply_for(error: Exception, path: str) -> ErrorReply:
    """Status, body and headers for any error; unknown ones become a bare 500."""
    if not isinstance(error, ServiceError):
        error = BackendError("internal error")
    dialect = dialect_of(path)
    status = error.status if dialect == "native" else error.protocol_status or error.status
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"  # RFC 9110 asks for a challenge with every 401
    body: dict[str, Any] = {"error": str(error)}
    if dialect == "native":
        body["error_type"] = error.error_type
    elif dialect == "openai":
        body["error"] = {
            "message": str(error),
            "type": error.openai_type,
            "param": error.param,
            "code": error.code,
        }
    return ErrorReply(status, body, headers)


def routing_error(status: int, path: str, allowed: str | None) -> ErrorReply:
    """The reply where no route fits: unknown path or method. The path is not echoed."""
    phrase = HTTPStatus(status).phrase
    message = f"{phrase}; allowed: {allowed}" if allowed else phrase
    headers = {"allow": allowed} if allowed else {}
    dialect = dialect_of(path)
    body: dict[str, Any] = {"error": message}
    if dialect == "native":
        body["error_type"] = "Validation"
    elif dialect == "openai":
        code = phrase.lower().replace(" ", "_")
        detail = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
        body["error"] = detail
    return ErrorReply(status, body, headers)
