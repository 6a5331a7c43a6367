"""Every error has one reply, in the dialect of its path."""

from __future__ import annotations

import pytest

from osa.model.errors import CheckpointError
from osa.service.api.errors.dialects import reply_for, routing_error
from osa.service.errors import (
    BackendError,
    DeadlineError,
    EmptyInputError,
    MalformedBodyError,
    MediaTypeError,
    ModelKindError,
    OverloadedError,
    PayloadTooLargeError,
    SlowBodyError,
    UnavailableError,
    UnknownModelError,
    ValidationError,
)

TABLE = [
    (EmptyInputError("m"), 400, "Empty", 400, "invalid_request_error"),
    (ValidationError("m"), 422, "Validation", 400, "invalid_request_error"),
    (UnknownModelError("m"), 404, "Validation", 404, "invalid_request_error"),
    (ModelKindError("m"), 424, "Backend", 400, "invalid_request_error"),
    (MalformedBodyError("m"), 400, "Validation", 400, "invalid_request_error"),
    (MediaTypeError("m"), 415, "Validation", 415, "invalid_request_error"),
    (SlowBodyError("m"), 408, "Timeout", 408, "invalid_request_error"),
    (PayloadTooLargeError("m"), 413, "Validation", 413, "invalid_request_error"),
    (OverloadedError("m", 7), 429, "Overloaded", 429, "rate_limit_error"),
    (UnavailableError("m"), 503, "Unhealthy", 503, "server_error"),
    (DeadlineError("m"), 504, "Timeout", 504, "server_error"),
    (BackendError("m"), 500, "Backend", 500, "server_error"),
]


@pytest.mark.parametrize(("error", "status", "kind", "openai_status", "openai_kind"), TABLE)
def test_the_table(
    error: Exception, status: int, kind: str, openai_status: int, openai_kind: str
) -> None:
    native = reply_for(error, "/embed")
    assert (native.status, native.body) == (status, {"error": "m", "error_type": kind})
    openai = reply_for(error, "/v1/embeddings")
    assert openai.status == openai_status
    assert openai.body["error"]["type"] == openai_kind
    assert set(openai.body["error"]) == {"message", "type", "param", "code"}
    kserve = reply_for(error, "/v2/models/m/infer")
    assert (kserve.status, kserve.body) == (openai_status, {"error": "m"})


def test_retry_after_is_sent_where_another_try_helps() -> None:
    assert reply_for(OverloadedError("m", 7), "/embed").headers == {"retry-after": "7"}
    assert "retry-after" in reply_for(UnavailableError("m"), "/embed").headers
    assert reply_for(ValidationError("m"), "/embed").headers == {}


def test_unforeseen_errors_say_nothing_of_themselves() -> None:
    for error in (RuntimeError("secret"), CheckpointError("secret")):
        reply = reply_for(error, "/embed")
        assert (reply.status, reply.body["error"]) == (500, "internal error")


def test_routing_errors_speak_the_dialect_of_the_path() -> None:
    native = routing_error(405, "/embed", "POST")
    assert native.headers == {"allow": "POST"}
    assert native.body == {"error": "Method Not Allowed; allowed: POST", "error_type": "Validation"}
    assert routing_error(404, "/v1/secret", None).body["error"]["code"] == "not_found"
    assert routing_error(405, "/v2", "GET").body == {"error": "Method Not Allowed; allowed: GET"}
    for path in ("/v1/secret", "/v2/secret"):
        assert "secret" not in str(routing_error(404, path, None).body)


def test_rerank_routes_have_a_form_of_their_own_below_two_other_protocols() -> None:
    for path in ("/v1/rerank", "/v2/rerank"):
        reply = reply_for(ValidationError("m"), path)
        assert (reply.status, reply.body) == (400, {"message": "m", "detail": "m"})
    assert reply_for(ValidationError("m"), "/rerank").body["error_type"] == "Validation"
