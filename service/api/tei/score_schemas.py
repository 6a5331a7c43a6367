"""Bodies of the routes of rerankers, classifiers and sparse models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from osa.service.api.shared_fields import (
    DOCUMENTS_SCHEMA,
    INPUTS_SCHEMA,
    PARSE_SPECIAL,
    TEXT_SCHEMA,
    Texts,
    lower_case,
)

MODEL_OF_KIND = "Name of a served model; anything else means the first that answers this route."
TRUNCATE = "Cut what is too long, of a pair the longer text first; null takes the server's default."
RAW = "Logits, without the sigmoid or softmax (default false)."
PREDICT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        TEXT_SCHEMA,
        {"type": "array", "minItems": 1, "maxItems": 2, "items": TEXT_SCHEMA},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "array", "minItems": 1, "maxItems": 2, "items": TEXT_SCHEMA},
        },
    ]
}
STRINGS: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"type": "string"}}
NULL: dict[str, Any] = {"type": "null"}


def given(name: str, other: str) -> dict[str, Any]:
    """One field is a list, and the other null or missing, in JSON Schema."""
    return {"required": [name], "properties": {name: {"type": "array"}, other: NULL}}


class TruncatedRequest(BaseModel):
    """Fields of every route here. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(extra="ignore")

    model: Any = Field(None, description=MODEL_OF_KIND)
    truncate: StrictBool | None = Field(None, description=TRUNCATE)
    truncation_direction: Literal["left", "right"] | None = Field(
        None, description="Side of a text that is cut, in any case (default Right)."
    )
    parse_special_tokens: StrictBool | None = Field(None, description=PARSE_SPECIAL)

    _direction = field_validator("truncation_direction", mode="before")(lower_case)


class RerankRequest(TruncatedRequest):
    """Body of ``POST /rerank``: a query, and texts or documents."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [given("texts", "documents"), given("documents", "texts")],
            "examples": [
                {
                    "query": "Who plays music?",
                    "texts": ["A man is playing a guitar.", "Stocks fell on Tuesday."],
                }
            ],
        }
    )

    query: str = Field(description="At least one character.", json_schema_extra=TEXT_SCHEMA)
    texts: Texts | None = Field(
        None,
        description="What is ranked by relevance to the query.",
        json_schema_extra={"anyOf": [STRINGS, NULL]},
    )
    raw_scores: StrictBool | None = Field(None, description=RAW)
    return_text: StrictBool | None = Field(None, description="Repeat each text (default false).")
    top_n: StrictInt | None = Field(None, ge=1, description="Best texts to return (all).")
    method: Literal["maxsim"] | None = Field(
        None,
        description="null asks a reranker. maxsim asks an embedding model: the sum over the "
        "query's tokens of the largest cosine with a token of the text.",
    )
    documents: Any = Field(
        None,
        description="In place of texts: then the body and the answer are those of /v1/rerank.",
        json_schema_extra={"anyOf": [DOCUMENTS_SCHEMA, NULL]},
    )


class Rank(BaseModel):
    """A text's relevance."""

    index: int
    score: float
    text: str | None = None


class PredictRequest(TruncatedRequest):
    """Body of ``POST /predict``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": "A man is playing a guitar."}]}
    )

    inputs: Annotated[Any, Field(json_schema_extra=PREDICT_SCHEMA)] = Field(
        description="A text; a pair of texts, as a list of two; or a batch, a list of lists of one "
        "or two texts."
    )
    raw_scores: StrictBool | None = Field(None, description=RAW)


class Prediction(BaseModel):
    """A label and its score."""

    score: float
    label: str


class EmbedSparseRequest(TruncatedRequest):
    """Body of ``POST /embed_sparse``."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": ["A man is playing a guitar."]}]}
    )

    inputs: Annotated[Any, Field(json_schema_extra=INPUTS_SCHEMA)] = Field(
        description="As for /embed."
    )
    prompt_name: str | None = Field(
        None, description="Name of a prompt that is put before every text; /info lists them."
    )


class SparseValue(BaseModel):
    """A weight that is not zero, and the token id it belongs to."""

    index: int
    value: float
