"""Bodies of the native routes, as text-embeddings-inference has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from osa.service.encoding import EmbeddingType, EncodingFormat

INPUTS_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}},
        {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}},
        },
    ]
}


def lower_case(value: Any) -> Any:
    """Names are taken in any case."""
    return value.lower() if isinstance(value, str) else value


class EmbedRequest(BaseModel):
    """Body of ``POST /embed``. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"inputs": ["A man is playing a guitar.", "Stocks fell on Tuesday."]}]
        },
    )

    inputs: Annotated[Any, Field(json_schema_extra=INPUTS_SCHEMA)] = Field(
        description="One text, texts, one sequence of ids, or sequences of ids. Ids are taken as "
        "they are: no special tokens are added."
    )
    normalize: StrictBool | None = Field(None, description="Unit vectors (default true).")
    truncate: StrictBool | None = Field(
        None, description="Cut inputs that are too long; null takes the server's default."
    )
    truncation_direction: Literal["left", "right"] | None = Field(
        None, description="Side that is cut, in any case (default Right)."
    )
    dimensions: StrictInt | None = Field(
        None, description="Leading dimensions to return; see /info for those allowed."
    )
    prompt_name: str | None = Field(None, description="Name of a prompt; this model has none.")
    encoding_format: EncodingFormat | None = Field(
        None,
        description="float (default): lists of numbers; base64: one string a vector, of its "
        "little-endian elements; bytes: the elements alone, shape and type in headers.",
    )
    embedding_type: EmbeddingType | None = Field(
        None,
        description="float32 (default), float16, or the signs of eight dimensions a byte: ubinary, "
        "and binary, which is less 128.",
    )

    _direction = field_validator("truncation_direction", mode="before")(lower_case)

    @field_validator("prompt_name")
    @classmethod
    def _no_prompts(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError("unknown prompt: this model has none")
        return value


class VertexRequest(BaseModel):
    """Body of ``POST /vertex``: embed requests that share their options."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"instances": [{"inputs": "A man is playing a guitar."}]}]},
    )

    instances: list[EmbedRequest] = Field(description="At least one.")


class VertexResponse(BaseModel):
    """Body of the answer of ``/vertex``: what ``/embed`` answers, an entry an instance."""

    predictions: list[list[list[float]]]


class SimilarityInputs(BaseModel):
    """A sentence, and those that it is compared with."""

    source_sentence: str = Field(description="At least one character.")
    sentences: list[str] = Field(description="At least one; none of them empty.")


class SimilarityParameters(BaseModel):
    """How texts are cut."""

    model_config = ConfigDict(extra="ignore")

    truncate: StrictBool | None = None
    truncation_direction: Literal["left", "right"] | None = None

    _direction = field_validator("truncation_direction", mode="before")(lower_case)


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

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None


class TokenizeRequest(BaseModel):
    """Body of ``POST /tokenize``."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"inputs": ["A man is playing a guitar."]}]}
    )

    inputs: str | list[str] = Field(description="A text or texts; none of them empty.")
    add_special_tokens: StrictBool | None = Field(None, description="Default true.")


class TokenInfo(BaseModel):
    """A token of ``/tokenize``: characters from ``start`` to ``stop``, none of special ones."""

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

    ids: list[StrictInt] | list[list[StrictInt]] = Field(description="At least one.")
    skip_special_tokens: StrictBool | None = Field(None, description="Default true.")


class ErrorBody(BaseModel):
    """Every failure of a native route."""

    error: str
    error_type: Literal[
        "Empty", "Validation", "Overloaded", "Unhealthy", "Timeout", "Cancelled", "Backend"
    ]


class Pooling(BaseModel):
    """How tokens become one vector."""

    pooling: str


class ModelType(BaseModel):
    """What the model does."""

    embedding: Pooling


class Info(BaseModel):
    """Body of ``GET /info``: text-embeddings-inference's fields, then ours."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    dimensions: list[int]
    backend: str
    device: str
    kernel: str
    mixer: str
    batch_invariant: bool


class Status(BaseModel):
    """Body of the probes."""

    status: str
