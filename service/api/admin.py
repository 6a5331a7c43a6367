"""Exchanging models while requests run; needs an API key with ``admin = true``.

``POST /admin/models/{name}`` opens a directory, warms it up, tries it, and only then serves it
under the name; whatever fails before leaves what was served. Earlier requests are answered
by the model that they came to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field

from osa.model.errors import OsaError
from osa.service.api.errors.examples import ADMIN, UNKNOWN_MODEL, Samples
from osa.service.api.openapi import failures, reads
from osa.service.api.parsing import parse_body
from osa.service.api.shared_fields import StrictBody
from osa.service.api.tei.errors import NATIVE
from osa.service.api.tei.schemas import Info
from osa.service.auth.api_keys import KEY_SCOPE, NO_ADMIN, NO_KEYS
from osa.service.errors import ForbiddenError, ServiceError, ValidationError
from osa.service.models.gauges import export_gauges
from osa.service.models.loader import ModelLoader
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel
from osa.service.settings import Settings

Describe = Callable[[ServedModel], Info]
logger = logging.getLogger(__name__)
SHOWN = failures(NATIVE, 401, 403, samples=ADMIN)
NOT_LOADED: Samples = {
    "path": ValidationError(
        "nothing has changed: model.path: /models/law-2 is not a directory (nothing there)",
        param="path",
    )
}
LOADED = failures(NATIVE, 400, 401, 403, 408, 413, 415, 422, 500, samples={**ADMIN, **NOT_LOADED})
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

    path: Path | None = Field(
        None, description="Checkpoint, artifact, or directory of them, where the server runs, or "
        "hf:ORG/NAME[@REVISION] of the Hugging Face hub; null is the packaged model."
    )  # fmt: skip


def admin_routes(
    models: ModelRegistry, loader: ModelLoader, settings: Settings, describe: Describe
) -> APIRouter:
    """Routes of the exchange.

    Args:
        models: What is served.
        loader: Loads a model.
        settings: Has the settings of every name.
        describe: Tells the facts of a model.
    """
    router = APIRouter(prefix="/admin", tags=["Admin"])
    loading = asyncio.Lock()

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
        async with loading:  # one at a time: each takes the memory of a model
            try:
                own = settings.named(name).model_copy(update={"path": body.path})
                model = await asyncio.to_thread(loader.load, own)
            except ServiceError:
                raise
            except OsaError as error:
                logger.warning("model was not loaded", extra={"model": name, "by": who})
                raise ValidationError(f"nothing has changed: {error}", param="path") from error
            export_gauges(model)
            model.supervisor.start()
            replaced = models.put(model)
        facts = {"model": name, "sha": model.about.model_sha256, "by": who}
        logger.info("model exchanged" if replaced else "model added", extra=facts)
        return describe(model)

    @router.delete(
        "/models/{name:path}", summary="Remove a model", status_code=204, response_class=Response,
        responses=REMOVED,
    )  # fmt: skip
    async def remove(request: Request, name: str) -> Response:
        """Serve a model no longer; what it has accepted is answered."""
        who = check_key(request)
        try:
            models.remove(name).metrics.forget()
        except ValueError as error:
            raise ValidationError(str(error), param="name") from error
        logger.info("model removed", extra={"model": name, "by": who})
        return Response(status_code=204)

    return router
