"""Bodies of requests: compressed, in other encodings, and many at once that do not arrive."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from osa.service.auth.api_keys import make_key
from osa.service.server import bodies
from tests.conftest import make_tiny_model, wait_until
from tests.head_models import make_head_models
from tests.integration.test_overload import sample
from tests.route_bodies import INFERENCE, TEXT, body_of, every_kind, place
from tests.wire import connected, post, read_answer

Serve = Callable[..., httpx.Client]
JSON = {"content-type": "application/json"}
BODY = b'{"inputs": "the cat sat"}'
GZIP = {**JSON, "content-encoding": "gzip"}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds")
    make_tiny_model().save_pretrained(root / "embedding")
    make_head_models(root)
    return root


def without_id(answer: httpx.Response) -> object:
    body = answer.json()
    return {**body, "id": None} if isinstance(body, dict) else body


def test_compressed_bodies_are_read_on_every_route(serve: Serve, kinds: Path) -> None:
    client = serve(**every_kind(kinds))
    for path in (*INFERENCE, *TEXT):
        plain = json.dumps(body_of(path)).encode()
        first = client.post(place(path), content=plain, headers=JSON)
        assert first.status_code == 200, path
        expected = without_id(first)
        for coding, sent in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain))):
            headers = {**JSON, "content-encoding": coding}
            answer = client.post(place(path), content=sent, headers=headers)
            assert (answer.status_code, without_id(answer)) == (200, expected), path
        refused = client.post(
            place(path), content=plain, headers={**JSON, "content-encoding": "br"}
        )
        assert refused.status_code == 415, path
        assert refused.headers["accept-encoding"] == "gzip, deflate"


def test_compressed_bodies_are_read_by_admin_too(
    serve: Serve, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    secret, entry = make_key("operator", None, admin=True)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(model__path=tiny_checkpoint, auth__keys_file=tmp_path / "keys.toml")
    key = {"authorization": f"Bearer {secret}"}
    body = json.dumps({"path": str(tiny_checkpoint)}).encode()
    where = "/admin/models/other"
    answer = client.post(where, content=gzip.compress(body), headers={**GZIP, **key})
    assert answer.status_code == 200, answer.text
    answer = client.post(where, content=body, headers={**JSON, **key, "content-encoding": "zstd"})
    assert answer.status_code == 415


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "deflate, gzip", "x"])
def test_other_codings_are_refused_with_those_that_are_read(
    client: httpx.Client, coding: str
) -> None:
    answer = client.post("/embed", content=BODY, headers={**JSON, "content-encoding": coding})
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, deflate")
    assert coding in answer.json()["error"]


def test_binary_tensors_may_be_compressed_as_a_whole(client: httpx.Client) -> None:
    """Triton's clients compress JSON and tensors together; the length is that of the plain JSON."""
    text = b"the cat sat"
    tensor = len(text).to_bytes(4, "little") + text
    head = json.dumps({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES",
                                   "parameters": {"binary_data_size": len(tensor)}}]})  # fmt: skip
    plain = head.encode() + tensor
    headers = {"inference-header-content-length": str(len(head))}
    where = "/v2/models/osa-default/infer"
    expected = client.post(where, content=plain, headers=headers)
    assert expected.status_code == 200, expected.text
    for coding, sent in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain))):
        found = client.post(where, content=sent, headers={**headers, "content-encoding": coding})
        assert found.json()["outputs"] == expected.json()["outputs"]


def test_a_bomb_costs_no_more_than_the_limit(client: httpx.Client) -> None:
    bomb = gzip.compress(b" " * 500_000_000, 1)[:1_990_000]
    answer = client.post("/embed", content=bomb, headers=GZIP)
    assert answer.status_code == 413
    assert answer.json()["error"] == "the decompressed body is over the limit of 2000000 bytes"


def test_what_is_no_gzip_is_told_so(client: httpx.Client) -> None:
    whole = gzip.compress(BODY)
    for sent, why in (
        (BODY, "not valid gzip"),
        (whole[:-1], "ends early"),
        (b"", "ends early"),
        (whole + b"rest", "not valid gzip"),
        (gzip.compress(b"") * 2000 + whole, "bytes follow"),
    ):
        answer = client.post("/embed", content=sent, headers=GZIP)
        assert answer.status_code == 400
        assert why in answer.json()["error"]
    several = gzip.compress(BODY[:5]) + gzip.compress(BODY[5:])
    assert client.post("/embed", content=several, headers=GZIP).status_code == 200


def test_decompressed_bodies_are_bounded_in_all(serve: Serve, tiny_checkpoint: Path) -> None:
    client = serve(model__path=tiny_checkpoint, batching__max_batch_tokens=256,
                   server__body_memory=1_000_000)  # fmt: skip
    sent = gzip.compress(BODY.ljust(1_900_000))
    refused = client.post("/embed", content=sent, headers=GZIP)
    assert refused.status_code == 429
    assert "server.body_memory" in refused.json()["error"]
    assert sample(client, "osa_body_bytes") == 0
    assert client.post("/embed", content=gzip.compress(BODY), headers=GZIP).status_code == 200


def test_codings_in_several_headers_are_several(client: httpx.Client) -> None:
    twice = [("content-type", "application/json")] + [("content-encoding", "gzip")] * 2
    answer = client.post("/embed", content=gzip.compress(BODY), headers=twice)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, deflate")
    for none in ("gzip,", ", gzip", "identity, gzip"):
        headers = {**GZIP, "content-encoding": none}
        answer = client.post("/embed", content=gzip.compress(BODY), headers=headers)
        assert answer.status_code == 200, none


def test_a_byte_order_mark_is_passed_over(client: httpx.Client) -> None:
    marked = b"\xef\xbb\xbf" + BODY
    plain, passed = (client.post("/embed", content=sent).content for sent in (BODY, marked))
    assert plain == passed


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (b'{"inputs": "caf\xe9"}', "it is not UTF-8: byte 15 is 0xe9"),
        ('{"inputs": "café"}'.encode("utf-16"), "it is in UTF-16, not in UTF-8"),
        ('{"inputs": "café"}'.encode("utf-16-le"), "it is in UTF-16, not in UTF-8"),
        ('{"inputs": "café"}'.encode("utf-16-be"), "it is in UTF-16, not in UTF-8"),
        ('{"inputs": "café"}'.encode("utf-32"), "it is in UTF-32, not in UTF-8"),
        ('{"inputs": "café"}'.encode("utf-32-be"), "it is in UTF-32, not in UTF-8"),
    ],
)
@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/v2/models/osa-default/infer"])
def test_other_encodings_are_told_so_with_the_byte(
    client: httpx.Client, path: str, sent: bytes, why: str
) -> None:
    answer = client.post(path, content=sent, headers=JSON)
    assert answer.status_code == 400
    assert why in answer.text


def start_of(size: int, headers: bytes = b"") -> bytes:
    """All but the last byte of a request whose body has ``size`` bytes."""
    return post(headers, body=b'{"inputs": "a"}'.ljust(size))[:-1]


def test_a_body_that_does_not_come_makes_room_for_one_that_does(
    serve: Serve, tiny_checkpoint: Path
) -> None:
    client = serve(model__path=tiny_checkpoint, batching__max_batch_tokens=256,
                   server__body_memory=100_000, server__body_timeout_s=3600)  # fmt: skip
    with connected(client) as slow, connected(client) as slower:
        slower.sendall(start_of(45_000))
        wait_until(lambda: sample(client, "osa_body_bytes") >= 44_000)
        slow.sendall(start_of(45_000))
        wait_until(lambda: sample(client, "osa_body_bytes") >= 2 * 44_000)
        time.sleep(1.2)
        body = b'{"inputs": "a"}'.ljust(50_000)
        assert client.post("/embed", content=body, headers=JSON).status_code == 200
        assert read_answer(slower)[0] == 429
        slow.sendall(b" ")
        assert read_answer(slow)[0] == 200
    wait_until(lambda: sample(client, "osa_body_bytes") == 0)


def test_bodies_are_bounded_in_all(serve: Serve, tiny_checkpoint: Path) -> None:
    client = serve(model__path=tiny_checkpoint, batching__max_batch_tokens=256,
                   server__body_memory=10_000)  # fmt: skip
    refused = client.post("/embed", content=b'{"inputs": "a"}'.ljust(20_000), headers=JSON)
    assert refused.status_code == 429
    assert "server.body_memory" in refused.json()["error"]
    assert int(refused.headers["retry-after"]) >= 1
    assert client.post("/embed", content=BODY, headers=JSON).status_code == 200
    assert sample(client, "osa_body_bytes") == 0


def test_bodies_of_one_key_leave_room_for_others_and_for_operators(
    serve: Serve, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "SLOW_S", 3600.0)  # none is given up, however busy the machine
    made = {name: make_key(name, None, admin=name == "admin") for name in ("a", "b", "admin")}
    (tmp_path / "keys.toml").write_text("".join(entry for _, entry in made.values()))
    client = serve(model__path=tiny_checkpoint, batching__max_batch_tokens=256,
                   server__body_memory=100_000, auth__keys_file=tmp_path / "keys.toml")  # fmt: skip
    header = {name: b"x-api-key: %b\r\n" % secret.encode() for name, (secret, _) in made.items()}
    with connected(client) as first, connected(client) as second, connected(client) as third:
        first.sendall(start_of(35_000, header["a"]))
        wait_until(lambda: sample(client, "osa_body_bytes") >= 34_000)
        second.sendall(start_of(35_000, header["a"]))
        status, _, told = read_answer(second)
        assert status == 429
        assert b"of this API key" in told
        third.sendall(start_of(60_000, header["b"]))  # its only one
        wait_until(lambda: sample(client, "osa_body_bytes") >= 94_000)
        body = json.dumps({"path": str(tiny_checkpoint)}).encode().ljust(20_000)
        key = {"x-api-key": made["admin"][0]}
        answer = client.post("/admin/models/other", content=body, headers={**JSON, **key})
        assert answer.status_code == 200, answer.text
        large = client.post("/admin/models/other", content=body.ljust(70_000), headers=key)
        assert large.status_code == 413
        for wire in (first, third):
            wire.sendall(b" ")
            assert read_answer(wire)[0] == 200
    wait_until(lambda: sample(client, "osa_body_bytes") == 0)
