"""Settings of a process: command line over environment over file over default.

Environment variables are ``OSA_<SECTION>__<FIELD>``, e.g. ``OSA_SERVER__PORT=9000``; an unknown
variable that begins with ``OSA_`` is an error. ``osa config`` prints the result.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from osa.export.formats import FORMATS
from osa.model.common.suggestions import did_you_mean, explain, field_names
from osa.model.errors import ConfigError
from osa.model.kernels import KERNELS
from osa.model.processor import INSTRUCTION_SETS
from osa.service.engines.registry import ENGINES

PREFIX = "OSA_"
NESTED = "__"
CONFIG_VARIABLE = "OSA_CONFIG"
Seconds = Annotated[float, Field(allow_inf_nan=False)]
# names that only the registries know: type checkers cannot read such a Literal
EngineName = Literal["auto", *ENGINES]  # type: ignore[valid-type]
InstructionSet = Literal["auto", *INSTRUCTION_SETS]  # type: ignore[valid-type]
_kernels = dict.fromkeys(["auto", *KERNELS, *(k for f in FORMATS.values() for k in f.kernels)])
KernelName = Literal[*_kernels]  # type: ignore[valid-type]

if TYPE_CHECKING:
    from pydantic import ValidationInfo


class Section(BaseModel):
    """Base of the sections: frozen, without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class ModelSettings(Section):
    """Which model runs, how, and under which limits."""

    path: Path | None = Field(
        None,
        description="Checkpoint, artifact, or directory of them; default is the packaged model.",
    )
    engine: EngineName = Field(
        "auto", description="What runs the model; auto takes the fastest form that runs here."
    )
    name: str = Field("osa-default", min_length=1, description="Name that clients and metrics see.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs.")
    kernel: KernelName = Field(
        "auto",
        description="What computes the attention; auto takes the fastest that can. ONNX artifacts: "
        "native or body.",
    )
    others: dict[str, Path] = Field(
        {}, description="More models by name: a table, name=path,name=path, or JSON."
    )
    prompts: dict[str, str] = Field(
        {}, description="Prompts by name, put before texts; a table, or JSON."
    )
    default_prompt_name: str | None = Field(None, description="Prompt of requests that name none.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="What a checkpoint computes in; auto takes bfloat16 where the processor "
        "multiplies it natively (AMX, AVX-512 BF16, GPUs). Artifacts compute in what they were "
        "exported for.",
    )
    instruction_set: InstructionSet = Field(
        "auto",
        description="Best instruction set to use of an x86 processor; auto takes the best that it "
        "has. A lesser one shows what a lesser processor would do (not in ONNX Runtime).",
    )
    max_input_length: int | None = Field(
        None, ge=3, description="Longest input [tokens]; default is the model's own limit."
    )
    auto_truncate: bool = Field(
        True, description="Truncate longer inputs unless a request objects."
    )

    @field_validator("others", "prompts", mode="before")
    @classmethod
    def _parse(cls, value: Any, info: ValidationInfo) -> Any:
        """Read JSON, or ``name=path,name=path`` of ``others``."""
        if not isinstance(value, str):
            return value
        if info.field_name == "prompts" or value.lstrip().startswith("{"):
            return json.loads(value)
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not (name.strip() and path.strip()) for name, _, path in pairs):
            raise ValueError("must be name=path,name=path")
        return {name.strip(): path.strip() for name, _, path in pairs}

    def find_prompt(self, name: str | None) -> str:
        """The prompt of this name, by default that of ``default_prompt_name``; empty for none.

        Raises:
            KeyError: There is no prompt of this name.
        """
        name = self.default_prompt_name if name is None else name
        return "" if name is None else self.prompts[name]

    @model_validator(mode="after")
    def _names(self) -> ModelSettings:
        if self.name in self.others:
            raise ValueError(f"model.others must not hold {self.name!r}, which is model.name")
        if self.default_prompt_name not in (None, *self.prompts):
            raise ValueError(f"default_prompt_name must be one of {', '.join(self.prompts)}")
        return self


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
    batching: BatchingSettings = BatchingSettings()
    auth: AuthSettings = AuthSettings()
    engine: EngineSettings = EngineSettings()
    cache: CacheSettings = CacheSettings()
    tracing: TracingSettings = TracingSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        longest, batch = self.model.max_input_length, self.batching.max_batch_tokens
        if longest is not None and longest > batch:
            raise ValueError(
                f"model.max_input_length ({longest}) must not exceed batching.max_batch_tokens "
                f"({batch}): no batch could hold the longest input"
            )
        if batch > self.batching.max_queue_tokens:
            raise ValueError(
                f"batching.max_batch_tokens ({batch}) must not exceed batching.max_queue_tokens "
                f"({self.batching.max_queue_tokens}): the queue could not fill a batch"
            )
        return self


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge defaults, file, environment and overrides.

    Args:
        overrides: ``section.field`` to value, from the command line.
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
    for name, value in environment.items():
        if name.startswith(PREFIX) and name != CONFIG_VARIABLE:
            section, field = _split_variable(name)
            values.setdefault(section, {})[field] = value
    for dotted, value in (overrides or {}).items():
        section, _, field = dotted.partition(".")
        values.setdefault(section, {})[field] = value
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


def _split_variable(name: str) -> tuple[str, str]:
    """Section and field of an environment variable."""
    section, _, field = name.removeprefix(PREFIX).lower().partition(NESTED)
    known = Settings.model_fields.get(section)
    fields = known.annotation.model_fields if known and known.annotation else {}
    if field not in fields:
        dotted = name.removeprefix(PREFIX).replace(NESTED, ".")
        suggestion = did_you_mean(
            dotted, field_names(Settings), lambda found: PREFIX + found.replace(".", NESTED).upper()
        )
        raise ConfigError(
            f"unknown environment variable {name}: variables are {PREFIX}<SECTION>{NESTED}<FIELD>, "
            f"sections are {', '.join(Settings.model_fields)} (see 'osa config'); in "
            f"Kubernetes set enableServiceLinks: false{suggestion}"
        )
    return section, field
