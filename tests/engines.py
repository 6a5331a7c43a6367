"""Engines that fail on purpose, around a real one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import httpx
import numpy as np

from osa.model.sequences import InputRows
from osa.service.engines.base import Details, EngineOutput
from osa.service.engines.eager import EagerEngine

POISON = 9
"""Token id on which the faulty engine fails."""

How = Literal["raise", "memory", "nan"]
"""Kind of failure: an exception, one for missing memory, or a row that is not finite."""


class FaultyEngine(EagerEngine):
    """The real engine, but a batch with ``POISON`` raises or has rows that are not finite."""

    def __init__(self, path: Path, how: How) -> None:
        super().__init__(path, "cpu")
        self._how = how
        self.batches: list[int] = []

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        self.batches.append(len(sequences))
        poisoned = [row for row, ids in enumerate(sequences) if POISON in ids]
        if poisoned and self._how != "nan":
            raise RuntimeError("out of memory" if self._how == "memory" else "illegal instruction")
        output = super().embed(sequences, details)
        embeddings = output.embeddings.copy()
        embeddings[poisoned] = np.nan
        return output._replace(embeddings=embeddings)


class GatedEngine(EagerEngine):
    """The real engine, but every batch waits until the gate is opened."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path, "cpu")
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.computed: list[Sequence[int] | np.ndarray] = []

    def warm_up(self) -> None:
        """Do nothing, because the gate is closed."""

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        self.entered.set()
        assert self.gate.wait(60), "nobody opened the gate"
        self.computed.extend(sequences)
        return super().embed(sequences, details)

    @contextlib.contextmanager
    def holding(
        self, client: httpx.Client, path: str = "/embed", body: object = None
    ) -> Iterator[None]:
        """Within the block the engine is busy with a request that it does not answer."""
        self.entered.clear()
        self.gate.clear()
        thread = threading.Thread(
            target=client.post, args=(path,), kwargs={"json": body or {"inputs": [[4]]}}
        )
        thread.start()
        assert self.entered.wait(60), "the request did not come"
        try:
            yield
        finally:
            self.gate.set()
            thread.join()
