"""Triton's client, over KServe's protocol: texts and ids, in JSON and in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.clients.conftest import TEXTS, same

Load = Callable[[str], Any]


@pytest.fixture
def triton(load: Load) -> Any:
    return load("tritonclient.http")


@pytest.fixture
def bound(triton: Any, url: str) -> Iterator[Any]:
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


def texts(triton: Any, binary: bool, shape: tuple[int, ...] = (3,)) -> Any:
    tensor = triton.InferInput("text", list(shape), "BYTES")
    elements = np.array([text.encode() for text in TEXTS], dtype=object).reshape(shape)
    tensor.set_data_from_numpy(elements, binary_data=binary)
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
    assert not bound.is_model_ready("other")
    assert "binary_tensor_data" in bound.get_server_metadata()["extensions"]
    assert bound.get_model_metadata("osa-default")["outputs"][0]["shape"] == [-1, 384]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_texts(
    triton: Any,
    bound: Any,
    vectors: np.ndarray,
    binary_in: bool,
    binary_out: bool | None,
    shape: tuple[int, ...],
) -> None:
    outputs = None
    if binary_out is not None:
        outputs = [triton.InferRequestedOutput("embedding", binary_data=binary_out)]
    answer = bound.infer(
        "osa-default", [texts(triton, binary_in, shape)], outputs=outputs, request_id="7"
    )
    same(answer.as_numpy("embedding"), vectors)
    assert answer.get_response()["id"] == "7"
    assert ("parameters" in answer.get_output("embedding")) == (binary_out is not False)


def test_ids(triton: Any, bound: Any) -> None:
    rows = [[101, 2158, 102, 0], [101, 2158, 2652, 102]]
    mask = [[1, 1, 1, 0], [1, 1, 1, 1]]
    tensors = [integers(triton, "input_ids", rows), integers(triton, "attention_mask", mask)]
    padded = bound.infer("osa-default", tensors, model_version="1").as_numpy("embedding")
    short = bound.infer("osa-default", [integers(triton, "input_ids", [rows[0][:3]])])
    same(padded[:1], short.as_numpy("embedding"))


def test_concurrent_requests(triton: Any, url: str, vectors: np.ndarray) -> None:
    with triton.InferenceServerClient(url.removeprefix("http://"), concurrency=4) as client:
        pending = [client.async_infer("osa-default", [texts(triton, True)]) for _ in range(12)]
        for request in pending:
            same(request.get_result().as_numpy("embedding"), vectors)


def test_it_understands_our_errors(triton: Any, bound: Any, load: Load) -> None:
    error = load("tritonclient.utils").InferenceServerException
    with pytest.raises(error, match="served: osa-default, version 1") as unknown:
        bound.infer("other", [texts(triton, True)])
    assert unknown.value.status() == "404"
    tensor = triton.InferInput("INPUT0", [1], "FP32")
    tensor.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    with pytest.raises(error, match="unknown input 'INPUT0'; allowed: text, text_pair") as refused:
        bound.infer("osa-default", [tensor])
    assert refused.value.status() == "400"
