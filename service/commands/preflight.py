"""What is refused before torch is imported and a model is loaded: wrong paths, missing packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osa.model.common.directories import CONFIG, PRETRAINED, describe, kind_of
from osa.model.common.requirements import has_compiler, require
from osa.model.config import EncoderConfig
from osa.model.errors import ConfigError

if TYPE_CHECKING:
    from osa.service.settings import ModelSettings, Settings

CHECKPOINT_ENGINES = ("eager", "compile")


def check_serving(settings: Settings) -> None:
    """Refuse what would stop ``osa serve`` after its model has been loaded.

    Raises:
        ConfigError: A model that is none, a keys file that is wrong, or packages of tracing that
            are not installed.
    """
    from osa.service.auth.api_keys import KeyFile

    check_model(settings.model)
    for name, path in settings.model.others.items():
        _check_directory(f"model.others.{name}", path)
    if settings.auth.keys_file is not None:
        KeyFile(settings.auth.keys_file)
    if settings.tracing.endpoint is not None:
        require("tracing.endpoint", "tracing", "opentelemetry.sdk", "opentelemetry.exporter")


def check_model(settings: ModelSettings, dimensions: int | None = None) -> None:
    """Refuse a ``model.path`` that holds nothing that can be run.

    Args:
        settings: Which model.
        dimensions: What ``--dimensions`` asks of it; told here where it has one ``config.json``.

    Raises:
        ConfigError: Saying what is there instead, or which dimensions there are.
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
        return  # a damaged model is told as such when it is loaded
    if dimensions not in known:
        allowed = ", ".join(map(str, known))
        raise ConfigError(f"--dimensions must be one of {allowed}, got {dimensions}")


def _check_engine(settings: ModelSettings) -> None:
    """Refuse an engine that what is there cannot run by, or that needs what is not there."""
    kind = "checkpoint" if settings.path is None else kind_of(settings.path)
    if kind == "checkpoint" and settings.engine not in ("auto", *CHECKPOINT_ENGINES):
        raise ConfigError(
            f"model.engine is {settings.engine}, but a checkpoint runs by "
            f"{', '.join(CHECKPOINT_ENGINES)}: export it first, 'osa export --help'"
        )
    if settings.engine == "compile" and not has_compiler():
        raise ConfigError(
            "model.engine is compile, but there is no C++ compiler: install one, use eager, or "
            "serve an aoti artifact, which was compiled elsewhere"
        )


def _check_directory(name: str, path: Path) -> None:
    if kind_of(path) == "other":
        raise ConfigError(f"{name}: {describe(path)}")
