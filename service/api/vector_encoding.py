"""How vectors go on the wire: element types and encodings. Pure functions.

Shapes: n vectors, E width.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from osa.model.calibration import Calibration
from osa.model.text.slices import Check, go_on
from osa.service.api import headers
from osa.service.errors import ValidationError

EmbeddingType = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
EncodingFormat = Literal["float", "base64", "bytes"]
ELEMENT_BYTES = {"float32": 4, "float16": 2, "int8": 1, "uint8": 1, "binary": 1, "ubinary": 1}
NUMBER_BYTES = {"float32": 10, "float16": 9, "int8": 3, "uint8": 3, "binary": 3, "ubinary": 3}
"""What a number takes in JSON, with its comma; less than most do, so that nothing is refused
beforehand that would have fitted."""
AT_ONCE = 65_536
"""Numbers that are written at once: the interpreter stops for these."""
JSON, BYTES = "application/json", "application/octet-stream"


class Answer(NamedTuple):
    """The body of an answer.

    Attributes:
        content: Its bytes.
        media_type: What they are.
        headers: More to say of them.
    """

    content: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = MappingProxyType({})


def to_json(value: Any) -> Answer:
    """``value`` as JSON, numpy arrays as lists of numbers."""
    return Answer(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))


def check_packing(kind: str | None, width: int) -> None:
    """Refuse vectors of a ``width`` that does not fill the bytes of binary or ubinary.

    Raises:
        ValidationError: Saying the width.
    """
    if kind in ("binary", "ubinary") and width % 8:
        raise ValidationError(
            f"{kind} packs eight dimensions into a byte: dimensions must be a multiple of 8, got "
            f"{width}",
            param="dimensions",
        )


def convert(
    vectors: np.ndarray, kind: EmbeddingType, calibration: Calibration | None = None
) -> np.ndarray:
    """Vectors [n, E] in little-endian elements of ``kind``; int8 and uint8 by a calibration.

    ``ubinary`` packs the signs of eight dimensions into a byte, first dimension highest [n, E / 8];
    ``binary`` is the same byte less 128, as sentence-transformers has it.
    """
    if kind == "float32":
        return vectors.astype("<f4", copy=False)
    if kind == "float16":
        return vectors.astype("<f2")
    if kind in ("int8", "uint8"):
        assert calibration is not None  # the request was checked
        return calibration.quantize(vectors, signed=kind == "int8")
    packed = np.packbits(vectors > 0, axis=1)
    return packed if kind == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)


def encode_vector(vector: np.ndarray) -> str:
    """Base64 of the elements' bytes."""
    return base64.b64encode(np.ascontiguousarray(vector).tobytes()).decode("ascii")


def render_vectors(
    vectors: np.ndarray,
    kind: EmbeddingType = "float32",
    encoding: EncodingFormat = "float",
    calibration: Calibration | None = None,
    check: Check = go_on,
) -> Answer:
    """The answer of ``/embed``: a list of lists, a list of base64 strings, or bytes.

    Args:
        vectors: Vectors [n, E].
        kind: Element type.
        encoding: Form of the answer.
        calibration: For int8 and uint8.
        check: Called between steps.
    """
    elements = convert(vectors, kind, calibration)
    if encoding == "bytes":
        shape = ",".join(map(str, elements.shape))
        described = {headers.SHAPE: shape, headers.DTYPE: elements.dtype.name}
        return Answer(np.ascontiguousarray(elements).tobytes(), BYTES, described)
    if encoding == "base64":
        return Answer(write_list(map(encode_vector, elements), check))
    return Answer(write_rows(elements, check))


def write_list(entries: Iterable[Any], check: Check = go_on) -> bytes:
    """JSON of a list, an entry at a time; ``check`` is called between."""
    parts = []
    for entry in entries:
        check()
        parts.append(to_json(entry).content)
    return b"[" + b",".join(parts) + b"]"


def write_rows(elements: np.ndarray, check: Check = go_on) -> bytes:
    """JSON of vectors [n, E], or of numbers [n], a bounded number of them at a time.

    ``check`` is called between.
    """
    if elements.dtype == np.float16:
        elements = elements.astype(np.float32)  # JSON has one kind of number
    step = max(1, AT_ONCE // max(1, math.prod(elements.shape[1:])))
    parts = []
    for first in range(0, len(elements), step):
        check()
        rows = np.ascontiguousarray(elements[first : first + step])
        parts.append(to_json(rows).content[1:-1])
    return b"[" + b",".join(parts) + b"]"


def write_matrix(
    vectors: np.ndarray, kind: EmbeddingType, encoding: EncodingFormat, check: Check = go_on
) -> bytes:
    """Vectors of one input [n, E] in an answer: JSON rows, one base64 string, or bytes.

    Args:
        vectors: Float32 [n, E].
        kind: Element type, of those without a calibration.
        encoding: Form.
        check: Called between steps.
    """
    elements = convert(vectors, kind)
    if encoding == "float":
        return write_rows(elements, check)
    if encoding == "bytes":
        return np.ascontiguousarray(elements).tobytes()
    return b'"' + base64.b64encode(np.ascontiguousarray(elements).data) + b'"'


def vector_bytes(width: int, kind: EmbeddingType, encoding: EncodingFormat) -> float:
    """About what a vector of this width takes in an answer, at least [bytes]."""
    elements = -(-width // 8) if kind in ("binary", "ubinary") else width
    if encoding == "float":
        return elements * NUMBER_BYTES[kind]
    return elements * ELEMENT_BYTES[kind] * (1 if encoding == "bytes" else 4 / 3)
