"""Leases on served models: no model is closed while a request may still use it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from osa.model.errors import ConfigError
from osa.model.sequences import InputRows
from osa.service.auth.tenants import Tenant
from osa.service.batching import supervisor as supervision
from osa.service.batching.item import ItemResult, WorkItem
from osa.service.engines.base import Details, Engine, EngineOutput
from osa.service.engines.eager import EagerEngine
from osa.service.errors import BackendError, ClientGoneError, UnknownModelError
from osa.service.models.loader import ModelLoader
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel
from osa.service.observability.metrics import Families
from tests.conftest import PATIENCE_S, local_settings, wait_until
from tests.engines import GatedEngine
from tests.head_models import make_head_model


@pytest.fixture
def registry(tiny_checkpoint: Path) -> ModelRegistry:
    """Two started models, "a" by default and "b"."""
    settings = local_settings(model__path=tiny_checkpoint)
    loader = ModelLoader(settings, Families())
    first, second = loader.load(settings.named("a")), loader.load(settings.named("b"))
    registry = ModelRegistry(first)
    registry.put(second)
    for model in (first, second):
        model.supervisor.start()
    return registry


def closed(model: ServedModel) -> bool:
    return model.queue.finished


def test_a_leased_model_is_closed_when_the_last_lease_is_given_back(
    registry: ModelRegistry,
) -> None:
    with registry.lease() as find:
        leased = find("b")
        registry.remove("b")
        with registry.lease() as other:
            assert other("b") is registry.default
        assert leased.leases == 1
        assert not closed(leased)
    wait_until(lambda: closed(leased))
    assert registry.close(10)


def test_a_model_that_does_what_is_asked_for_stands_in_for_the_default(
    registry: ModelRegistry, tmp_path: Path
) -> None:
    for task in ("classifier", "reranker"):
        settings = local_settings(model__name=task, model__path=make_head_model(tmp_path, task))
        model = ModelLoader(settings, Families()).load(settings.named(task))
        model.supervisor.start()
        registry.put(model)
    assert registry.find(None, tasks=("embedding",)).name == "a"
    assert registry.find(None, tasks=("reranker",)).name == "reranker"
    assert registry.find("other", tasks=("reranker", "classifier")).name == "reranker"
    assert registry.find("other", tasks=("sparse",)).name == "a"
    assert registry.find("b", tasks=("reranker",)).name == "b", "a name is a name"
    with pytest.raises(UnknownModelError):
        registry.find("other", strict=True, tasks=("reranker",))
    assert registry.close(10)


def test_a_model_removed_while_it_is_leased_is_not_given_out(
    registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is removed at the earliest possible moment during the look-up."""
    lock = registry._lock
    removed: list[str] = []

    class Interrupted:
        def __enter__(self) -> None:
            lock.acquire()

        def __exit__(self, *error: object) -> None:
            lock.release()
            if not removed:
                removed.append("b")
                registry.remove("b")
                time.sleep(0.3)  # longer than what closes it takes to look

    monkeypatch.setattr(registry, "_lock", Interrupted())
    with registry.lease() as find:
        assert not closed(find("b")), "its queue takes nothing more"
        assert removed
    monkeypatch.undo()
    assert registry.close(10)


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_long_work_rests_for_what_computes_on_these_processors(
    registry: ModelRegistry, tiny_checkpoint: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = Tenant("a")
    assert not registry.needs_processors(tenant)
    monkeypatch.setattr("osa.service.models.registry.SOON_S", PATIENCE_S)
    engine = GatedEngine(tiny_checkpoint)
    settings = local_settings(model__path=tiny_checkpoint).named("gated")
    model = ModelLoader(local_settings(model__path=tiny_checkpoint), Families()).load(
        settings, engine
    )
    model.about = dataclasses.replace(model.about, device=device)
    model.supervisor.start()
    registry.put(model)
    model.queue.put([WorkItem([2, 3])], tenant)
    assert engine.entered.wait(PATIENCE_S)
    assert registry.needs_processors(tenant) == (device == "cpu")
    engine.gate.set()
    wait_until(lambda: not registry.needs_processors(tenant))
    assert registry.needs_processors(Tenant("another")) == (device == "cpu"), "more may come"
    assert registry.close(10)


def test_a_lease_that_has_ended_keeps_nothing_open(registry: ModelRegistry) -> None:
    """A thread still parses the body of a request whose client has left."""
    with registry.lease() as find:
        pass
    with pytest.raises(ClientGoneError):
        find("b")
    assert [model.leases for model in registry.all()] == [0, 0]
    assert registry.close(10)


def test_a_retired_model_whose_engine_does_not_come_back_answers_what_waits(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(EagerEngine):
        """Fails on every input after its warm-up."""

        def embed(
            self, sequences: InputRows, details: Details | None = None, exact: bool = False
        ) -> EngineOutput:
            raise RuntimeError("weights are gone")

        def warm_up(self) -> None:
            """Nothing."""

    def reopen() -> Engine:
        raise ConfigError("the device is gone")

    monkeypatch.setattr(supervision, "POLL_S", 0.02)
    settings = local_settings(model__path=tiny_checkpoint)
    loader = ModelLoader(settings, Families())
    broken = loader.load(settings.named("a"), Broken(tiny_checkpoint, "cpu"))
    monkeypatch.setattr(broken.supervisor, "_reopen", reopen)
    registry = ModelRegistry(broken, stall_timeout_s=0.2)
    broken.supervisor.start()
    for _ in range(3):
        failed: list[ItemResult] = []
        broken.queue.put([WorkItem([4], failed.append)])
        wait_until(lambda answers=failed: bool(answers))  # type: ignore[misc]
    wait_until(lambda: not broken.supervisor.up)
    waiting: list[ItemResult] = []
    with registry.lease() as find:
        find("a").queue.put([WorkItem([4], waiting.append)])
        fresh = loader.load(settings.named("a"))
        fresh.supervisor.start()
        registry.put(fresh)
        wait_until(lambda: bool(waiting), 5)
    assert isinstance(waiting[0].error, BackendError)
    assert registry.close(10)
