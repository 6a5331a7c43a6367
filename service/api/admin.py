"""Exchanging models while requests run; needs an API key with ``admin = true``.

``POST /admin/models/{name}`` opens a directory, warms it up, tries it, and only then serves it
under the name; whatever fails or takes too long before leaves what was served. Earlier requests are
answered by the model that they came to.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from osa.service.api.errors.examples import ADMIN, UNKNOWN_MODEL, Samples
from osa.service.api.openapi import failures, reads
from osa.service.api.parsing import parse_body
from osa.service.api.shared_fields import StrictBody
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.info_schemas import Info
from osa.service.auth.api_keys import KEY_SCOPE, NO_ADMIN, NO_KEYS
from osa.service.errors import (
    ConflictError,
    DeadlineError,
    ForbiddenError,
    OverloadedError,
    ServiceError,
    UnavailableError,
    ValidationError,
)
from osa.service.model_settings import MAX_NAME, NAME_RULE
from osa.service.models.exchange import MAX_LOADS, RETRY_S, ModelExchange
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel

Describe = Callable[[ServedModel], Info]
logger = logging.getLogger(__name__)
MAX_PATH = 4096
"""Longest path that a body may name [bytes]."""
SHOWN = failures(NATIVE, 401, 403, samples=ADMIN)
NOT_LOADED: Samples = {
    "name": ValidationError(NAME_RULE, param="name"),
    "path": ValidationError(
        "nothing has changed: model.path: /models/law-2 is not a directory (nothing there)",
        param="path",
    ),
    "being-loaded": ConflictError("law is being loaded already: wait for that to end"),
    "many-loads": OverloadedError(f"{MAX_LOADS} models are being loaded, no more wait", RETRY_S),
    "draining": UnavailableError("the server is draining: no model is loaded any more"),
    "slow-load": DeadlineError(
        "nothing has changed: loading takes longer than engine.load_timeout_s (600 s)"
    ),
}
LOADED = failures(
    NATIVE, 400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503, 504,
    samples={**ADMIN, **NOT_LOADED},
)  # fmt: skip
DEFAULT: Samples = {
    "default": ValidationError(
        "osa-default is the default model: put another one in its place", param="name"
    )
}
REMOVED = failures(NATIVE, 401, 403, 404, 422, samples={**ADMIN, **UNKNOWN_MODEL, **DEFAULT})


class LoadRequest(StrictBody):
    """Body of ``POST /admin/models/{name}``."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"path": "/models/law-2"}]}
    )

    path: Annotated[Path, AfterValidator(lambda path: _usable(path))] | None = Field(
        None, description="Checkpoint, artifact, or directory of them, where the server runs, "
        "packaged:NAME, or hf:ORG/NAME[@REVISION] of the hub; null is packaged:default."
    )  # fmt: skip


def admin_routes(models: ModelRegistry, exchange: ModelExchange, describe: Describe) -> APIRouter:
    """Routes of the exchange.

    Args:
        models: What is served.
        exchange: Loads and removes models.
        describe: Tells the facts of a model.
    """
    router = APIRouter(prefix="/admin", tags=["Admin"])

    def check_key(request: Request) -> str:
        key = request.scope.get(KEY_SCOPE)
        if key is None:
            raise ForbiddenError(NO_KEYS)
        if not key.admin:
            raise ForbiddenError(NO_ADMIN)
        return str(key.name)

    @router.get(
        "/models", summary="List the served models", response_model=list[Info], responses=SHOWN
    )
    async def show(request: Request) -> list[Info]:
        """Every model that is served, the default first."""
        check_key(request)
        return [describe(model) for model in models.all()]

    @router.post(
        "/models/{name:path}", summary="Add or exchange a model", response_model=Info,
        responses=LOADED, openapi_extra=reads(LoadRequest, deadline=False),
    )  # fmt: skip
    async def load(request: Request, name: str) -> Info:
        """Load a directory, and serve it under this name in place of what was."""
        who = check_key(request)
        if not name:
            raise ValidationError("a model needs a name: /admin/models/NAME", param="name")
        body = parse_body(await request.body(), request.headers.get("content-type"), LoadRequest)
        try:
            return describe(await exchange.load(name, body.path, who))
        except ServiceError as error:
            facts = {"model": name[:MAX_NAME], "by": who, "why": error.code}
            logger.warning("model was not loaded", extra=facts)
            raise

    @router.delete(
        "/models/{name:path}", summary="Remove a model", status_code=204, response_class=Response,
        responses=REMOVED,
    )  # fmt: skip
    async def remove(request: Request, name: str) -> Response:
        """Serve a model no longer; what it has accepted is answered."""
        exchange.remove(name, check_key(request))
        return Response(status_code=204)

    return router


def _usable(path: Path) -> Path:
    """A path that the operating system can look up."""
    if "\0" in str(path):
        raise PydanticCustomError("path", "must not hold a NUL character")
    if len(os.fsencode(path)) > MAX_PATH:
        raise PydanticCustomError("path", f"must not be longer than {MAX_PATH} bytes")
    return path
