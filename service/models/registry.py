"""The models that one process serves: found by name, exchanged while requests run.

A request holds a lease on its model. A model that is exchanged takes no new request, answers those
that it has, and is closed when the last lease is given back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from osa.model.config import Task
from osa.service.auth.tenants import Tenant
from osa.service.errors import ClientGoneError, UnknownModelError
from osa.service.models.served_model import ServedModel

logger = logging.getLogger(__name__)
SOON_S = 0.1
"""Who has sent something within so long is likely to send more [s]."""


class ModelRegistry:
    """Served models by name; any thread."""

    def __init__(self, default: ServedModel, stall_timeout_s: float = 120.0) -> None:
        """Serve one model, which requests without a name get.

        Args:
            default: That model.
            stall_timeout_s: As ``server.stall_timeout_s``, for models that are served no longer.
        """
        self._stall_timeout_s = stall_timeout_s
        self.default_name = default.name
        self._models = {default.name: default}
        self._lock = threading.Lock()
        self._retired: list[threading.Thread] = []

    @property
    def default(self) -> ServedModel:
        """What requests without a name get."""
        return self._models[self.default_name]

    def all(self) -> list[ServedModel]:
        """Every model, the default first."""
        with self._lock:
            return self._sorted()

    def _sorted(self) -> list[ServedModel]:
        return sorted(self._models.values(), key=lambda model: model.name != self.default_name)

    def needs_processors(self, tenant: Tenant) -> bool:
        """Whether an engine computes on this machine's processors, or is about to for others.

        Takes no lock.

        Args:
            tenant: Not one of the others.
        """
        return any(
            model.supervisor.computing or model.queue.serves_others(tenant, SOON_S)
            for model in tuple(self._models.values())
            if model.about.device == "cpu"
        )

    def names(self) -> list[str]:
        """Their names, the default first."""
        return [model.name for model in self.all()]

    def find(
        self, name: str | None, strict: bool = False, tasks: tuple[Task, ...] = ()
    ) -> ServedModel:
        """The model of a name, or the default.

        Args:
            name: What a client called it.
            strict: Refuse unknown names; otherwise they mean the default.
            tasks: What is asked for, preferred first: where the default does none of these, the
                first model that does is meant in its place.

        Raises:
            UnknownModelError: Naming those that there are.
        """
        with self._lock:
            return self._look_up(name, strict, tasks)

    def _look_up(self, name: str | None, strict: bool, tasks: tuple[Task, ...]) -> ServedModel:
        found = self._models.get(name) if name else None
        if found is not None:
            return found
        if name and strict:
            raise self._unknown()
        default = self._models[self.default_name]
        if not tasks or default.about.task in tasks:
            return default
        able = (one for task in tasks for one in self._sorted() if one.about.task == task)
        return next(able, default)

    @contextmanager
    def lease(self) -> Iterator[Callable[..., ServedModel]]:
        """A ``find`` whose models are kept open until the block ends; afterwards it raises."""
        held: list[ServedModel] = []
        ended = False

        def find(
            name: str | None = None, strict: bool = False, tasks: tuple[Task, ...] = ()
        ) -> ServedModel:
            with self._lock:
                if ended:  # on a thread that still reads the body of a request that was cut off
                    raise ClientGoneError("the request has ended")
                found = self._look_up(name, strict, tasks)
                found.leases += 1
                held.append(found)
            return found

        try:
            yield find
        finally:
            with self._lock:
                ended = True
                for model in held:
                    model.leases -= 1

    def put(self, model: ServedModel) -> ServedModel | None:
        """Serve a model under its name from now on; returns the one it takes the place of."""
        with self._lock:
            replaced = self._models.get(model.name)
            self._models[model.name] = model
        if replaced is not None:
            self._retire(replaced)
        return replaced

    def remove(self, name: str) -> ServedModel:
        """Serve a model no longer; returns it.

        Raises:
            UnknownModelError: There is none of this name.
            ValueError: It is the default, which requests without a name get.
        """
        if name == self.default_name:
            raise ValueError(f"{name} is the default model: put another one in its place")
        with self._lock:
            removed = self._models.pop(name, None)
            if removed is None:
                raise self._unknown()
        self._retire(removed)
        return removed

    def _unknown(self) -> UnknownModelError:
        names = ", ".join(model.name for model in self._sorted())
        return UnknownModelError(f"no such model; served: {names}", param="model")

    def close(self, timeout_s: float) -> bool:
        """Finish what every model has queued; returns whether all of it was done."""
        deadline = time.monotonic() + timeout_s
        done = [
            model.supervisor.stop(max(0.0, deadline - time.monotonic())) for model in self.all()
        ]
        for thread in self._retired:
            thread.join(max(0.0, deadline - time.monotonic()))
        return all(done)

    def _retire(self, model: ServedModel) -> None:
        """Close a model when its last request is answered, on a thread of its own.

        One whose engine stalls is closed too: no probe looks at it any more.
        """

        def wait() -> None:
            supervisor = model.supervisor
            while model.leases and supervisor.problem(self._stall_timeout_s) is None:
                time.sleep(0.02)
            supervisor.stop(0.0 if model.leases else 60.0)  # stalled: waiting will not help
            logger.info(
                "model closed", extra={"model": model.name, "sha": model.about.model_sha256}
            )

        thread = threading.Thread(target=wait, name="osa-retire", daemon=True)
        thread.start()
        self._retired = [each for each in self._retired if each.is_alive()] + [thread]
