"""Readings of ``/metrics``: what counters and histograms say between two of them. Pure."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from osa.model.common.terminal import harmless
from osa.model.errors import OsaError

Labels = frozenset[tuple[str, str]]
DURATION = "te_request_duration"
LARGEST_VALUE = 1e200
"""Largest value that is taken for one; sums of these are finite."""
SHOWN = 200
"""Most characters of an answer in a message."""


class ReadingError(OsaError):
    """An answer that is no exposition of this server's metrics."""

    code = "reading"


@dataclass(frozen=True)
class Reading:
    """One scrape.

    Attributes:
        at_s: When it was taken, on any clock that does not go back [s].
        samples: Value by name and labels.
    """

    at_s: float
    samples: Mapping[str, Mapping[Labels, float]]

    def total(self, name: str) -> float | None:
        """Sum over all labels; None where the server has no such metric."""
        values = self.samples.get(name)
        return None if values is None else sum(values.values())


def parse(text: str, at_s: float) -> Reading:
    """A reading from Prometheus' text format.

    Raises:
        ReadingError: It is not that format, or another program's metrics.
    """
    samples: dict[str, dict[Labels, float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if not abs(sample.value) <= LARGEST_VALUE:
                    continue  # nobody knows it
                labels = frozenset(sample.labels.items())
                samples.setdefault(sample.name, {})[labels] = sample.value
    except Exception as error:  # the parser raises whatever a text makes it stumble over
        cause = harmless(str(error))[:SHOWN] or type(error).__name__
        raise ReadingError(f"/metrics is not in Prometheus' text format: {cause}") from None
    if f"{DURATION}_bucket" not in samples:
        raise ReadingError(f"/metrics has no {DURATION}: this is no embedding server")
    return Reading(at_s, samples)


def growth(before: Reading, after: Reading, name: str, **labels: str) -> float | None:
    """How much counters with these labels grew, all other labels summed; as PromQL's increase().

    A counter that fell was begun anew by a restart: then all it holds is growth.
    """
    values = after.samples.get(name)
    if values is None:
        return None
    old = before.samples.get(name, {})
    total = 0.0
    for key, value in values.items():
        if labels.items() <= key:
            earlier = old.get(key, 0.0)
            total += value - earlier if value >= earlier else value
    return total


def quantiles(
    before: Reading, after: Reading, name: str, shares: tuple[float, ...]
) -> list[float | None]:
    """Quantiles of a histogram's new observations, linear within buckets as in PromQL.

    Args:
        before: Earlier reading.
        after: Later reading.
        name: The histogram's, without a suffix.
        shares: Each from 0 to 1.

    Returns:
        One a share; None where nothing was observed. Beyond the last bound, that bound.
    """
    counts: dict[float, float] = {}
    for key in after.samples.get(f"{name}_bucket", {}):
        edge = dict(key).get("le", "")
        with contextlib.suppress(ValueError):
            if not math.isnan(bound := float(edge)):
                counts[bound] = growth(before, after, f"{name}_bucket", le=edge) or 0.0
    edges = sorted(counts)
    total = counts[edges[-1]] if edges else 0.0
    return [_quantile(share * total, counts, edges) if total > 0 else None for share in shares]


def _quantile(rank: float, counts: Mapping[float, float], edges: list[float]) -> float:
    lower = below = 0.0
    for edge in edges:
        if counts[edge] >= rank and counts[edge] > below:
            if math.isinf(edge):
                return lower
            return lower + (edge - lower) * (rank - below) / (counts[edge] - below)
        lower, below = edge, counts[edge]
    return lower
