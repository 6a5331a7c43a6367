"""Names of the HTTP headers that requests and answers carry, and what the measured ones say."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping

from osa.service.inference.request import PreparedRequest

TIMEOUT = "x-request-timeout-ms"
SHAPE, DTYPE = "x-embedding-shape", "x-embedding-dtype"
LENGTHS = "x-embedding-lengths"
"""Vectors of each input, where the bytes of several inputs follow each other."""
JSON_LENGTH = "inference-header-content-length"
"""Length of the JSON before the binary tensors of the Open Inference Protocol [bytes]."""

_PROCESS, _COUNTER = uuid.uuid4().hex[:20], itertools.count()
"""Generated request ids: a random prefix per process and a counter."""
MAX_REQUEST_ID = 128

MEASURED = {
    "x-total-time": "Whole request [ms]",
    "x-tokenization-time": "Parsing and tokenising [ms]",
    "x-queue-time": "Waiting for a batch, mean over inputs [ms]",
    "x-inference-time": "In the engine, mean over inputs [ms]",
    "x-compute-tokens": "Tokens computed",
    "x-compute-characters": "Characters of all texts",
    "x-truncated-tokens": "Tokens cut off",
}
"""Headers of answers of inference routes, as text-embeddings-inference names them, and ours."""


def count_headers(prepared: PreparedRequest) -> dict[str, str]:
    """Headers that are known before the result."""
    return {
        "x-compute-tokens": str(prepared.tokens),
        "x-compute-characters": str(prepared.characters),
        "x-truncated-tokens": str(sum(prepared.truncated)),
    }


def time_headers(stages: Mapping[str, float]) -> dict[str, str]:
    """Headers of durations by stage [s], in milliseconds."""
    return {f"x-{stage}-time": str(round(seconds * 1000)) for stage, seconds in stages.items()}


def request_id(given: str | None) -> str:
    """Id of a request: what the client gave if that is short and printable, else a new one."""
    if given and len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    return f"{_PROCESS}{next(_COUNTER):012x}"
