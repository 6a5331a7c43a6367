"""What failures look like, for ``/openapi.json``: bodies made by what answers real ones.

Routes name those that they can meet; a test provokes every one and compares. Numbers and names in
the texts are those of a server with default settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osa.service.api.errors.replies import Dialect
from osa.service.auth.api_keys import NO_ADMIN, NO_KEY, NO_KEYS, NOT_BEARER, UNKNOWN_KEY
from osa.service.errors import (
    BackendError,
    DeadlineError,
    DeviceFaultError,
    EmptyInputError,
    ForbiddenError,
    MalformedBodyError,
    MediaTypeError,
    ModelKindError,
    OverloadedError,
    PayloadTooLargeError,
    QuotaError,
    ServiceError,
    SlowBodyError,
    TooManyTokensError,
    UnauthorizedError,
    UnavailableError,
    UnknownModelError,
    ValidationError,
)
from osa.service.inference.limits import too_many_tokens
from osa.service.inference.tasks import NO_RERANKER, no_pairs, other_kind

Samples = Mapping[str, ServiceError]
"""Failures by a short name."""

READING: Samples = {
    "no-key": UnauthorizedError(NO_KEY),
    "malformed-key": UnauthorizedError(NOT_BEARER),
    "unknown-key": UnauthorizedError(UNKNOWN_KEY),
}
"""Of every route that is not open to all."""

POSTING: Samples = {
    **READING,
    "malformed-json": MalformedBodyError(
        "the body is not valid JSON: unexpected end of data at line 1, column 2"
    ),
    "slow-body": SlowBodyError("the body did not arrive within 30.0 s"),
    "large-body": PayloadTooLargeError("the body is over the limit of 2000000 bytes"),
    "media-type": MediaTypeError("content type must be application/json, got 'text/plain'"),
    "internal": BackendError("internal error"),
}
"""Of every route that reads a body."""

WORKING: Samples = {
    **POSTING,
    "many-requests": OverloadedError("512 requests are open, at most 512 are served at once", 1),
    "draining": UnavailableError("the server is draining"),
}
"""Of routes that work on texts."""

TOKENIZING: Samples = {
    **WORKING,
    "quota": QuotaError("32 tokens are asked for, 20 of 600 a minute are left", 2),
    "over-quota": TooManyTokensError(
        "900 tokens are asked for at once, this API key's quota of 600 a minute allows 600 a "
        "request: send less at once"
    ),
    "deadline": DeadlineError("no answer before the deadline"),
}
"""Of routes that use the tokenizer alone."""

EMBEDDING: Samples = {
    **TOKENIZING,
    "queue-full": OverloadedError(
        "the queue holds 1040000 of 1048576 tokens, no room for 9000 more", 9
    ),
    "over-tokens": too_many_tokens(1_048_576),
    "engine": BackendError("input 0: the engine failed on this input", param="input"),
    "device": DeviceFaultError(
        "input 0: the device failed: CUDA error: an illegal memory access was encountered",
        param="input",
    ),
}
"""Of routes that embed."""

NOT_EMBEDDING: Samples = {"model-kind": ModelKindError(other_kind("classifier"), param="model")}
NO_RANKING: Samples = {"model-kind": ModelKindError(NO_RERANKER, param="model")}
NO_LABELS: Samples = {"model-kind": ModelKindError(other_kind("embedding"), param="model")}
NO_WEIGHTS = NO_LABELS
NO_PAIRS: Samples = {"model-kind": ModelKindError(no_pairs("embedding"), param="input")}
"""Of routes whose model does something else."""

DIMENSIONS: Samples = {
    "dimensions": ValidationError("dimensions must be 1 to 384, got 500", param="dimensions")
}

TENSORS: Samples = {
    "empty": EmptyInputError("text is empty: its shape is [0]", param="text"),
    "media-type": MediaTypeError(
        "content type must be application/json or application/octet-stream, got 'text/plain'"
    ),
    "unknown-model": UnknownModelError(
        "no model and version of this name; served: osa-default, version 1"
    ),
}
UNREADY: Samples = {"draining": UnavailableError("draining")}
HUNG: Samples = {"hung": UnavailableError("one batch has been running for 121 s")}
UNKNOWN_MODEL: Samples = {
    "unknown-model": UnknownModelError("no such model; served: osa-default", param="model")
}
UNKNOWN_AMONG_SEVERAL: Samples = {
    "unknown-model": UnknownModelError("no such model; served: osa-default, law", param="model")
}
ADMIN: Samples = {
    **POSTING,
    "no-keys": ForbiddenError(NO_KEYS),
    "no-admin": ForbiddenError(NO_ADMIN),
}
"""Of routes that exchange models."""


def missing(field: str, empty: str | None = None) -> Samples:
    """Failures of a body without its most important field.

    Args:
        field: Its name.
        empty: What is named when it holds nothing, by default ``field``.
    """
    return {
        "empty": EmptyInputError(f"{empty or field} is empty", param=empty or field),
        "missing-field": ValidationError(f"{field}: Field required", param=field),
    }


def examples(samples: Samples, dialect: Dialect, status: int) -> dict[str, Any]:
    """OpenAPI's examples of the failures that a dialect answers with a status."""
    replies = {name: dialect.reply(error) for name, error in samples.items()}
    return {
        name: {"value": reply.body} for name, reply in replies.items() if reply.status == status
    }
