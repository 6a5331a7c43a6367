"""Prometheus metrics: text-embeddings-inference's names and buckets, and ours under ``osa_``.

TEI's counters have no ``_total`` suffix, which prometheus_client would add: they are exported as
untyped samples of exactly those names, so that existing dashboards and alerts keep working.
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
METHODS = ("single", "batch")


class PlainCounter(Collector):
    """A counter that is exported under exactly its own name."""

    def __init__(self, name: str, text: str, label: str | None, values: Sequence[str]) -> None:
        """Create the counter at 0 for every value of its one label, if it has one."""
        self._name, self._text, self._label = name, text, label
        self._counts = dict.fromkeys(values if label else [""], 0)
        self._lock = threading.Lock()
        self.model = ""

    def add(self, value: str = "", amount: int = 1) -> None:
        """Count ``amount`` more for a label value."""
        with self._lock:
            self._counts[value] = self._counts.get(value, 0) + amount

    def collect(self) -> Iterable[Metric]:
        """One family with a sample a label value."""
        family = Metric(self._name, self._text, "unknown")
        with self._lock:
            for value, count in self._counts.items():
                labels = {"model": self.model}
                if self._label:
                    labels[self._label] = value
                family.add_sample(self._name, labels, count)
        yield family


class Metrics:
    """Every family of a server, on a registry of its own."""

    def __init__(self, model: str) -> None:
        """Register every family, present at 0 from the start.

        Args:
            model: Value of the ``model`` label.
        """
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._model = model
        kinds = sorted({kind.code for kind in _subclasses(ServiceError)})
        plain = self._plain
        self._requests = plain("te_request_count", "Requests understood", "method", METHODS)
        self._successes = plain("te_request_success", "Requests answered", "method", METHODS)
        self._failures = plain("te_request_failure", "Requests refused or failed", "err", kinds)
        self._inputs = plain("te_embed_count", "Inputs of requests that were understood", None, ())
        self._embedded = plain("te_embed_success", "Inputs embedded", None, ())
        seconds, buckets = self._histogram, DURATION_BUCKETS
        self._durations = {
            "total": seconds("te_request_duration", "Whole request [s]", buckets),
            "tokenization": seconds(
                "te_request_tokenization_duration", "Parsing and tokenising [s]", buckets
            ),
            "queue": seconds("te_request_queue_duration", "Waiting for a batch [s]", buckets),
            "inference": seconds("te_request_inference_duration", "In the engine [s]", buckets),
        }
        self._lengths = self._histogram(
            "te_request_input_length", "Length of an input [tokens]", LENGTH_BUCKETS
        )
        self._batch_size = self._histogram(
            "te_batch_next_size", "Inputs in a batch", LENGTH_BUCKETS[:12]
        )
        self._batch_tokens = self._histogram(
            "te_batch_next_tokens", "Tokens in a batch", LENGTH_BUCKETS
        )
        self._cancelled = self._counter("osa_cancelled_tokens", "Queued tokens never computed")
        self._truncated = self._counter("osa_truncated_inputs", "Inputs that were cut")
        self._nonfinite = self._counter("osa_nonfinite_rows", "Vectors that were not finite")

    def _plain(
        self, name: str, text: str, label: str | None, values: Sequence[str]
    ) -> PlainCounter:
        counter = PlainCounter(name, text, label, values)
        counter.model = self._model
        self.registry.register(counter)
        return counter

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, ["model"], buckets=buckets, registry=self.registry).labels(
            self._model
        )

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, ["model"], registry=self.registry).labels(self._model)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Export a value that is read at every scrape."""
        gauge = Gauge(name, text, ["model"], registry=self.registry).labels(self._model)
        gauge.set_function(read)

    def describe(self, **labels: str) -> None:
        """Export ``osa_build_info`` with these labels, value 1."""
        Gauge(
            "osa_build_info", "What runs here", ["model", *labels], registry=self.registry
        ).labels(self._model, *labels.values()).set(1)

    def count_request(self, inputs: int) -> None:
        """A request with so many inputs was understood."""
        self._requests.add("single" if inputs == 1 else "batch")
        self._inputs.add(amount=inputs)

    def count_success(self, lengths: Sequence[int], truncated: int) -> None:
        """A request was answered; its inputs had these lengths [tokens]."""
        self._successes.add("single" if len(lengths) == 1 else "batch")
        self._embedded.add(amount=len(lengths))
        self._truncated.inc(truncated)
        for length in lengths:
            self._lengths.observe(length)

    def count_failure(self, kind: str) -> None:
        """A request was refused or failed with an error of this code."""
        self._failures.add(kind)

    def count_cancelled(self, tokens: int) -> None:
        """So many queued tokens were dropped before they were computed."""
        self._cancelled.inc(tokens)

    def count_nonfinite(self) -> None:
        """One input gave a vector that is not finite, even alone."""
        self._nonfinite.inc()

    def observe_batch(self, inputs: int, tokens: int) -> None:
        """A batch goes to the engine."""
        self._batch_size.observe(inputs)
        self._batch_tokens.observe(tokens)

    def observe_durations(self, **seconds: float) -> None:
        """Stages of one answered request: total, tokenization, queue, inference [s]."""
        for stage, duration in seconds.items():
            self._durations[stage].observe(duration)

    def render(self) -> bytes:
        """The exposition text, ``CONTENT_TYPE``."""
        return generate_latest(self.registry)


def _subclasses(kind: type[ServiceError]) -> list[type[ServiceError]]:
    return [child for direct in kind.__subclasses__() for child in [direct, *_subclasses(direct)]]
