"""OpenTelemetry traces over OTLP/HTTP: one span per request, its stages, one span per batch.

A request's span continues the trace of ``traceparent`` (W3C Trace Context). A batch is a trace of
its own, linked to every request in it. No text, vector or key is an
attribute. Without ``tracing.endpoint`` it is off and needs no package.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from osa.model.errors import ConfigError
from osa.service.server_settings import TracingSettings

SCOPE_KEY = "osa.span"
NANO = 1_000_000_000


class Tracing:
    """Creates and exports spans; thread-safe."""

    def __init__(self, settings: TracingSettings) -> None:
        """Export to ``settings.endpoint``.

        Raises:
            ConfigError: The packages are not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigError(
                "tracing.endpoint is set, which needs: pip install 'osa-encoder[tracing]'"
            ) from error
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": settings.service_name}),
            sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
        )
        exporter = OTLPSpanExporter(endpoint=settings.endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("osa.service")
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def begin(self, method: str, path: str, request_id: str, headers: Mapping[str, str]) -> Any:
        """Start the span of a request.

        Args:
            method: HTTP method.
            path: Path of the URL.
            request_id: Its id.
            headers: With ``traceparent``, if the client traces.
        """
        return self._tracer.start_span(
            f"{method} {path}",
            context=self._propagator.extract(headers),
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "http.request.method": method,
                "url.path": path,
                "osa.request_id": request_id,
            },
        )

    def end(self, span: Any, status: int) -> None:
        """End the span of a request, with its HTTP status."""
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end()

    def stages(self, span: Any, started: float, seconds: Mapping[str, float], tokens: int) -> None:
        """Add the stages of an answered request, one after the other.

        Args:
            span: Of the request.
            started: When the first stage began (monotonic clock) [s].
            seconds: Durations by stage [s].
            tokens: Tokens of its inputs.
        """
        span.set_attribute("osa.tokens", tokens)
        context = self._trace.set_span_in_context(span)
        at = _wall_ns(started)
        for stage, duration in seconds.items():
            child = self._tracer.start_span(stage, context=context, start_time=at)
            at += int(duration * NANO)
            child.end(end_time=at)

    def batch(self, started: float, inputs: int, tokens: int, spans: Sequence[Any]) -> None:
        """Add the span of a batch that has just ended.

        Args:
            started: When it began (monotonic clock) [s].
            inputs: Its size [inputs].
            tokens: Its size [tokens].
            spans: Of the requests in it, which it is linked to.
        """
        links = [
            self._trace.Link(span.get_span_context())
            for span in {id(span): span for span in spans}.values()
        ]
        span = self._tracer.start_span(
            "batch",
            context=self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            links=links,
            attributes={"osa.inputs": inputs, "osa.tokens": tokens},
            start_time=_wall_ns(started),
        )
        span.end()

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()


def _wall_ns(monotonic_s: float) -> int:
    """A time of the monotonic clock as wall clock time [ns]."""
    return time.time_ns() - int((time.monotonic() - monotonic_s) * NANO)
