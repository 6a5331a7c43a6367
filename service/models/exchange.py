"""Models added, exchanged and removed while requests run.

A model is loaded on a thread of its own, one at a time, for each takes the memory of a model. A
load that takes too long is given up: its thread cannot be ended, and what it brings is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

from osa.model.errors import OsaError
from osa.service.errors import (
    ConflictError,
    DeadlineError,
    OverloadedError,
    ServiceError,
    UnavailableError,
    ValidationError,
)
from osa.service.model_settings import ModelSettings, check_model_name
from osa.service.models.gauges import export_gauges
from osa.service.models.health import Health
from osa.service.models.loader import ModelLoader
from osa.service.models.registry import ModelRegistry
from osa.service.models.served_model import ServedModel
from osa.service.settings import Settings

logger = logging.getLogger(__name__)
MAX_LOADS = 8
"""Most loads that run or wait their turn."""
MAX_LEFT_BEHIND = 3
"""With so many given-up loads that have not ended, no more are begun."""
RETRY_S = 30
"""Time after which another load may be tried [s]."""


class ModelExchange:
    """Loads and removes models. Event loop only."""

    def __init__(
        self, models: ModelRegistry, loader: ModelLoader, settings: Settings, health: Health
    ) -> None:
        """Bind the parts.

        Args:
            models: What is served.
            loader: Loads a model.
            settings: Has the settings of every name, and the time limit.
            health: Whether the server drains.
        """
        self._models, self._loader, self._settings = models, loader, settings
        self._health = health
        self._loading: set[str] = set()
        self._turn = asyncio.Lock()
        self._left_behind: list[threading.Thread] = []

    async def load(self, name: str, path: Path | None, by: str) -> ServedModel:
        """Load a model and serve it under a name, in place of what was.

        Args:
            name: Of the model.
            path: As ``model.path``.
            by: Name of the key that asks, for logs.

        Raises:
            ConflictError: A model of this name is being loaded.
            DeadlineError: It takes longer than ``engine.load_timeout_s``.
            OverloadedError: Too many loads wait.
            UnavailableError: The server is draining, or too many loads have not ended.
            ValidationError: The name, or what the path holds, cannot be served.
        """
        try:
            check_model_name(name)
        except ValueError as error:
            raise ValidationError(str(error), param="name") from None
        self._check_room(name)
        self._loading.add(name)
        try:
            own = self._settings.named(name).model_copy(update={"path": path})
            model = await self._loaded(own)
        except OSError as error:
            raise _unchanged(f"the path cannot be read: {error.strerror}") from error
        except ServiceError:
            raise
        except OsaError as error:
            raise _unchanged(str(error)) from error
        except RecursionError as error:
            raise _unchanged("a file of the model is nested too deeply") from error
        finally:
            self._loading.discard(name)
        export_gauges(model)
        model.supervisor.start()
        replaced = self._models.put(model)
        if replaced is not None:
            replaced.metrics.end()
        facts = {"model": name, "sha": model.about.model_sha256, "by": by}
        logger.info("model exchanged" if replaced else "model added", extra=facts)
        return model

    def remove(self, name: str, by: str) -> None:
        """Serve a model no longer; what it has accepted is answered.

        Raises:
            UnknownModelError: There is none of this name.
            ValidationError: It is the default.
        """
        try:
            self._models.remove(name).metrics.end()
        except ValueError as error:
            raise ValidationError(str(error), param="name") from error
        logger.info("model removed", extra={"model": name, "by": by})

    def _check_room(self, name: str) -> None:
        self._check_drain()
        if name in self._loading:
            raise ConflictError(f"{name} is being loaded already: wait for that to end")
        if len(self._loading) >= MAX_LOADS:
            raise OverloadedError(f"{MAX_LOADS} models are being loaded, no more wait", RETRY_S)
        self._check_left_behind()

    def _check_left_behind(self) -> None:
        self._left_behind = [thread for thread in self._left_behind if thread.is_alive()]
        if len(self._left_behind) >= MAX_LEFT_BEHIND:
            raise UnavailableError(
                f"{len(self._left_behind)} loads that were given up have not ended: restart the "
                "server to load models"
            )

    def _check_drain(self) -> None:
        if self._health.draining:
            raise UnavailableError("the server is draining: no model is loaded any more")

    async def _loaded(self, own: ModelSettings) -> ServedModel:
        """The model, once it is its turn and it is loaded; not before a drain, or too late."""
        limit_s = self._settings.engine.load_timeout_s
        late = f"nothing has changed: {{}} longer than engine.load_timeout_s ({limit_s:g} s)"
        try:
            async with asyncio.timeout(limit_s):
                await self._turn.acquire()
        except TimeoutError:
            raise DeadlineError(late.format("other loads took")) from None
        try:
            self._check_drain()
            self._check_left_behind()  # those before it may have been given up meanwhile
            load = _Load(self._loader, own)
            try:
                await asyncio.wait((load.done,), timeout=limit_s)
                if not load.done.done():
                    logger.error("load is given up", extra={"model": own.name, "limit_s": limit_s})
                    raise DeadlineError(late.format("loading takes"))
                self._check_drain()
                return load.take()
            finally:
                load.give_up()
                if not load.done.done():  # too late, or nobody waits any more
                    self._left_behind.append(load.thread)
        finally:
            self._turn.release()


class _Load:
    """One load, on a daemon thread: a load that hangs must not keep the process.

    Attributes:
        thread: It.
        done: Resolved on the event loop once the load has ended.
    """

    def __init__(self, loader: ModelLoader, settings: ModelSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._outcome: ServedModel | Exception | None = None
        self._given_up = False
        self.thread = threading.Thread(
            target=self._run, args=(loader, settings), name="osa-load", daemon=True
        )
        self.thread.start()

    def take(self) -> ServedModel:
        """The model; raises what the load raised."""
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome is not None  # taken once, when it is done
        return outcome

    def give_up(self) -> None:
        """Drop the model, now or when it comes; nothing where it was taken."""
        self._given_up = True
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, ServedModel):
            outcome.metrics.end(keep=False)

    def _run(self, loader: ModelLoader, settings: ModelSettings) -> None:
        outcome: ServedModel | Exception
        try:
            outcome = loader.load(settings)
        except Exception as error:  # for whoever waits
            outcome = error
        except BaseException as error:  # a library that wants to end the process, which goes on
            outcome = RuntimeError(f"loading ended with {type(error).__name__}")
        try:
            self._loop.call_soon_threadsafe(self._end, outcome)
        except RuntimeError:  # the event loop has closed: nobody waits
            logger.warning("load has ended after the server")

    def _end(self, outcome: ServedModel | Exception) -> None:
        self._outcome = outcome
        if self._given_up:
            self.give_up()
        if not self.done.done():
            self.done.set_result(None)


def _unchanged(why: str) -> ValidationError:
    return ValidationError(f"nothing has changed: {why}", param="path")
