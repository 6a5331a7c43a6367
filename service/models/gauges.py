"""Gauges that are read at every scrape, of the process and of each model."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from osa.service.models.health import Health
from osa.service.models.served_model import ServedModel
from osa.service.observability.devices import MEASURES, open_devices
from osa.service.observability.log_writer import dropped_lines
from osa.service.observability.metrics import Families, Metrics


def export_process_gauges(health: Health, families: Families, metrics: Metrics) -> None:
    """Export what is read of the process at every scrape; requests under the default model."""
    metrics.gauge("osa_in_flight_requests", "Requests accepted", lambda: health.in_flight)
    metrics.gauge("osa_ready", "Whether traffic is wanted", lambda: health.ready_problem() is None)
    metrics.gauge("osa_body_bytes", "Request bodies in memory", lambda: health.body_bytes)
    metrics.gauge("osa_answer_bytes", "Answers not taken yet", lambda: health.answer_bytes)
    metrics.count_of(
        "osa_slow_readers", "Clients left that did not read", lambda: health.slow_readers
    )
    metrics.count_of(
        "osa_unreadable_requests",
        "Requests that were no HTTP/1.1, or over a limit of heads",
        lambda: health.unreadable_requests,
    )
    metrics.count_of("osa_dropped_log_lines", "Lines of the log that were lost", dropped_lines)
    devices = open_devices()
    for measure in MEASURES:
        gauge = families.gauge(measure.name, measure.text, ("device",))
        if not devices:
            gauge.labels("none").set(0)
        for device in devices:
            gauge.labels(str(device.place)).set_function(partial(device.read, measure.reading))


def export_gauges(model: ServedModel) -> None:
    """Export what is read of a model at every scrape; of the same name, the newest is read."""
    queue, supervisor, embedder = model.queue, model.supervisor, model.embedder
    gauge, about = model.metrics.gauge, model.about
    gauge("te_queue_size", "Inputs waiting", lambda: len(queue))
    gauge("osa_queued_tokens", "Tokens waiting", lambda: queue.tokens)
    gauge("osa_backlog_seconds", "Time the waiting tokens will take", queue.backlog_s)
    gauge("osa_tokens_per_second", "Measured rate of the engine", queue.tokens_per_second)
    gauge("osa_batch_token_limit", "Largest batch that fits", lambda: queue.memory_limit.tokens)
    gauge("osa_engine_up", "Whether the engine takes batches", lambda: supervisor.up)
    gauge("osa_cache_bytes", "Memory of the exact cache", lambda: embedder.cache.bytes)
    model.metrics.set_build_info(
        version=version("osa-encoder"),
        backend=about.backend,
        device=about.device,
        kernel=about.kernel,
        mixer=about.mixer,
        dtype=about.dtype,
        sha=about.model_sha256[:12],
    )
