"""Prometheus metrics: text-embeddings-inference's names and buckets, and ours under ``osa_``.

A metric is one definition below and the calls that record it. TEI's counters have no ``_total``
suffix, which prometheus_client would add: they are exported as untyped samples of exactly those
names, so that existing dashboards and alerts keep working.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from osa.service.errors import ServiceError
from osa.service.observability.model_names import ModelNames

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DURATION_BUCKETS = tuple(1.5e-5 * 1.5**n for n in range(45))
LENGTH_BUCKETS = tuple(float(2**n) for n in range(16))
FILL_BUCKETS = tuple(n / 10 for n in range(1, 11))
METHODS = ("single", "batch")


def _codes(kind: type[ServiceError]) -> set[str]:
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))


@dataclass(frozen=True, eq=False)
class Definition:
    """One metric of every model.

    Attributes:
        name: Exported name; of a counter of ours without ``_total``.
        text: Its help text.
        buckets: Of a histogram.
        plain: Whether it is a counter that is exported under exactly its name.
        label: Of a plain counter, its label beside ``model``.
        values: Values of the label.
    """

    name: str
    text: str
    buckets: tuple[float, ...] = ()
    plain: bool = False
    label: str | None = None
    values: tuple[str, ...] = ("",)


DEFINITIONS: list[Definition] = []


def _define(name: str, text: str, *buckets: float) -> Definition:
    DEFINITIONS.append(Definition(name, text, buckets))
    return DEFINITIONS[-1]


def _plain(name: str, text: str, label: str | None = None, *values: str) -> Definition:
    DEFINITIONS.append(Definition(name, text, (), True, label, values or ("",)))
    return DEFINITIONS[-1]


REQUESTS = _plain("te_request_count", "Requests understood", "method", *METHODS)
SUCCESSES = _plain("te_request_success", "Requests answered", "method", *METHODS)
FAILURES = _plain(
    "te_request_failure",
    "Requests refused or failed",
    "err",
    *sorted(set().union(*map(_codes, ServiceError.__subclasses__()))),
)
INPUTS = _plain("te_embed_count", "Inputs of requests that were understood")
EMBEDDED = _plain("te_embed_success", "Inputs embedded")
PREDICT_INPUTS = _plain(
    "te_predict_count", "Inputs of requests to rerankers and classifiers that were understood"
)
PREDICTED = _plain("te_predict_success", "Inputs of rerankers and classifiers computed")
DURATIONS = {
    "total": _define("te_request_duration", "Whole request [s]", *DURATION_BUCKETS),
    "tokenization": _define(
        "te_request_tokenization_duration", "Parsing and tokenising [s]", *DURATION_BUCKETS
    ),
    "queue": _define("te_request_queue_duration", "Waiting for a batch [s]", *DURATION_BUCKETS),
    "inference": _define("te_request_inference_duration", "In the engine [s]", *DURATION_BUCKETS),
}
LENGTHS = _define("te_request_input_length", "Length of an input [tokens]", *LENGTH_BUCKETS)
BATCH_SIZE = _define("te_batch_next_size", "Inputs in a batch", *LENGTH_BUCKETS[:12])
BATCH_TOKENS = _define("te_batch_next_tokens", "Tokens in a batch", *LENGTH_BUCKETS)
BATCH_FILL = _define(
    "osa_batch_fill_ratio", "Tokens in a batch over the largest batch", *FILL_BUCKETS
)
CANCELLED_TOKENS = _define("osa_cancelled_tokens", "Queued tokens never computed")
TRUNCATED_INPUTS = _define("osa_truncated_inputs", "Inputs that were cut")
UNKNOWN_TOKENS = _define("osa_unknown_tokens", "Tokens for what the vocabulary does not have")
NONFINITE_ROWS = _define("osa_nonfinite_rows", "Vectors that were not finite")
RESTARTS = _define("osa_engine_restarts", "Engines replaced after they died or hung")
BUSY_SECONDS = _define("osa_engine_busy_seconds", "Time that the engine computed [s]")
COMPUTED_TOKENS = _define("osa_computed_tokens", "Tokens computed")
CACHE_HITS = _define("osa_cache_hits", "Inputs answered from the cache")
CACHE_MISSES = _define("osa_cache_misses", "Inputs that the cache did not hold")
SHARED_INPUTS = _define("osa_shared_inputs", "Inputs that joined an equal one in flight")


class PlainCounter(Collector):
    """A counter that is exported under exactly its own name."""

    def __init__(self, definition: Definition) -> None:
        """Create the family, without samples."""
        self._definition = definition
        self._counts: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def add(self, model: str, value: str = "", amount: float = 1) -> None:
        """Count ``amount`` more for a model and a value of the label."""
        with self._lock:
            self._counts[model, value] = self._counts.get((model, value), 0) + amount

    def remove(self, model: str) -> None:
        """Remove the samples of a model."""
        with self._lock:
            self._counts = {key: n for key, n in self._counts.items() if key[0] != model}

    def collect(self) -> Iterable[Metric]:
        """One family with a sample for each model and label value."""
        name, label = self._definition.name, self._definition.label
        family = Metric(name, self._definition.text, "unknown")
        with self._lock:
            for (model, value), count in self._counts.items():
                labels = {"model": model} | ({label: value} if label else {})
                family.add_sample(name, labels, count)
        yield family


class ReadCounter(Collector):
    """A counter of the process that is kept elsewhere and read at every scrape."""

    def __init__(self, name: str, text: str, model: str, read: Callable[[], float]) -> None:
        """Export what ``read`` says.

        Args:
            name: Without ``_total``.
            text: Its help text.
            model: Value of the ``model`` label.
            read: The count.
        """
        self._facts, self._model, self._read = (name, text), model, read

    def collect(self) -> Iterable[Metric]:
        """One family with one sample."""
        family = CounterMetricFamily(*self._facts, labels=["model"])
        family.add_metric([self._model], self._read())
        yield family


class Families:
    """Every metric family of a process, on its own registry."""

    def __init__(self) -> None:
        """Register the definitions, and what prometheus_client knows of the process."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.plain: dict[Definition, PlainCounter] = {}
        self.counters: dict[Definition, Counter] = {}
        self.histograms: dict[Definition, Histogram] = {}
        for metric in DEFINITIONS:
            facts = (metric.name, metric.text, ["model"])
            if metric.plain:
                self.plain[metric] = PlainCounter(metric)
                self.registry.register(self.plain[metric])
            elif metric.buckets:
                self.histograms[metric] = Histogram(
                    *facts, buckets=metric.buckets, registry=self.registry
                )
            else:
                self.counters[metric] = Counter(*facts, registry=self.registry)
        self._gauges: dict[str, Gauge] = {}
        self.names = ModelNames()

    def gauge(self, name: str, text: str, labels: Sequence[str] = ("model",)) -> Gauge:
        """The gauge of this name, created on first use."""
        if name not in self._gauges:
            self._gauges[name] = Gauge(name, text, labels, registry=self.registry)
        return self._gauges[name]

    def end(self, model: str, keep: bool = True) -> None:
        """Remove the gauges of a model that is served no longer, and release what they read.

        Nothing is removed while another one has the name. Counters stay, see ``ModelNames.end``.
        """
        last, dropped = self.names.end(model, keep)
        for gauge in self._gauges.values() if last else ():
            for values in list(gauge._metrics):
                if gauge._labelnames[0] == "model" and values[0] == model:
                    gauge.remove(*values)
        for name in dropped:
            for family in (*self.counters.values(), *self.histograms.values()):
                if (name,) in family._metrics:
                    family.remove(name)
            for plain in self.plain.values():
                plain.remove(name)

    def render(self) -> bytes:
        """The exposition text, ``CONTENT_TYPE``."""
        return generate_latest(self.registry)


class Metrics:
    """One model's samples; all start at 0."""

    def __init__(
        self, model: str, families: Families | None = None, predicts: bool = False
    ) -> None:
        """Begin the samples of a model.

        Args:
            model: Value of the ``model`` label.
            families: Of the process; default is a registry of its own.
            predicts: Whether it is a reranker or classifier, whose inputs TEI counts by themselves.
        """
        self._counted = (PREDICT_INPUTS, PREDICTED) if predicts else (INPUTS, EMBEDDED)
        self.families = families or Families()
        self._model = model
        every = self.families
        every.names.begin(model)
        for metric, family in every.plain.items():
            for value in metric.values:
                family.add(model, value, 0)
        self._counters = {metric: one.labels(model) for metric, one in every.counters.items()}
        self._histograms = {metric: one.labels(model) for metric, one in every.histograms.items()}
        self._durations = {stage: self._histograms[metric] for stage, metric in DURATIONS.items()}
        self._lengths = self._histograms[LENGTHS]

    def add(self, metric: Definition, amount: float = 1, value: str = "") -> None:
        """Count ``amount`` more; ``value`` is that of the metric's label, if it has one."""
        if metric.plain:
            self.families.plain[metric].add(self._model, value, amount)
        else:
            self._counters[metric].inc(amount)

    def observe(self, metric: Definition, value: float) -> None:
        """Add an observation to a histogram."""
        self._histograms[metric].observe(value)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Export a value that is read at every scrape; a later call replaces the reader."""
        self.families.gauge(name, text).labels(self._model).set_function(read)

    def count_of(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Export a count of the process that is read at every scrape; once for each name."""
        self.families.registry.register(ReadCounter(name, text, self._model, read))

    def end(self, keep: bool = True) -> None:
        """The model is served no longer, or never was; see ``Families.end``."""
        self.families.end(self._model, keep)

    def set_build_info(self, **labels: str) -> None:
        """Export ``osa_build_info`` with these labels, value 1, in place of an earlier one."""
        info = self.families.gauge("osa_build_info", "What runs here", ("model", *labels))
        for values in list(info._metrics):
            if values[0] == self._model:
                info.remove(*values)
        info.labels(self._model, *labels.values()).set(1)

    def count_request(self, inputs: int) -> None:
        """Count a valid request with ``inputs`` inputs."""
        plain = self.families.plain
        plain[REQUESTS].add(self._model, METHODS[inputs > 1])
        plain[self._counted[0]].add(self._model, amount=inputs)

    def count_success(self, lengths: Sequence[int], truncated: int) -> None:
        """Count an answered request whose inputs had these lengths [tokens]."""
        plain = self.families.plain
        plain[SUCCESSES].add(self._model, METHODS[len(lengths) > 1])
        plain[self._counted[1]].add(self._model, amount=len(lengths))
        if truncated:
            self.add(TRUNCATED_INPUTS, truncated)
        observe = self._lengths.observe
        for length in lengths:
            observe(length)

    def count_failure(self, code: str, model: str | None = None) -> None:
        """Count a request that failed with an error of this code, by default of this model."""
        self.families.plain[FAILURES].add(model or self._model, code)

    def observe_durations(self, seconds: Mapping[str, float]) -> None:
        """Record the stages of an answered request: total, tokenization, queue, inference [s]."""
        for stage, duration in seconds.items():
            self._durations[stage].observe(duration)

    def render(self) -> bytes:
        """The exposition text of the process, ``CONTENT_TYPE``."""
        return self.families.render()
