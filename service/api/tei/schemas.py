"""Bodies of the native routes, as text-embeddings-inference has them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from osa.model.config import Task
from osa.service.api.shared_fields import (
    DECODED_SCHEMA,
    MODEL_FIELD,
    MODEL_INPUTS_SCHEMA,
    TEXT_OR_TEXTS_SCHEMA,
    TEXT_SCHEMA,
    TEXTS_SCHEMA,
    FirstFault,
    IdRows,
    Ids,
    TextOrTexts,
    Texts,
    lower_case,
)
from osa.service.api.vector_encoding import EmbeddingType, EncodingFormat


class EmbedRequest(BaseModel):
    """Body of ``POST /embed``. Unknown fields are ignored; null means the default."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"inputs": ["A man is playing a guitar.", "Stocks fell on Tuesday."]}]
        },
    )

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: Annotated[Any, Field(json_schema_extra=MODEL_INPUTS_SCHEMA)] = Field(
        description="One text, texts, one sequence of ids, or sequences of ids. Ids are taken as "
        "they are: no special tokens are added. Where /info has the input_kind features: one "
        "sequence of feature vectors, a list of feature_size numbers each, or several sequences."
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
    prompt_name: str | None = Field(
        None, description="Name of a prompt that is put before every text; /info lists them."
    )
    encoding_format: EncodingFormat | None = Field(
        None,
        description="float (default): lists of numbers; base64: one string a vector, of its "
        "little-endian elements; bytes: the elements alone, shape and type in headers.",
    )
    embedding_type: EmbeddingType | None = Field(
        None,
        description="float32 (default), float16, int8 or uint8 by the model's calibration (unit "
        "vectors only), or the signs of eight dimensions a byte: ubinary, "
        "and binary, which is less 128.",
    )

    _direction = field_validator("truncation_direction", mode="before")(lower_case)


class VertexRequest(BaseModel):
    """Body of ``POST /vertex``: embed requests that share their options."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"instances": [{"inputs": "A man is playing a guitar."}]}]},
    )

    instances: Annotated[list[EmbedRequest], FirstFault()] = Field(
        description="At least one.", json_schema_extra={"minItems": 1}
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

    model: Any = Field(None, description=MODEL_FIELD)

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None


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


class Pooling(BaseModel):
    """How tokens become one vector."""

    pooling: str


class Embeds(BaseModel):
    """An embedding model; of a sparse model the pooling is splade."""

    embedding: Pooling


class Labels(BaseModel):
    """A classifier's labels by their places, and the other way round."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class Reranks(BaseModel):
    """A reranker, which has one label."""

    reranker: Labels


class Classifies(BaseModel):
    """A classifier."""

    classifier: Labels


ModelType = Embeds | Reranks | Classifies
"""What the model does; the name of its one field."""


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
    prompts: list[str] = Field(description="Names for prompt_name.")
    default_prompt_name: str | None = Field(
        None, description="Prompt of requests that name none; null where no prompt is applied."
    )
    kind: Task = Field(description="What the model does with a text.")
    models: list[str] = Field(description="Names of all served models, the default first.")
    backend: str
    device: str
    kernel: str
    mixer: str
    batch_invariant: bool = Field(
        description="Whether a vector has the same bits alone and in any batch, as was tried at "
        "the start."
    )
    batch_invariant_reason: str | None = Field(
        None, description="Why batch_invariant is false; null where it is true."
    )
    packed: bool = Field(
        description="Whether a batch is computed end to end, without padding to its longest text."
    )
    member: str | None = Field(
        None,
        description="Where model.path is a directory of checkpoints and artifacts: the one of them "
        "that is served.",
    )
    input_kind: Literal["text", "features"] = Field(
        description="What /embed takes: texts and token ids, or sequences of feature vectors."
    )
    feature_size: int | None = Field(
        None, description="Numbers in a feature vector; null where input_kind is text."
    )
    artifact: dict[str, Any] | None = Field(
        None, description="Manifest of the artifact that is served; null for a checkpoint."
    )
