"""A sequence's vector has the same bits alone, in any batch, and on any route."""

from __future__ import annotations

import base64
from collections.abc import Callable

import httpx
import numpy as np
import pytest
import torch

from osa.service.engines.artifact import ArtifactEngine
from osa.service.engines.base import Engine
from osa.service.engines.batch_invariance import is_batch_invariant
from osa.service.engines.eager import EagerEngine
from tests.conftest import ArtifactMaker, make_tiny_model
from tests.engines import FaultyEngine
from tests.transformer_models import MINILM

TEXTS = [
    "A man is playing a guitar.",
    "Rain",
    "The company reported higher profits. " * 9,
    "word " * 90,
]


@pytest.mark.parametrize(
    ("dtype", "kernel", "threads"),
    [
        ("auto", "auto", 1),
        ("auto", "auto", 2),
        ("float32", "auto", 2),
        ("float32", "auto", 5),
        ("float32", "torch", 2),
    ],
)
def test_the_packaged_model_in_random_batches(dtype: str, kernel: str, threads: int) -> None:
    """On every processor, whatever it computes in."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        engine = EagerEngine(device="cpu", kernel=kernel, dtype=dtype)
        assert is_batch_invariant(engine, batches=12, seed=threads)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["auto", "float32"])
@pytest.mark.parametrize("kernel", ["auto", "torch"])
def test_minilm_in_random_batches(dtype: str, kernel: str) -> None:
    """Softmax attention by the CPU kernel and by torch, biases, norms after the sums."""
    engine = EagerEngine(MINILM, device="cpu", kernel=kernel, dtype=dtype)
    assert is_batch_invariant(engine, batches=12)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 11])
def test_a_projection_does_not_see_how_many_texts_there_are(count: int) -> None:
    model = make_tiny_model(embedding_size=8, matryoshka_dims=(8,))
    rows = [[2, 4 + place % 8, 3, 5, place % 12] for place in range(count)]
    with torch.inference_mode():
        together = model.embed_ids(rows).embeddings
        _, states = model.embed_tokens(*model.pack_ids(rows)[:1], None, model.pack_ids(rows)[1])
        for place, row in enumerate(rows):
            packed, offsets = model.pack_ids([row])
            assert torch.equal(model.embed_ids([row]).embeddings[0], together[place])
            alone = model.embed_tokens(packed, cu_seqlens=offsets)[1]
            assert torch.equal(alone[0], states[0, 5 * place : 5 * place + 5])


def test_compiled_and_exported_forms(make_artifact: ArtifactMaker) -> None:
    for kind in ("onnx", "aoti", "torch-export"):
        assert is_batch_invariant(ArtifactEngine(make_artifact(kind)), batches=40, seed=2), kind


def test_an_engine_that_is_not_invariant_is_found_out(make_artifact: ArtifactMaker) -> None:
    """Dynamic int8 has one scale a product, so batch mates change a vector."""
    assert not is_batch_invariant(ArtifactEngine(make_artifact("onnx", "packed", "int8")))


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
