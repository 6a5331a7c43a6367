"""What is refused before torch is imported and a model is loaded: wrong paths, missing packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osa.model.directories import describe, kind_of
from osa.model.errors import ConfigError
from osa.model.requirements import require

if TYPE_CHECKING:
    from osa.service.settings import ModelSettings, Settings


def check_serving(settings: Settings) -> None:
    """Refuse what would stop ``osa serve`` after its model has been loaded.

    Raises:
        ConfigError: A model that is none, a keys file that is wrong, or packages of tracing that
            are not installed.
    """
    from osa.service.keys import KeyFile

    check_model(settings.model)
    for name, path in settings.model.others.items():
        _check_directory(f"model.others.{name}", path)
    if settings.auth.keys_file is not None:
        KeyFile(settings.auth.keys_file)
    if settings.tracing.endpoint is not None:
        require("tracing.endpoint is set, which", "tracing", "opentelemetry")


def check_model(settings: ModelSettings) -> None:
    """Refuse a ``model.path`` that holds nothing that can be run.

    Raises:
        ConfigError: Saying what is there instead.
    """
    if settings.path is not None:
        _check_directory("model.path", settings.path)


def _check_directory(name: str, path: Path) -> None:
    if kind_of(path) == "other":
        raise ConfigError(f"{name}: {describe(path)}")
