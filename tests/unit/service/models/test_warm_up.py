"""The largest batch is tried before an engine is served, and made smaller until it fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osa.model.sequences import InputRows
from osa.service.batching.batch_queue import BatchQueue
from osa.service.engines.base import Details, EngineInfo, EngineOutput
from osa.service.engines.eager import EagerEngine
from osa.service.models.warm_up import try_largest, warm_up


class SmallDevice(EagerEngine):
    """The real engine, which calls itself one of a device that holds few tokens."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path, "cpu")
        self.room = room
        self.batches: list[tuple[int, int, bool]] = []

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(**{**super().info.__dict__, "device": "cuda"})

    def embed(
        self, sequences: InputRows, details: Details | None = None, exact: bool = False
    ) -> EngineOutput:
        tokens = sum(map(len, sequences))
        self.batches.append((len(sequences), tokens, exact))
        if tokens > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().embed(sequences, details, exact)


def test_the_limit_is_what_fits(tiny_checkpoint: Path) -> None:
    engine = SmallDevice(tiny_checkpoint, 1100)
    queue = BatchQueue(100_000, 4096, 64)
    tokens, seconds = warm_up(engine, queue)
    assert queue.memory_limit.tokens == 1024
    assert tokens <= 1100
    assert seconds > 0
    assert max(count for count, *_ in engine.batches) >= 16, "short sequences need more workspace"
    assert any(exact for *_, exact in engine.batches), "the retry in float32 was not tried"


def test_what_is_not_memory_is_raised(tiny_checkpoint: Path) -> None:
    engine = SmallDevice(tiny_checkpoint, 0)
    queue = BatchQueue(100_000, 64, 64)
    with pytest.raises(torch.OutOfMemoryError):
        try_largest(engine, queue)
    assert queue.memory_limit.tokens == 1
