"""Bodies of the routes for vectors of tokens and of chunks of documents."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from osa.model.documents.limits import CHUNK_TOKENS, MOST_VECTORS
from osa.service.api.errors.examples import DIMENSIONS as WIDTHS
from osa.service.api.errors.examples import missing
from osa.service.api.openapi import inference
from osa.service.api.shared_fields import (
    DIMENSIONS,
    DIMENSIONS_SCHEMA,
    MODEL_FIELD,
    MODEL_INPUTS_SCHEMA,
    PARSE_SPECIAL,
    TEXT_OR_TEXTS_SCHEMA,
    StrictBody,
    TextOrTexts,
    lower_case,
)
from osa.service.api.streaming import NDJSON
from osa.service.api.tei.errors import NATIVE
from osa.service.api.vector_encoding import BYTES, JSON, EmbeddingType, EncodingFormat

KIND = (
    "float32 (default), float16, or the signs of eight dimensions a byte: ubinary, and binary, "
    "which is less 128."
)
NUMBERS = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
TOKENS_ANSWER = inference(
    NATIVE,
    422,
    samples={**missing("inputs"), **WIDTHS},
    description="Vectors of the tokens of each input: a list of lists, or a base64 string of their "
    "elements in row-major order, or bytes with shape, type and lengths in headers",
    content={
        JSON: {
            "schema": {
                "type": "array",
                "items": {"anyOf": [NUMBERS, {"type": "string", "format": "byte"}]},
            }
        },
        BYTES: {"schema": {"type": "string", "format": "binary"}},
        NDJSON: {
            "schema": {"type": "string", "description": "A JSON object a line, one an input."},
            "example": '{"index":0,"embeddings":[[0.0125,-0.0421],[0.0514,0.0082]]}\n',
        },
    },
)
CHUNKS_ANSWER = inference(
    NATIVE,
    422,
    samples={**missing("inputs"), **WIDTHS},
    content={
        NDJSON: {
            "schema": {
                "type": "string",
                "description": "A JSON object a line, one a document, with its chunks; or, where "
                "vectors were asked for, with its vectors.",
            },
            "example": '{"index":0,"chunks":[{"start":0,"end":12,"embedding":[0.0125]}]}\n',
        },
    },
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
    encoding_format: EncodingFormat | None = Field(
        None,
        description="float (default): lists of numbers; base64: one string an input, of the "
        "little-endian elements of its vectors [n, E]; bytes: the vectors of all inputs end to "
        "end, with shape, type and the n of each in headers.",
    )
    embedding_type: EmbeddingType | None = Field(None, description=KIND)

    _direction = field_validator("truncation_direction", mode="before")(lower_case)


class ChunkingOptions(StrictBody):
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
    size: StrictInt = Field(CHUNK_TOKENS, ge=1, description="Most tokens of a chunk.")
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
                },
                {"inputs": "A long document. Of many parts.", "vectors": 8},
            ],
            "anyOf": [  # vectors of groups are unit vectors
                {"properties": {"vectors": {"type": "null"}}},
                {"properties": {"normalize": {"enum": [True, None]}}},
            ],
        },
    )

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: TextOrTexts = Field(
        description="A document or documents; none of them empty.",
        json_schema_extra=TEXT_OR_TEXTS_SCHEMA,
    )
    chunking: ChunkingOptions | None = Field(
        None, description=f"Default: {CHUNK_TOKENS} tokens each."
    )
    vectors: StrictInt | None = Field(
        None,
        ge=1,
        le=MOST_VECTORS,
        description="Most vectors of a document: its chunks in so many groups of similar ones, "
        "with the direction of each group's sum. Default: a vector for each chunk.",
    )
    return_text: StrictBool | None = Field(None, description="Repeat each chunk's text.")
    normalize: StrictBool | None = Field(
        None, description="Unit vectors (default true; nothing else together with vectors)."
    )
    truncate: StrictBool | None = None
    dimensions: StrictInt | None = Field(
        None, description=DIMENSIONS, json_schema_extra=DIMENSIONS_SCHEMA
    )
    parse_special_tokens: StrictBool | None = Field(None, description=PARSE_SPECIAL)
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="float (default): lists of numbers; base64: one string a vector."
    )
    embedding_type: EmbeddingType | None = Field(None, description=KIND)


class ChunkEmbedding(BaseModel):
    """A chunk: characters [start, end) of its text, and its vector."""

    start: int
    end: int
    text: str | None = None
    embedding: list[float] | str


class TextRange(BaseModel):
    """Characters [start, end) of a text."""

    start: int
    end: int
    text: str | None = None


class DocumentVector(BaseModel):
    """One of a document's vectors, what it stands for, and its share of the chunks' tokens."""

    ranges: list[TextRange]
    weight: float
    embedding: list[float] | str
