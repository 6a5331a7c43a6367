"""Bodies of the routes for vectors of tokens and of chunks of documents."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from osa.service.api.shared_fields import (
    DIMENSIONS,
    DIMENSIONS_SCHEMA,
    MODEL_FIELD,
    MODEL_INPUTS_SCHEMA,
    PARSE_SPECIAL,
    TEXT_OR_TEXTS_SCHEMA,
    lower_case,
)

SPANS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": {"type": "integer", "minimum": 0},
    },
}


class EmbedAllRequest(BaseModel):
    """Body of ``POST /embed_all``. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"inputs": ["A man is playing a guitar."]}]}
    )

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: Any = Field(description="As for /embed.", json_schema_extra=MODEL_INPUTS_SCHEMA)
    normalize: StrictBool | None = Field(
        None, description="Unit vectors (default false: their mean is the text's own vector)."
    )
    truncate: StrictBool | None = None
    truncation_direction: Literal["left", "right"] | None = None
    dimensions: StrictInt | None = Field(
        None, description=DIMENSIONS, json_schema_extra=DIMENSIONS_SCHEMA
    )
    parse_special_tokens: StrictBool | None = Field(None, description=PARSE_SPECIAL)

    _direction = field_validator("truncation_direction", mode="before")(lower_case)


class ChunkingOptions(BaseModel):
    """Where documents are cut."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "oneOf": [
                {
                    "properties": {
                        "strategy": {"enum": ["tokens", "sentences"]},
                        "spans": {"type": "null"},
                    }
                },
                {
                    "properties": {"strategy": {"const": "spans"}, "spans": {"type": "array"}},
                    "required": ["strategy", "spans"],
                },
            ]
        },
    )

    strategy: Literal["tokens", "sentences", "spans"] = "tokens"
    size: StrictInt = Field(256, ge=1, description="Most tokens of a chunk.")
    overlap: StrictInt = Field(
        0, ge=0, description="Tokens shared by windows (tokens); fewer than size."
    )
    spans: list[Any] | None = Field(
        None,
        description="For spans: characters [start, end) of every chunk, a list for each input; for "
        "one text that list itself.",
        json_schema_extra={
            "anyOf": [SPANS_SCHEMA, {"type": "array", "items": SPANS_SCHEMA}, {"type": "null"}]
        },
    )


class EmbedChunksRequest(BaseModel):
    """Body of ``POST /embed_chunks``."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "inputs": "The cat sat. The dog ran.",
                    "chunking": {"strategy": "sentences"},
                    "return_text": True,
                }
            ]
        },
    )

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: str | list[str] = Field(
        description="A document or documents; none of them empty.",
        json_schema_extra=TEXT_OR_TEXTS_SCHEMA,
    )
    chunking: ChunkingOptions | None = Field(None, description="Default: 256 tokens each.")
    return_text: StrictBool | None = Field(None, description="Repeat each chunk's text.")
    normalize: StrictBool | None = Field(None, description="Unit vectors (default true).")
    truncate: StrictBool | None = None
    dimensions: StrictInt | None = Field(
        None, description=DIMENSIONS, json_schema_extra=DIMENSIONS_SCHEMA
    )
    parse_special_tokens: StrictBool | None = Field(None, description=PARSE_SPECIAL)


class ChunkEmbedding(BaseModel):
    """A chunk: characters [start, end) of its text, and its vector."""

    start: int
    end: int
    text: str | None = None
    embedding: list[float]
