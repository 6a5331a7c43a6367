"""Probes and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from osa.service.health import Health
from osa.service.metrics import CONTENT_TYPE, Metrics
from osa.service.schemas.native import Status


def operation_routes(health: Health, metrics: Metrics) -> APIRouter:
    """Routes bound to the state of the process."""
    router = APIRouter(tags=["Operations"])
    unhealthy: dict[int | str, dict[str, Any]] = {503: {"model": Status}}

    def answer(problem: str | None) -> JSONResponse:
        return JSONResponse({"status": problem or "ok"}, 503 if problem else 200)

    @router.get("/livez", response_model=Status, responses=unhealthy)
    async def livez() -> Response:
        """503 when the process should be restarted."""
        return answer(health.live_problem())

    @router.get("/readyz", response_model=Status, responses=unhealthy)
    @router.get("/ping", response_model=Status, responses=unhealthy)
    @router.get("/health", response_model=Status, responses=unhealthy)
    async def readyz() -> Response:
        """503 when the process should get no traffic."""
        return answer(health.ready_problem())

    @router.get("/metrics", response_class=PlainTextResponse)
    async def scrape() -> Response:
        """Prometheus text exposition."""
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return router
