"""Tensors of the Open Inference Protocol: in JSON, and in its binary extension. Pure functions.

A body is JSON, followed by the bytes of the tensors that state their size, in the order of the
JSON. Elements are little-endian and row-major; a string (BYTES) is its length in four bytes,
followed by its UTF-8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from osa.service.api import headers
from osa.service.api.parsing import json_type
from osa.service.errors import EmptyInputError, MalformedBodyError, ValidationError

LENGTH_BYTES = 4
ELEMENT_TYPES: dict[str, np.dtype[Any]] = {"INT64": np.dtype("<i8"), "FP32": np.dtype("<f4")}
Elements = Sequence[Any] | memoryview
"""Elements of one tensor: JSON values, flat or nested, or bytes."""


def split_body(raw: bytes, json_length: str | None) -> tuple[bytes, memoryview]:
    """Split a body into its JSON and the bytes after it.

    Args:
        raw: The body.
        json_length: Bytes of its JSON, as the header ``headers.JSON_LENGTH`` has it; None for all.

    Raises:
        MalformedBodyError: The header holds no such number.
    """
    if json_length is None:
        return raw, memoryview(b"")
    digits = json_length.strip()
    number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else -1
    if not 0 < number <= len(raw):
        raise MalformedBodyError(
            f"{headers.JSON_LENGTH} must be 1 to the {len(raw)} bytes of the body, "
            f"got {digits[:20]!r}"
        )
    return raw[:number], memoryview(raw)[number:]


def divide(tail: memoryview, sizes: Iterable[int | None]) -> list[memoryview | None]:
    """Split the bytes after the JSON by tensor.

    Args:
        tail: The bytes.
        sizes: How many of them are each tensor's [bytes]; None where its elements are in the JSON.

    Raises:
        ValidationError: The sizes do not add up to that of ``tail``.
    """
    parts: list[memoryview | None] = []
    place = 0
    for size in sizes:
        parts.append(None if size is None else tail[place : place + size])
        place += size or 0
    if place != len(tail):
        raise ValidationError(
            f"{len(tail)} bytes follow the JSON ({headers.JSON_LENGTH} says where it ends), but "
            f"binary_data_size of the inputs adds up to {place}",
            param="inputs",
        )
    return parts


def read_strings(elements: Elements, shape: Sequence[int], name: str) -> list[str]:
    """Texts of a BYTES tensor, in row-major order.

    Raises:
        EmptyInputError: It has no elements.
        ValidationError: Elements that are not text, or whose number is not that of ``shape``.
    """
    count = count_elements(shape, name)
    if isinstance(elements, memoryview):
        return _unpack_strings(elements, count, shape, name)
    values = _flatten(elements, count, shape, name)
    for index, value in enumerate(values):
        if not isinstance(value, str):
            raise ValidationError(
                f"{name}[{index}] must be a string, got {json_type(value)}", param=name
            )
    return values


def read_floats(elements: Elements, shape: Sequence[int], name: str) -> np.ndarray:
    """Values of an FP32 tensor, float32 of ``shape``; a number beyond float32 becomes infinite.

    Raises:
        EmptyInputError: It has no elements.
        ValidationError: Elements that are not numbers, or whose number is not that of ``shape``.
    """
    count = count_elements(shape, name)
    if isinstance(elements, memoryview):
        return _unpack_numbers(elements, count, shape, name, "FP32").astype(np.float32)
    values = _flatten(elements, count, shape, name)
    for index, value in enumerate(values):
        if type(value) not in (int, float):
            raise ValidationError(
                f"{name}[{index}] must be a number, got {json_type(value)}", param=name
            )
    with np.errstate(over="ignore"):
        return np.array(values, dtype=np.float64).astype(np.float32).reshape(shape)


def read_integers(elements: Elements, shape: Sequence[int], name: str) -> np.ndarray:
    """Values of an INT64 tensor, int64 of ``shape``.

    Raises:
        EmptyInputError: It has no elements.
        ValidationError: Elements that are not int64, or whose number is not that of ``shape``.
    """
    count = count_elements(shape, name)
    if isinstance(elements, memoryview):
        return _unpack_numbers(elements, count, shape, name, "INT64").astype(np.int64)
    values = _flatten(elements, count, shape, name)
    for index, value in enumerate(values):
        if type(value) is not int or not -(2**63) <= value < 2**63:
            kind = "a larger one" if type(value) is int else json_type(value)
            raise ValidationError(
                f"{name}[{index}] must be a 64-bit integer, got {kind}", param=name
            )
    return np.array(values, dtype=np.int64).reshape(shape)


def count_elements(shape: Sequence[int], name: str) -> int:
    """Number of elements of a shape.

    Raises:
        EmptyInputError: There are none.
        ValidationError: A negative dimension.
    """
    if min(shape, default=1) < 0:
        raise ValidationError(f"{name}: shape {list(shape)} has a negative dimension", param=name)
    if 0 in shape:
        raise EmptyInputError(f"{name} is empty: its shape is {list(shape)}", param=name)
    return math.prod(shape)


def _flatten(values: Sequence[Any], count: int, shape: Sequence[int], name: str) -> list[Any]:
    """Elements of a flat list, or of lists nested like ``shape``."""
    flat = list(values)
    for width in shape[1:]:
        if not flat or not isinstance(flat[0], list):
            break
        if not all(isinstance(row, list) and len(row) == width for row in flat):
            raise ValidationError(
                f"{name}: nested data must have the shape {list(shape)}", param=name
            )
        flat = [value for row in flat for value in row]
    if len(flat) != count:
        raise ValidationError(
            f"{name}: shape {list(shape)} takes {count} elements, got {len(flat)}", param=name
        )
    return flat


def _unpack_numbers(
    data: memoryview, count: int, shape: Sequence[int], name: str, datatype: str
) -> np.ndarray:
    kind = ELEMENT_TYPES[datatype]
    size = count * kind.itemsize
    if len(data) != size:
        raise ValidationError(
            f"{name}: shape {list(shape)} of {datatype} takes {size} bytes, got {len(data)}",
            param=name,
        )
    elements: np.ndarray = np.frombuffer(data, kind)
    return elements.reshape(shape)


def _unpack_strings(data: memoryview, count: int, shape: Sequence[int], name: str) -> list[str]:
    if count * LENGTH_BYTES > len(data):
        raise ValidationError(
            f"{name}: shape {list(shape)} of BYTES takes at least {count * LENGTH_BYTES} bytes, "
            f"got {len(data)}",
            param=name,
        )
    texts, place = [], 0
    for index in range(count):
        start = place + LENGTH_BYTES
        place = start + int.from_bytes(data[place:start], "little")
        if start > len(data) or place > len(data):
            raise ValidationError(
                f"{name}[{index}] ends beyond the {len(data)} bytes of the tensor", param=name
            )
        try:
            texts.append(str(data[start:place], "utf-8"))
        except UnicodeDecodeError:
            raise ValidationError(f"{name}[{index}] is not valid UTF-8", param=name) from None
    if place != len(data):
        raise ValidationError(
            f"{name}: {len(data) - place} bytes follow the last of its {count} elements", param=name
        )
    return texts
