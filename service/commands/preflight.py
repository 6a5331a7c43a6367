"""Before torch is imported and a model is loaded: models of the hub, paths, engines, packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from osa.model.common.directories import CONFIG, MODEL_KINDS, PRETRAINED, describe_path, kind_of
from osa.model.common.hub_reference import is_reference
from osa.model.common.requirements import has_compiler, require
from osa.model.config import EncoderConfig
from osa.model.download.models import Progress, local_path
from osa.model.errors import ConfigError
from osa.service.engines.registry import CHECKPOINT, engines_for

if TYPE_CHECKING:
    from osa.service.settings import ModelSettings, Settings

CHECKPOINT_ENGINES = [entry.name for entry in engines_for(CHECKPOINT)]


def fetch_models(settings: Settings, progress: Progress = lambda line: None) -> Settings:
    """Settings with directories in place of ``hf:`` references, downloaded where needed.

    Raises:
        ConfigError: A malformed reference, or ``huggingface_hub`` is not installed.
        DownloadError: A model cannot be had, or its files have changed.
    """
    model, refresh = settings.model, settings.model.refresh
    if not any(map(is_reference, (model.path, *model.others.values()))):
        return settings
    others = {
        name: local_path(path, refresh, progress) or path for name, path in model.others.items()
    }
    changes = {"path": local_path(model.path, refresh, progress), "others": others}
    return settings.model_copy(update={"model": model.model_copy(update=changes)})


def prepare_serving(settings: Settings) -> Settings:
    """Refuse settings that would make ``osa serve`` fail after its model is loaded.

    Returns:
        The settings as of ``fetch_models``; what needs no download is checked before it.

    Raises:
        ConfigError: A path that is not a model, an invalid keys file, or packages that are not
            installed.
        DownloadError: As of ``fetch_models``.
    """
    from osa.service.auth.api_keys import KeyFile

    if settings.auth.keys_file is not None:
        KeyFile(settings.auth.keys_file)
    if settings.tracing.endpoint is not None:
        require("tracing.endpoint", "tracing", "opentelemetry.sdk", "opentelemetry.exporter")
    settings = fetch_models(settings)
    check_model(settings.model)
    for name, path in settings.model.others.items():
        _check_directory(f"model.others.{name}", path)
    return settings


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
