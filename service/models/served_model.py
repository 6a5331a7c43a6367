"""One served model and the parts that answer for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from osa.model.calibration import Calibration
from osa.model.tokenization import TextTokenizer
from osa.service.batching.batch_queue import BatchQueue
from osa.service.batching.supervisor import EngineSupervisor
from osa.service.engines.base import EngineInfo
from osa.service.inference.embedder import Embedder
from osa.service.inference.limits import no_text
from osa.service.observability.metrics import Metrics


@dataclass(eq=False)
class ServedModel:
    """One model and its parts.

    Attributes:
        name: What clients and metrics call it.
        about: Facts of its engine and model.
        embedder: The use case.
        queue: What waits for its engine.
        supervisor: Its engine and thread.
        metrics: Its samples.
        batch_invariant: Whether vectors were tested to be independent of batch composition.
        calibration: Ranges of its vectors, for int8 and uint8; None where none were measured.
        member: Of a collection, the name of the directory that is served, or None.
        loaded_at: When it was loaded (wall clock) [s].
        leases: Number of requests that use it.
    """

    name: str
    about: EngineInfo
    embedder: Embedder
    queue: BatchQueue
    supervisor: EngineSupervisor
    metrics: Metrics
    batch_invariant: bool
    calibration: Calibration | None = None
    member: str | None = None
    loaded_at: float = field(default_factory=time.time)
    leases: int = 0

    @property
    def tokenizer(self) -> TextTokenizer:
        """Its tokenizer.

        Raises:
            ValidationError: It has none.
        """
        found = self.embedder.tokenizer
        if found is None:
            raise no_text(self.about)
        return found

    def ready_problem(self, full_share: float) -> str | None:
        """Why it should get no traffic, or None; ``full_share`` of the queue counts as full."""
        if not self.supervisor.up:
            return f"the engine of {self.name} is opened again"
        if self.queue.tokens > full_share * self.queue.max_tokens:
            return f"the queue of {self.name} is full"
        return None
