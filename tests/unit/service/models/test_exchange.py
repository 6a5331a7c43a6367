"""Loads off the event loop: with a time limit, one at a time, and never after a drain began."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from osa.model.errors import ConfigError
from osa.service.errors import (
    ConflictError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
    ValidationError,
)
from osa.service.model_settings import ModelSettings
from osa.service.models import exchange as module
from osa.service.models.exchange import ModelExchange
from osa.service.models.health import Health
from osa.service.models.loader import ModelLoader
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel
from osa.service.observability.metrics import Families
from tests.conftest import PATIENCE_S, local_settings, wait_until


class Setup:
    """An exchange whose loads wait for a gate."""

    def __init__(self, path: Path, limit_s: float) -> None:
        settings = local_settings(model__path=path, engine__load_timeout_s=limit_s)
        self.families, self.path = Families(), path
        self.loader = ModelLoader(settings, self.families)
        self.models = ModelRegistry(self.loader.load(settings.served()[0]))
        self.models.default.supervisor.start()
        self.health = Health(self.models, settings.server)
        self.exchange = ModelExchange(self.models, self.loader, settings, self.health)
        self.gate, self.begun, self.ended = threading.Event(), 0, 0
        self.load = self.loader.load
        self.loader.load = self.wait_and_load  # type: ignore[method-assign,assignment]

    def wait_and_load(self, settings: ModelSettings) -> ServedModel:
        self.begun += 1
        assert self.gate.wait(PATIENCE_S)
        try:
            return self.load(settings)
        finally:
            self.ended += 1

    async def ask(self, name: str) -> ServedModel:
        return await self.exchange.load(name, self.path, "operator")

    def sampled(self, name: str) -> bool:
        return f'model="{name}"' in self.families.render().decode()


Run = Callable[[Callable[[Setup], Awaitable[None]]], None]


@pytest.fixture(params=[PATIENCE_S])
def run(tiny_checkpoint: Path, request: pytest.FixtureRequest) -> Run:
    """Run a test with an exchange; the parameter is the time limit of loads [s]."""

    def run(test: Callable[[Setup], Awaitable[None]]) -> None:
        async def main() -> None:
            setup = Setup(tiny_checkpoint, request.param)
            try:
                await asyncio.wait_for(test(setup), PATIENCE_S)
            finally:
                setup.gate.set()
                assert setup.models.close(10)

        asyncio.run(main())

    return run


@pytest.mark.parametrize("run", [0.2], indirect=True)
def test_a_load_that_takes_too_long_is_given_up_and_what_it_brings_is_dropped(run: Run) -> None:
    async def test(setup: Setup) -> None:
        for _ in range(module.MAX_LEFT_BEHIND):
            with pytest.raises(DeadlineError, match="nothing has changed: loading takes longer"):
                await setup.ask("law")
        with pytest.raises(UnavailableError, match="have not ended"):
            await setup.ask("law")
        setup.gate.set()
        await asyncio.to_thread(wait_until, lambda: setup.ended == module.MAX_LEFT_BEHIND)
        while setup.sampled("law"):
            await asyncio.sleep(0.01)
        assert setup.models.names() == ["osa-default"]
        setup.exchange._settings = local_settings(model__path=setup.path)
        assert (await setup.ask("law")).name == "law"
        assert setup.sampled("law")

    run(test)


@pytest.mark.parametrize("run", [0.4], indirect=True)
def test_loads_that_wait_are_not_begun_beside_too_many_that_were_given_up(run: Run) -> None:
    async def test(setup: Setup) -> None:
        first = asyncio.ensure_future(setup.ask("first"))
        await asyncio.sleep(0.2)  # the second may wait for longer than the first may take
        second = asyncio.ensure_future(setup.ask("second"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "MAX_LEFT_BEHIND", 1)
            with pytest.raises(DeadlineError, match="loading takes longer"):
                await first
            with pytest.raises(UnavailableError, match="have not ended"):
                await second
        assert setup.begun == 1

    run(test)


def test_loads_wait_their_turn_and_the_event_loop_for_none(run: Run) -> None:
    async def test(setup: Setup) -> None:
        first, second = (asyncio.ensure_future(setup.ask(name)) for name in ("law", "medicine"))
        while not setup.begun:
            await asyncio.sleep(0.01)
        with pytest.raises(ConflictError, match="law is being loaded"):
            await setup.ask("law")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "MAX_LOADS", 2)
            with pytest.raises(OverloadedError):
                await setup.ask("physics")
        await asyncio.sleep(0.1)
        assert setup.begun == 1, "each takes the memory of a model"
        setup.gate.set()
        assert {(await first).name, (await second).name} == {"law", "medicine"}
        assert setup.models.names() == ["osa-default", "law", "medicine"]
        setup.exchange.remove("law", "operator")
        assert setup.models.names() == ["osa-default", "medicine"]

    run(test)


def test_nothing_is_loaded_once_a_drain_has_begun(run: Run) -> None:
    async def test(setup: Setup) -> None:
        open_one = asyncio.ensure_future(setup.ask("law"))
        while not setup.begun:
            await asyncio.sleep(0.01)
        setup.health.begin_drain()
        with pytest.raises(UnavailableError, match="draining"):
            await setup.ask("medicine")
        setup.gate.set()
        with pytest.raises(UnavailableError, match="draining"):
            await open_one
        assert setup.models.names() == ["osa-default"]
        assert not setup.sampled("law")

    run(test)


def test_whoever_gives_a_load_up_leaves_nothing_behind(run: Run) -> None:
    async def test(setup: Setup) -> None:
        leaving = asyncio.ensure_future(setup.ask("law"))
        while not setup.begun:
            await asyncio.sleep(0.01)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        setup.gate.set()
        assert (await setup.ask("law")).name == "law", "the name and the turn are free"

    run(test)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConfigError("no model"), "nothing has changed: no model"),
        (OSError(36, "File name too long", "/" + "x" * 300), "cannot be read: File name too long"),
        (RecursionError(), "nested too deeply"),
    ],
)
def test_what_cannot_be_loaded_is_told(run: Run, error: Exception, message: str) -> None:
    async def test(setup: Setup) -> None:
        def fail(settings: ModelSettings) -> ServedModel:
            raise error

        setup.loader.load = fail  # type: ignore[method-assign,assignment]
        with pytest.raises(ValidationError, match=message):
            await setup.ask("law")
        assert not setup.sampled("law")

    run(test)


def test_a_library_that_wants_to_end_the_process_does_not(run: Run) -> None:
    async def test(setup: Setup) -> None:
        def leave(settings: ModelSettings) -> ServedModel:
            raise SystemExit(3)

        setup.loader.load = leave  # type: ignore[method-assign,assignment]
        with pytest.raises(RuntimeError, match="SystemExit"):
            await setup.ask("law")

    run(test)
