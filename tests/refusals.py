"""Refusals that need a server set up for them: loads of models, requests that no queue takes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from osa.model.errors import ConfigError
from osa.service.server.app import create_service
from tests.conftest import PATIENCE_S, local_settings, run_service
from tests.openapi_observer import Observer
from tests.route_bodies import INFERENCE, body_of, every_kind, place

LOAD = "/admin/models/{name}"


def more_than_a_queue_holds(observer: Observer, tiny: Path) -> None:
    settings = local_settings(**every_kind(tiny.parent))
    service = create_service(settings)
    for model in service.health.models.all():
        model.queue.max_tokens = 2
    with run_service(service, settings) as client:
        for path in INFERENCE:
            observer.note("post", path, client.post(place(path), json=body_of(path)))


def loads_that_cannot_be(
    observer: Observer, tiny: Path, keys: Path, admin: str, patch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        entered.set()
        gate.wait(PATIENCE_S)
        raise ConfigError("too late")

    patch.setattr("osa.service.models.exchange.MAX_LOADS", 1)
    for limit_s in (0.2, PATIENCE_S):
        settings = local_settings(
            model__path=tiny, auth__keys_file=keys, engine__load_timeout_s=limit_s
        )
        service = create_service(settings)
        with (
            run_service(service, settings) as client,
            ThreadPoolExecutor() as pool,
            patch.context() as hanging,
        ):
            hanging.setattr("osa.service.models.loader.ModelLoader.load", hang)
            client.headers["x-api-key"] = admin
            entered.clear()
            law = pool.submit(client.post, "/admin/models/law", json={})
            assert entered.wait(PATIENCE_S)
            if limit_s == PATIENCE_S:
                for name in ("law", "other"):
                    answer = client.post(f"/admin/models/{name}", json={})
                    observer.note("post", LOAD, answer)
                service.health.begin_drain()
                gate.set()
            observer.note("post", LOAD, law.result())
