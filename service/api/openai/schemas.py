"""Bodies of the OpenAI-compatible routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from osa.model.config import Task
from osa.service.api.shared_fields import DIMENSIONS, DIMENSIONS_SCHEMA, INPUTS_SCHEMA


class EmbeddingsRequest(BaseModel):
    """Body of ``POST /v1/embeddings``. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"input": ["A man is playing a guitar."], "model": "osa-default"}]
        },
    )

    input: Annotated[Any, Field(json_schema_extra=INPUTS_SCHEMA)] = Field(
        description="One text, one sequence of ids, or a list of such; ids of this model's own "
        "tokenizer."
    )
    model: str | None = Field(
        None, description="Name of a served model; where only one is served, any name."
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, description="float (default), or base64 of little-endian float32."
    )
    dimensions: StrictInt | None = Field(
        None, description=DIMENSIONS, json_schema_extra=DIMENSIONS_SCHEMA
    )
    prompt_name: str | None = Field(
        None,
        description="Name of a prompt that is put before every text; not one of OpenAI's fields, "
        "so that clients send it as an extra one.",
    )
    user: str | None = Field(None, description="Ignored.")


class Embedding(BaseModel):
    """One vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens computed, exactly."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """Body of the answer."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ModelEntry(BaseModel):
    """A model that is served: OpenAI's fields, then ours."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    kind: Task = Field(description="What the model does with a text.")
    dtype: str = Field(description="What it computes in.")
    dimensions: list[int] = Field(description="Widths it was trained for, full width first.")
    any_dimension: bool = Field(description="Whether any width from 1 to full may be asked for.")
    max_input_length: int = Field(description="Longest input [tokens].")
    prompts: list[str] = Field(description="Names of its prompts.")
    default_prompt_name: str | None = Field(
        None, description="Prompt that goes before texts on this route; null for none."
    )


class ModelList(BaseModel):
    """Body of ``GET /v1/models``."""

    object: Literal["list"]
    data: list[ModelEntry]
