"""Files that an ONNX model names beside itself, found in its bytes before any runtime sees them.

ONNX Runtime opens what ``external_data`` of a tensor names. This walks the messages of a model in
protobuf's wire format, without the package ``onnx``, which serving does not need; a field that
comes twice is visited twice, as a parser would merge it.
"""

from __future__ import annotations

from collections.abc import Iterator

from osa.export.errors import ArtifactError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
DEEPEST = 100
"""Nesting of messages, the limit of protobuf's own parsers."""
FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
"""Messages that can hold a tensor, by kind and number of the field (``onnx.proto3``)."""


def external_files(model: bytes) -> set[str]:
    """Names of the files that tensors of a model lie in.

    Raises:
        ArtifactError: It is not an ONNX model.
    """
    try:
        return set(_locations(memoryview(model), "model", 0))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise ArtifactError("the file is not an ONNX model: export the model again") from error


def _locations(message: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        raise ValueError("nested too deeply")
    if kind == "entry":
        entry = {number: bytes(value).decode("utf-8") for number, value in _fields(message)}
        if entry.get(1) == "location":
            yield entry.get(2, "")
        return
    inner = FIELDS[kind]
    for number, value in _fields(message):
        if number in inner:
            yield from _locations(value, inner[number], depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Numbers and contents of the fields that have a length.

    Raises:
        ValueError: It is not a message.
        IndexError: It ends within a number.
    """
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        wire = tag & 7
        if wire == VARINT:
            _, place = _varint(message, place)
        elif wire in (FIXED64, FIXED32):
            place += 8 if wire == FIXED64 else 4
        elif wire == BYTES:
            length, place = _varint(message, place)
            if place + length > end:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, message[place : place + length]
            place += length
        else:
            raise ValueError(f"wire type {wire}")
    if place != end:
        raise ValueError("a field is longer than its message")


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
