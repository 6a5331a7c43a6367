"""Checks before torch is imported and a model is loaded: paths, engines, packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osa.model.common.directories import CONFIG, MODEL_KINDS, PRETRAINED, describe_path, kind_of
from osa.model.common.requirements import has_compiler, require
from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError
from osa.service.engines.registry import CHECKPOINT, engines_for

if TYPE_CHECKING:
    from osa.service.settings import ModelSettings, Settings

CHECKPOINT_ENGINES = [entry.name for entry in engines_for(CHECKPOINT)]


def check_serving(settings: Settings) -> None:
    """Refuse settings that would make ``osa serve`` fail after its model is loaded.

    Raises:
        ConfigError: A path that is not a model, an invalid keys file, packages of tracing or gRPC
            that are not installed, or one port for two protocols.
    """
    from osa.service.auth.api_keys import KeyFile

    check_model(settings.model)
    for name, path in settings.model.others.items():
        _check_directory(f"model.others.{name}", path)
    if settings.auth.keys_file is not None:
        KeyFile(settings.auth.keys_file)
    if settings.tracing.endpoint is not None:
        require("tracing.endpoint", "tracing", "opentelemetry.sdk", "opentelemetry.exporter")
    ports = settings.server
    if ports.grpc_port is not None:
        require("server.grpc_port", "grpc", "grpc", "grpc_health")
    if ports.grpc_port and ports.grpc_port == ports.port:
        raise ConfigError(f"server.grpc_port must not be {ports.port}, which is server.port")


def check_model(settings: ModelSettings, dimensions: int | None = None) -> None:
    """Refuse a ``model.path`` that is not a model, or an engine that cannot run it.

    Args:
        settings: Settings of the model.
        dimensions: Value of ``--dimensions``; checked where the directory has a ``config.json``.

    Raises:
        ConfigError: What is there instead, or which dimensions are allowed.
    """
    if settings.path is not None:
        _check_directory("model.path", settings.path)
    _check_engine(settings)
    file = (settings.path or PRETRAINED) / CONFIG
    if dimensions is None or not file.is_file():
        return
    try:
        known = EncoderConfig.from_json(file.read_text(encoding="utf-8")).allowed_dimensions
    except (ConfigError, OSError, UnicodeDecodeError):
        return  # loading reports a damaged model
    if dimensions not in known:
        allowed = ", ".join(map(str, known))
        raise ConfigError(f"--dimensions must be one of {allowed}, got {dimensions}")


def _check_engine(settings: ModelSettings) -> None:
    """Refuse an engine that does not run this model, or that needs a missing tool."""
    kind = "checkpoint" if settings.path is None else kind_of(settings.path)
    if kind in MODEL_KINDS and settings.engine not in ("auto", *CHECKPOINT_ENGINES):
        raise ConfigError(
            f"model.engine is {settings.engine}, but a {kind} runs by "
            f"{', '.join(CHECKPOINT_ENGINES)}: export it first, 'osa export --help'"
        )
    if settings.engine == "compile" and not has_compiler():
        raise ConfigError(
            "model.engine is compile, but there is no C++ compiler: install one, use eager, or "
            "serve an aoti artifact, which was compiled elsewhere"
        )


def _check_directory(name: str, path: Path) -> None:
    if kind_of(path) == "other":
        raise ConfigError(f"{name}: {describe_path(path)}")
