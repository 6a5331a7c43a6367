"""Features as tensors of the Open Inference Protocol on a real socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from osa.service.api.kserve.rpc import messages
from tests.feature_model import INPUTS, LONGEST, SEQUENCES, WIDTH, embed, tensor
from tests.grpc_client import MODEL, running

INFER = "/v2/models/osa-default/infer"
LENGTH = "inference-header-content-length"


def padded() -> np.ndarray:
    found = np.full((len(SEQUENCES), LONGEST, WIDTH), 9, dtype=np.float32)
    for place, rows in enumerate(SEQUENCES):
        found[place, : len(rows)] = rows
    return found


@pytest.mark.parametrize("features", [np.concatenate(SEQUENCES), padded()])
@pytest.mark.parametrize("binary", [False, True])
def test_tensors_give_the_bits_of_embed(
    feature_client: httpx.Client, features: np.ndarray, binary: bool
) -> None:
    lengths = np.array([len(rows) for rows in SEQUENCES])
    parts = {"features": features.astype("<f4"), "lengths": lengths.astype("<i8")}
    head: dict[str, Any] = {"inputs": [tensor(part, name) for name, part in parts.items()]}
    if binary:
        for entry in head["inputs"]:
            del entry["data"]
            entry["parameters"] = {"binary_data_size": parts[entry["name"]].nbytes}
        tail = b"".join(part.tobytes() for part in parts.values())
        head["id"] = "7" * 3  # so that numbers begin at odd places
        text = json.dumps(head).encode()
        answer = feature_client.post(INFER, content=text + tail, headers={LENGTH: str(len(text))})
    else:
        answer = feature_client.post(INFER, json=head)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    found = np.array(output["data"], dtype=np.float32).reshape(output["shape"])
    np.testing.assert_array_equal(found, embed(feature_client, INPUTS))


def test_tensors_without_lengths(feature_client: httpx.Client) -> None:
    same = np.stack([SEQUENCES[1], SEQUENCES[1] + 1])
    answer = feature_client.post(INFER, json={"inputs": [tensor(same)]}).json()["outputs"][0]
    expected = embed(feature_client, same.tolist())
    np.testing.assert_array_equal(np.array(answer["data"]).reshape(2, -1).astype("f4"), expected)
    answer = feature_client.post(INFER, json={"inputs": [tensor(same[0])]}).json()["outputs"][0]
    np.testing.assert_array_equal(np.array(answer["data"], dtype="f4")[None], expected[:1])


LENGTHS = tensor(np.array([2, 3]), "lengths")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([tensor(np.ones((2, 4)))], "features must have rows of 3 numbers, got shape [2, 4]"),
        ([tensor(np.ones(3))], "features must have shape [N, F] or [S, N, F], got [3]"),
        ([tensor(np.ones((0, 3)))], "features is empty: its shape is [0, 3]"),
        ([tensor(np.ones((2, 3)), datatype="FP64")], "features must be FP32, got 'FP64'"),
        ([tensor(np.ones((2, 3)), data=[1] * 5)], "shape [2, 3] takes 6 elements, got 5"),
        ([tensor(np.ones((1, 3)), data=[1, 2, 1e39])], "features[0, 2] must be a finite float32"),
        ([tensor(np.ones((4, 3))), LENGTHS], "lengths must add up to the 4 rows of features"),
        ([tensor(np.ones((5, 3))), tensor(np.ones((1, 2), int), "lengths")], "must have shape [S]"),
        ([LENGTHS], "inputs must be features with or without lengths, got lengths"),
        ([{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}], "unknown input"),
    ],
)
def test_tensors_that_are_refused(
    feature_client: httpx.Client, inputs: list[dict[str, Any]], message: str
) -> None:
    answer = feature_client.post(INFER, json={"inputs": inputs})
    assert (answer.status_code, message in answer.json()["error"]) == (400, True), answer.text


def test_nan_in_a_binary_tensor_is_refused_by_place(feature_client: httpx.Client) -> None:
    elements = np.ones((2, 2, WIDTH), dtype="<f4")
    elements[1, 0, 2] = np.nan
    described: dict[str, Any] = {"parameters": {"binary_data_size": elements.nbytes}, "data": None}
    text = json.dumps({"inputs": [tensor(elements, **described)]}).encode()
    answer = feature_client.post(
        INFER, content=text + elements.tobytes(), headers={LENGTH: str(len(text))}
    )
    assert answer.status_code == 400
    assert answer.json()["error"] == "features[1, 0, 2] must be a finite float32 number"


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_sends_features(feature_client: httpx.Client, binary: bool) -> None:
    triton = pytest.importorskip("tritonclient.http")
    expected = embed(feature_client, INPUTS)

    def tensor_of(name: str, elements: np.ndarray, datatype: str) -> Any:
        found = triton.InferInput(name, list(elements.shape), datatype)
        found.set_data_from_numpy(elements, binary_data=binary)
        return found

    lengths = tensor_of("lengths", np.array([len(rows) for rows in SEQUENCES]), "INT64")
    host = str(feature_client.base_url).removeprefix("http://").rstrip("/")
    with triton.InferenceServerClient(host) as client:
        for features in (np.concatenate(SEQUENCES), padded()):
            inputs = [tensor_of("features", features, "FP32"), lengths]
            found = client.infer("osa-default", inputs).as_numpy("embedding")
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("raw", [False, True])
def test_grpc_has_the_same_tensors_and_bits(
    feature_client: httpx.Client, feature_checkpoint: Path, raw: bool
) -> None:
    lengths = np.array([len(rows) for rows in SEQUENCES])
    request = messages.new("ModelInferRequest")
    request.model_name = MODEL
    for name, datatype, elements in (
        ("features", "FP32", np.concatenate(SEQUENCES)),
        ("lengths", "INT64", lengths),
    ):
        entry = request.inputs.add(name=name, datatype=datatype, shape=list(elements.shape))
        if raw:
            request.raw_input_contents.append(elements.tobytes())
        else:
            field = "fp32_contents" if datatype == "FP32" else "int64_contents"
            getattr(entry.contents, field).extend(elements.ravel().tolist())
    with running(model__path=feature_checkpoint, model__dtype="float32") as served:
        answer = served.grpc.infer(request)
        request.inputs[0].shape[1] = WIDTH - 1
        told = "features must have rows of 3 numbers"
        served.grpc.refused(request, grpc.StatusCode.INVALID_ARGUMENT, told)
    (output,) = answer.outputs
    found = (
        np.frombuffer(answer.raw_output_contents[0], "<f4")
        if answer.raw_output_contents
        else np.array(output.contents.fp32_contents, dtype=np.float32)
    )
    np.testing.assert_array_equal(found.reshape(output.shape), embed(feature_client, INPUTS))
