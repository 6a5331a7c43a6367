"""API keys and quotas: accepted and refused keys, tokens per key, error messages."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from osa.model.errors import ConfigError
from osa.service.auth import api_keys as key_module
from osa.service.auth.api_keys import make_key
from osa.service.server.app import create_service
from tests.conftest import local_settings, make_tiny_model, run_service, wait_until
from tests.wire import connected, post, read_answer

Serve = Callable[..., httpx.Client]


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server that asks for the one key of "team"."""
    folder = tmp_path_factory.mktemp("guarded")
    make_tiny_model().save_pretrained(folder / "tiny")
    (folder / "keys.toml").write_text(make_key("team", None, admin=False)[1])
    settings = local_settings(model__path=folder / "tiny", auth__keys_file=folder / "keys.toml")
    with run_service(create_service(settings), settings) as client:
        yield client


def test_only_known_keys_come_in(serve: Serve, tiny_checkpoint: Path, tmp_path: Path) -> None:
    secret, entry = make_key("team", None, admin=False)
    file = tmp_path / "keys.toml"
    file.write_text(entry)
    client = serve(model__path=tiny_checkpoint, model__max_input_length=200, auth__keys_file=file)
    for headers in ({}, bearer("osa-wrong"), {"authorization": f"Basic {secret}"}):
        refused = client.post("/embed", json={"inputs": "the cat"}, headers=headers)
        assert (refused.status_code, refused.json()["error_type"]) == (401, "Unauthorized")
        openai = client.post("/v1/embeddings", json={"input": "the cat"}, headers=headers)
        assert openai.json()["error"]["code"] == "invalid_api_key"
        assert client.get("/v2", headers=headers).json().keys() == {"error"}
        assert client.get("/info", headers=headers).status_code == 401
    for headers in (bearer(secret), {"x-api-key": secret}, {"api-key": secret}):
        assert client.post("/embed", json={"inputs": "a"}, headers=headers).status_code == 200
    for path in ("/health", "/livez", "/readyz", "/ping", "/metrics", "/v2/health/ready"):
        assert client.get(path).status_code == 200, path
    assert client.get("/admin/models", headers=bearer(secret)).status_code == 403


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "no API key was sent"),
        ({"x-api-key": ""}, "no API key was sent"),
        ({"authorization": "osa-wrong"}, "not 'Bearer KEY'"),
        ({"authorization": "Basic b3NhOndyb25n"}, "not 'Bearer KEY'"),
        ({"authorization": "Bearer"}, "not 'Bearer KEY'"),
        ({"authorization": "Bearer osa-wrong"}, "unknown API key"),
        ({"authorization": "bearer osa-wrong"}, "unknown API key"),
        ({"x-api-key": "osa-wrong"}, "unknown API key"),
        ({"api-key": "osa-wrong"}, "unknown API key"),
    ],
)
def test_who_does_not_come_in_is_told_why(
    guarded: httpx.Client, headers: dict[str, str], told: str
) -> None:
    """In every protocol, without information about existing keys."""
    requests = [
        ("POST", "/embed", {"inputs": "a"}),
        ("POST", "/tokenize", {"inputs": "a"}),
        ("GET", "/info", None),
        ("POST", "/v1/embeddings", {"input": "a"}),
        ("GET", "/v1/models", None),
        ("GET", "/v2", None),
        ("POST", "/v2/models/osa-default/infer", {}),
        ("GET", "/admin/models", None),
        ("POST", "/admin/models/x", {"path": None}),
        ("DELETE", "/admin/models/x", None),
        ("GET", "/nowhere", None),
    ]
    for method, path, body in requests:
        refused = guarded.request(method, path, json=body, headers=headers)
        assert refused.status_code == 401, path
        assert refused.headers["www-authenticate"] == "Bearer"
        answer = refused.json()["error"]
        message = answer["message"] if path.startswith("/v1") else answer
        assert told in message, path
        for secret in ("osa-wrong", "b3NhOndyb25n", "team", ".toml"):
            assert secret not in refused.text


def test_a_refused_reader_keeps_its_connection(guarded: httpx.Client) -> None:
    """There is no body to wait for; a request with one ends the connection."""
    with connected(guarded) as wire:
        for _ in range(2):
            wire.sendall(b"GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
            status, headers, _ = read_answer(wire)
            assert (status, headers.get(b"connection")) == (401, None)
        wire.sendall(post())
        status, headers, _ = read_answer(wire)
        assert (status, headers[b"connection"]) == (401, b"close")


def test_a_path_that_is_open_to_readers_embeds_for_nobody(
    serve: Serve, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    secret, entry = make_key("team", 1000, admin=False)
    (tmp_path / "keys.toml").write_text(entry)
    client = serve(model__path=tiny_checkpoint, auth__keys_file=tmp_path / "keys.toml")
    body = {"inputs": "the cat"}
    assert client.get("/").status_code == 200
    assert client.head("/").status_code == 200
    assert client.post("/", json=body).status_code == 401
    assert client.post("/", json=body, headers=bearer(secret)).status_code == 200
    for path in ("/health", "/assets/embed", "/assets/..%2Fembed", "//embed", "/%65mbed"):
        assert client.post(path, json=body).status_code == 401, path
    paths = client.get("/openapi.json").json()["paths"]
    assert "security" in paths["/"]["post"]
    assert "security" not in paths["/"]["get"]


def two_keys(
    serve: Serve, checkpoint: Path, file: Path
) -> tuple[tuple[str, str], tuple[str, str], Callable[[str], int]]:
    """A key of a server's file and one of none, with their entries; how they are answered."""
    old, new = (make_key(name, None, admin=False) for name in ("old", "new"))
    file.write_text(old[1])
    client = serve(model__path=checkpoint, auth__keys_file=file)

    def status(secret: str) -> int:
        return client.post("/embed", json={"inputs": "a"}, headers=bearer(secret)).status_code

    return old, new, status


def test_a_changed_file_is_read_again_and_a_broken_one_is_not(
    serve: Serve, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_module, "LOOK_S", 0.0)
    file = tmp_path / "keys.toml"
    (first, _), (second, new_entry), status = two_keys(serve, tiny_checkpoint, file)
    assert (status(first), status(second)) == (200, 401)
    file.write_text("[[keys]]\nname = 'half")
    assert (status(first), status(second)) == (200, 401)
    (tmp_path / "next").write_text(new_entry)
    os.replace(tmp_path / "next", file)
    wait_until(lambda: (status(first), status(second)) == (401, 200))


def test_the_first_request_after_a_while_is_judged_by_the_file_as_it_is(
    serve: Serve, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_module, "LOOK_S", 0.2)
    file = tmp_path / "keys.toml"
    (_, old_entry), (second, new_entry), status = two_keys(serve, tiny_checkpoint, file)
    for entry, expected in ((new_entry, 200), (old_entry, 401)):
        (tmp_path / "next").write_text(entry)
        os.replace(tmp_path / "next", file)
        time.sleep(1.5)  # nobody asks meanwhile
        assert status(second) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must hold \[\[keys\]\]"),
        ("[[keys]]\nname = 'a'\nsha256 = 'xyz'\n", r"keys\[0\]: sha256 must be 64"),
        ("[[keys]]\nname = 'a'\nsha256 = '%s'\nquota = 1\n" % ("0" * 64), r"keys\[0\] must have"),
        (f"[[keys]]\nname = 'a'\nsha256 = '{'0' * 64}'\n" * 2, r"keys\[1\] has the sha256"),
    ],
)
def test_a_wrong_file_stops_the_start(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        create_service(local_settings(auth__keys_file=file))
    with pytest.raises(ConfigError, match="cannot be read"):
        create_service(local_settings(auth__keys_file=tmp_path / "none"))


def test_a_quota_refuses_with_the_time_to_wait(
    serve: Serve, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    secret, entry = make_key("small", 60, admin=False)
    file = tmp_path / "keys.toml"
    file.write_text(entry)
    client = serve(model__path=tiny_checkpoint, auth__keys_file=file)
    body = {"inputs": [[4] * 40]}
    assert client.post("/embed", json=body, headers=bearer(secret)).status_code == 200
    refused = client.post("/embed", json=body, headers=bearer(secret))
    assert (refused.status_code, refused.json()["error_type"]) == (429, "Overloaded")
    assert 15 <= int(refused.headers["retry-after"]) <= 20
    assert 'err="quota"' in client.get("/metrics").text
