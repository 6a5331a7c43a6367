"""Bodies of the native routes, as text-embeddings-inference has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

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


class EmbedRequest(BaseModel):
    """Body of ``POST /embed``. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(extra="ignore")

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
    encoding_format: Literal["float"] | None = Field(None, description="float.")
    embedding_type: Literal["float32"] | None = Field(None, description="float32.")

    @field_validator("truncation_direction", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("prompt_name")
    @classmethod
    def _no_prompts(cls, value: str | None) -> str | None:
        if value is not None:
            raise ValueError("unknown prompt: this model has none")
        return value


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
