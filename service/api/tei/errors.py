"""Errors as text-embeddings-inference answers them: ``{"error", "error_type"}``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from osa.service.api.errors.replies import Dialect


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


NATIVE = Dialect(
    paths=("/",),
    body=ErrorBody,
    write=lambda failure: {"error": failure.message, "error_type": failure.error_type},
)
