"""From a request of the Open Inference Protocol to its job, over HTTP and gRPC.

What a transport adds is how it reads a body and writes the tensors of an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import orjson

from osa.model.text.slices import Check, go_on
from osa.service.api import headers
from osa.service.api.job import Job, RequestContext
from osa.service.api.kserve.mapping import (
    OUTPUTS,
    VERSION,
    check_outputs,
    read_inputs,
)
from osa.service.api.kserve.schemas import InferParameters, InferRequest
from osa.service.api.vector_encoding import BYTES, Answer, to_json, vector_bytes, write_rows
from osa.service.errors import UnknownModelError
from osa.service.inference.request import PreparedRequest
from osa.service.inference.tasks import LABELLING
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel


def find_model(models: ModelRegistry, name: str, version: str | None) -> ServedModel:
    """The model of a name and version; None for whichever version there is.

    Raises:
        UnknownModelError: Naming those that there are.
    """
    if name not in models.names() or version not in (None, VERSION):
        known = "; ".join(f"{served}, version {VERSION}" for served in models.names())
        raise UnknownModelError(f"no model and version of this name; served: {known}")
    return models.find(name, strict=True)


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


def outputs_of(
    vectors: np.ndarray, body: InferRequest, name: str, binary: bool = False
) -> list[OutputArray]:
    """Tensors of the answer to a request.

    Args:
        vectors: What the model computed [n, E].
        body: The request.
        name: Of the model's output.
        binary: For requests that do not say it.
    """
    if body.parameters and body.parameters.binary_data_output is not None:
        binary = body.parameters.binary_data_output
    for output in body.outputs or []:
        if output.parameters and output.parameters.binary_data is not None:
            binary = output.parameters.binary_data
    return [OutputArray(name, "FP32", np.ascontiguousarray(vectors, "<f4"), binary)]


def expected_bytes(
    model: ServedModel, body: InferRequest, prepared: PreparedRequest, binary: bool
) -> float:
    """About how many bytes an answer has, at least.

    Args:
        model: What computes it.
        body: The request.
        prepared: Its inputs.
        binary: As in ``outputs_of``.
    """
    width = prepared.options.dimensions or model.about.dimensions[0]
    raw = any(output.binary for output in outputs_of(np.empty((0, width)), body, "", binary))
    number = vector_bytes(1, "float32", "bytes" if raw else "float")
    if model.about.task == "sparse" and not raw:
        number = len("0.0,")  # most weights are zero
    return len(prepared.ids) * width * number


def render_tensors(
    outputs: list[OutputArray], body: InferRequest, model: str, check: Check = go_on
) -> Answer:
    """The answer to a request over HTTP, each output in the JSON or behind it.

    Args:
        outputs: Its tensors.
        body: The request.
        model: What computed them.
        check: Called between steps.
    """
    tensors, tail = [], []
    for name, datatype, elements, binary in outputs:
        tensor: dict[str, Any] = {"name": name, "datatype": datatype, "shape": elements.shape}
        if binary:
            tensor["parameters"] = {"binary_data_size": elements.nbytes}
            tail.append(elements.tobytes())
        else:
            tensor["data"] = orjson.Fragment(write_rows(elements.reshape(-1), check))
        tensors.append(tensor)
    answer: dict[str, Any] = {"model_name": model, "model_version": VERSION, "outputs": tensors}
    if body.id is not None:
        answer["id"] = body.id
    text = to_json(answer).content
    if not any(output.binary for output in outputs):
        return Answer(text)
    return Answer(b"".join([text, *tail]), BYTES, {headers.JSON_LENGTH: str(len(text))})


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
    model = context.chosen or context.choose()
    output = OUTPUTS[model.about.task]
    check_outputs(body, output)
    inputs = read_inputs(body.inputs, tail, model.about.feature_size)
    options = (body.parameters or InferParameters()).options()._replace(tasks=())
    if model.about.task in LABELLING:
        options = options._replace(prompted=False)  # as on their other routes
    return context.job(
        inputs,
        options,
        lambda _, found: render(outputs_of(found.vectors, body, output, binary)),
        expected=lambda prepared: expected_bytes(model, body, prepared, binary),
    )
