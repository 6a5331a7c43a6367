"""Everything that a run found, on disk after every server so that nothing is lost."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.measures import Cost, Goodput
from benchmarks.serving.plan import Visit


@dataclass(frozen=True)
class About:
    """What the report says of a contender beside its figures."""

    family: str
    dtype: str
    words: str
    versions: dict[str, str]


@dataclass
class Results:
    """A run.

    Attributes:
        machine: Facts of hardware, versions and commit.
        command: The command line.
        rounds: Interleaved rounds that were asked for.
        about: The contenders that ran.
        unavailable: Those that did not, and why.
        visits: By contender, one a round.
    """

    machine: dict[str, str]
    command: str
    rounds: int
    about: dict[str, About] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    visits: dict[str, list[Visit]] = field(default_factory=dict)

    def median(self, name: str, read: Callable[[Visit], float | None]) -> float:
        """Median over a contender's rounds of what ``read`` finds; NaN where it never does."""
        values = [value for one in self.visits.get(name, []) if (value := read(one)) is not None]
        finite = [value for value in values if math.isfinite(value)]
        return statistics.median(finite) if finite else math.nan

    def cost_ratio(self, name: str, other: str, length: int) -> float:
        """Median over rounds of a contender's CPU time a text over another's in that round."""
        pairs = zip(self.visits.get(name, []), self.visits.get(other, []), strict=False)
        ratios = [
            own.costs[length].cpu_ms / peer.costs[length].cpu_ms
            for own, peer in pairs
            if length in own.costs and length in peer.costs
        ]
        finite = [ratio for ratio in ratios if math.isfinite(ratio)]
        return statistics.median(finite) if finite else math.nan

    def save(self, path: Path) -> None:
        """Write all of it as JSON, at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what ``save`` wrote.

        Raises:
            OSError: No such file.
        """
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        content["about"] = {name: About(**about) for name, about in content["about"].items()}
        content["visits"] = {
            name: [_read_visit(one) for one in visits] for name, visits in content["visits"].items()
        }
        return cls(**content)


def _read_visit(content: dict[str, Any]) -> Visit:
    bits = content["changed_bits"]
    return Visit(
        **{
            **content,
            "costs": {int(length): Cost(**cost) for length, cost in content["costs"].items()},
            "goodputs": [Goodput(**goodput) for goodput in content["goodputs"]],
            "abandoned": {int(length): share for length, share in content["abandoned"].items()},
            "changed_bits": None if bits is None else (bits[0], bits[1]),
        }
    )
