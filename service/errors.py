"""Errors of the service, each with its HTTP status.

    OsaError
    ├── EmptyInputError       400 Empty         nothing to embed
    ├── ValidationError       422 Validation    a field that cannot be (400 on /v1 and /v2)
    ├── AnswerTooLargeError   422 Validation    the answer would be over the limit (400 on /v1, /v2)
    ├── UnknownModelError     404 Validation    no model or version of this name
    ├── UnknownPathError      404 Validation    a path that no route can have
    ├── ModelKindError        424 Backend       the model does something else (400 on /v1 and /v2)
    ├── MalformedBodyError    400 Validation    no JSON, bad UTF-8, nesting too deep
    ├── MediaTypeError        415 Validation    not application/json
    │   └── ContentCodingError 415 Validation    compressed in a way that is not read
    ├── SlowBodyError         408 Timeout       the body did not arrive in time
    ├── PayloadTooLargeError  413 Validation    body over the limit
    ├── TooManyTokensError    413 Validation    more tokens than quota or queue ever take at once
    ├── HeadTooLargeError     431 Validation    a head without end
    ├── TargetTooLongError    414 Validation    a request target without end
    ├── UnknownMethodError    501 Validation    a method, or a transfer coding, that is unknown here
    ├── HttpVersionError      505 Validation    neither HTTP/1.1 nor HTTP/1.0
    ├── MisdirectedError      421 Validation    sent to a host name that is not ours
    ├── CrossOriginError      403 Unauthorized  a page of another site that may not
    ├── UnauthorizedError     401 Unauthorized  no API key, or one that is not known
    ├── ForbiddenError        403 Unauthorized  a key that may not do this
    ├── ConflictError         409 Validation    the same model is being loaded
    ├── QuotaError            429 Overloaded    the key has used its tokens; Retry-After
    ├── OverloadedError       429 Overloaded    queue full by tokens or requests; Retry-After
    ├── UnavailableError      503 Unhealthy     draining or not ready; Retry-After
    ├── DeadlineError         504 Timeout       the request's own deadline passed
    ├── ClientGoneError       499 Cancelled     the client went away; nobody reads it
    └── BackendError          500 Backend       the engine failed on this input, even alone
        └── DeviceFaultError  503 Unhealthy     the device is broken for this process; Retry-After

Native routes answer ``{"error", "error_type"}`` as text-embeddings-inference does; routes below
``/v1`` answer OpenAI's ``{"error": {"message", "type", "param", "code"}}``; routes below ``/v2``
answer KServe's ``{"error"}``, a string.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from osa.model.errors import OsaError


class ServiceError(OsaError):
    """Base of the errors of a request.

    Attributes:
        status: HTTP status on native routes.
        error_type: text-embeddings-inference's name of the kind.
        protocol_status: HTTP status below ``/v1`` and ``/v2``, if it differs.
        openai_type: OpenAI's name of the kind.
        headers: Further headers of the answer.
        retry_after_s: Time to wait before a retry, if a retry helps [s].
        param: Field at fault, where there is one.
        model: Name of the model that the request chose, once it has; failures are counted by it.
    """

    code = "service"
    status: ClassVar[int] = 500
    error_type: ClassVar[str] = "Backend"
    protocol_status: ClassVar[int | None] = None
    openai_type: ClassVar[str] = "invalid_request_error"
    headers: ClassVar[Mapping[str, str]] = {}
    retry_after_s: int | None = None
    param: str | None = None
    model: str | None = None

    def __init__(self, message: str, *, param: str | None = None) -> None:
        """Keep the message and the field at fault."""
        super().__init__(message)
        self.param = param

    def again(self, message: str | None = None) -> Self:
        """A new error with all that this one says, to be raised; or with another message.

        One object that is raised again and again holds the frames of every time.
        """
        error = type(self).__new__(type(self))
        error.__dict__.update(self.__dict__)
        error.args = (str(self) if message is None else message,)
        return error


class EmptyInputError(ServiceError):
    """No input, or an input without tokens."""

    code, status, error_type = "empty_input", 400, "Empty"


class ValidationError(ServiceError):
    """Invalid field value."""

    code, status, error_type, protocol_status = "validation", 422, "Validation", 400


class AnswerTooLargeError(ServiceError):
    """The answer would exceed the limit."""

    code, status, error_type, protocol_status = "answer_too_large", 422, "Validation", 400


class UnknownModelError(ServiceError):
    """Unknown model name or version."""

    code, status, error_type = "model_not_found", 404, "Validation"


class UnknownPathError(ServiceError):
    """A path with characters that no route has, such as a line end, which patterns overlook."""

    code, status, error_type = "not_found", 404, "Validation"


class ModelKindError(ServiceError):
    """The model does something else than what the route asks for."""

    code, status, error_type, protocol_status = "model_type", 424, "Backend", 400


class MalformedBodyError(ServiceError):
    """The body cannot be parsed."""

    code, status, error_type = "malformed_body", 400, "Validation"


class MediaTypeError(ServiceError):
    """Unsupported content type."""

    code, status, error_type = "media_type", 415, "Validation"


CODINGS = ("gzip", "deflate")
"""Content codings of request bodies that are read."""


class ContentCodingError(MediaTypeError):
    """The body is compressed in a way that is not read."""

    code = "content_coding"
    headers: ClassVar[Mapping[str, str]] = {"accept-encoding": ", ".join(CODINGS)}


class PayloadTooLargeError(ServiceError):
    """The body exceeds the limit."""

    code, status, error_type = "payload_too_large", 413, "Validation"


class TooManyTokensError(ServiceError):
    """More tokens than the key's quota, or the queue, ever takes at once: a retry does not help."""

    code, status, error_type = "too_many_tokens", 413, "Validation"


class HeadTooLargeError(ServiceError):
    """The request line and headers exceed the limit."""

    code, status, error_type = "head_too_large", 431, "Validation"


class TargetTooLongError(ServiceError):
    """The request target exceeds the limit."""

    code, status, error_type = "target_too_long", 414, "Validation"


class UnknownMethodError(ServiceError):
    """A method or a transfer coding that the server does not know."""

    code, status, error_type = "unknown_method", 501, "Validation"


class HttpVersionError(ServiceError):
    """Another version of HTTP than 1.1 and 1.0."""

    code, status, error_type = "http_version", 505, "Validation"


class MisdirectedError(ServiceError):
    """The request names a host that is not one of ``server.allowed_hosts``."""

    code, status, error_type = "misdirected", 421, "Validation"


class CrossOriginError(ServiceError):
    """A web page of another origin that ``server.cors_origins`` does not allow."""

    code, status, error_type, openai_type = (
        "cross_origin", 403, "Unauthorized", "permission_error"
    )  # fmt: skip


class SlowBodyError(ServiceError):
    """The body did not arrive in time."""

    code, status, error_type = "slow_body", 408, "Timeout"


class UnauthorizedError(ServiceError):
    """Missing or unknown API key; the message says which."""

    code, status, error_type = "invalid_api_key", 401, "Unauthorized"
    openai_type = "authentication_error"


class ForbiddenError(ServiceError):
    """The API key has no permission for this."""

    code, status, error_type, openai_type = "forbidden", 403, "Unauthorized", "permission_error"


class ConflictError(ServiceError):
    """What is asked for is being done already."""

    code, status, error_type = "conflict", 409, "Validation"


class QuotaError(ServiceError):
    """The API key's token quota is used up."""

    code, status, error_type, openai_type = "quota", 429, "Overloaded", "rate_limit_error"

    def __init__(self, message: str, retry_after_s: int) -> None:
        """Keep the time until there are enough tokens again [s]."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverloadedError(ServiceError):
    """The queue or the number of open requests is at its limit."""

    code, status, error_type, openai_type = "overloaded", 429, "Overloaded", "rate_limit_error"

    def __init__(self, message: str, retry_after_s: int) -> None:
        """Keep the time that the backlog takes [s]."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class UnavailableError(ServiceError):
    """The server is draining or not ready."""

    code, status, error_type, openai_type = "unavailable", 503, "Unhealthy", "server_error"
    retry_after_s = 5


class DeadlineError(ServiceError):
    """The request's deadline has passed."""

    code, status, error_type, openai_type = "deadline", 504, "Timeout", "server_error"


class ClientGoneError(ServiceError):
    """The client went away before the answer."""

    code, status, error_type, openai_type = "cancelled", 499, "Cancelled", "server_error"


class BackendError(ServiceError):
    """The engine failed on this input."""

    code, status, error_type, openai_type = "backend", 500, "Backend", "server_error"


class DeviceFaultError(BackendError):
    """The device is broken for this process, which has to be restarted; another one may answer."""

    code, status, error_type = "device_fault", 503, "Unhealthy"
    retry_after_s = 5
