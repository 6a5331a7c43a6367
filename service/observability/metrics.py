"""Prometheus metrics: text-embeddings-inference's names and buckets, and ours under ``osa_``.

TEI's counters have no ``_total`` suffix, which prometheus_client would add: they are exported as
untyped samples of exactly those names, so that existing dashboards and alerts keep working.
``Families`` holds every family once; ``Metrics`` is one model's view of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from osa.service.errors import ServiceError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATION_BUCKETS = tuple(1.5e-5 * 1.5**n for n in range(45))
LENGTH_BUCKETS = tuple(float(2**n) for n in range(16))
FILL_BUCKETS = tuple(n / 10 for n in range(1, 11))
METHODS = ("single", "batch")
MODEL = ["model"]


class PlainCounter(Collector):
    """A counter that is exported under exactly its own name."""

    def __init__(self, name: str, text: str, label: str | None, values: Sequence[str]) -> None:
        """Create the family; it has ``label`` with these values, or none, beside ``model``."""
        self._name, self._text, self._label = name, text, label
        self._values = values if label else [""]
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def begin(self, model: str) -> None:
        """Start every value of the label at 0 for a model."""
        with self._lock:
            for value in self._values:
                self._counts.setdefault((model, value), 0)

    def add(self, model: str, value: str = "", amount: int = 1) -> None:
        """Count ``amount`` more for a label value."""
        with self._lock:
            self._counts[model, value] = self._counts.get((model, value), 0) + amount

    def collect(self) -> Iterable[Metric]:
        """One family with a sample for each model and label value."""
        family = Metric(self._name, self._text, "unknown")
        with self._lock:
            for (model, value), count in self._counts.items():
                labels = {"model": model}
                if self._label:
                    labels[self._label] = value
                family.add_sample(self._name, labels, count)
        yield family


class Families:
    """Every metric family of a process, on its own registry."""

    def __init__(self) -> None:
        """Register them."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        kinds = sorted({kind.code for kind in _subclasses(ServiceError)})
        self.requests = self._plain("te_request_count", "Requests understood", "method", METHODS)
        self.successes = self._plain("te_request_success", "Requests answered", "method", METHODS)
        self.failures = self._plain(
            "te_request_failure", "Requests refused or failed", "err", kinds
        )
        self.inputs = self._plain("te_embed_count", "Inputs of requests that were understood")
        self.embedded = self._plain("te_embed_success", "Inputs embedded")
        stages = {
            "total": ("te_request_duration", "Whole request [s]"),
            "tokenization": ("te_request_tokenization_duration", "Parsing and tokenising [s]"),
            "queue": ("te_request_queue_duration", "Waiting for a batch [s]"),
            "inference": ("te_request_inference_duration", "In the engine [s]"),
        }
        self.durations = {
            stage: self._histogram(name, text, DURATION_BUCKETS)
            for stage, (name, text) in stages.items()
        }
        self.lengths = self._histogram(
            "te_request_input_length", "Length of an input [tokens]", LENGTH_BUCKETS
        )
        self.batch_size = self._histogram(
            "te_batch_next_size", "Inputs in a batch", LENGTH_BUCKETS[:12]
        )
        self.batch_tokens = self._histogram(
            "te_batch_next_tokens", "Tokens in a batch", LENGTH_BUCKETS
        )
        self.batch_fill = self._histogram(
            "osa_batch_fill_ratio", "Tokens in a batch over the largest batch", FILL_BUCKETS
        )
        counter = self._counter
        self.cancelled = counter("osa_cancelled_tokens", "Queued tokens never computed")
        self.truncated = counter("osa_truncated_inputs", "Inputs that were cut")
        self.nonfinite = counter("osa_nonfinite_rows", "Vectors that were not finite")
        self.restarts = counter("osa_engine_restarts", "Engines replaced after they died or hung")
        self.busy = counter("osa_engine_busy_seconds", "Time that the engine computed [s]")
        self.computed = counter("osa_computed_tokens", "Tokens computed")
        self.cache_hits = counter("osa_cache_hits", "Inputs answered from the cache")
        self.cache_misses = counter("osa_cache_misses", "Inputs that the cache did not hold")
        self.shared = counter("osa_shared_inputs", "Inputs that joined an equal one in flight")
        self._gauges: dict[str, Gauge] = {}

    def _plain(
        self, name: str, text: str, label: str | None = None, values: Sequence[str] = ()
    ) -> PlainCounter:
        family = PlainCounter(name, text, label, values)
        self.registry.register(family)
        return family

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, MODEL, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, MODEL, registry=self.registry)

    def gauge(self, name: str, text: str, labels: Sequence[str] = ("model",)) -> Gauge:
        """The gauge of this name, created on first use."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, text, labels, registry=self.registry)
        return self._gauges[name]

    def forget(self, model: str) -> None:
        """Remove a model's gauges and release what they read; its counters stay."""
        for gauge in self._gauges.values():
            for values in list(gauge._metrics):
                if gauge._labelnames[0] == "model" and values[0] == model:
                    gauge.remove(*values)

    def render(self) -> bytes:
        """The exposition text, ``CONTENT_TYPE``."""
        return generate_latest(self.registry)


class Metrics:
    """One model's samples; all start at 0."""

    def __init__(self, model: str, families: Families | None = None) -> None:
        """Begin the samples of a model.

        Args:
            model: Value of the ``model`` label.
            families: Of the process; default is a registry of its own.
        """
        self.families = families or Families()
        self._model = model
        every = self.families
        for plain in (
            every.requests,
            every.successes,
            every.failures,
            every.inputs,
            every.embedded,
        ):
            plain.begin(model)
        self._durations = {stage: family.labels(model) for stage, family in every.durations.items()}
        self._lengths = every.lengths.labels(model)
        self._batch_size = every.batch_size.labels(model)
        self._batch_tokens = every.batch_tokens.labels(model)
        self._batch_fill = every.batch_fill.labels(model)
        self._cancelled = every.cancelled.labels(model)
        self._truncated = every.truncated.labels(model)
        self._nonfinite = every.nonfinite.labels(model)
        self._restarts = every.restarts.labels(model)
        self._busy, self._computed = every.busy.labels(model), every.computed.labels(model)
        self._hits, self._misses = every.cache_hits.labels(model), every.cache_misses.labels(model)
        self._shared = every.shared.labels(model)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Export a value that is read at every scrape; a later call replaces the reader."""
        self.families.gauge(name, text).labels(self._model).set_function(read)

    def forget(self) -> None:
        """Remove the model's gauges; see ``Families.forget``."""
        self.families.forget(self._model)

    def describe(self, **labels: str) -> None:
        """Export ``osa_build_info`` with these labels, value 1, in place of an earlier one."""
        info = self.families.gauge("osa_build_info", "What runs here", ("model", *labels))
        for values in list(info._metrics):
            if values[0] == self._model:
                info.remove(*values)
        info.labels(self._model, *labels.values()).set(1)

    def count_request(self, inputs: int) -> None:
        """Count a valid request with ``inputs`` inputs."""
        self.families.requests.add(self._model, "single" if inputs == 1 else "batch")
        self.families.inputs.add(self._model, amount=inputs)

    def count_success(self, lengths: Sequence[int], truncated: int) -> None:
        """Count an answered request whose inputs had these lengths [tokens]."""
        self.families.successes.add(self._model, "single" if len(lengths) == 1 else "batch")
        self.families.embedded.add(self._model, amount=len(lengths))
        if truncated:
            self._truncated.inc(truncated)
        for length in lengths:
            self._lengths.observe(length)

    def count_failure(self, code: str, model: str | None = None) -> None:
        """Count a request that failed with an error of this code, by default of this model."""
        self.families.failures.add(model or self._model, code)

    def count_cancelled(self, tokens: int) -> None:
        """Count queued tokens that were cancelled before they were computed."""
        self._cancelled.inc(tokens)

    def count_nonfinite(self) -> None:
        """Count a vector that was not finite, even alone and in float32."""
        self._nonfinite.inc()

    def count_restart(self) -> None:
        """Count a replaced engine."""
        self._restarts.inc()

    def count_cache(self, hits: int, misses: int) -> None:
        """Count cache hits and misses [inputs]."""
        self._hits.inc(hits)
        self._misses.inc(misses)

    def count_shared(self, inputs: int) -> None:
        """Count inputs that joined equal ones in flight."""
        self._shared.inc(inputs)

    def count_computed(self, tokens: int, seconds: float) -> None:
        """Count a batch of ``tokens`` that took ``seconds`` [s]."""
        self._computed.inc(tokens)
        self._busy.inc(seconds)

    def observe_batch(self, inputs: int, tokens: int, largest: int) -> None:
        """Record the size of a batch; ``largest`` is the capacity of a batch [tokens]."""
        self._batch_size.observe(inputs)
        self._batch_tokens.observe(tokens)
        self._batch_fill.observe(tokens / largest)

    def observe_durations(self, **seconds: float) -> None:
        """Record the stages of an answered request: total, tokenization, queue, inference [s]."""
        for stage, duration in seconds.items():
            self._durations[stage].observe(duration)

    def render(self) -> bytes:
        """The exposition text of the process, ``CONTENT_TYPE``."""
        return self.families.render()


def _subclasses(kind: type[ServiceError]) -> list[type[ServiceError]]:
    return [child for direct in kind.__subclasses__() for child in [direct, *_subclasses(direct)]]
