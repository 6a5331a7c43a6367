"""The report: one table of quality and start, one of costs by length; Markdown and JSON."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.common.report import fact_list
from benchmarks.common.tables import number, table

TITLE = "Related systems, as parts of one encoder"
SCORES = {
    "sts": "STS mean",
    "mrr": "MRR@10",
    "cosine": "cosine with the teacher",
    "retrieval": "own teacher vector nearest",
    "contrastive-sts": "STS mean, on pairs",
    "contrastive-mrr": "MRR@10, on pairs",
    "digits with skips": "digits, skips",
    "digits without": "digits, none",
}
"""Scores of a system, and their columns."""


@dataclass
class Row:
    """What was measured of a system.

    Attributes:
        name: Of the system.
        parameters: Of its blocks.
        scores: Values over the seeds by score.
        train_s: CPU time of its training [s].
        condition: Of the Jacobian at the start.
        costs: By length, CPU time [us] and memory [bytes] per token.
    """

    name: str
    parameters: int
    scores: dict[str, list[float]] = field(default_factory=dict)
    train_s: float | None = None
    condition: float | None = None
    costs: dict[int, dict[str, float]] = field(default_factory=dict)

    def mean(self, score: str) -> float | None:
        """Mean of a score over the seeds."""
        values = self.scores.get(score)
        return statistics.mean(values) if values else None


def render(
    rows: Sequence[Row], lengths: Sequence[int], facts: Mapping[str, str], plots: Sequence[str]
) -> str:
    """The measured part of the report.

    Args:
        rows: The plain encoder first.
        lengths: Of the sequences [tokens].
        facts: Of machine and training.
        plots: File names of the plots.
    """
    scores = [score for score in SCORES if any(row.scores.get(score) for row in rows)]
    quality = table(
        [
            "system",
            "parameters",
            *(SCORES[score] for score in scores),
            "training [CPU s]",
            "condition",
        ],
        [
            [
                row.name,
                _parameters(row, rows[0]),
                *(_score(row, score) for score in scores),
                number(row.train_s, ".0f"),
                "inf" if row.condition == math.inf else number(row.condition, ".3g"),
            ]
            for row in rows
        ],
    )
    costs = table(
        ["system", *(f"{length}" for length in lengths), *(f"{length} [kB]" for length in lengths)],
        [
            [
                row.name,
                *(number(row.costs.get(length, {}).get("us"), ".1f") for length in lengths),
                *(_kilobytes(row.costs.get(length, {})) for length in lengths),
            ]
            for row in rows
        ],
    )
    images = "\n\n".join(f"![{name}]({name})" for name in plots)
    return (
        f"{fact_list(facts)}\n\n## Quality and start\n\n{quality}\n\n"
        "STS and MRR times 100, all others from 0 to 1; means over seeds with half their range. "
        "Condition of the Jacobian of three blocks of width 64 at the start.\n\n"
        f"## CPU time [us] and memory per token, by length\n\n{costs}\n"
        + (f"\n{images}\n" if images else "")
    )


def to_json(rows: Sequence[Row], facts: Mapping[str, str]) -> str:
    """All that was measured."""
    content: dict[str, Any] = {"facts": dict(facts), "systems": [vars(row) for row in rows]}
    return json.dumps(content, indent=1) + "\n"


def _parameters(row: Row, plain: Row) -> str:
    share = "" if row is plain else f" ({row.parameters / plain.parameters:.2f})"
    return f"{row.parameters / 1e6:.2f} M{share}"


def _score(row: Row, score: str) -> str:
    values = row.scores.get(score, [])
    form = ".3f" if not score.endswith(("sts", "mrr")) else ".1f"
    spread = f" ± {format((max(values) - min(values)) / 2, form)}" if len(values) > 1 else ""
    return number(row.mean(score), form) + spread


def _kilobytes(cost: Mapping[str, float]) -> str:
    return number(cost["bytes"] / 1024 if cost.get("bytes") else None, ".1f")
