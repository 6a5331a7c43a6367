"""Names of the HTTP headers that requests and answers carry, and what the measured ones say."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a used port is reported before torch is imported
    from osa.service.inference.request import PreparedRequest


COMPUTE_TYPE = "x-compute-type"
COMPUTE_TYPES = {"cpu": "cpu+optimized", "cuda": "gpu+optimized"}
"""Values of ``COMPUTE_TYPE``, as text-embeddings-inference has them, by kind of device."""
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
    "x-unknown-tokens": "Tokens for what the model's vocabulary does not have",
    "x-compute-time": "Whole request, as x-total-time [ms]",
}
"""Headers of answers of inference routes, as text-embeddings-inference names them, and ours."""


def count_headers(prepared: PreparedRequest, device: str) -> dict[str, str]:
    """Headers that are known before the result; ``device`` is where the model runs."""
    return {
        COMPUTE_TYPE: COMPUTE_TYPES[device.partition(":")[0]],
        "x-compute-tokens": str(prepared.tokens),
        "x-compute-characters": str(prepared.characters),
        "x-truncated-tokens": str(sum(prepared.truncated)),
        "x-unknown-tokens": str(prepared.unknown),
    }


def time_headers(stages: Mapping[str, float]) -> dict[str, str]:
    """Headers of durations by stage [s], in milliseconds."""
    measured = {f"x-{stage}-time": str(round(seconds * 1000)) for stage, seconds in stages.items()}
    measured["x-compute-time"] = measured["x-total-time"]
    return measured


def request_id(given: str | None) -> str:
    """Id of a request: what the client gave if that is short and printable, else a new one."""
    if given and len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable():
        return given
    return f"{_PROCESS}{next(_COUNTER):012x}"
