"""Triton's client over gRPC: probes, metadata, texts and ids, keys of its own, errors."""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import GRPC_SERVER, TEXTS, same

Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def address() -> str:
    if GRPC_SERVER not in os.environ:
        pytest.skip("the server has no gRPC; pip install -e '.[grpc]'")
    return os.environ[GRPC_SERVER]


@pytest.fixture
def triton(load: Load) -> Any:
    return load("tritonclient.grpc")


@pytest.fixture
def bound(triton: Any, address: str) -> Iterator[Any]:
    with triton.InferenceServerClient(address) as client:
        yield client


def texts(triton: Any, shape: tuple[int, ...] = (3,)) -> Any:
    tensor = triton.InferInput("text", list(shape), "BYTES")
    elements = np.array([text.encode() for text in TEXTS], dtype=object).reshape(shape)
    tensor.set_data_from_numpy(elements)
    return tensor


def integers(triton: Any, name: str, rows: list[list[int]]) -> Any:
    elements = np.array(rows, dtype=np.int64)
    tensor = triton.InferInput(name, list(elements.shape), "INT64")
    tensor.set_data_from_numpy(elements)
    return tensor


def test_it_finds_server_and_model(bound: Any) -> None:
    assert bound.is_server_live()
    assert bound.is_server_ready()
    assert bound.is_model_ready("osa-default")
    assert bound.is_model_ready("osa-default", "1")
    assert bound.get_server_metadata().name == "osa"
    model = bound.get_model_metadata("osa-default", as_json=True)
    assert [tensor["name"] for tensor in model["inputs"]] == ["text", "input_ids", "attention_mask"]
    assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": ["-1", "384"]}]


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_texts(
    triton: Any, bound: Any, vectors: np.ndarray, shape: tuple[int, ...], compression: str | None
) -> None:
    answer = bound.infer(
        "osa-default",
        [texts(triton, shape)],
        outputs=[triton.InferRequestedOutput("embedding")],
        request_id="7",
        compression_algorithm=compression,
        client_timeout=60,
        parameters={"normalize": True},
    )
    same(answer.as_numpy("embedding"), vectors)
    assert answer.get_response().id == "7"


def test_ids(triton: Any, bound: Any) -> None:
    rows = [[101, 2158, 102, 0], [101, 2158, 2652, 102]]
    mask = [[1, 1, 1, 0], [1, 1, 1, 1]]
    tensors = [integers(triton, "input_ids", rows), integers(triton, "attention_mask", mask)]
    padded = bound.infer("osa-default", tensors, model_version="1").as_numpy("embedding")
    short = bound.infer("osa-default", [integers(triton, "input_ids", [rows[0][:3]])])
    same(padded[:1], short.as_numpy("embedding"))


def test_concurrent_requests(triton: Any, bound: Any, vectors: np.ndarray) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for _ in range(12):
        bound.async_infer(
            "osa-default",
            [texts(triton)],
            callback=lambda result, error: answers.put((result, error)),
        )
    for _ in range(12):
        result, error = answers.get(timeout=60)
        assert error is None
        same(result.as_numpy("embedding"), vectors)


def test_its_asyncio_client(load: Load, triton: Any, address: str, vectors: np.ndarray) -> None:
    clients = load("tritonclient.grpc.aio")

    async def ask() -> list[Any]:
        async with clients.InferenceServerClient(address) as client:
            return list(
                await asyncio.gather(
                    *(client.infer("osa-default", [texts(triton)]) for _ in range(4))
                )
            )

    for answer in asyncio.run(ask()):
        same(answer.as_numpy("embedding"), vectors)


def test_it_understands_our_errors(triton: Any, bound: Any, load: Load) -> None:
    failure = load("tritonclient.utils").InferenceServerException
    with pytest.raises(failure, match="served: osa-default, version 1") as unknown:
        bound.infer("other", [texts(triton)])
    assert unknown.value.status() == "StatusCode.NOT_FOUND"
    tensor = triton.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    with pytest.raises(failure, match="unknown input 'INPUT0'; allowed: text") as refused:
        bound.infer("osa-default", [tensor])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(failure, match="DEADLINE_EXCEEDED"):  # whichever side says it first
        bound.infer("osa-default", [texts(triton)], client_timeout=1e-6)
