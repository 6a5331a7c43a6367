"""The composition root: the only module that knows every part."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from osa.model.errors import ConfigError, OsaError
from osa.service.api.admin import admin_routes
from osa.service.api.cohere.routes import cohere_routes, parse_documents
from osa.service.api.cohere.schemas import DocumentsResponse
from osa.service.api.errors.dialects import reply_for, routing_error
from osa.service.api.errors.replies import ErrorReply
from osa.service.api.kserve.routes import kserve_routes
from osa.service.api.openai.routes import openai_routes
from osa.service.api.openapi import TAGS, DescribedAPI
from osa.service.api.pipeline import InferencePipeline
from osa.service.api.probes import operation_routes
from osa.service.api.tei.documents import document_routes
from osa.service.api.tei.embed import native_routes
from osa.service.api.tei.info import model_info
from osa.service.api.tei.info_schemas import Info
from osa.service.api.tei.predict import predict_routes
from osa.service.api.tei.rerank import rerank_routes
from osa.service.api.tei.sparse import sparse_routes
from osa.service.api.tei.tokens import token_routes
from osa.service.api.web.pages import page_routes
from osa.service.auth.api_keys import KeyFile
from osa.service.engines.base import Engine
from osa.service.errors import ServiceError
from osa.service.model_settings import ModelSettings
from osa.service.models.exchange import ModelExchange
from osa.service.models.gauges import export_gauges, export_process_gauges
from osa.service.models.health import Health
from osa.service.models.loader import ModelLoader
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel
from osa.service.observability.metrics import Families, Metrics
from osa.service.observability.tracing import Tracing
from osa.service.server.bodies import Arrivals
from osa.service.server.gate import Endpoint, RequestGate
from osa.service.server_settings import ServerSettings
from osa.service.settings import Settings

if TYPE_CHECKING:
    from osa.service.api.kserve.rpc.server import GrpcServer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """A composed server.

    Attributes:
        app: The ASGI application.
        health: Its state, for probes and drain.
        arrivals: Bodies of requests on their way.
        grpc: What serves gRPC while the application runs, or None.
    """

    app: FastAPI
    health: Health
    arrivals: Arrivals
    grpc: GrpcServer | None = None


def create_service(settings: Settings, engine: Engine | None = None) -> Service:
    """Compose a server around an engine, by default the one that ``settings`` names.

    Raises:
        OsaError: A model or the keys cannot be loaded, or the settings do not fit them.
    """
    keys = None if settings.auth.keys_file is None else KeyFile(settings.auth.keys_file)
    families = Families()
    tracing = None if settings.tracing.endpoint is None else Tracing(settings.tracing)
    loader = ModelLoader(settings, families, tracing)
    first, *others = settings.served()
    models = ModelRegistry(_load(loader, settings, first, engine), settings.server.stall_timeout_s)
    for own in others:
        models.put(_load(loader, settings, own))
    health = Health(models, settings.server)
    arrivals = Arrivals(health)
    pipeline = InferencePipeline(
        models,
        settings.batching.tokenization_workers,
        settings.server.request_timeout_s,
        tracing,
        settings.server.answer_limit,
    )
    metrics = models.default.metrics
    grpc = None
    if settings.server.grpc_port is not None:
        grpc = _grpc_server(settings.server, pipeline, health, keys, tracing)
    export_process_gauges(health, families, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for model in models.all():
            export_gauges(model)
            model.supervisor.start()
        if grpc is not None:
            await grpc.start()
        watch = None if keys is None else asyncio.create_task(keys.watch())
        yield
        if watch is not None:
            watch.cancel()
        health.begin_drain()
        if grpc is not None:
            await grpc.stop(health.drain_left_s())
        if not await asyncio.to_thread(models.close, health.drain_left_s()):
            logger.error("the engine did not finish")
        pipeline.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    def describe(model: ServedModel) -> Info:
        return model_info(settings, model, models.names())

    app = DescribedAPI(
        title="OSA embeddings",
        description="Text embeddings from linear-time Orthogonal Self-Attention encoders. Every "
        "failure is answered in JSON, unknown paths (404) and methods (405) too.",
        version=version("osa-encoder"),
        openapi_tags=TAGS,
        servers=[{"url": settings.server.root_path}] if settings.server.root_path else None,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.asks_for_keys = keys is not None
    inference = [
        native_routes(pipeline, describe),
        document_routes(pipeline),
        rerank_routes(pipeline, functools.partial(parse_documents, models), DocumentsResponse),
        predict_routes(pipeline),
        sparse_routes(pipeline),
        cohere_routes(pipeline),
        token_routes(pipeline, settings.batching.max_client_batch_size),
        openai_routes(pipeline),
        kserve_routes(pipeline, health, version("osa-encoder")),
    ]
    for router in inference:
        app.include_router(router)
    app.include_router(operation_routes(health, metrics))
    exchange = ModelExchange(models, loader, settings, health)
    app.include_router(admin_routes(models, exchange, describe))
    app.include_router(page_routes(settings.server.root_path))
    _check_prefix(app, settings.server.root_path)
    _handle_errors(app, metrics)
    app.add_middleware(
        RequestGate,
        health=health,
        metrics=metrics,
        settings=settings.server,
        arrivals=arrivals,
        keys=keys,
        tracing=tracing,
        direct=_direct(inference),
    )
    return Service(app, health, arrivals, grpc)


def _check_prefix(app: FastAPI, root_path: str) -> None:
    """Refuse a prefix that requests without it could be taken to have.

    Raises:
        ConfigError: It is, or begins, a path of ours.
    """
    if not root_path:
        return
    for path in (*app.openapi()["paths"], "/docs", "/openapi.json", "/assets"):
        if f"{path}/".startswith(f"{root_path}/"):
            raise ConfigError(f"server.root_path: {root_path} is a path of the API itself")


def _grpc_server(
    settings: ServerSettings,
    pipeline: InferencePipeline,
    health: Health,
    keys: KeyFile | None,
    tracing: Tracing | None,
) -> GrpcServer:
    """KServe's protocol over gRPC; its packages are an extra, imported when it is asked for."""
    from osa.service.api.kserve.rpc.calls import CallGate
    from osa.service.api.kserve.rpc.methods import InferenceMethods
    from osa.service.api.kserve.rpc.server import GrpcServer

    metrics = pipeline.models.default.metrics
    gate = CallGate(health, metrics, keys, tracing, settings.request_timeout_s)
    methods = InferenceMethods(pipeline, health, version("osa-encoder"))
    return GrpcServer(settings, gate, methods, health)


def _load(
    loader: ModelLoader, settings: Settings, own: ModelSettings, engine: Engine | None = None
) -> ServedModel:
    """Load a model of the settings; an error says which table of ``models`` describes it."""
    try:
        return loader.load(own, engine)
    except OsaError as error:
        if own.name not in settings.models:
            raise
        raise type(error)(f"models.{own.name}: {error}") from error


def _direct(routers: Sequence[APIRouter]) -> dict[str, Endpoint]:
    """POST endpoints by path whose only parameter is the request."""
    return {
        route.path: route.endpoint
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute)
        and "POST" in (route.methods or ())
        and list(inspect.signature(route.endpoint).parameters) == ["request"]
    }


def _handle_errors(app: DescribedAPI, metrics: Metrics) -> None:
    def respond(reply: ErrorReply) -> Response:
        return JSONResponse(reply.body, reply.status, reply.headers)

    async def service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)  # registered for nothing else
        metrics.count_failure(error.code, error.model)
        return respond(reply_for(error, request.url.path))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # registered for nothing else
        allowed = (error.headers or {}).get("Allow")
        route = request.scope.get("route")
        if error.status_code == 405 and isinstance(route, APIRoute):  # it knows its own method only
            methods = app.methods(route.path_format)
            if methods and request.method not in methods:
                allowed = ", ".join(methods)
        return respond(routing_error(error.status_code, request.url.path, allowed))

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(HTTPException, http_error)
