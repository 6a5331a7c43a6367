"""All results of a run, written to disk after every server so that none are lost."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.serving.harness.plan import RoundResult


@dataclass(frozen=True)
class ServerFacts:
    """Description of a server in the report; ``versions`` by package."""

    family: str
    dtype: str
    settings: str
    versions: dict[str, str]


@dataclass
class Results:
    """Results of a run.

    Attributes:
        machine: Facts of hardware, versions and commit.
        command: The command line.
        rounds: Number of interleaved rounds.
        servers: Descriptions of the servers that ran.
        unavailable: Servers that could not run, and why.
        by_server: Measurements by server, one per round.
    """

    machine: dict[str, str]
    command: str
    rounds: int
    servers: dict[str, ServerFacts] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    by_server: dict[str, list[RoundResult]] = field(default_factory=dict)

    def median(self, name: str, read: Callable[[RoundResult], float | None]) -> float:
        """Median over a server's rounds of the value that ``read`` returns; NaN without values."""
        values = [read(one) for one in self.by_server.get(name, [])]
        return _median(value for value in values if value is not None)

    def cost_ratio(self, name: str, other: str, length: int) -> float:
        """CPU time per text of a server over that of another, median of ratios within a round."""
        pairs = zip(self.by_server.get(name, []), self.by_server.get(other, []), strict=False)
        return _median(
            own.costs[length].cpu_ms / peer.costs[length].cpu_ms
            for own, peer in pairs
            if length in own.costs and length in peer.costs
        )

    def save(self, path: Path) -> None:
        """Write all results as JSON, atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)


def _median(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.median(finite) if finite else math.nan
