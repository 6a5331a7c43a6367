"""Bodies of the Open Inference Protocol (KServe v2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from osa.model.config import Task
from osa.service.api.shared_fields import EmbedParameters, FirstFault

MOST_TENSORS = 16
"""Of a request; no model has more than four, and each is named once."""
SHARED_MEMORY = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


def refuse_shared_memory(parameters: Any) -> Any:
    """Tensors travel in the body alone."""
    for name in SHARED_MEMORY if isinstance(parameters, dict) else ():
        if parameters.get(name) is not None:
            raise ValueError(f"{name}: this server has no shared memory, send tensors in the body")
    return parameters


class InputParameters(BaseModel):
    """What is said of an input tensor. Unknown parameters are ignored."""

    model_config = ConfigDict(extra="ignore")

    binary_data_size: StrictInt | None = Field(
        None, ge=0, description="Bytes of this tensor behind the JSON, instead of data."
    )


class InputTensor(BaseModel):
    """A tensor of a request."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(
        json_schema_extra={
            "enum": ["text", "text_pair", "input_ids", "attention_mask", "features", "lengths"]
        },
        description="text, text_pair, input_ids or attention_mask; of feature models features or "
        "lengths.",
    )
    shape: Annotated[list[StrictInt], FirstFault()] = Field(
        json_schema_extra={
            "minItems": 1,
            "maxItems": 3,
            "items": {"type": "integer", "minimum": 0},
        },
        description="Texts: [n] or [n, 1]; input_ids and attention_mask: [n, t]; features: "
        "[N, F], the rows of all sequences end to end, or [S, N, F]; lengths: [S].",
    )
    datatype: str = Field(
        json_schema_extra={"enum": ["BYTES", "INT64", "FP32"]},
        description="Texts: BYTES; features: FP32; the others: INT64.",
    )
    parameters: InputParameters | None = None
    data: list[Any] | None = Field(
        None, description="Elements, flat in row-major order or nested as the shape says."
    )

    _memory = field_validator("parameters", mode="before")(refuse_shared_memory)


class OutputParameters(BaseModel):
    """How an output tensor is wanted. Unknown parameters are ignored."""

    model_config = ConfigDict(extra="ignore")

    binary_data: StrictBool | None = Field(None, description="Behind the JSON instead of in it.")
    classification: None = Field(None, description="Not to be had: ask /predict.")


class RequestedOutput(BaseModel):
    """An output that is wanted."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(description="embedding, logits or weights, whichever the model gives.")
    parameters: OutputParameters | None = None

    _memory = field_validator("parameters", mode="before")(refuse_shared_memory)


class InferParameters(EmbedParameters):
    """What is said of a request. Unknown parameters are ignored."""

    binary_data_output: StrictBool | None = Field(
        None, description="Whether outputs that do not say it themselves are binary."
    )


class InferRequest(BaseModel):
    """Body of ``POST /v2/models/{model}/infer``."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {
                    "id": "1",
                    "inputs": [
                        {
                            "name": "text",
                            "datatype": "BYTES",
                            "shape": [1],
                            "data": ["A man is playing a guitar."],
                        }
                    ],
                }
            ]
        },
    )

    id: str | None = Field(None, description="Repeated in the answer.")
    parameters: InferParameters | None = None
    inputs: Annotated[list[InputTensor], FirstFault()] = Field(
        max_length=MOST_TENSORS,
        description="text, with text_pair for pairs; or input_ids, with an attention_mask where "
        "rows are padded; of feature models features, with lengths where there are several "
        "sequences or rows are padded.",
    )
    outputs: Annotated[list[RequestedOutput], FirstFault()] | None = Field(
        None, max_length=MOST_TENSORS, description="Default: every output."
    )


class OutputTensor(BaseModel):
    """A tensor of an answer."""

    name: str
    datatype: Literal["FP32"]
    shape: list[int]
    parameters: dict[str, int] | None = Field(None, description="binary_data_size, if binary.")
    data: list[float] | None = Field(None, description="Elements in row-major order.")


class InferResponse(BaseModel):
    """Body of the answer; behind it, for binary outputs, their bytes."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class TensorMetadata(BaseModel):
    """Name, type and shape of a tensor; -1 for a dimension that varies."""

    name: str
    datatype: Literal["BYTES", "INT64", "FP32"]
    shape: list[int]


class ModelFacts(BaseModel):
    """What the protocol's own fields do not say of a model."""

    kind: Task = Field(description="What the model does with a text.")
    dtype: str = Field(description="What it computes in.")
    dimensions: list[int] = Field(description="Widths it was trained for, full width first.")
    any_dimension: bool = Field(description="Whether any width from 1 to full may be asked for.")
    max_input_length: int = Field(description="Longest input [tokens].")


class ModelMetadata(BaseModel):
    """Body of ``GET /v2/models/{model}``."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata] = Field(
        description="What it takes; /infer says which go together."
    )
    outputs: list[TensorMetadata]
    parameters: ModelFacts


class ModelNames(BaseModel):
    """Body of ``GET /v2/models``."""

    models: list[str] = Field(description="Names of all served models, the default first.")


class ServerMetadata(BaseModel):
    """Body of ``GET /v2``."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Body of ``GET /v2/health/live``."""

    live: bool


class Ready(BaseModel):
    """Body of ``GET /v2/health/ready``."""

    ready: bool


class ModelReady(BaseModel):
    """Body of ``GET /v2/models/{model}/ready``."""

    name: str
    ready: bool
