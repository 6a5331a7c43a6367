"""Probes and metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel

from osa.service.api.vector_encoding import JSON
from osa.service.models.health import Health
from osa.service.observability.metrics import CONTENT_TYPE, Metrics


class Status(BaseModel):
    """Body of the probes."""

    status: str


def operation_routes(health: Health, metrics: Metrics) -> APIRouter:
    """Routes bound to the state of the process."""
    router = APIRouter(tags=["Operations"])

    def unhealthy(why: str) -> dict[int | str, dict[str, Any]]:
        example = {JSON: {"example": {"status": why}}}
        return {503: {"model": Status, "description": "The status says why", "content": example}}

    def answer(problem: str | None) -> JSONResponse:
        return JSONResponse({"status": problem or "ok"}, 503 if problem else 200)

    @router.get(
        "/livez", summary="Whether the process lives", response_model=Status,
        responses=unhealthy("one batch has been running for 121 s"),
    )  # fmt: skip
    async def livez() -> Response:
        """503 when the process should be restarted."""
        return answer(health.live_problem())

    async def readyz() -> Response:
        """503 when the process should get no traffic."""
        return answer(health.ready_problem())

    for path, whose in (
        ("/readyz", ""),
        ("/health", ", for TEI's clients"),
        ("/ping", ", for SageMaker"),
    ):
        router.add_api_route(
            path, readyz, summary=f"Whether traffic is wanted{whose}", response_model=Status,
            responses=unhealthy("draining"), 
        )  # fmt: skip

    @router.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)
    async def scrape() -> Response:
        """Prometheus text exposition."""
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return router
