"""Bodies of the native routes, as text-embeddings-inference has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from osa.service.api.shared_fields import (
    DECODED_SCHEMA,
    DIMENSIONS,
    DIMENSIONS_SCHEMA,
    MODEL_FIELD,
    MODEL_INPUTS_SCHEMA,
    PARSE_SPECIAL,
    TEXT_OR_TEXTS_SCHEMA,
    TEXT_SCHEMA,
    TEXTS_SCHEMA,
    WHOLE_BYTES_SCHEMA,
    EmbedParameters,
    FirstFault,
    IdRows,
    Ids,
    TextOrTexts,
    TextParameters,
    Texts,
    lower_case,
)
from osa.service.api.vector_encoding import EmbeddingType, EncodingFormat


class EmbedRequest(BaseModel):
    """Body of ``POST /embed``. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "anyOf": [
                {"properties": {"embedding_type": {"enum": ["float32", "float16", None]}}},
                {
                    "properties": {
                        "embedding_type": {"enum": ["binary", "ubinary"]},
                        "dimensions": WHOLE_BYTES_SCHEMA,
                    },
                    "required": ["embedding_type"],
                },
                {
                    "properties": {
                        "embedding_type": {"enum": ["int8", "uint8"]},
                        "normalize": {"enum": [True, None]},
                    },
                    "required": ["embedding_type"],
                },
            ],
            "examples": [{"inputs": ["A man is playing a guitar.", "Stocks fell on Tuesday."]}],
        },
    )

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: Annotated[Any, Field(json_schema_extra=MODEL_INPUTS_SCHEMA)] = Field(
        description="One text, one sequence of ids, or a list of such. Ids are taken as they are: "
        "no special tokens are added, and they are ids of this model's own tokenizer. Where /info "
        "has the input_kind features: one sequence of feature vectors, a list of feature_size "
        "numbers each, or several sequences."
    )
    normalize: StrictBool | None = Field(None, description="Unit vectors (default true).")
    truncate: StrictBool | None = Field(
        None, description="Cut inputs that are too long; null takes the server's default."
    )
    truncation_direction: Literal["left", "right"] | None = Field(
        None, description="Side that is cut, in any case (default Right)."
    )
    dimensions: StrictInt | None = Field(
        None, description=DIMENSIONS, json_schema_extra=DIMENSIONS_SCHEMA
    )
    prompt_name: str | None = Field(
        None, description="Name of a prompt that is put before every text; /info lists them."
    )
    parse_special_tokens: StrictBool | None = Field(None, description=PARSE_SPECIAL)
    encoding_format: EncodingFormat | None = Field(
        None,
        description="float (default): lists of numbers; base64: one string a vector, of its "
        "little-endian elements; bytes: the elements alone, shape and type in headers.",
    )
    embedding_type: EmbeddingType | None = Field(
        None,
        description="float32 (default), float16, int8 or uint8 by the model's calibration (unit "
        "vectors of calibrated widths only), or the signs of eight dimensions a byte: ubinary, "
        "and binary, which is less 128; their width is a multiple of 8.",
    )

    _direction = field_validator("truncation_direction", mode="before")(lower_case)


class VertexInstance(EmbedRequest):
    """An embed request that is answered in float32 numbers."""

    encoding_format: Literal["float"] | None = Field(None, description="float, which is default.")
    embedding_type: Literal["float32"] | None = Field(
        None, description="float32, which is default."
    )


class VertexRequest(BaseModel):
    """Body of ``POST /vertex``: embed requests that share their options and their model."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"instances": [{"inputs": "A man is playing a guitar."}]}]},
    )

    instances: Annotated[list[VertexInstance], FirstFault()] = Field(
        description="At least one.", json_schema_extra={"minItems": 1}
    )
    parameters: EmbedParameters | None = Field(
        None, description="Options of the instances that do not say them themselves."
    )


class VertexResponse(BaseModel):
    """Answer of ``/vertex``: that of ``/embed``, one entry per instance."""

    predictions: list[list[list[float]]]


class SimilarityInputs(BaseModel):
    """A sentence, and the sentences to compare it with."""

    source_sentence: str = Field(
        description="At least one character.", json_schema_extra=TEXT_SCHEMA
    )
    sentences: Texts = Field(
        description="At least one; none of them empty.", json_schema_extra=TEXTS_SCHEMA
    )


class SimilarityRequest(BaseModel):
    """Body of ``POST /similarity``."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "inputs": {
                        "source_sentence": "A man is playing a guitar.",
                        "sentences": ["Someone plays music."],
                    }
                }
            ]
        },
    )

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: SimilarityInputs
    parameters: TextParameters | None = Field(None, description="Of all sentences.")


class TokenizeRequest(BaseModel):
    """Body of ``POST /tokenize``."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"inputs": ["A man is playing a guitar."]}]}
    )

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: TextOrTexts = Field(
        description="A text or texts; none of them empty.", json_schema_extra=TEXT_OR_TEXTS_SCHEMA
    )
    add_special_tokens: StrictBool | None = Field(None, description="Default true.")
    parse_special_tokens: StrictBool | None = Field(None, description=PARSE_SPECIAL)


class TokenInfo(BaseModel):
    """A token of ``/tokenize``; ``start`` and ``stop`` are characters, null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class DecodeRequest(BaseModel):
    """Body of ``POST /decode``."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"ids": [[101, 7592, 102]]}]}
    )

    model: Any = Field(None, description=MODEL_FIELD)

    ids: Ids | IdRows = Field(description="At least one.", json_schema_extra=DECODED_SCHEMA)
    skip_special_tokens: StrictBool | None = Field(None, description="Default true.")
