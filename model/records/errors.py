"""Errors in the data, as opposed to the settings."""

from __future__ import annotations

from osa.model.errors import OsaError


class DataError(OsaError):
    """Data that are damaged, or have more bad records than allowed."""

    code = "data"
