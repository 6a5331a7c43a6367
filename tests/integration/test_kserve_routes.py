"""The Open Inference Protocol (KServe v2) on a real socket: JSON, binary tensors, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from osa.service.engines.eager import EagerEngine

TEXTS = ["A man is playing a guitar.", "Stocks fell on Tuesday.", "é 漢字 🎸"]
MODEL = "/v2/models/osa-default"
INFER = f"{MODEL}/infer"
LENGTH = "inference-header-content-length"


def text_tensor(texts: list[str], **changes: Any) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts, **changes}


def ids_tensor(rows: list[list[int]], name: str = "input_ids") -> dict[str, Any]:
    return {"name": name, "datatype": "INT64", "shape": [len(rows), len(rows[0])], "data": rows}


def infer(client: httpx.Client, *inputs: dict[str, Any], **fields: Any) -> dict[str, Any]:
    response = client.post(INFER, json={"inputs": list(inputs), **fields})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def vectors_of(answer: dict[str, Any]) -> np.ndarray:
    (tensor,) = answer["outputs"]
    assert (tensor["name"], tensor["datatype"]) == ("embedding", "FP32")
    return np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])


def binary_body(head: dict[str, Any], tail: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(head).encode()
    return text + tail, {LENGTH: str(len(text)), "content-type": "application/octet-stream"}


def pack(texts: list[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(len(item).to_bytes(4, "little") + item for item in encoded)


@pytest.fixture(scope="module")
def vectors(client: httpx.Client) -> np.ndarray:
    return np.array(client.post("/embed", json={"inputs": TEXTS}).json(), dtype=np.float32)


def test_the_server_and_the_model_describe_themselves(client: httpx.Client) -> None:
    server = client.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("osa", ["binary_tensor_data"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in (MODEL, f"{MODEL}/versions/1"):
        assert client.get(f"{path}/ready").json() == {"name": "osa-default", "ready": True}
        model = client.get(path).json()
        assert (model["name"], model["versions"]) == ("osa-default", ["1"])
        assert [tensor["name"] for tensor in model["inputs"]] == [
            "text", "input_ids", "attention_mask",
        ]  # fmt: skip
        assert model["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}]


@pytest.mark.parametrize(
    "tensor",
    [
        text_tensor(TEXTS),
        text_tensor(TEXTS, shape=[3, 1]),
        text_tensor(TEXTS, shape=[3, 1], data=[[text] for text in TEXTS]),
    ],
)
def test_texts_give_the_bits_of_embed(
    client: httpx.Client, vectors: np.ndarray, tensor: dict[str, Any]
) -> None:
    answer = infer(client, tensor, id="request 7", parameters={"priority": 1, "sequence_id": "s"})
    assert {answer["id"], answer["model_name"]} == {"request 7", "osa-default"}
    assert answer["model_version"] == "1"
    np.testing.assert_array_equal(vectors_of(answer), vectors)


def test_no_id_is_answered_with_none(client: httpx.Client) -> None:
    assert "id" not in infer(client, text_tensor(["a"]))
    assert client.post(
        f"{MODEL}/versions/1/infer", json={"inputs": [text_tensor(["a"])]}
    ).is_success


def test_a_binary_request_with_a_binary_answer(client: httpx.Client, vectors: np.ndarray) -> None:
    tail = pack(TEXTS)
    tensor = text_tensor(TEXTS, data=None, parameters={"binary_data_size": len(tail)})
    body, headers = binary_body(
        {"inputs": [tensor], "parameters": {"binary_data_output": True}}, tail
    )
    response = client.post(INFER, content=body, headers=headers)
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[LENGTH])
    (output,) = json.loads(response.content[:length])["outputs"]
    elements = response.content[length:]
    assert output["parameters"] == {"binary_data_size": len(elements)}
    assert "data" not in output
    np.testing.assert_array_equal(np.frombuffer(elements, "<f4").reshape(output["shape"]), vectors)
    outputs = [{"name": "embedding", "parameters": {"binary_data": False}}]
    body, headers = binary_body(
        {"inputs": [tensor], "outputs": outputs, "parameters": {"binary_data_output": True}}, tail
    )
    answer = client.post(INFER, content=body, headers=headers).json()
    np.testing.assert_array_equal(vectors_of(answer), vectors)


def test_ids_with_and_without_padding(client: httpx.Client) -> None:
    rows = [[101, 2158, 102], [101, 2158, 2652, 2858, 102]]
    expected = client.post("/embed", json={"inputs": rows}).json()
    padded, mask = [rows[0] + [0, 0], rows[1]], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    answer = infer(client, ids_tensor(padded), ids_tensor(mask, "attention_mask"))
    np.testing.assert_array_equal(vectors_of(answer), np.array(expected, dtype=np.float32))
    left, mask = [[0, 0, *rows[0]], rows[1]], [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]
    sizes = {"parameters": {"binary_data_size": 80}, "data": None}
    tensors = [{**ids_tensor(left), **sizes}, {**ids_tensor(mask, "attention_mask"), **sizes}]
    body, headers = binary_body({"inputs": tensors}, np.array([left, mask], "<i8").tobytes())
    response = client.post(INFER, content=body, headers=headers)
    np.testing.assert_array_equal(vectors_of(response.json()), np.array(expected, dtype=np.float32))
    alone = infer(client, ids_tensor(rows[1:]))
    np.testing.assert_array_equal(vectors_of(alone)[0], np.array(expected[1], dtype=np.float32))


def test_parameters_of_embed_are_honoured(client: httpx.Client) -> None:
    answer = infer(client, text_tensor(TEXTS), parameters={"dimensions": 64, "normalize": False})
    expected = client.post("/embed", json={"inputs": TEXTS, "dimensions": 64, "normalize": False})
    np.testing.assert_array_equal(vectors_of(answer), np.array(expected.json(), dtype=np.float32))


REFUSED: list[tuple[Any, str]] = [
    ({}, "inputs: Field required"),
    ({"inputs": []}, "got none"),
    ({"inputs": [text_tensor([])]}, "text is empty: its shape is [0]"),
    ({"inputs": [text_tensor([""])]}, "text[0] is empty"),
    (
        {"inputs": [text_tensor(["a"], name="INPUT0")]},
        "allowed: text, text_pair, input_ids, attention_mask",
    ),
    ({"inputs": [text_tensor(["a"], datatype="FP32")]}, "text must be BYTES, got 'FP32'"),
    ({"inputs": [text_tensor(["a"], shape=[2])]}, "takes 2 elements, got 1"),
    ({"inputs": [text_tensor(["a"], shape=[1, 2])]}, "[n] or [n, 1], got [1, 2]"),
    ({"inputs": [text_tensor(["a"], shape=[1] * 99)]}, "got 99 dimensions"),
    ({"inputs": [text_tensor(["a"], shape=[-1])]}, "negative dimension"),
    ({"inputs": [text_tensor(["a"], shape=[2**62])]}, "elements, got 1"),
    ({"inputs": [text_tensor(["a"], shape=[10**30])]}, "shape.0"),
    ({"inputs": [text_tensor(["a"], shape=[True])]}, "shape.0"),
    (
        {"inputs": [text_tensor(["a", "b"], data=["a", 1])]},
        "text[1] must be a string, got an integer",
    ),
    ({"inputs": [text_tensor(["a"], data=[["a"]])]}, "must be a string, got a list"),
    ({"inputs": [text_tensor(["a"], data=None)]}, "either data or"),
    ({"inputs": [text_tensor(["a"]), text_tensor(["a"])]}, "given twice"),
    ({"inputs": [text_tensor(["a"]), ids_tensor([[1]])]}, "got input_ids and text"),
    ({"inputs": [ids_tensor([[1]], "attention_mask")]}, "got attention_mask"),
    ({"inputs": [ids_tensor([[1, True]])]}, "input_ids[1] must be a 64-bit integer, got a boolean"),
    ({"inputs": [ids_tensor([[2**63]])]}, "got a larger one"),
    ({"inputs": [ids_tensor([[30522]])]}, "allowed are 0 to 30521"),
    ({"inputs": [ids_tensor([[1, 2]]) | {"data": [[1], [2]]}]}, "must have the shape [1, 2]"),
    ({"inputs": [ids_tensor([[1]]) | {"shape": [1]}]}, "must have shape [n, t]"),
    ({"inputs": [ids_tensor([[1]]) | {"shape": [2**62, 0], "data": []}]}, "input_ids is empty"),
    ({"inputs": [ids_tensor([[1]]), ids_tensor([[0]], "attention_mask")]}, "holds no 1"),
    ({"inputs": [ids_tensor([[1]]), ids_tensor([[2]], "attention_mask")]}, "0 and 1 alone"),
    ({"inputs": [ids_tensor([[1]]), ids_tensor([[1, 1]], "attention_mask")]}, "the shape [1, 1]"),
    (
        {"inputs": [ids_tensor([[1, 2, 3]]), ids_tensor([[1, 0, 1]], "attention_mask")]},
        "zeros between ones",
    ),
    ({"inputs": [text_tensor(["a"])], "outputs": [{"name": "x"}]}, "allowed: embedding"),
    ({"inputs": [text_tensor(["a"])], "outputs": [{"name": "embedding"}] * 2}, "2 times"),
    ({"inputs": [text_tensor(["a"])], "parameters": {"dimensions": 500}}, "must be 1 to 384"),
    ({"inputs": [text_tensor(["a"])], "parameters": {"normalize": "no"}}, "parameters.normalize"),
    (
        {"inputs": [text_tensor(["a"], parameters={"shared_memory_region": "r"})]},
        "no shared memory",
    ),
    (
        {
            "inputs": [text_tensor(["a"])],
            "outputs": [{"name": "embedding", "parameters": {"classification": 3}}],
        },
        "classification",
    ),
]


def refused(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    assert len(body["error"]) < 500
    return str(body["error"])


@pytest.mark.parametrize(("body", "reason"), REFUSED, ids=lambda value: str(value)[:60])
def test_bad_tensors_are_told_what_came(client: httpx.Client, body: Any, reason: str) -> None:
    assert reason in refused(client.post(INFER, json=body))


TAILS: list[tuple[dict[str, Any], bytes, str]] = [
    (text_tensor(["a"]), b"\x01\x00\x00", "3 bytes follow the JSON"),
    (text_tensor(["a"]), b"\x05\x00\x00\x00a", "text[0] ends beyond the 5 bytes"),
    (text_tensor(["a"]), b"\xff\xff\xff\xffa", "text[0] ends beyond"),
    (text_tensor(["a", "b"]), b"\x01\x00\x00\x00aaaa", "text[1] ends beyond the 8 bytes"),
    (text_tensor(["a"]), b"\x02\x00\x00\x00\xff\xfe", "text[0] is not valid UTF-8"),
    (text_tensor(["a"]), b"\x03\x00\x00\x00\xed\xa0\x80", "text[0] is not valid UTF-8"),
    (text_tensor(["a"]), b"\x01\x00\x00\x00ab", "1 bytes follow the last of its 1 elements"),
    (text_tensor(["a"], shape=[2**62]), b"\x01\x00\x00\x00a", "takes at least"),
    (ids_tensor([[1, 2]]), b"\x00" * 15, "takes 16 bytes, got 15"),
]


@pytest.mark.parametrize(("tensor", "tail", "reason"), TAILS)
def test_bad_bytes_are_told_what_came(
    client: httpx.Client, tensor: dict[str, Any], tail: bytes, reason: str
) -> None:
    size = 2 if "follow the JSON" in reason else len(tail)
    tensor = {**tensor, "data": None, "parameters": {"binary_data_size": size}}
    body, headers = binary_body({"inputs": [tensor]}, tail)
    assert reason in refused(client.post(INFER, content=body, headers=headers))


@pytest.mark.parametrize("size", [-1, 2**62, 10**30, True, "8"])
def test_sizes_that_cannot_be(client: httpx.Client, size: Any) -> None:
    tensor = text_tensor(["a"], data=None, parameters={"binary_data_size": size})
    body, headers = binary_body({"inputs": [tensor]}, b"\x01\x00\x00\x00a")
    assert "binary_data_size" in refused(client.post(INFER, content=body, headers=headers))


@pytest.mark.parametrize("length", ["-1", "0", "1e3", "", "9" * 5000, "99999", "x"])
def test_lengths_of_the_json_that_cannot_be(client: httpx.Client, length: str) -> None:
    reason = refused(client.post(INFER, content=b"{}", headers={LENGTH: length}))
    assert "must be 1 to the 2 bytes of the body" in reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"content-type": "text/plain"}, "must be application/json or application/octet-stream"),
        ({"content-type": "application/octet-stream"}, LENGTH),
        ({"content-encoding": "br"}, "content coding must be one of gzip, deflate"),
    ],
)
def test_other_forms_of_body(client: httpx.Client, headers: dict[str, str], reason: str) -> None:
    assert reason in refused(client.post(INFER, content=b"{}", headers=headers), 415)


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/v2/models/other", 404, "served: osa-default, version 1"),
        ("GET", f"{MODEL}/versions/2", 404, "served: osa-default, version 1"),
        ("GET", f"{MODEL}/versions/2/ready", 404, "served: osa-default, version 1"),
        ("POST", "/v2/models/other/infer", 404, "served: osa-default, version 1"),
        ("POST", f"{MODEL}/versions/0/infer", 404, "served: osa-default, version 1"),
        ("GET", "/v2/models/", 404, "served: osa-default"),
        ("GET", INFER, 405, "allowed: POST"),
        ("GET", f"{MODEL}/versions/1/infer", 405, "allowed: POST"),
        ("POST", "/v2", 405, "allowed: GET"),
        ("POST", f"{MODEL}/ready", 405, "allowed: GET"),
        ("GET", "/v2/nowhere", 404, "Not Found"),
        ("POST", "/v2/repository/index", 404, "Not Found"),
    ],
)
def test_what_is_not_there(
    client: httpx.Client, method: str, path: str, status: int, reason: str
) -> None:
    assert reason in refused(client.request(method, path), status)


def test_large_bodies_and_no_json_speak_the_dialect(client: httpx.Client) -> None:
    refused(client.post(INFER, content=b"x" * 3_000_000), 413)
    assert "not valid JSON" in refused(client.post(INFER, content=b"\xff"))
    refused(client.post(INFER, json=[1]), 400)


def test_names_with_slashes(serve: Callable[..., httpx.Client], tiny_checkpoint: Path) -> None:
    bound = serve(
        EagerEngine(tiny_checkpoint, "cpu"), model__name="org/tiny", batching__max_batch_tokens=256
    )
    for path in ("/v2/models/org/tiny", "/v2/models/org%2Ftiny/versions/1"):
        assert bound.get(path).json()["name"] == "org/tiny"
        assert bound.get(f"{path}/ready").json()["ready"] is True
        body = {"inputs": [text_tensor(["the cat"])]}
        assert bound.post(f"{path}/infer", json=body).json()["model_name"] == "org/tiny"
    refused(bound.get("/v2/models/tiny"), 404)
