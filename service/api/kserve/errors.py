"""Errors as the Open Inference Protocol answers them: ``{"error"}``, a string."""

from __future__ import annotations

from pydantic import BaseModel

from osa.service.api.errors.replies import Dialect


class KServeErrorBody(BaseModel):
    """Every failure below ``/v2``."""

    error: str


KSERVE = Dialect(
    paths=("/v2", "/v2/"),
    body=KServeErrorBody,
    write=lambda failure: {"error": failure.message},
    protocol_status=True,
)
