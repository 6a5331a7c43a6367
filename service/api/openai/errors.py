"""Errors as OpenAI answers them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from pydantic import BaseModel

from osa.service.api.errors.replies import Dialect


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIErrorBody(BaseModel):
    """Every failure below ``/v1``."""

    error: ErrorDetail


OPENAI = Dialect(
    paths=("/v1", "/v1/", "/embeddings"),
    body=OpenAIErrorBody,
    write=lambda failure: {
        "error": {
            "message": failure.message,
            "type": failure.openai_type,
            "param": failure.param,
            "code": failure.code,
        }
    },
    protocol_status=True,
)
