"""Sections of the settings that are not about a model: server, batching, keys, engine, logs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from osa.service.model_settings import Section

Seconds = Annotated[float, Field(allow_inf_nan=False)]
ORIGIN = re.compile(r"https?://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
HOST_NAME = re.compile(r"(\*\.)?[a-z0-9._-]+|\[?[0-9a-f:.]+\]?")
PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def _split(value: Any) -> Any:
    """Lists of the command line and the environment: JSON, or separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part for part in map(str.strip, value.split(",")) if part]


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class ServerSettings(Section):
    """The listening socket, limits and time limits."""

    host: str = Field("0.0.0.0", description="Address to listen on.")
    root_path: str = Field(
        "",
        description="Path under which a proxy shows the server, such as /embeddings; requests are "
        "answered with it and without.",
    )
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
    write_timeout_s: Seconds = Field(
        30.0,
        gt=0,
        description="Longest time in which a client may take less than 16 kB of its answer [s].",
    )
    body_memory: int = Field(
        268_435_456,
        ge=1024,
        description="Bodies of all requests that are arriving or being answered, decompressed; "
        "more are answered 429, and the slowest given up; one API key's hold at most as much as "
        "they leave free [bytes].",
    )
    answer_memory: int = Field(
        268_435_456,
        ge=1024,
        description="Answers that clients have not taken yet; beyond it inference is answered 429 "
        "and the slowest clients are disconnected until the rest fit, but none that takes 1 MB/s "
        "or would have all within write_timeout_s [bytes].",
    )
    cors_origins: Names = Field(
        (),
        description="Origins of web pages that may use the server, https://app.example.com; * is "
        "every one.",
    )
    allowed_hosts: Names = Field(
        (),
        description="Host names that requests may be sent to, *.example.com for all below; empty "
        "for any. Addresses and localhost always are.",
    )
    request_timeout_s: Seconds | None = Field(
        None, gt=0, description="Deadline of requests that set none by x-request-timeout-ms [s]."
    )
    max_concurrent_requests: int = Field(
        512, ge=1, description="Inference requests open at once; more are answered 429."
    )
    stall_timeout_s: Seconds = Field(
        120.0,
        gt=0,
        description="A batch that stalls for longer fails the liveness probe [s].",
    )

    @field_validator("host")
    @classmethod
    def _bare_address(cls, host: str) -> str:
        """Without the brackets that an IPv6 address has in a URL."""
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not bare or re.search(r"[\s/\[\]]", bare) or bare.count(":") == 1:
            raise ValueError(
                f"an address or a host name without a port (server.port has it), got {host[:100]!r}"
            )
        return bare

    @field_validator("root_path")
    @classmethod
    def _plain_prefix(cls, path: str) -> str:
        path = path.rstrip("/")
        if not PREFIX.fullmatch(path):
            raise ValueError(f"a path such as /embeddings, got {path[:100]!r}")
        return path

    @field_validator("cors_origins")
    @classmethod
    def _plain_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        origins = tuple(origin.lower().rstrip("/") for origin in origins)
        for origin in origins:
            if origin not in ("*", "null") and not ORIGIN.fullmatch(origin):
                raise ValueError(f"scheme://host[:port] each, or *; got {origin[:100]!r}")
        return origins

    @field_validator("allowed_hosts")
    @classmethod
    def _plain_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        hosts = tuple(host.lower() for host in hosts)
        for host in hosts:
            if not HOST_NAME.fullmatch(host):
                raise ValueError(f"host names without a port, got {host[:100]!r}")
        return hosts


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
    max_queue_tokens: int = Field(
        1_048_576,
        ge=1,
        description="Queued work before 429, and "
        "largest request; half of it for one API key [tokens].",
    )
    max_client_batch_size: int = Field(2048, ge=1, description="Most inputs in one request.")
    tokenization_workers: int = Field(2, ge=1, description="Threads that read bodies.")


class DocumentSettings(Section):
    """Inputs longer than a batch may be: computed in chunks, in turns between batches."""

    max_tokens: int = Field(
        4_194_304,
        ge=1,
        description="Long inputs that wait or are in work, and the largest request of them; more "
        "are answered 429 [tokens].",
    )
    turn_s: Seconds = Field(
        0.005, gt=0, description="Time of a long input's turn between two batches [s]."
    )
    directory: Path | None = Field(
        None,
        description="Where states of long inputs are kept meanwhile, 4 to 8 kB a token of the "
        "packaged model; default is the system's temporary directory.",
    )
    keep_states: bool = Field(
        True,
        description="Keep queries, keys and values there too, not hidden states alone: a fifth "
        "less work for 2.5 to 4 times the disk.",
    )


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
        description="A batch whose thread is idle for so much longer than its tokens should take "
        "is given up, and the engine opened again [s].",
    )
    load_timeout_s: Seconds = Field(
        600.0,
        gt=0,
        description="Longest time that an admin's request may take to load a model [s]; a later "
        "one is dropped.",
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
