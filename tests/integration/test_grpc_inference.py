"""The Open Inference Protocol over gRPC: the vectors of HTTP, and refusals of bad tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("grpc_health", reason="the extra grpc is not installed")
import grpc
from grpc import StatusCode

from osa.service.api.kserve.rpc import messages
from tests.grpc_client import MODEL, GrpcClient, Running, ids_request, running
from tests.head_models import LABELS, make_head_model

TEXTS = ["A man is playing a guitar.", "Stocks fell on Tuesday.", "é 漢字 🎸"]


@pytest.fixture(scope="module")
def both() -> Iterator[Running]:
    """The packaged model over HTTP and gRPC."""
    with running() as served:
        yield served


@pytest.fixture
def rpc(both: Running) -> GrpcClient:
    return both.grpc


def pack(texts: list[str]) -> bytes:
    encoded = [text.encode() for text in texts]
    return b"".join(len(item).to_bytes(4, "little") + item for item in encoded)


def text_request(texts: list[str], raw: bool = False, **fields: Any) -> Any:
    request = messages.new("ModelInferRequest")
    request.model_name, request.id = MODEL, "request 7"
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    if raw:
        request.raw_input_contents.append(pack(texts))
    else:
        tensor.contents.bytes_contents.extend(text.encode() for text in texts)
    for name, value in fields.items():
        parameter = request.parameters[name]
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(parameter, kind, value)
    return request


def vectors_of(answer: Any) -> np.ndarray:
    (tensor,) = answer.outputs
    assert (tensor.name, tensor.datatype) == ("embedding", "FP32")
    if answer.raw_output_contents:
        assert not tensor.contents.ListFields()
        (raw,) = answer.raw_output_contents
        return np.frombuffer(raw, "<f4").reshape(tensor.shape)
    return np.array(tensor.contents.fp32_contents, dtype=np.float32).reshape(tensor.shape)


def embed(both: Running, inputs: Any, **fields: Any) -> np.ndarray:
    answer = both.http.post("/embed", json={"inputs": inputs, **fields}).json()
    return np.array(answer, dtype=np.float32)


def test_the_server_and_the_model_describe_themselves(both: Running, rpc: GrpcClient) -> None:
    assert rpc.call("ServerLive").live
    assert rpc.call("ServerReady").ready
    assert rpc.call("ServerMetadata").name == "osa"
    for version in ("", "1"):
        asked = messages.new("ModelReadyRequest")
        asked.name, asked.version = MODEL, version
        assert rpc.call("ModelReady", asked).ready
        asked = messages.new("ModelMetadataRequest")
        asked.name, asked.version = MODEL, version
        answer = rpc.call("ModelMetadata", asked)
        told = both.http.get(f"/v2/models/{MODEL}").json()
        assert (answer.name, list(answer.versions)) == (told["name"], told["versions"])
        assert answer.platform == told["platform"]
        for side in ("inputs", "outputs"):
            assert [(t.name, t.datatype, list(t.shape)) for t in getattr(answer, side)] == [
                (t["name"], t["datatype"], t["shape"]) for t in told[side]
            ]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("wanted", [None, False, True])
def test_texts_give_the_bits_of_http(both: Running, raw: bool, wanted: bool | None) -> None:
    fields: dict[str, Any] = {} if wanted is None else {"binary_data_output": wanted}
    answer = both.grpc.infer(text_request(TEXTS, raw, **fields))
    assert (answer.id, answer.model_name, answer.model_version) == ("request 7", MODEL, "1")
    assert bool(answer.raw_output_contents) == (raw if wanted is None else wanted)
    np.testing.assert_array_equal(vectors_of(answer), embed(both, TEXTS))


def test_ids_with_padding_typed_and_raw(both: Running) -> None:
    rows = [[101, 2158, 102], [101, 2158, 2652, 2858, 102]]
    padded, mask = [[*rows[0], 0, 0], rows[1]], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    expected = embed(both, rows)
    typed = ids_request(*padded)
    tensor = typed.inputs.add(name="attention_mask", datatype="INT64", shape=[2, 5])
    tensor.contents.int64_contents.extend(np.array(mask).reshape(-1).tolist())
    np.testing.assert_array_equal(vectors_of(both.grpc.infer(typed)), expected)
    raw = ids_request(*padded)
    raw.inputs[0].ClearField("contents")
    raw.inputs.add(name="attention_mask", datatype="INT64", shape=[2, 5])
    raw.raw_input_contents.extend(np.array(part, "<i8").tobytes() for part in (padded, mask))
    np.testing.assert_array_equal(vectors_of(both.grpc.infer(raw)), expected)


def test_parameters_of_embed_are_honoured(both: Running) -> None:
    fields: dict[str, Any] = {"dimensions": 64, "normalize": False}
    answer = both.grpc.infer(text_request(TEXTS, **fields, truncation_direction="LEFT"))
    np.testing.assert_array_equal(vectors_of(answer), embed(both, TEXTS, **fields))


def test_bits_do_not_depend_on_company_or_transport(both: Running) -> None:
    """Random requests over both transports at once: every text has the bits that it has alone."""
    if not both.http.get("/info").json()["batch_invariant"]:
        pytest.skip("products of this machine are not batch-invariant")
    chance = random.Random(0)
    words = ["river", "guitar", "stock", "night", "tree", "é", "漢字", "of", "the", "runs"]
    texts = [" ".join(chance.choices(words, k=chance.randint(1, 120))) for _ in range(40)]
    alone = np.concatenate([embed(both, text) for text in texts])
    chosen = [chance.sample(range(40), chance.randint(1, 12)) for _ in range(40)]

    def ask(place: int) -> np.ndarray:
        some = [texts[index] for index in chosen[place]]
        if place % 3 == 0:
            return embed(both, some)
        return vectors_of(both.grpc.infer(text_request(some, raw=place % 3 == 1)))

    with ThreadPoolExecutor(8) as pool:
        for indices, found in zip(chosen, pool.map(ask, range(40)), strict=True):
            np.testing.assert_array_equal(found, alone[indices])


def changed(**changes: Any) -> Any:
    """A request of one text whose tensor has other fields."""
    request = text_request(["a"])
    for name, value in changes.items():
        if name == "shape":
            request.inputs[0].ClearField("shape")
            request.inputs[0].shape.extend(value)
        else:
            setattr(request.inputs[0], name, value)
    return request


def with_field(**fields: Any) -> Any:
    """A request whose tensor also has elements in another field of its contents."""
    request = text_request(["a"])
    for name, value in fields.items():
        getattr(request.inputs[0].contents, name).extend(value)
    return request


def altered(change: Any) -> Any:
    request = text_request(["a"])
    change(request)
    return request


REFUSED: list[tuple[Any, str]] = [
    (messages.new("ModelInferRequest"), "no model and version of this name; served: osa-default"),
    (text_request([]), "text is empty: its shape is [0]"),
    (text_request([""]), "text[0] is empty"),
    (changed(name="INPUT0"), "unknown input 'INPUT0'; allowed: text, text_pair"),
    (changed(datatype="FP16"), "text must be BYTES, got 'FP16'"),
    (changed(datatype=""), "text must be BYTES, got ''"),
    (changed(datatype="FP32"), "elements of FP32 are in fp32_contents, got bytes_contents"),
    (changed(shape=[2]), "takes 2 elements, got 1"),
    (changed(shape=[-1]), "negative dimension"),
    (changed(shape=[1] * 99), "got 99 dimensions"),
    (changed(shape=[2**62]), "elements, got 1"),
    (with_field(int64_contents=[1]), "are in bytes_contents, got int64_contents and bytes"),
    (altered(lambda r: r.inputs[0].contents.bytes_contents.append(b"\xff")), "is not valid UTF-8"),
    (altered(lambda r: r.raw_input_contents.append(b"a")), "text has contents beside raw_input"),
    (altered(lambda r: r.raw_input_contents.extend([b"a", b"b"])), "has 2 entries for 1 inputs"),
    (altered(lambda r: r.inputs.add().CopyFrom(r.inputs[0])), "given twice"),
    (altered(lambda r: r.outputs.add(name="x")), "allowed: embedding"),
    (altered(lambda r: r.ClearField("inputs")), "got none"),
    (text_request(["a"], dimensions=500), "must be 1 to 384"),
    (text_request(["a"], normalize="no"), "parameters.normalize"),
    (ids_request([30522]), "allowed are 0 to 30521"),
    (ids_request([1], model_version="2"), "served: osa-default, version 1"),
]


@pytest.mark.parametrize(("request_", "reason"), REFUSED, ids=lambda value: str(value)[-40:])
def test_bad_tensors_are_told_what_came(rpc: GrpcClient, request_: Any, reason: str) -> None:
    unknown = "served: " in reason
    rpc.refused(request_, StatusCode.NOT_FOUND if unknown else StatusCode.INVALID_ARGUMENT, reason)


def test_raw_bytes_are_checked_as_those_of_http(rpc: GrpcClient) -> None:
    for raw, reason in (
        (b"", "takes at least 4 bytes, got 0"),
        (b"\x05\0\0\0ab", "text[0] ends beyond the 6 bytes"),
        (b"\x01\0\0\0\xff", "text[0] is not valid UTF-8"),
        (pack(["a", "b"]), "bytes follow the last of its 1 elements"),
    ):
        request = changed()
        request.inputs[0].ClearField("contents")
        request.raw_input_contents.append(raw)
        rpc.refused(request, StatusCode.INVALID_ARGUMENT, reason)
    shared = text_request(["a"], raw=True)
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    rpc.refused(shared, StatusCode.INVALID_ARGUMENT, "no shared memory")


def test_bytes_that_are_no_message_are_refused(rpc: GrpcClient) -> None:
    for name in ("ModelInfer", "ModelReady", "ModelMetadata"):
        with pytest.raises(grpc.RpcError, match=f"not a valid {name}Request") as caught:
            rpc.method(name)(b"\xff\xff\xff")
        assert caught.value.code() is StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError, match="Method not found") as unknown:
        rpc.method("ModelStreamInfer")(b"")
    assert unknown.value.code() is StatusCode.UNIMPLEMENTED


def test_mutilated_requests_are_refused_and_break_nothing(rpc: GrpcClient) -> None:
    chance = random.Random(0)
    whole = [
        text_request(TEXTS, raw=True, dimensions=64).SerializeToString(),
        text_request(TEXTS, normalize=False).SerializeToString(),
        ids_request([101, 2158, 102]).SerializeToString(),
    ]
    allowed = {StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND, StatusCode.OK}
    pending = []
    for _ in range(600):
        raw = bytearray(chance.choice(whole))
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(raw))
            if chance.random() < 0.3:
                del raw[place : place + chance.randint(1, 9)]
            else:
                raw[place] = chance.randrange(256)
        pending.append(rpc.method("ModelInfer").future(bytes(raw)))
        if len(pending) >= 50:
            assert {call.code() for call in pending} <= allowed
            pending.clear()
    assert rpc.infer(text_request(TEXTS)).outputs


def test_pairs_give_the_logits_of_a_classifier(tmp_path: Path) -> None:
    with running(model__path=make_head_model(tmp_path, "classifier")) as served:
        request = text_request(["the cat", "a dog"])
        tensor = request.inputs.add(name="text_pair", datatype="BYTES", shape=[2])
        tensor.contents.bytes_contents.extend([b"a dog", b"the cat"])
        (logits,) = served.grpc.infer(request).outputs
        assert (logits.name, list(logits.shape)) == ("logits", [2, len(LABELS)])
        pairs = [["the cat", "a dog"], ["a dog", "the cat"]]
        body = {"inputs": pairs, "raw_scores": True}
        for row, place in zip(served.http.post("/predict", json=body).json(), (0, 3), strict=True):
            by_label = {one["label"]: one["score"] for one in row}
            expected = [np.float32(by_label[label]) for label in LABELS]
            assert list(logits.contents.fp32_contents)[place : place + 3] == expected
    with running() as served:
        served.grpc.refused(request, StatusCode.FAILED_PRECONDITION, "an embedding model")
