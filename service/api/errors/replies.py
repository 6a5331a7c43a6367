"""From an error to status, body and headers. A protocol's own form of errors is its dialect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from osa.service.errors import BackendError, ServiceError


@dataclass(frozen=True)
class ErrorReply:
    """An error as it goes on the wire."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """What a dialect may tell of an error.

    Attributes:
        message: What happened.
        error_type: text-embeddings-inference's name of the kind.
        openai_type: OpenAI's name of the kind.
        param: Field at fault, if there is one.
        code: Stable code of the kind.
    """

    message: str
    error_type: str
    openai_type: str
    param: str | None
    code: str


@dataclass(frozen=True)
class Dialect:
    """How a protocol answers errors.

    Attributes:
        paths: Paths that speak it: these, and all below those that end with a slash.
        body: Schema of the body.
        write: From a failure to the body.
        protocol_status: Whether the status is ``ServiceError.protocol_status``, where there is one.
    """

    paths: tuple[str, ...]
    body: type[BaseModel]
    write: Callable[[Failure], dict[str, Any]]
    protocol_status: bool = False

    def speaks(self, path: str) -> bool:
        """Whether errors of a path are in this dialect."""
        return any(path.startswith(own) if own.endswith("/") else path == own for own in self.paths)

    def reply(self, error: Exception) -> ErrorReply:
        """The answer to any error; unknown ones become a bare 500."""
        if not isinstance(error, ServiceError):
            error = BackendError("internal error")
        status = error.status
        if self.protocol_status and error.protocol_status is not None:
            status = error.protocol_status
        headers = dict(error.headers)
        if error.retry_after_s is not None:
            headers["retry-after"] = str(error.retry_after_s)
        if status == HTTPStatus.UNAUTHORIZED:
            headers["www-authenticate"] = "Bearer"  # RFC 9110 asks for a challenge with every 401
        failure = Failure(str(error), error.error_type, error.openai_type, error.param, error.code)
        return ErrorReply(status, self.write(failure), headers)

    def routing_error(self, status: int, allowed: str | None) -> ErrorReply:
        """The answer where no route fits: unknown path or method. The path is not echoed.

        Args:
            status: 404 or 405.
            allowed: Methods of the path, if it has any.
        """
        phrase = HTTPStatus(status).phrase
        message = f"{phrase}; allowed: {allowed}" if allowed else phrase
        code = phrase.lower().replace(" ", "_")
        failure = Failure(message, "Validation", ServiceError.openai_type, None, code)
        return ErrorReply(status, self.write(failure), {"allow": allowed} if allowed else {})
