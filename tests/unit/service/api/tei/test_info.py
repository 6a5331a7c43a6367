"""The reason why vectors depend on the batch, by engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from osa.service.api.tei.info import variance_reason
from osa.service.engines.eager import EagerEngine


@pytest.mark.parametrize(
    ("backend", "dtype", "device", "words"),
    [
        ("onnxruntime", "int8", "cpu", "int8 graphs scale a product by the largest value of the"),
        ("eager", "int8", "cpu", "the matrix products of the eager engine in int8 on this"),
        ("eager", "bfloat16", "cuda", "the matrix products of this GPU in bfloat16"),
        ("eager", "float32", "cpu", "the matrix products of the eager engine in float32 on this"),
    ],
)
def test_the_reason_fits_what_computes(
    tiny_checkpoint: Path, backend: str, dtype: str, device: str, words: str
) -> None:
    about = EagerEngine(tiny_checkpoint, "cpu").info
    about = dataclasses.replace(about, backend=backend, dtype=dtype, device=device)
    reason = variance_reason(about)
    assert reason.startswith("The last bits of a vector may depend on the batch")
    assert words in reason
