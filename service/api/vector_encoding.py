"""How vectors go on the wire: element types and encodings. Pure functions.

Shapes: n vectors, E width.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson

from osa.model.calibration import Calibration
from osa.service.api import headers

EmbeddingType = Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"]
EncodingFormat = Literal["float", "base64", "bytes"]
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
) -> Answer:
    """The answer of ``/embed``: a list of lists, a list of base64 strings, or bytes.

    Args:
        vectors: Vectors [n, E].
        kind: Element type.
        encoding: Form of the answer.
        calibration: For int8 and uint8.
    """
    elements = convert(vectors, kind, calibration)
    if encoding == "bytes":
        shape = ",".join(map(str, elements.shape))
        described = {headers.SHAPE: shape, headers.DTYPE: elements.dtype.name}
        return Answer(np.ascontiguousarray(elements).tobytes(), BYTES, described)
    if encoding == "base64":
        return to_json([encode_vector(row) for row in elements])
    if kind == "float16":
        elements = elements.astype(np.float32)  # JSON has one kind of number
    return to_json(elements)
