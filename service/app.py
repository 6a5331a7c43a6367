"""The composition root: the only place that knows every part."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from osa.model.reproducibility import fix_product_order
from osa.service.batching import BatchQueue
from osa.service.embedder import Embedder
from osa.service.engines import Engine, select_engine
from osa.service.engines.invariance import is_batch_invariant
from osa.service.errors import ErrorReply, ServiceError, reply_for, routing_error
from osa.service.health import Health
from osa.service.metrics import Metrics
from osa.service.middleware import RequestGate
from osa.service.routes.documents import document_routes
from osa.service.routes.inference import InferencePipeline
from osa.service.routes.native import native_routes
from osa.service.routes.openai import openai_routes
from osa.service.routes.operations import operation_routes
from osa.service.routes.pages import page_routes
from osa.service.routes.tokens import token_routes
from osa.service.schemas.native import Info, ModelType, Pooling
from osa.service.settings import Settings
from osa.service.worker import EngineWorker

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Service:
    """A composed server.

    Attributes:
        app: The ASGI application.
        health: Its state, for probes and drain.
    """

    app: FastAPI
    health: Health


def create_service(settings: Settings, engine: Engine | None = None) -> Service:
    """Compose a server around an engine, by default the one that ``settings`` names.

    Raises:
        OsaError: The model cannot be loaded, or the settings do not fit it.
    """
    selected = engine is None
    if engine is None:
        engine = _select(settings)
    if engine.info.mixer == "osa" and engine.info.kernel.startswith("torch ("):
        logger.warning("attention runs in plain torch", extra={"kernel": engine.info.kernel})
    engine.warm_up()
    invariant = selected and is_batch_invariant(engine)
    if selected and not invariant:
        logger.warning("vectors depend on their batch in the last bits", extra=_about(engine))
    batching = settings.batching
    metrics = Metrics(settings.model.name)
    queue = BatchQueue(
        batching.max_queue_tokens, batching.max_batch_tokens, batching.max_batch_requests
    )
    worker = EngineWorker(engine, queue, metrics)
    health = Health(worker, queue, settings.server)
    embedder = Embedder(engine, queue, metrics, settings)
    pipeline = InferencePipeline(embedder, metrics, batching.tokenization_workers)
    _describe(metrics, health, engine)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        health.begin_drain()
        if not await asyncio.to_thread(worker.stop, health.drain_left_s()):
            logger.error("the engine did not finish", extra={"queued_tokens": queue.tokens})
        pipeline.close()

    app = FastAPI(
        title="OSA embeddings",
        description="Text embeddings from linear-time Orthogonal Self-Attention encoders.",
        version=version("osa-encoder"),
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.include_router(native_routes(pipeline, _info(settings, engine, embedder, invariant)))
    if engine.tokenizer is not None:
        batch = batching.max_client_batch_size
        app.include_router(token_routes(pipeline, engine.tokenizer, batch))
        app.include_router(document_routes(pipeline, engine.tokenizer, engine.info.pooling))
    app.include_router(openai_routes(pipeline, settings.model.name))
    app.include_router(operation_routes(health, metrics))
    app.include_router(page_routes())
    _handle_errors(app, metrics)
    app.add_middleware(RequestGate, health=health, metrics=metrics, settings=settings.server)
    return Service(app, health)


def _select(settings: Settings) -> Engine:
    """The engine for what ``model.path`` holds, with products in one order where MKL makes them."""
    order = fix_product_order()
    selection = select_engine(settings.model)
    facts = {**_about(selection.engine), "reason": selection.reason, "product_order": order}
    logger.info("engine selected", extra=facts)
    return selection.engine


def _about(engine: Engine) -> dict[str, str]:
    return {"backend": engine.info.backend, "kernel": engine.info.kernel}


def _handle_errors(app: FastAPI, metrics: Metrics) -> None:
    def respond(reply: ErrorReply) -> Response:
        return JSONResponse(reply.body, reply.status, reply.headers)

    async def service_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)  # registered for nothing else
        metrics.count_failure(error.code)
        return respond(reply_for(error, request.url.path))

    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # registered for nothing else
        allowed = (error.headers or {}).get("Allow")
        return respond(routing_error(error.status_code, request.url.path, allowed))

    app.add_exception_handler(ServiceError, service_error)
    app.add_exception_handler(HTTPException, http_error)


def _describe(metrics: Metrics, health: Health, engine: Engine) -> None:
    queue, info = health.queue, engine.info
    metrics.gauge("te_queue_size", "Inputs waiting", lambda: len(queue))
    metrics.gauge("osa_queued_tokens", "Tokens waiting", lambda: queue.tokens)
    metrics.gauge("osa_backlog_seconds", "Time the waiting tokens will take", queue.backlog_s)
    metrics.gauge("osa_in_flight_requests", "Requests accepted", lambda: health.in_flight)
    metrics.describe(
        version=version("osa-encoder"),
        backend=info.backend,
        device=info.device,
        kernel=info.kernel,
        mixer=info.mixer,
        sha=info.model_sha256[:12],
    )


def _info(settings: Settings, engine: Engine, embedder: Embedder, invariant: bool) -> Info:
    about = engine.info
    return Info(
        model_id=settings.model.name,
        model_sha=about.model_sha256,
        model_dtype=about.dtype,
        model_type=ModelType(embedding=Pooling(pooling=about.pooling)),
        max_concurrent_requests=settings.server.max_concurrent_requests,
        max_input_length=embedder.max_input_length,
        max_batch_tokens=settings.batching.max_batch_tokens,
        max_batch_requests=settings.batching.max_batch_requests,
        max_client_batch_size=settings.batching.max_client_batch_size,
        auto_truncate=settings.model.auto_truncate,
        tokenization_workers=settings.batching.tokenization_workers,
        version=version("osa-encoder"),
        dimensions=list(about.dimensions),
        backend=about.backend,
        device=about.device,
        kernel=about.kernel,
        mixer=about.mixer,
        batch_invariant=invariant,
    )
