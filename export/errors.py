"""Errors of export: subclasses of ``OsaError``, each with a stable code."""

from __future__ import annotations

from osa.model.errors import ConfigError, OsaError


class ExportError(OsaError):
    """A model that cannot be exported as asked, or an artifact that cannot be used here."""

    code = "export"


class OptionError(ExportError, ConfigError):
    """Invalid options of an export."""

    code = "export_option"


class ArtifactError(ExportError):
    """An artifact directory that is incomplete, changed, or of another version."""

    code = "artifact"


class ParityError(ExportError):
    """An artifact whose vectors differ from those of its source."""

    code = "parity"
