"""Requests and answers of gRPC as those of ``/v2``, and back. Pure functions.

``mapping`` relates the tensors to inputs and vectors, for both transports.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from osa.model.text.slices import Check, go_on
from osa.service.api.kserve.jobs import OutputArray
from osa.service.api.kserve.mapping import VERSION
from osa.service.api.kserve.rpc import messages
from osa.service.api.kserve.schemas import MOST_TENSORS, InferRequest
from osa.service.api.parsing import validate
from osa.service.api.vector_encoding import AT_ONCE, BYTES, Answer
from osa.service.errors import ValidationError

SIGNED, UNSIGNED = "int_contents", "uint_contents"
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": SIGNED,
    "INT16": SIGNED,
    "INT32": SIGNED,
    "INT64": "int64_contents",
    "UINT8": UNSIGNED,
    "UINT16": UNSIGNED,
    "UINT32": UNSIGNED,
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which field of ``contents`` holds the elements of a type; FP16 and BF16 go raw alone."""


def read_request(message: Any) -> tuple[InferRequest, memoryview]:
    """A ``ModelInferRequest`` as the body of ``/v2`` and the bytes behind its JSON.

    Raises:
        ValidationError: A field of a wrong type or value, elements that are given twice or in the
            field of another type.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise ValidationError(
            f"raw_input_contents has {len(raw)} entries for {len(message.inputs)} inputs",
            param="inputs",
        )
    if max(len(message.inputs), len(message.outputs)) > MOST_TENSORS:
        raise ValidationError(
            f"at most {MOST_TENSORS} inputs and {MOST_TENSORS} outputs are allowed", param="inputs"
        )
    inputs = []
    for place, tensor in enumerate(message.inputs):
        fields: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        parameters = _values(tensor.parameters)
        parameters.pop("binary_data_size", None)  # of HTTP
        if raw:
            if tensor.contents.ListFields():
                raise ValidationError(
                    f"{tensor.name[:64]} has contents beside raw_input_contents", param="inputs"
                )
            parameters["binary_data_size"] = len(raw[place])
        else:
            fields["data"] = _elements(tensor)
        inputs.append({**fields, "parameters": parameters})
    outputs = [
        {"name": output.name, "parameters": _values(output.parameters)}
        for output in message.outputs
    ]
    values = {
        "id": message.id or None,
        "parameters": _values(message.parameters),
        "inputs": inputs,
        "outputs": outputs or None,
    }
    return validate(values, InferRequest), memoryview(raw[0] if len(raw) == 1 else b"".join(raw))


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Values of parameters by name; None for one without a value."""
    found = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        found[name] = None if kind is None else getattr(parameter, kind)
    return found


def _elements(tensor: Any) -> list[Any]:
    """Elements of an input's ``contents``.

    Raises:
        ValidationError: They are in the field of another type, or a text is not UTF-8.
    """
    name, field = tensor.name[:64], CONTENTS.get(tensor.datatype)
    used = [found.name for found, _ in tensor.contents.ListFields()]
    if field is not None and used not in ([], [field]):
        raise ValidationError(
            f"{name}: elements of {tensor.datatype} are in {field}, got {' and '.join(used)}",
            param="inputs",
        )
    if field is None:
        return []  # the type is refused
    elements = list(getattr(tensor.contents, field))
    if field != CONTENTS["BYTES"]:
        return elements
    for index, element in enumerate(elements):
        try:
            elements[index] = element.decode("utf-8")
        except UnicodeDecodeError:
            raise ValidationError(f"{name}[{index}] is not valid UTF-8", param="inputs") from None
    return elements


def render_response(
    outputs: list[OutputArray], body: InferRequest, model: str, check: Check = go_on
) -> Answer:
    """The bytes of a ``ModelInferResponse``; all outputs are raw where one is wanted so.

    Args:
        outputs: Its tensors.
        body: The request.
        model: What computed them.
        check: Called between steps.
    """
    response = messages.new("ModelInferResponse")
    response.model_name, response.model_version, response.id = model, VERSION, body.id or ""
    raw = any(output.binary for output in outputs)
    for name, datatype, elements, _ in outputs:
        tensor = response.outputs.add(name=name, datatype=datatype, shape=elements.shape)
        if raw:
            response.raw_output_contents.append(elements.tobytes())
        else:
            held, flat = getattr(tensor.contents, CONTENTS[datatype]), elements.reshape(-1)
            for first in range(0, len(flat), AT_ONCE):  # lists take eight times the memory
                check()
                held.extend(flat[first : first + AT_ONCE].tolist())
    return Answer(response.SerializeToString(), BYTES)
