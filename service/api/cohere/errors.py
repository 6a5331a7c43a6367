"""Errors as clients of this form read them: Cohere's ``message``, Jina's ``detail``."""

from __future__ import annotations

from pydantic import BaseModel

from osa.service.api.errors.replies import Dialect

PATHS = ("/v1/rerank", "/v2/rerank")


class RerankErrorBody(BaseModel):
    """Every failure of ``/v1/rerank`` and ``/v2/rerank``; both fields say the same."""

    message: str
    detail: str


COHERE = Dialect(
    paths=PATHS,
    body=RerankErrorBody,
    write=lambda failure: {"message": failure.message, "detail": failure.message},
    protocol_status=True,
)
