"""Bodies of the admin routes."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class LoadRequest(BaseModel):
    """Body of ``POST /admin/models/{name}``."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"path": "/models/law-2"}]}
    )

    path: Path | None = Field(
        None, description="Checkpoint, artifact, or directory of them, where the server runs; null "
        "is the packaged model."
    )  # fmt: skip
