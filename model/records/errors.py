"""What is wrong with the data, as opposed to the settings."""

from __future__ import annotations

from osa.model.errors import OsaError


class DataError(OsaError):
    """Training data that is damaged, or bad beyond what was allowed."""

    code = "data"
