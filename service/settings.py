"""Settings of a process: command line over environment over file over default.

Environment variables are ``OSA_<SECTION>__<FIELD>``, e.g. ``OSA_SERVER__PORT=9000``; those of a
table of ``models`` are ``OSA_MODELS__<NAME>__<FIELD>``; ``OSA_MODELS`` has all tables as JSON.
An unknown variable that begins with ``OSA_`` is an error. ``osa config`` prints the result.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from osa.model.common.suggestions import did_you_mean, explain, field_names
from osa.model.errors import ConfigError
from osa.service.model_settings import ModelFields, ModelSettings, Section

PREFIX = "OSA_"
NESTED = "__"
CONFIG_VARIABLE = "OSA_CONFIG"
MODELS = "models"
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class ServerSettings(Section):
    """The listening socket, limits and time limits."""

    host: str = Field("0.0.0.0", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int | None = Field(None, ge=0, le=65535, description="Port of gRPC; 0: a free one.")
    payload_limit: int = Field(2_000_000, ge=1024, description="Largest request body [bytes].")
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


class Settings(Section):
    """All settings of a process."""

    server: ServerSettings = ServerSettings()
    model: ModelSettings = ModelSettings()
    models: dict[str, ModelFields] = Field(
        {}, description="One table for each further model, by name; or for the default one."
    )
    batching: BatchingSettings = BatchingSettings()
    auth: AuthSettings = AuthSettings()
    engine: EngineSettings = EngineSettings()
    cache: CacheSettings = CacheSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        batch, default = self.batching.max_batch_tokens, self.model.name
        if "" in self.models:
            raise ValueError("a table of models needs a name: models.NAME.FIELD")
        for name in self.models:
            if name in self.model.others:
                raise ValueError(f"models.{name} is a name of model.others too: leave one out")
        table = self.models.get(default)
        if table and "path" in table.model_fields_set & self.model.model_fields_set:
            raise ValueError(f"model.path and models.{default}.path are both set: leave one out")
        for own in self.served():
            longest = own.max_input_length
            if longest is not None and longest > batch:
                raise ValueError(
                    f"{self.place_of(own.name, 'max_input_length')} ({longest}) must not exceed "
                    f"batching.max_batch_tokens ({batch}): no batch could hold the longest input"
                )
        if batch > self.batching.max_queue_tokens:
            raise ValueError(
                f"batching.max_batch_tokens ({batch}) must not exceed batching.max_queue_tokens "
                f"({self.batching.max_queue_tokens}): the queue could not fill a batch"
            )
        return self

    def named(self, name: str) -> ModelSettings:
        """Settings of the model of this name: its table's, and of ``[model]`` what that lacks."""
        return self.model.named(name, self.models.get(name))

    def served(self) -> list[ModelSettings]:
        """Settings of every model that is served from the start, the default first."""
        names = dict.fromkeys([self.model.name, *self.model.others, *self.models])
        return [self.named(name) for name in names]

    def place_of(self, name: str, field: str) -> str:
        """Where a field of a model is set, for messages."""
        table = self.models.get(name)
        if table is not None and field in table.model_fields_set:
            return f"{MODELS}.{name}.{field}"
        others = field == "path" and name in self.model.others
        return f"model.others.{name}" if others else f"model.{field}"


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge defaults, file, environment and overrides.

    Args:
        overrides: ``section.field`` to value, from the command line; ``models`` for all its tables.
        environment: Default is the process's.
        file: TOML file; default is the one that ``OSA_CONFIG`` names, if any.

    Raises:
        ConfigError: An unknown or invalid setting, and what is allowed; or an unreadable file.
    """
    environment = os.environ if environment is None else environment
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    values: dict[str, dict[str, Any]] = {}
    if file is not None:
        for section, fields in _read(file).items():
            if not isinstance(fields, dict):
                suggestion = did_you_mean(section, field_names(Settings))
                raise ConfigError(f"{file}: {section} must be a section ([{section}]){suggestion}")
            values[section] = dict(fields)
    for name in sorted(environment):  # OSA_MODELS before OSA_MODELS__NAME__FIELD
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
            section, field = _split_variable(name, values.get(MODELS, {}))
            _put(values, section, field, environment[name])
    for dotted, value in (overrides or {}).items():
        section, _, field = dotted.partition(".")
        _put(values, section, field, value)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, Settings, "settings")) from error


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error


def _put(values: dict[str, dict[str, Any]], section: str, field: str, value: Any) -> None:
    """Set a field; of ``models`` that of a table (``NAME.FIELD``), or without one all tables."""
    if section != MODELS:
        values.setdefault(section, {})[field] = value
        return
    if not field:
        try:
            values[MODELS] = json.loads(value) if isinstance(value, str) else dict(value)
        except ValueError as error:
            raise ConfigError(f"{MODELS} must be JSON, tables by name: {error}") from error
        return
    name, _, field = field.rpartition(".")
    if not name:
        raise ConfigError(
            f"a table of {MODELS} has a name: {MODELS}.NAME.FIELD, got {MODELS}.{field}"
        )
    tables = values.setdefault(MODELS, {})
    if not isinstance(tables, dict) or not isinstance(tables.get(name, {}), dict):
        raise ConfigError(f"{MODELS}.{name}.{field}: {MODELS} must be tables by name")
    tables[name] = {**tables.get(name, {}), field: value}


def _split_variable(name: str, tables: Iterable[str]) -> tuple[str, str]:
    """Section and field of an environment variable; ``tables`` are the names of models so far."""
    section, _, field = name.removeprefix(PREFIX).lower().partition(NESTED)
    if section == MODELS:
        model, _, part = field.rpartition(NESTED)
        if not field and name == PREFIX + MODELS.upper():
            return section, ""
        if model and part in ModelFields.model_fields:
            spelt = next((table for table in tables if table.lower() == model), model)
            return section, f"{spelt}.{part}"
    else:
        known = Settings.model_fields.get(section)
        if known and known.annotation and field in known.annotation.model_fields:
            return section, field
    dotted = name.removeprefix(PREFIX).replace(NESTED, ".")
    suggestion = did_you_mean(
        dotted, field_names(Settings), lambda found: PREFIX + found.replace(".", NESTED).upper()
    )
    raise ConfigError(
        f"unknown environment variable {name}: variables are {PREFIX}<SECTION>{NESTED}<FIELD>, "
        f"sections are {', '.join(Settings.model_fields)} (see 'osa config'); in "
        f"Kubernetes set enableServiceLinks: false{suggestion}"
    )
