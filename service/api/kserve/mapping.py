"""Requests of the Open Inference Protocol to inputs, and vectors to its answers. Pure functions.

A model takes ``text`` (BYTES, [n] or [n, 1]), or ``input_ids`` (INT64, [n, t]) with an
``attention_mask`` of that shape where rows are padded, and gives ``embedding`` (FP32, [n, E]).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import orjson

from osa.service.api import headers
from osa.service.api.job import Job, RequestContext
from osa.service.api.kserve.binary_tensors import divide, read_integers, read_strings
from osa.service.api.kserve.schemas import (
    InferParameters,
    InferRequest,
    InputTensor,
    ModelMetadata,
    TensorMetadata,
)
from osa.service.api.parsing import check_texts
from osa.service.api.vector_encoding import BYTES, Answer
from osa.service.errors import EmptyInputError, UnknownModelError, ValidationError
from osa.service.inference.request import EmbedOptions
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel

VERSION = "1"
TEXT, IDS, MASK, EMBEDDING = "text", "input_ids", "attention_mask", "embedding"


def find_model(models: ModelRegistry, name: str, version: str | None) -> ServedModel:
    """The model of a name and version; None for whichever version there is.

    Raises:
        UnknownModelError: Naming those that there are.
    """
    if name not in models.names() or version not in (None, VERSION):
        known = "; ".join(f"{served}, version {VERSION}" for served in models.names())
        raise UnknownModelError(f"no model and version of this name; served: {known}")
    return models.find(name, strict=True)


def describe_model(model: ServedModel) -> ModelMetadata:
    """Tensors of a model."""
    inputs: list[TensorMetadata] = []
    if model.embedder.tokenizer is not None:
        inputs.append(TensorMetadata(name=TEXT, datatype="BYTES", shape=[-1]))
    if model.about.vocab_size is not None:
        for tensor in (IDS, MASK):
            inputs.append(TensorMetadata(name=tensor, datatype="INT64", shape=[-1, -1]))
    width = model.about.dimensions[0]
    return ModelMetadata(
        name=model.name,
        versions=[VERSION],
        platform=f"osa_{model.about.backend}",
        inputs=inputs,
        outputs=[TensorMetadata(name=EMBEDDING, datatype="FP32", shape=[-1, width])],
    )


def check_outputs(body: InferRequest) -> None:
    """Refuse unknown outputs.

    Raises:
        ValidationError: An unknown output, or one named twice.
    """
    names = [output.name for output in body.outputs or []]
    for name in names:
        if name != EMBEDDING:
            raise ValidationError(
                f"unknown output {name[:64]!r}; allowed: {EMBEDDING}", param="outputs"
            )
    if len(names) > 1:
        raise ValidationError(f"output {EMBEDDING} is named {len(names)} times", param="outputs")


def options_of(parameters: InferParameters) -> EmbedOptions:
    """The use case's options of a request."""
    return EmbedOptions(
        normalize=parameters.normalize is not False,
        truncate=parameters.truncate,
        direction=parameters.truncation_direction or "right",
        dimensions=parameters.dimensions,
    )


def read_inputs(tensors: list[InputTensor], tail: memoryview) -> list[str] | list[list[int]]:
    """Texts or ids of a request.

    Args:
        tensors: Its input tensors.
        tail: The bytes behind the JSON.

    Raises:
        EmptyInputError: Nothing to embed.
        ValidationError: Other tensors, types, shapes or sizes than those of the model.
    """
    sizes = [
        None if tensor.parameters is None else tensor.parameters.binary_data_size
        for tensor in tensors
    ]
    by_name: dict[str, tuple[InputTensor, Any]] = {}
    for tensor, part in zip(tensors, divide(tail, sizes), strict=True):
        check_tensor(tensor, part)
        if tensor.name in by_name:
            raise ValidationError(f"input {tensor.name} is given twice", param="inputs")
        by_name[tensor.name] = (tensor, tensor.data if part is None else part)
    if set(by_name) == {TEXT}:
        tensor, data = by_name[TEXT]
        texts = read_strings(data, tensor.shape, TEXT)
        check_texts(texts, TEXT)
        return texts
    if not {IDS} <= set(by_name) <= {IDS, MASK}:
        raise ValidationError(
            f"inputs must be {TEXT}, or {IDS} with or without {MASK}, got "
            f"{' and '.join(sorted(by_name)) or 'none'}",
            param="inputs",
        )
    tensor, data = by_name[IDS]
    ids = read_integers(data, tensor.shape, IDS)
    if MASK not in by_name:
        rows: list[list[int]] = ids.tolist()
        return rows
    tensor, data = by_name[MASK]
    return remove_padding(ids, read_integers(data, tensor.shape, MASK))


def check_tensor(tensor: InputTensor, part: memoryview | None) -> None:
    """Refuse a tensor that the model does not accept.

    Raises:
        ValidationError: Its name, type or rank is wrong, or its elements are given twice or never.
    """
    name, rank = tensor.name, len(tensor.shape)
    if name not in (TEXT, IDS, MASK):
        raise ValidationError(
            f"unknown input {name[:64]!r}; allowed: {TEXT}, {IDS}, {MASK}", param="inputs"
        )
    expected = "BYTES" if name == TEXT else "INT64"
    if tensor.datatype != expected:
        raise ValidationError(
            f"{name} must be {expected}, got {tensor.datatype[:64]!r}", param=name
        )
    if name == TEXT and rank != 1 and not (rank == 2 and tensor.shape[1] == 1):
        raise ValidationError(
            f"{name} must have shape [n] or [n, 1], got {shown(tensor)}", param=name
        )
    if name != TEXT and rank != 2:
        raise ValidationError(f"{name} must have shape [n, t], got {shown(tensor)}", param=name)
    if (tensor.data is None) == (part is None):
        raise ValidationError(
            f"{name} must have either data or the parameter binary_data_size", param=name
        )


def shown(tensor: InputTensor) -> str:
    """The shape, or the number of dimensions where it is long."""
    return str(tensor.shape) if len(tensor.shape) <= 4 else f"{len(tensor.shape)} dimensions"


def remove_padding(ids: np.ndarray, mask: np.ndarray) -> list[list[int]]:
    """Rows of ``ids`` [n, t] where ``mask`` [n, t] is one.

    Raises:
        EmptyInputError: A row of zeros.
        ValidationError: A mask of another shape, with other values, or with zeros between ones.
    """
    if mask.shape != ids.shape:
        raise ValidationError(
            f"{MASK} must have the shape {list(ids.shape)} of {IDS}, got {list(mask.shape)}",
            param=MASK,
        )
    kept = []
    for place, (row, marks) in enumerate(zip(ids, mask, strict=True)):
        if ((marks != 0) & (marks != 1)).any():
            raise ValidationError(f"{MASK}[{place}] must hold 0 and 1 alone", param=MASK)
        ones = np.flatnonzero(marks)
        if not len(ones):
            raise EmptyInputError(f"{MASK}[{place}] holds no 1", param=MASK)
        if ones[-1] - ones[0] >= len(ones):
            raise ValidationError(
                f"{MASK}[{place}] has zeros between ones; padding is at the ends", param=MASK
            )
        kept.append(row[ones[0] : ones[-1] + 1].tolist())
    return kept


class OutputArray(NamedTuple):
    """A tensor of an answer.

    Attributes:
        name: Its name.
        datatype: The protocol's name of its elements' type.
        elements: Little-endian, row-major.
        binary: Whether its bytes are wanted, rather than a list of its elements.
    """

    name: str
    datatype: str
    elements: np.ndarray
    binary: bool


def outputs_of(vectors: np.ndarray, body: InferRequest, binary: bool = False) -> list[OutputArray]:
    """Tensors of the answer to a request; ``binary`` is for requests that do not say it."""
    if body.parameters and body.parameters.binary_data_output is not None:
        binary = body.parameters.binary_data_output
    for output in body.outputs or []:
        if output.parameters and output.parameters.binary_data is not None:
            binary = output.parameters.binary_data
    return [OutputArray(EMBEDDING, "FP32", np.ascontiguousarray(vectors, "<f4"), binary)]


def render_tensors(outputs: list[OutputArray], body: InferRequest, model: str) -> Answer:
    """The answer to a request over HTTP, each output in the JSON or behind it."""
    tensors, tail = [], b""
    for name, datatype, elements, binary in outputs:
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": elements.shape}
        if binary:
            tensor["parameters"] = {"binary_data_size": elements.nbytes}
            tail += elements.tobytes()
        else:
            tensor["data"] = elements.reshape(-1)
        tensors.append(tensor)
    answer: dict[str, Any] = {"model_name": model, "model_version": VERSION, "outputs": tensors}
    if body.id is not None:
        answer["id"] = body.id
    text = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    if not any(output.binary for output in outputs):
        return Answer(text)
    return Answer(text + tail, BYTES, {headers.JSON_LENGTH: str(len(text))})


def infer_job(
    context: RequestContext,
    body: InferRequest,
    tail: memoryview,
    render: Callable[[list[OutputArray]], Answer],
    binary: bool = False,
) -> Job:
    """The work of a request, over HTTP or gRPC.

    Args:
        context: The request; its model is chosen.
        body: What it asks for.
        tail: The bytes of its binary tensors.
        render: From the tensors of the answer to its bytes.
        binary: As in ``outputs_of``.

    Raises:
        EmptyInputError: Nothing to embed.
        ValidationError: Other tensors, types, shapes, sizes or parameters than those of the model.
    """
    check_outputs(body)
    inputs = read_inputs(body.inputs, tail)
    options = options_of(body.parameters or InferParameters())
    return context.job(
        inputs, options, lambda _, found: render(outputs_of(found.vectors, body, binary))
    )
