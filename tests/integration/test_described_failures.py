"""Every error example of ``/openapi.json`` is triggered, and the answer equals the example."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from osa.service.auth.api_keys import make_key
from osa.service.engines.eager import EagerEngine
from osa.service.server.app import create_service
from tests.conftest import local_settings, make_tiny_model, run_service, wait_until
from tests.engines import FaultyEngine, GatedEngine
from tests.head_models import make_head_models
from tests.openapi_observer import Observer
from tests.refusals import loads_that_cannot_be, more_than_a_queue_holds
from tests.route_bodies import (
    BY_TASK,
    EMBED,
    INFER,
    INFERENCE,
    RERANK,
    TEXT,
    body_of,
    empty_of,
    every_kind,
    ids_of,
    place,
    poisoned,
)

Serve = Callable[..., httpx.Client]
JSON = {"content-type": "application/json"}
LOAD = "/admin/models/{name}"


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def refused_keys(
    serve: Serve, observer: Observer, tiny: Path, keys: Path, secrets: Sequence[str]
) -> None:
    plain, narrow, admin = secrets
    client = serve(model__path=tiny, auth__keys_file=keys)
    several = serve(auth__keys_file=keys, **every_kind(tiny.parent))
    keyless = serve(model__path=tiny)
    for path, operations in observer.paths.items():
        for method, operation in operations.items():
            if "401" in operation["responses"]:
                for headers in ({}, {"authorization": "wrong"}, bearer("wrong")):
                    answer = client.request(method, place(path), headers=headers)
                    observer.note(method, path, answer)
            if "403" in operation["responses"]:
                answer = client.request(method, place(path), headers=bearer(plain))
                observer.note(method, path, answer)
                observer.note(method, path, keyless.request(method, place(path)))
    for path in (*INFERENCE, *TEXT):  # each once within the quota or beyond, and certainly beyond
        for _ in range(2):
            answer = several.post(place(path), json=body_of(path), headers=bearer(plain))
        observer.note("post", path, answer)
        answer = several.post(place(path), json=body_of(path), headers=bearer(narrow))
        observer.note("post", path, answer)
    headers = bearer(admin)
    refused = client.post(place(LOAD), json={"path": "/nowhere"}, headers=headers)
    observer.note("post", LOAD, refused)
    observer.note("post", LOAD, client.post("/admin/models/a b", json={}, headers=headers))
    observer.note("delete", LOAD, client.delete(place(LOAD), headers=headers))
    observer.note("delete", LOAD, client.delete("/admin/models/other", headers=headers))
    for content, media_type in ((b"{", "application/json"), (b"{}", "text/plain")):
        sent = {**headers, "content-type": media_type}
        observer.note("post", LOAD, client.post(place(LOAD), content=content, headers=sent))


def refused_bodies(serve: Serve, observer: Observer, tiny: Path) -> None:
    client = serve(**every_kind(tiny.parent))
    for path in (*INFERENCE, *TEXT):
        where = place(path)
        observer.note("post", path, client.post(where, content=b"{", headers=JSON))
        text = {"content-type": "text/plain"}
        observer.note("post", path, client.post(where, content=b"{}", headers=text))
        incomplete = {"query": "the cat"} if path in RERANK else {}
        observer.note("post", path, client.post(where, json=incomplete))
        observer.note("post", path, client.post(where, json=empty_of(path)))
    for path in TEXT:
        headers = {"x-request-timeout-ms": "0.0001"}
        observer.note("post", path, client.post(path, json=body_of(path), headers=headers))
    for path in EMBED:
        answer = client.post(place(path), json=body_of(path, dimensions=500))
        observer.note("post", path, answer)


def unknown_models(serve: Serve, observer: Observer, tiny: Path) -> None:
    client = serve(model__path=tiny)
    for path, operations in observer.paths.items():
        for method in operations if path.startswith("/v2/models/") else ():
            where = path.format(model="other", version="1")
            body = body_of(path) if method == "post" else None
            observer.note(method, path, client.request(method, where, json=body))
    observer.note("get", "/info", client.get("/info", params={"model": "other"}))
    observer.note("get", "/v1/models/{model}", client.get("/v1/models/other"))


def unknown_among_several(serve: Serve, observer: Observer, tiny: Path) -> None:
    client = serve(model__path=tiny, model__others=f"law={tiny}")
    for path in ("/v1/embeddings", "/embeddings"):
        observer.note("post", path, client.post(path, json=body_of(path, model="other")))
    reranker = tiny.parent / "reranker"
    client = serve(model__path=reranker, model__others=f"law={reranker}")
    for path in ("/v1/rerank", "/v2/rerank"):
        observer.note("post", path, client.post(path, json=body_of(path, model="other")))


def models_of_another_kind(serve: Serve, observer: Observer, tiny: Path) -> None:
    embedding, classifier = serve(model__path=tiny), serve(model__path=tiny.parent / "classifier")
    for task, paths in BY_TASK.items():
        client = classifier if task == "embedding" else embedding
        for path in paths:
            if path not in INFER:
                observer.note("post", path, client.post(place(path), json=body_of(path)))
    for path in INFER:
        body = body_of(path)
        body["inputs"].append({**body["inputs"][0], "name": "text_pair"})
        observer.note("post", path, embedding.post(place(path), json=body))


def broken_limits(serve: Serve, observer: Observer, tiny: Path, keys: Path, admin: str) -> None:
    client = serve(
        model__path=tiny,
        auth__keys_file=keys,
        server__payload_limit=1024,
        server__body_timeout_s=0.3,
    )
    paths = (*INFERENCE, *TEXT, LOAD)
    for path in paths:
        large = client.post(place(path), content=b" " * 2000, headers=bearer(admin))
        observer.note("post", path, large)
    with ThreadPoolExecutor(len(paths)) as pool:  # the server takes seconds to close each
        halves = pool.map(lambda path: send_half(client, place(path), admin), paths)
        for path, answer in zip(paths, halves, strict=True):
            observer.note("post", path, answer)


def send_half(client: httpx.Client, path: str, secret: str) -> httpx.Response:
    """The answer to a body of which half is sent."""
    address = (client.base_url.host, client.base_url.port or 0)
    with socket.create_connection(address, 10) as wire:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n"
        wire.sendall(f"{head}Content-Length: 10\r\n\r\n{{".encode())
        received = b"".join(iter(lambda: wire.recv(65536), b""))
    line, _, rest = received.partition(b"\r\n")
    return httpx.Response(int(line.split()[1]), content=rest.partition(b"\r\n\r\n")[2])


def engines_that_fail(serve: Serve, observer: Observer, tiny: Path) -> None:
    for task, paths in BY_TASK.items():
        client = serve(FaultyEngine(tiny.parent / task, "raise"), model__path=tiny)
        for path in paths:
            observer.note("post", path, client.post(place(path), json=poisoned(path)))


def faults_of_our_own(
    serve: Serve, observer: Observer, tiny: Path, keys: Path, admin: str, patch: pytest.MonkeyPatch
) -> None:

    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    clients = {}
    for task in BY_TASK:
        engine = EagerEngine(tiny.parent / task, "cpu")
        clients[task] = serve(engine, model__path=tiny, auth__keys_file=keys)
        clients[task].headers.update(bearer(admin))
        for name in ("iterate", "iterate_pairs", "tokens", "decode"):
            patch.setattr(engine.tokenizer, name, broken)
    patch.setattr("osa.service.models.loader.ModelLoader.load", broken)
    for task, paths in {**BY_TASK, "embedding": (*BY_TASK["embedding"], *TEXT, LOAD)}.items():
        for path in paths:
            body = {"path": None} if path == LOAD else body_of(path)
            observer.note("post", path, clients[task].post(place(path), json=body))


def devices_that_break(serve: Serve, observer: Observer, tiny: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    for task, path in ((task, path) for task, paths in BY_TASK.items() for path in paths):
        engine = EagerEngine(tiny.parent / task, "cpu")
        client = serve(engine, model__path=tiny)  # one each: it computes nothing more
        engine.embed = broken  # type: ignore[assignment, method-assign]
        observer.note("post", path, client.post(place(path), json=body_of(path)))


def too_much_at_once(serve: Serve, observer: Observer, tiny: Path) -> None:
    engine = GatedEngine(tiny)
    client = serve(engine, model__path=tiny, server__max_concurrent_requests=1)
    with engine.holding(client):
        for path in (*INFERENCE, *TEXT):
            observer.note("post", path, client.post(place(path), json=body_of(path)))


def full_queues_and_deadlines(serve: Serve, observer: Observer, tiny: Path) -> None:
    for task, paths in BY_TASK.items():
        a_full_queue_and_deadlines(serve, observer, tiny.parent / task, paths)


def a_full_queue_and_deadlines(
    serve: Serve, observer: Observer, tiny: Path, paths: tuple[str, ...]
) -> None:
    engine = GatedEngine(tiny)
    client = serve(
        engine,
        model__path=tiny,
        model__max_input_length=64,
        batching__max_batch_tokens=64,
        batching__max_queue_tokens=64,
    )
    infer = place(INFER[0])  # any model has it
    waiting = threading.Thread(target=client.post, args=(infer,), kwargs={"json": ids_of([5] * 64)})
    with engine.holding(client, infer, ids_of([4])):
        for path in paths:
            hasty = {"x-request-timeout-ms": "50"}
            answer = client.post(place(path), json=body_of(path), headers=hasty)
            observer.note("post", path, answer)
        wait_until(lambda: queued(client) == 0)
        waiting.start()
        wait_until(lambda: queued(client) == 1)
        for path in paths:
            observer.note("post", path, client.post(place(path), json=body_of(path)))
    waiting.join()


def queued(client: httpx.Client) -> float:
    """Inputs that wait for the engine."""
    found = re.search(r'te_queue_size{model="osa-default"} (\S+)', client.get("/metrics").text)
    assert found
    return float(found[1])


def the_drain(observer: Observer, tiny: Path) -> None:
    settings, engine = local_settings(model__path=tiny), GatedEngine(tiny)
    service = create_service(settings, engine)
    with run_service(service, settings) as client, engine.holding(client):  # or it would be done
        service.health.begin_drain()
        for path in (*INFERENCE, *TEXT):
            observer.note("post", path, client.post(place(path), json=body_of(path)))
        for path, operations in observer.paths.items():
            live = path in ("/livez", "/v2/health/live")
            if "503" in operations.get("get", {"responses": ()})["responses"] and not live:
                observer.note("get", path, client.get(place(path)))


def a_hung_engine(serve: Serve, observer: Observer, tiny: Path) -> None:
    engine = GatedEngine(tiny)
    client = serve(engine, model__path=tiny, server__stall_timeout_s=0.5)
    with engine.holding(client):
        wait_until(lambda: client.get("/livez").status_code == 503)
        for path in ("/livez", "/v2/health/live"):
            observer.note("get", path, client.get(path))


def test_every_failure_is_answered_as_it_is_shown(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every example was triggered, and every error answer has an example."""
    make_head_models(tmp_path)
    tiny = tmp_path / "embedding"
    make_tiny_model().save_pretrained(tiny)
    plain, plain_entry = make_key("plain", 5, admin=False, max_request_tokens=100)
    narrow, narrow_entry = make_key("narrow", 1, admin=False)
    admin, admin_entry = make_key("admin", None, admin=True)
    keys = tmp_path / "keys.toml"
    keys.write_text(plain_entry + narrow_entry + admin_entry)
    observer = Observer(serve(model__path=tiny).get("/openapi.json").json())
    refused_keys(serve, observer, tiny, keys, (plain, narrow, admin))
    broken_limits(serve, observer, tiny, keys, admin)
    with monkeypatch.context() as patch:
        faults_of_our_own(serve, observer, tiny, keys, admin, patch)
    with monkeypatch.context() as patch:
        loads_that_cannot_be(observer, tiny, keys, admin, patch)
    more_than_a_queue_holds(observer, tiny)
    for provoke in (
        refused_bodies, unknown_models, unknown_among_several, engines_that_fail,
        devices_that_break, too_much_at_once, full_queues_and_deadlines, a_hung_engine,
        models_of_another_kind,
    ):  # fmt: skip
        provoke(serve, observer, tiny)
    the_drain(observer, tiny)
    assert sorted(observer.shown() - observer.seen) == []
    for path, operations in observer.paths.items():
        for method, operation in operations.items():
            for status in operation["responses"]:
                if int(status) >= 400:
                    assert observer.examples(method, path, int(status)), (method, path, status)
