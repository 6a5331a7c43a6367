"""A sequence's vector has the same bits alone, in any batch, and on any route."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable

import httpx
import numpy as np
import pytest
import torch

from osa.model.reproducibility import VARIABLE, fix_product_order
from osa.service.engines import ArtifactEngine, EagerEngine, Engine
from osa.service.engines.invariance import is_batch_invariant
from tests.conftest import ArtifactMaker
from tests.engines import FaultyEngine

ordered = pytest.mark.skipif(
    fix_product_order() is None, reason="torch's products have no fixed order on this processor"
)
TEXTS = [
    "A man is playing a guitar.",
    "Rain",
    "The company reported higher profits. " * 9,
    "word " * 90,
]


@ordered
def test_the_packaged_model_in_random_batches() -> None:
    assert is_batch_invariant(EagerEngine(device="cpu"), batches=60, seed=1)


@ordered
def test_compiled_and_exported_forms(make_artifact: ArtifactMaker) -> None:
    for kind in ("onnx", "aoti", "torch-export"):
        assert is_batch_invariant(ArtifactEngine(make_artifact(kind)), batches=100, seed=2), kind


def test_an_engine_that_is_not_invariant_is_found_out(make_artifact: ArtifactMaker) -> None:
    """Dynamic int8 has one scale a product, so batch mates change a vector."""
    assert not is_batch_invariant(ArtifactEngine(make_artifact("onnx", "packed", "int8")))


@ordered
def test_every_route_and_every_batch_answers_the_same_bits(client: httpx.Client) -> None:
    together = client.post("/embed", json={"inputs": TEXTS}).json()
    assert client.get("/info").json()["batch_invariant"] is True
    for text, vector in zip(TEXTS, together, strict=True):
        assert client.post("/embed", json={"inputs": text}).json() == [vector]
        answer = client.post("/v1/embeddings", json={"input": text, "encoding_format": "base64"})
        raw = base64.b64decode(answer.json()["data"][0]["embedding"])
        exact = np.array(vector, dtype=np.float64).astype("<f4")
        np.testing.assert_array_equal(np.frombuffer(raw, dtype="<f4"), exact)


def test_an_engine_that_was_not_tried_claims_nothing(
    serve: Callable[..., httpx.Client], tiny_checkpoint: object
) -> None:
    engine: Engine = FaultyEngine(tiny_checkpoint, "nan")  # type: ignore[arg-type]
    assert serve(engine).get("/info").json()["batch_invariant"] is False


def test_a_value_of_the_environment_is_kept() -> None:
    code = "from osa.model.reproducibility import fix_product_order; print(fix_product_order())"
    environment = {**os.environ, VARIABLE: "COMPATIBLE"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "COMPATIBLE"


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="no AVX2 here"
)
def test_one_order_is_asked_for_on_intel_processors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("osa.model.reproducibility._is_intel", lambda: False)
    assert fix_product_order() is None
    assert VARIABLE not in os.environ
    monkeypatch.setattr("osa.model.reproducibility._is_intel", lambda: True)
    if torch.backends.mkl.is_available():
        assert (fix_product_order() or "").endswith(",STRICT")
