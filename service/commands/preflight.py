"""Before torch is imported and a model is loaded: models of the hub, paths, engines, packages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from osa.model.common.directories import CONFIG, MODEL_KINDS, PRETRAINED, describe_path, kind_of
from osa.model.common.hub_reference import is_reference
from osa.model.common.model_files import read_file
from osa.model.common.requirements import has_compiler, require
from osa.model.common.widths import width_problem
from osa.model.config import EncoderConfig
from osa.model.download.models import Progress, local_path
from osa.model.errors import ConfigError
from osa.model.prompts import PROMPTS
from osa.service.engines.registry import CHECKPOINT, LIBRARY, engines_for

if TYPE_CHECKING:
    from osa.service.model_settings import ModelSettings
    from osa.service.settings import Settings

LIBRARY_PROMPTS = "config_sentence_transformers.json"
Place = Callable[[str], str]
"""From a field of a model to where it is set."""
CHECKPOINT_ENGINES = [entry.name for entry in engines_for(CHECKPOINT)]


def fetch_models(settings: Settings, progress: Progress = lambda line: None) -> Settings:
    """Settings with directories in place of ``hf:`` references, downloaded where needed.

    Raises:
        ConfigError: A malformed reference, or ``huggingface_hub`` is not installed.
        DownloadError: A model cannot be had, or its files have changed.
    """
    model, refresh = settings.model, settings.model.refresh
    if not any(is_reference(own.path) for own in settings.served()):
        return settings
    others = {
        name: local_path(path, refresh, progress) or path for name, path in model.others.items()
    }
    tables = {
        name: table.model_copy(update={"path": local_path(table.path, refresh, progress)})
        if "path" in table.model_fields_set
        else table
        for name, table in settings.models.items()
    }
    changes = {"path": local_path(model.path, refresh, progress), "others": others}
    return settings.model_copy(update={"model": model.model_copy(update=changes), "models": tables})


def prepare_serving(settings: Settings) -> Settings:
    """Refuse settings that would make ``osa serve`` fail after its model is loaded.

    Returns:
        The settings as of ``fetch_models``; what needs no download is checked before it.

    Raises:
        ConfigError: A path that is not a model, an invalid keys file, packages that are not
            installed, or one port for two protocols.
        DownloadError: As of ``fetch_models``.
    """
    from osa.service.auth.api_keys import KeyFile

    if settings.auth.keys_file is not None:
        KeyFile(settings.auth.keys_file)
    if settings.tracing.endpoint is not None:
        require("tracing.endpoint", "tracing", "opentelemetry.sdk", "opentelemetry.exporter")
    ports = settings.server
    if ports.grpc_port is not None:
        require("server.grpc_port", "grpc", "grpc", "grpc_health")
    if ports.grpc_port and ports.grpc_port == ports.port:
        raise ConfigError(f"server.grpc_port must not be {ports.port}, which is server.port")
    settings = fetch_models(settings)
    for own in settings.served():
        check_model(own, place=partial(settings.place_of, own.name))
    return settings


def check_model(
    settings: ModelSettings, dimensions: int | None = None, place: Place = "model.{}".format
) -> None:
    """Refuse a ``path`` that is not a model, or an engine that cannot run it.

    Args:
        settings: Settings of the model.
        dimensions: Value of ``--dimensions``; checked where the directory has a ``config.json``.
        place: Where a field of the model is set, for messages.

    Raises:
        ConfigError: What is there instead, or which dimensions or prompts are allowed.
    """
    if settings.path is not None:
        _check_directory(place("path"), settings.path)
    _check_engine(settings, place("engine"))
    default = settings.default_prompt_name
    if default not in (None, *settings.prompts) and not brings_prompts(settings.path):
        there = ", ".join(settings.prompts) or "none"
        raise ConfigError(
            f"{place('default_prompt_name')} must be one of the prompts ({there}), got {default!r}"
        )
    file = (settings.path or PRETRAINED) / CONFIG
    if dimensions is None or not file.is_file():
        return
    try:
        known = EncoderConfig.from_json(read_file(file).decode("utf-8")).allowed_dimensions
    except (ConfigError, OSError, UnicodeDecodeError):
        return  # loading reports a damaged model
    problem = width_problem(dimensions, known)
    if problem is not None:
        raise ConfigError(f"--dimensions {problem}")


def brings_prompts(path: Path | None) -> bool:
    """Whether a model, or a member of a collection, has a file with prompts of its own."""
    names = [place + name for place in ("", "*/") for name in (PROMPTS, LIBRARY_PROMPTS)]
    return path is not None and any(any(path.glob(name)) for name in names)


def input_kind(path: Path | None) -> Literal["text", "features"]:
    """What a model takes, by its ``config.json``; of a collection, by that of its first member."""
    path = path or PRETRAINED
    for file in (path / CONFIG, *sorted(path.glob(f"*/{CONFIG}"))):
        try:
            config = EncoderConfig.from_json(read_file(file).decode("utf-8"))
        except (ConfigError, OSError, UnicodeDecodeError):
            continue  # loading reports a damaged model
        return "text" if config.feature_size is None else "features"
    return "text"


def _check_engine(settings: ModelSettings, place: str) -> None:
    """Refuse an engine that does not run this model, or that needs a missing tool."""
    kind = "checkpoint" if settings.path is None else kind_of(settings.path)
    able = [*CHECKPOINT_ENGINES, *([LIBRARY] if kind == "transformer" else [])]
    if kind in MODEL_KINDS and settings.engine not in ("auto", *able):
        raise ConfigError(
            f"{place} is {settings.engine}, but a {kind} runs by {', '.join(able)}: "
            "export it first, 'osa export --help'"
        )
    if settings.engine == LIBRARY:
        require(f"{place} {LIBRARY}", "hf", "sentence_transformers")
    if settings.engine == "compile" and not has_compiler():
        raise ConfigError(
            f"{place} is compile, but there is no C++ compiler: install one, use eager, or "
            "serve an aoti artifact, which was compiled elsewhere"
        )


def _check_directory(name: str, path: Path) -> None:
    if kind_of(path) == "other":
        raise ConfigError(f"{name}: {describe_path(path)}")
