"""Steps that break things: memory that runs out, a context that is lost."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.gpu.steps import CannotError, Figures


def memory(device: str) -> Figures:
    """A batch that does not fit is halved, and every input still gets its vector."""
    if device == "cpu":
        raise CannotError("needs a device whose memory can be limited")
    import torch

    from osa.model.inference.device_graphs import DeviceOptions
    from osa.service.batching.faults.out_of_memory import release_memory
    from osa.service.batching.faults.split_failures import embed_each
    from osa.service.batching.item import WorkItem
    from osa.service.engines.eager import EagerEngine

    engine = EagerEngine(None, device, dtype="bfloat16", options=DeviceOptions(graphs=False))
    generator = np.random.default_rng(0)
    ids = engine.info.vocab_size or 1
    items = [WorkItem(generator.integers(1, ids, 512).tolist()) for _ in range(64)]
    truth = engine.embed([item.ids for item in items]).embeddings
    whole = torch.cuda.max_memory_allocated()
    release_memory()
    base = torch.cuda.memory_allocated()
    total = torch.cuda.get_device_properties(0).total_memory
    room = base + (whole - base) // 3
    torch.cuda.set_per_process_memory_fraction(room / total)
    too_large: list[int] = []
    found = embed_each(lambda: engine, items, too_large.append)
    torch.cuda.set_per_process_memory_fraction(1.0)
    yield {"name": "halved", "batches_too_large": too_large, "peak_bytes": whole, "room": room}
    assert too_large, "nothing ran out of memory"
    assert all(item.error is None for item in found), "inputs were lost"
    vectors = np.stack([item.embedding for item in found if item.embedding is not None])
    assert np.abs(vectors - truth).max() < 1e-2


def broken(device: str) -> Figures:
    """An illegal access: one call, 64 answers, liveness at once, metrics that still render."""
    import torch

    from osa.service.batching.batch_queue import BatchQueue
    from osa.service.batching.item import ItemResult, WorkItem
    from osa.service.batching.supervisor import EngineSupervisor
    from osa.service.engines.eager import EagerEngine
    from osa.service.errors import DeviceFaultError
    from osa.service.models.gauges import export_process_gauges
    from osa.service.observability.metrics import Families, Metrics
    from osa.service.server_settings import EngineSettings

    calls = []

    class Breaking(EagerEngine):
        """The real engine, on a device that an assertion breaks."""

        def embed(self, *arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if device == "cpu":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            table, index = torch.zeros(2, device="cuda"), torch.tensor([7], device="cuda")
            print(float(table[index].sum()))
            return super().embed(*arguments, **options)

    families = Families()
    metrics = Metrics("m", families)
    health: Any = SimpleNamespace(
        in_flight=0, ready_problem=lambda: None, body_bytes=0, answer_bytes=0, slow_readers=0,
        unreadable_requests=0,
    )  # fmt: skip
    engine = Breaking(None, device)
    export_process_gauges(health, families, metrics)
    before = families.render()
    queue = BatchQueue(100_000, 32768, 512)
    supervisor = EngineSupervisor(engine, lambda: engine, queue, metrics, EngineSettings())
    supervisor.start()
    received: list[ItemResult] = []
    queue.put([WorkItem([4, 5, 6], received.append) for _ in range(64)])
    started = time.monotonic()
    while len(received) < 64 and time.monotonic() - started < 30:
        time.sleep(0.01)
    elapsed = time.monotonic() - started
    problem = supervisor.problem(math.inf)
    text = families.render()
    yield {"name": "context", "calls": len(calls), "answers": len(received), "seconds": elapsed,
           "liveness": problem, "metrics_bytes": len(text)}  # fmt: skip
    assert len(calls) == 1, "an engine on a broken device was tried again"
    assert {type(result.error) for result in received} == {DeviceFaultError}
    assert problem is not None
    assert len(text) > len(before) // 2
