"""From settings to a served model: opened, warmed up, tried, and only then put to work."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from osa.export.manifest import ARTIFACT
from osa.model.calibration import Calibration
from osa.model.embedder import PRETRAINED
from osa.model.processor import PRODUCT_ORDER, limit_instruction_set
from osa.service.batching import BatchQueue
from osa.service.embedder import Embedder
from osa.service.engines import Engine, Selection, select_engine
from osa.service.engines.base import WARM_UP_LENGTHS
from osa.service.engines.invariance import is_batch_invariant
from osa.service.health import Health
from osa.service.metrics import Families, Metrics
from osa.service.models import ServedModel
from osa.service.settings import ModelSettings, Settings
from osa.service.supervisor import EngineSupervisor
from osa.service.tracing import Tracing
from osa.service.turns import EngineTurns

logger = logging.getLogger(__name__)


class ModelLoader:
    """Loads models that share one device and one registry of metrics."""

    def __init__(
        self, settings: Settings, families: Families, tracing: Tracing | None = None
    ) -> None:
        """Bind what every model shares."""
        self._settings, self._families, self._tracing = settings, families, tracing
        self._turns = EngineTurns()

    def load(self, name: str, path: Path | None, engine: Engine | None = None) -> ServedModel:
        """Open and try a model; it takes no work before its supervisor starts.

        Args:
            name: What clients call it.
            path: As ``model.path``.
            engine: To serve in place of what ``path`` holds, for tests.

        Raises:
            OsaError: The model cannot be loaded, or the settings do not fit it.
        """
        settings = self._settings.model.model_copy(update={"path": path})
        given, served = engine, path
        if given is None:
            selection = _select(settings)
            engine, served = selection.engine, selection.path
            rate = _warm_up(engine)
        else:
            engine = given
            given.warm_up()
        invariant = given is None and is_batch_invariant(engine)
        about = engine.info
        facts = {"model": name, "backend": about.backend, "kernel": about.kernel}
        if about.mixer == "osa" and about.kernel.startswith("torch ("):
            logger.warning("attention runs in plain torch", extra=facts)
        if given is None and not invariant:
            logger.warning("vectors depend on their batch in the last bits", extra=facts)
        batching = self._settings.batching
        queue = BatchQueue(
            batching.max_queue_tokens,
            batching.max_batch_tokens,
            batching.max_batch_requests,
            batching.target_batch_s,
        )
        if given is None:
            queue.observe(*rate)
        metrics = Metrics(name, self._families)
        embedder = Embedder(about, engine.tokenizer, queue, metrics, self._settings)
        supervisor = EngineSupervisor(
            engine,
            _reopener(settings.model_copy(update={"path": served}), given),
            queue,
            metrics,
            self._settings.engine,
            self._turns,
            self._tracing,
        )
        calibration = None if given else Calibration.find(path or PRETRAINED)
        return ServedModel(
            name,
            about,
            embedder,
            queue,
            supervisor,
            metrics,
            invariant,
            calibration,
            _manifest(served),
            None if served is None or served == path else served.name,
        )


def _select(settings: ModelSettings) -> Selection:
    """What runs ``model.path``'s content, on the instruction set that is asked for."""
    limit_instruction_set(settings.instruction_set)
    selection = select_engine(settings)
    about = selection.engine.info
    facts = {"backend": about.backend, "kernel": about.kernel, "dtype": about.dtype}
    logger.info(
        "engine selected",
        extra={**facts, "reason": selection.reason, "product_order": os.environ.get(PRODUCT_ORDER)},
    )
    return selection


def _warm_up(engine: Engine) -> tuple[int, float]:
    """Warm up, then measure a batch: tokens, and how long they took [s]."""
    engine.warm_up()
    longest = engine.info.max_input_length
    batch = [[1] * min(length, longest) for length in WARM_UP_LENGTHS]
    started = time.monotonic()
    engine.embed(batch)
    return sum(map(len, batch)), time.monotonic() - started


def _reopener(settings: ModelSettings, given: Engine | None) -> Callable[[], Engine]:
    """Opens the same model once more, of a collection the same member, ready for work."""

    def reopen() -> Engine:
        engine = given or _select(settings).engine
        engine.warm_up()
        return engine

    return reopen


def _manifest(path: Path | None) -> Mapping[str, object] | None:
    """What an artifact says of itself, for ``/info``; None for checkpoints."""
    if path is None or not (path / ARTIFACT).is_file():
        return None
    found: Mapping[str, object] = json.loads((path / ARTIFACT).read_text(encoding="utf-8"))
    return found


def export_process_gauges(health: Health, families: Families, metrics: Metrics) -> None:
    """Export what is read of the process at every scrape; requests under the default model."""
    metrics.gauge("osa_in_flight_requests", "Requests accepted", lambda: health.in_flight)
    metrics.gauge("osa_ready", "Whether traffic is wanted", lambda: health.ready_problem() is None)
    devices = range(torch.cuda.device_count())
    for name, text, place in (
        ("osa_gpu_memory_used_bytes", "Device memory in use, by anyone", 0),
        ("osa_gpu_memory_total_bytes", "Device memory", 1),
    ):
        gauge = families.gauge(name, text, ("device",))
        if not devices:
            gauge.labels("none").set(0)
        for device in devices:
            gauge.labels(str(device)).set_function(partial(_gpu_memory, device, place))


def _gpu_memory(device: int, place: int) -> float:
    """Used (0) or total (1) memory of a CUDA device [bytes]."""
    free, total = torch.cuda.mem_get_info(device)
    return float((total - free, total)[place])


def export_gauges(model: ServedModel) -> None:
    """Export what is read of a model at every scrape; of the same name, the newest is read."""
    queue, supervisor, embedder = model.queue, model.supervisor, model.embedder
    gauge, about = model.metrics.gauge, model.about
    gauge("te_queue_size", "Inputs waiting", lambda: len(queue))
    gauge("osa_queued_tokens", "Tokens waiting", lambda: queue.tokens)
    gauge("osa_backlog_seconds", "Time the waiting tokens will take", queue.backlog_s)
    gauge("osa_tokens_per_second", "Measured rate of the engine", queue.tokens_per_second)
    gauge("osa_batch_token_limit", "Largest batch that fits", lambda: queue.batch_token_limit)
    gauge("osa_engine_up", "Whether the engine takes batches", lambda: supervisor.up)
    gauge("osa_cache_bytes", "Memory of the exact cache", lambda: embedder.cache.bytes)
    model.metrics.describe(
        version=version("osa-encoder"),
        backend=about.backend,
        device=about.device,
        kernel=about.kernel,
        mixer=about.mixer,
        dtype=about.dtype,
        sha=about.model_sha256[:12],
    )
