"""Sections of the settings that are not about a model: server, batching, keys, engine, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from osa.service.model_settings import Section

Seconds = Annotated[float, Field(allow_inf_nan=False)]


class ServerSettings(Section):
    """The listening socket, limits and time limits."""

    host: str = Field("0.0.0.0", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int | None = Field(None, ge=0, le=65535, description="Port of gRPC; 0: a free one.")
    payload_limit: int = Field(2_000_000, ge=1024, description="Largest request body [bytes].")
    answer_limit: int = Field(
        64_000_000,
        ge=65536,
        description="Largest answer, and longest line of a streamed one [bytes].",
    )
    keep_alive_s: int = Field(
        75,
        ge=1,
        description="Time that a connection may be idle, or take over the head of a request [s].",
    )
    drain_timeout_s: Seconds = Field(
        30.0, ge=0, description="Longest time that SIGTERM waits for open requests [s]."
    )
    body_timeout_s: Seconds = Field(
        30.0, gt=0, description="Longest time a body may take to arrive [s]."
    )
    request_timeout_s: Seconds | None = Field(
        None, gt=0, description="Deadline of requests that set none by x-request-timeout-ms [s]."
    )
    max_concurrent_requests: int = Field(
        512, ge=1, description="Inference requests open at once; more are answered 429."
    )
    stall_timeout_s: Seconds = Field(
        120.0, gt=0, description="A batch that takes longer fails the liveness probe [s]."
    )


class BatchingSettings(Section):
    """How inputs are gathered into batches."""

    max_batch_tokens: int = Field(32768, ge=1, description="Largest batch [tokens].")
    target_batch_s: float = Field(
        0.05,
        gt=0,
        description="Longest time that a batch should take at the measured rate [s]: short ones "
        "fit a CPU's caches and do less for clients that have left.",
    )
    max_batch_requests: int = Field(512, ge=1, description="Largest batch [inputs].")
    max_queue_tokens: int = Field(1_048_576, ge=1, description="Queued work before 429 [tokens].")
    max_client_batch_size: int = Field(2048, ge=1, description="Most inputs in one request.")
    tokenization_workers: int = Field(2, ge=1, description="Threads that read bodies.")


class AuthSettings(Section):
    """Who may use the server."""

    keys_file: Path | None = Field(
        None,
        description="TOML file of hashed API keys and their quotas ('osa key' makes entries), read "
        "again when it changes; without it everybody may come in, and nobody may exchange models.",
    )


class EngineSettings(Section):
    """Supervision of the engine."""

    hang_timeout_s: Seconds = Field(
        4.0,
        gt=0,
        description="A batch that takes so much longer than its tokens should is given up, and "
        "the engine opened again [s].",
    )


class CacheSettings(Section):
    """Cache of vectors by input."""

    max_bytes: int = Field(0, ge=0, description="Memory of the exact cache [bytes]; 0 is off.")


class TracingSettings(Section):
    """OpenTelemetry traces."""

    endpoint: str | None = Field(
        None, description="OTLP/HTTP address, http://collector:4318/v1/traces; none is off."
    )
    service_name: str = Field("osa", min_length=1, description="service.name of the spans.")
    sample_ratio: float = Field(
        1.0, ge=0, le=1, description="Share of traces that begin here and are sent."
    )


class LogSettings(Section):
    """Logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    format: Literal["json", "text"] = Field("json", description="One JSON object a line, or text.")
