"""Body of ``GET /info``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from osa.model.config import Task


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
    served_model_name: str
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    threads: int = Field(description="Threads that compute a batch on a CPU.")
    threads_reason: str = Field(
        description="Where their number comes from: OMP_NUM_THREADS, a CPU quota, or the cores."
    )
    version: str
    sha: str | None = Field(
        None, description="Commit that the image was built of, where its build was told."
    )
    docker_label: str | None = Field(None, description="Of that image: sha-94ac30f.")
    dimensions: list[int] = Field(
        description="Widths that the model was trained for, full width first."
    )
    any_dimension: bool = Field(
        description="Whether dimensions may be any number from 1 to full width; otherwise full "
        "width alone."
    )
    prompts: list[str] = Field(description="Names for prompt_name.")
    default_prompt_name: str | None = Field(
        None, description="Prompt of requests that name none; null where no prompt is applied."
    )
    kind: Task = Field(description="What the model does with a text.")
    models: list[str] = Field(description="Names of all served models, the default first.")
    backend: str
    device: str
    kernel: str = Field(description="What computes the attention.")
    products: str = Field(description="What computes the products with weights.")
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
