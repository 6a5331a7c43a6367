"""What a server did between two readings, by the names of its metrics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from osa.service.top.scrape import DURATION, Reading, growth, quantiles


@dataclass(frozen=True)
class Snapshot:
    """What a server did between two readings; None where it does not tell, or nothing happened.

    Rates are a second, times in seconds, shares from 0 to 1.
    """

    interval_s: float
    ready: bool | None
    engine_up: bool | None
    requests_rate: float | None
    texts_rate: float | None
    tokens_rate: float | None
    engine_speed: float | None
    engine_busy: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    queue_p99_s: float | None
    inference_p99_s: float | None
    queued_texts: float | None
    queued_tokens: float | None
    backlog_s: float | None
    in_flight: float | None
    batch_texts: float | None
    batch_tokens: float | None
    batch_fill: float | None
    batch_token_limit: float | None
    failures: dict[str, float]
    failures_total: dict[str, float]
    restarts: float | None
    truncated_rate: float | None
    cancelled_tokens_rate: float | None
    nonfinite_total: float | None
    shared_rate: float | None
    cache_hits: float | None
    cache_bytes: float | None
    memory_bytes: float | None
    cpu: float | None
    info: dict[str, Any] = field(default_factory=dict)


def compare(
    before: Reading, after: Reading, info: Mapping[str, Any], ready: bool | None = None
) -> Snapshot:
    """What happened between two readings.

    Args:
        before: Earlier reading.
        after: Later reading.
        info: What ``/info`` says; may be empty.
        ready: What ``/readyz`` says, for servers that do not export it.
    """
    interval_s = after.at_s - before.at_s

    def rate(name: str) -> float | None:
        grown = growth(before, after, name)
        return None if grown is None or interval_s <= 0 else grown / interval_s

    def mean(name: str) -> float | None:
        return _ratio(growth(before, after, f"{name}_sum"), growth(before, after, f"{name}_count"))

    def truth(name: str) -> bool | None:
        values = after.samples.get(name)
        return None if values is None else min(values.values()) > 0

    p50, p95, p99 = quantiles(before, after, DURATION, (0.5, 0.95, 0.99))
    tokens = rate("osa_computed_tokens_total")
    batch_tokens, fill = mean("te_batch_next_tokens"), mean("osa_batch_fill_ratio")
    if fill is None:
        fill = _ratio(batch_tokens, _number(info.get("max_batch_tokens")))
    hits = growth(before, after, "osa_cache_hits_total")
    misses = growth(before, after, "osa_cache_misses_total")
    told = truth("osa_ready")
    return Snapshot(
        interval_s=interval_s,
        ready=ready if told is None else told,
        engine_up=truth("osa_engine_up"),
        requests_rate=rate("te_request_count"),
        texts_rate=_sum(rate("te_embed_success"), rate("te_predict_success")),
        tokens_rate=rate("te_batch_next_tokens_sum") if tokens is None else tokens,
        engine_speed=after.total("osa_tokens_per_second"),
        engine_busy=rate("osa_engine_busy_seconds_total"),
        p50_s=p50,
        p95_s=p95,
        p99_s=p99,
        queue_p99_s=quantiles(before, after, "te_request_queue_duration", (0.99,))[0],
        inference_p99_s=quantiles(before, after, "te_request_inference_duration", (0.99,))[0],
        queued_texts=after.total("te_queue_size"),
        queued_tokens=after.total("osa_queued_tokens"),
        backlog_s=after.total("osa_backlog_seconds"),
        in_flight=after.total("osa_in_flight_requests"),
        batch_texts=mean("te_batch_next_size"),
        batch_tokens=batch_tokens,
        batch_fill=fill,
        batch_token_limit=max(
            after.samples.get("osa_batch_token_limit", {}).values(), default=None
        ),
        failures=_failures(before, after),
        failures_total=_failures(Reading(0.0, {}), after),
        restarts=after.total("osa_engine_restarts_total"),
        truncated_rate=rate("osa_truncated_inputs_total"),
        cancelled_tokens_rate=rate("osa_cancelled_tokens_total"),
        nonfinite_total=after.total("osa_nonfinite_rows_total"),
        shared_rate=rate("osa_shared_inputs_total"),
        cache_hits=None if hits is None or misses is None else _ratio(hits, hits + misses),
        cache_bytes=after.total("osa_cache_bytes"),
        memory_bytes=after.total("process_resident_memory_bytes"),
        cpu=rate("process_cpu_seconds_total"),
        info=dict(info) or _build_info(after),
    )


def _number(value: Any) -> float | None:
    """A number that a server tells, if it is one."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 2**63 else None


def _sum(*values: float | None) -> float | None:
    """Sum of the values that there are, if there are any."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _build_info(reading: Reading) -> dict[str, Any]:
    """Of what ``/info`` says, what metrics say too: for servers that ask for keys."""
    for key in reading.samples.get("osa_build_info", {}):
        labels = dict(key)
        return {"model_id": labels.pop("model", ""), **labels}
    return {}


def _failures(before: Reading, after: Reading) -> dict[str, float]:
    """Requests refused or failed by kind, most first, none left out that is not zero."""
    name = "te_request_failure"
    kinds = {dict(key).get("err", "") for key in after.samples.get(name, {})}
    grown = {kind: growth(before, after, name, err=kind) or 0.0 for kind in kinds}
    return {
        kind: count
        for kind, count in sorted(grown.items(), key=lambda entry: (-entry[1], entry[0]))
        if count
    }
