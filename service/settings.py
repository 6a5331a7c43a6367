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
from typing import Any

from pydantic import Field, ValidationError, model_validator

from osa.model.common.suggestions import did_you_mean, explain, field_names
from osa.model.errors import ConfigError
from osa.service.model_settings import ModelFields, ModelSettings, Section, check_model_name
from osa.service.server_settings import (
    AuthSettings,
    BatchingSettings,
    CacheSettings,
    DocumentSettings,
    EngineSettings,
    LogSettings,
    ServerSettings,
    TracingSettings,
)

PREFIX = "OSA_"
NESTED = "__"
CONFIG_VARIABLE = "OSA_CONFIG"
MODELS = "models"


class Settings(Section):
    """All settings of a process."""

    server: ServerSettings = ServerSettings()
    model: ModelSettings = ModelSettings()
    models: dict[str, ModelFields] = Field(
        {}, description="One table for each further model, by name; or for the default one."
    )
    batching: BatchingSettings = BatchingSettings()
    documents: DocumentSettings = DocumentSettings()
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
            check_model_name(name)
            if name in self.model.others:
                raise ValueError(f"models.{name} is a name of model.others too: leave one out")
        table = self.models.get(default)
        if table and "path" in table.model_fields_set & self.model.model_fields_set:
            raise ValueError(f"model.path and models.{default}.path are both set: leave one out")
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
