"""Bodies of ``/v1/rerank`` and ``/v2/rerank``, as Cohere and Jina have them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, field_validator

from osa.service.api.shared_fields import DOCUMENTS_SCHEMA, TEXT_SCHEMA, Texts

MOST_FIELDS = 64
WORDS = {"true": True, "false": False}


class DocumentsRequest(BaseModel):
    """Body of ``/v1/rerank``. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "model": "my-reranker",
                    "query": "Who plays music?",
                    "documents": ["A man is playing a guitar.", "Stocks fell on Tuesday."],
                    "top_n": 1,
                }
            ]
        },
    )

    model: str | None = Field(
        None, description="Name of a served model; where only one reranks, any name."
    )
    query: str = Field(description="At least one character.", json_schema_extra=TEXT_SCHEMA)
    documents: Annotated[list[Any], Field(json_schema_extra=DOCUMENTS_SCHEMA)] = Field(
        description="Texts, or objects with a text."
    )
    top_n: StrictInt | None = Field(None, ge=1, description="Best documents to return (all).")
    return_documents: bool | None = Field(
        None,
        description="Repeat the documents (default false; true on /v2/rerank).",
        json_schema_extra={"anyOf": [{"type": "boolean"}, {"enum": [*WORDS]}, {"type": "null"}]},
    )
    rank_fields: Texts | None = Field(
        None,
        max_length=MOST_FIELDS,
        description='Fields of objects that are ranked (default ["text"]).',
    )
    max_tokens_per_doc: StrictInt | None = Field(
        None, ge=1, description="Longer documents are cut to this many tokens."
    )
    method: Literal["maxsim"] | None = Field(None, description="As for /rerank.")

    @field_validator("return_documents", mode="before")
    @classmethod
    def _read_words(cls, value: Any) -> Any:
        """Some clients write booleans as words."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str) and value in WORDS:
            return WORDS[value]
        raise ValueError("must be a boolean")


class RankedDocument(BaseModel):
    """A document's relevance."""

    index: int
    relevance_score: float
    document: dict[str, Any] | None = Field(None, description="With text; if it was asked for.")


class TokenUsage(BaseModel):
    """Tokens computed, as Jina counts them."""

    prompt_tokens: int
    total_tokens: int


class Version(BaseModel):
    """Version of the API."""

    version: str


class BilledUnits(BaseModel):
    """What Cohere charges by."""

    search_units: int
    total_tokens: int


class Tokens(BaseModel):
    """Tokens computed, as Cohere counts them."""

    input_tokens: int
    output_tokens: int


class Meta(BaseModel):
    """Cohere's facts of an answer."""

    api_version: Version
    billed_units: BilledUnits
    tokens: Tokens


class DocumentsResponse(BaseModel):
    """Body of the answer, the most relevant document first."""

    id: str
    object: Literal["list"]
    model: str
    results: list[RankedDocument]
    usage: TokenUsage
    meta: Meta
